//! Where the programs of the Postgres under test are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One installed Postgres, as its `pg_config` describes it.
#[derive(Clone, Debug)]
pub struct PgBin {
    bin: PathBuf,
    libraries: PathBuf,
    pgxs: PathBuf,
    version: String,
}

impl PgBin {
    /// The Postgres that the environment variable `PG_CONFIG` names, else the first `pg_config` on the path.
    pub fn from_env() -> Self {
        Self::new(&std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".to_owned()))
    }

    /// The Postgres that a pg_config describes.
    pub fn new(pg_config: &str) -> Self {
        let ask = |option: &str| {
            let output = Command::new(pg_config)
                .arg(option)
                .output()
                .unwrap_or_else(|error| panic!("cannot run {pg_config}: {error}; PG_CONFIG names another"));
            assert!(output.status.success(), "{pg_config} {option} failed: {output:?}");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let version = ask("--version");
        let version =
            version.split_whitespace().nth(1).expect("pg_config --version names a version").to_owned();
        Self {
            bin: ask("--bindir").into(),
            libraries: ask("--pkglibdir").into(),
            pgxs: ask("--pgxs").into(),
            version,
        }
    }

    /// A program such as `postgres` or `psql`, to be run.
    pub fn command(&self, name: &str) -> Command {
        without_pg_environment(&self.bin.join(name))
    }

    /// The directory of all programs.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// The directory of the libraries that a server loads.
    pub fn library_dir(&self) -> &Path {
        &self.libraries
    }

    /// The version, for instance `15.20`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version, for instance 15.
    pub fn major(&self) -> u32 {
        let digits: String = self.version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no major version in {:?}", self.version))
    }

    /// The regression test driver, to be run: the one that the server's development files carry, unless `PG_REGRESS`
    /// names another: one of another major version serves as well, and some distributions lack theirs or ship one that
    /// does not run.
    pub fn pg_regress(&self) -> Command {
        if let Some(named) = std::env::var_os("PG_REGRESS") {
            return without_pg_environment(Path::new(&named));
        }
        let makefiles = self.pgxs.parent().expect("pgxs.mk lies in a directory");
        without_pg_environment(&makefiles.with_file_name("test").join("regress").join("pg_regress"))
    }
}

/// Leaves out what a shell with `eval "$(make -s up)"` would bring in: PGHOST, PGDATABASE and the like. The current
/// directory may be out of the server user's reach.
fn without_pg_environment(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.current_dir("/");
    command
}
