//! klaviyo_sync: keeps Klaviyo in step with a Postgres database, inside its own transactions.
//!
//! - [`settings`]: every setting.
//! - [`api`]: what SQL sees. Checks input, calls down.
//! - [`capture`]: tables whose rows are sent, and what stood in them before.
//! - [`worker`]: the launcher, and the worker and runner of each database.
//! - [`inbound`]: what Klaviyo tells by itself.
//! - [`pull`]: what Klaviyo has, read into tables of ours.
//! - [`outbox`]: enqueue, claim, settle. Alone in touching the tables of messages.
//! - [`pg`]: Postgres' own interfaces, wrapped small.
//!
//! What needs no Postgres stands in `crates/delivery` and `crates/klaviyo`.

use pgrx::prelude::*;

mod api;
mod capture;
mod inbound;
mod outbox;
mod pg;
mod pull;
mod settings;
mod worker;

pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/10_tables.sql", name = "tables");
extension_sql_file!("../sql/12_delivery_days.sql", name = "delivery_days", requires = ["tables"]);
extension_sql_file!("../sql/14_deletions.sql", name = "deletions", requires = ["delivery_days"]);
extension_sql_file!("../sql/20_accounts.sql", name = "accounts", requires = ["deletions"]);
extension_sql_file!("../sql/22_account_states.sql", name = "account_states", requires = ["accounts"]);
extension_sql_file!("../sql/30_messages.sql", name = "messages", requires = ["account_states"]);
extension_sql_file!("../sql/32_purchases.sql", name = "purchases", requires = ["messages"]);
extension_sql_file!("../sql/34_catalog.sql", name = "catalog", requires = ["purchases"]);
extension_sql_file!("../sql/35_capture.sql", name = "capture", requires = ["catalog"]);
extension_sql_file!("../sql/36_campaigns.sql", name = "campaigns", requires = ["capture"]);
extension_sql_file!("../sql/37_backfill.sql", name = "backfill", requires = ["campaigns"]);
extension_sql_file!("../sql/38_webhooks.sql", name = "webhooks", requires = ["backfill"]);
extension_sql_file!("../sql/39_pulls.sql", name = "pulls", requires = ["webhooks"]);
extension_sql_file!("../sql/40_results.sql", name = "results", requires = ["pulls"]);
extension_sql_file!("../sql/41_clean_ups.sql", name = "clean_ups", requires = ["results"]);
extension_sql_file!("../sql/42_mirrored_webhooks.sql", name = "mirrored_webhooks", requires = ["clean_ups"]);
extension_sql_file!(
    "../sql/43_manage_webhooks.sql",
    name = "manage_webhooks",
    requires = ["mirrored_webhooks"]
);
extension_sql_file!("../sql/44_two_way.sql", name = "two_way", requires = ["manage_webhooks"]);
extension_sql_file!("../sql/45_account_check.sql", name = "account_check", requires = ["two_way"]);
extension_sql_file!("../sql/46_numbers.sql", name = "numbers", requires = ["account_check"]);
extension_sql_file!("../sql/50_dead_letters.sql", name = "dead_letters", requires = ["numbers"]);
extension_sql_file!("../sql/55_health.sql", name = "health", requires = ["dead_letters"]);
extension_sql_file!("../sql/57_metrics.sql", name = "metrics", requires = ["health"]);
extension_sql_file!("../sql/58_gateway.sql", name = "gateway", requires = ["metrics"]);
extension_sql_file!("../sql/60_start.sql", name = "start", requires = ["gateway"]);
extension_sql_file!("../sql/80_rights.sql", name = "rights", requires = ["start"]);

/// Called when the library is loaded: by the postmaster, or by a backend of a server that has not preloaded it.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    let preloading = pg::is_preloading();
    settings::define(preloading);
    // While pg_upgrade is at work nothing of ours may be.
    if preloading && !pg::is_binary_upgrade() {
        worker::register();
    }
}
