# Two commands do everything: `make demo` and `make test`. `make help` lists the others.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The Postgres to build for. Looked up where it is used, and not before, since `setup` may have to install it first.
POSTGRES = $(shell PG_CONFIG='$(PG_CONFIG)' tools/setup --which)
MAJOR = $(shell $(POSTGRES) --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

# pgrx takes the Postgres from the first, so that nobody's own `cargo pgrx init` is needed or touched. The second keeps
# it from building everything again whenever that one's configuration changes.
PGRX = PGRX_PG_CONFIG_PATH='$(POSTGRES)' PGRX_HOME='$(CARGO_TARGET_DIR)/no-pgrx-home'
WITH_POSTGRES = PG_CONFIG='$(POSTGRES)'
# Always the same selection of packages: another one means other features of what they share, and another build.
PURE = --workspace --exclude klaviyo_sync
IN_HARNESS = package(klaviyo-sync-tests) & kind(test)
PLAYGROUND = $(WITH_POSTGRES) '$(CARGO_TARGET_DIR)/debug/playground'
BENCH = $(WITH_POSTGRES) '$(CARGO_TARGET_DIR)/release/bench' --json '$(CARGO_TARGET_DIR)/bench.json'

##@ Try it

.PHONY: demo
demo: install programs ## A tour on a throw-away cluster and a stand-in for Klaviyo
	@$(PLAYGROUND) demo

.PHONY: up
up: ## A cluster and stand-in with an empty shop, left running: eval "$$(make -s up)"; psql
	@$(MAKE) --no-print-directory install programs >&2
	@$(PLAYGROUND) up

.PHONY: down
down: setup programs ## Stop and remove what `up` started
	@$(PLAYGROUND) down

##@ Use it

.PHONY: install
install: setup ## Install into the Postgres that PG_CONFIG names (any from 14 to 18)
	@$(PGRX) tools/install '$(POSTGRES)'

.PHONY: package
package: setup ## A Debian package for that Postgres, in target/package
	@$(PGRX) tools/package '$(POSTGRES)'

# What `pgxn install` calls before `install`, which is complete in itself.
.PHONY: all
all: setup
	@$(PGRX) tools/stage '$(POSTGRES)' >/dev/null

##@ Work on it

.PHONY: test
test: test-unit test-regress test-e2e ## Every test there is, but for test-package

.PHONY: test-unit
test-unit: setup ## The crates that need no Postgres
	cargo nextest run $(PURE) -E 'not ($(IN_HARNESS))'

.PHONY: test-regress
test-regress: install ## The SQL contract, with pg_regress
	$(WITH_POSTGRES) cargo nextest run $(PURE) -E '$(IN_HARNESS) & binary(regress)'

.PHONY: test-e2e
test-e2e: install programs ## Real clusters, the sandbox, and everything that can go wrong; TESTS= picks some by name
	$(WITH_POSTGRES) cargo nextest run $(PURE) -E '$(IN_HARNESS) & not binary(regress)' $(TESTS)

.PHONY: test-package
test-package: setup ## The Debian package on a clean Debian; not in `test`, since it needs root and the network
	@deb=$$($(PGRX) tools/package '$(POSTGRES)'); tests/package/outside "$$deb"

.PHONY: bench
bench: install release-programs ## What it costs and how fast it is, on clusters of its own; takes an hour and a bit
	@$(BENCH) $(MEASURE)

.PHONY: bench-quick
bench-quick: install release-programs ## The same with fewer rows, in a quarter of an hour; MEASURE= picks some by name
	@$(BENCH) --quick $(MEASURE)

.PHONY: docs
docs: install programs ## Make docs/reference.md anew, from what the server's catalogue says
	@$(WITH_POSTGRES) '$(CARGO_TARGET_DIR)/debug/reference'

.PHONY: fmt
fmt: ## Format
	cargo fmt --all

.PHONY: lint
lint: setup ## Check the format, and clippy with warnings as errors
	cargo fmt --all -- --check
	$(PGRX) cargo clippy --workspace --all-targets --no-default-features --features pg$(MAJOR) -- -D warnings

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean

##@ Seldom needed by name

.PHONY: dist
dist: ## The last commit's sources as PGXN takes them, in target/package
	@mkdir -p '$(CARGO_TARGET_DIR)/package'
	@id=$$(cargo pkgid); name=klaviyo_sync-$${id##*[#@]}; \
	  git archive --prefix "$$name/" --output '$(CARGO_TARGET_DIR)/package/'"$$name.zip" HEAD; \
	  echo '$(CARGO_TARGET_DIR)/package/'"$$name.zip"

.PHONY: release-script
release-script: install ## Keep this version's install script in sql/releases, when it is released
	@id=$$(cargo pkgid); script=klaviyo_sync--$${id##*[#@]}.sql; \
	  grep -v '^-- src/lib.rs:' "$$('$(POSTGRES)' --sharedir)/extension/$$script" >sql/releases/"$$script"

.PHONY: setup
setup: ## Install what is missing on this machine (asks first, unless root or CI=true)
	@PG_CONFIG='$(PG_CONFIG)' tools/setup

# What tests and playground start: cargo builds a package's own programs for its tests, but not another package's.
.PHONY: programs
programs: setup
	@cargo build $(PURE) --bins

# What the benchmark starts, itself included.
.PHONY: release-programs
release-programs: setup
	@cargo build --release $(PURE) --bins

.PHONY: help
help: ## This text
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {gsub(/\$$\$$/, "$$", $$2); printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@printf '\nPG_CONFIG=/path/to/pg_config chooses the Postgres, here %s\n' '$(POSTGRES)'
