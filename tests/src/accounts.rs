//! Accounts of a shop: further ones, and what is said of them.

use postgres::{Client, GenericClient};

use crate::cluster::explain;
use crate::shop::Shop;
use crate::sql::query;

impl Shop {
    /// Adds an armed account for the sandbox, with a key of its own that is stored.
    pub fn add_account(&self, db: &mut impl GenericClient, name: &str, key: &str) {
        db.execute(
            "SELECT klaviyo_set_account($1, base_url => $2, private_key => $3, rate_share => $4),
                    klaviyo_arm_account($1)",
            &[&name, &self.sandbox.api(), &key, &self.rate_share()],
        )
        .unwrap_or_else(|error| panic!("account {name} cannot be added: {}", explain(&error)));
    }
}

/// Why nothing of an account can be sent, if the worker says so.
pub fn stopped_reason(db: &mut impl GenericClient, account: &str) -> Option<String> {
    query(
        db,
        "SELECT max(stopped_reason) FROM klaviyo.account_status WHERE account = $1 AND stopped_at IS NOT NULL",
        &[&account],
    )
}

/// How many calls of an account are under way.
pub fn under_way(db: &mut Client, account: &str) -> i64 {
    query(db, "SELECT coalesce(sum(under_way), 0)::bigint FROM klaviyo.lane WHERE account = $1", &[&account])
}
