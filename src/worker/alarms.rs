//! Alarms: what `klaviyo_health()` would say of the backlog, said in the log once when it begins and once when it ends.

use std::collections::HashSet;
use std::time::Instant;

use pgrx::prelude::*;
use pgrx::spi;

use crate::pg;
use crate::pg::spi::{column, rows};

const ALARMS: &str = "
    SELECT h.name, h.value, h.hint FROM klaviyo.backlog_health() AS h WHERE h.status <> 'ok'";

/// Looking must not cost more than this part of the time, whatever it meets.
const SHARE: u32 = 20;

pub struct Alarms {
    raised: HashSet<String>,
    look_at: Instant,
}

impl Default for Alarms {
    fn default() -> Self {
        Self { raised: HashSet::new(), look_at: Instant::now() }
    }
}

impl Alarms {
    /// Looks, in the transaction the caller has begun.
    pub fn look(&mut self) -> Result<(), spi::Error> {
        let start = Instant::now();
        if start < self.look_at {
            return Ok(());
        }
        let mut raised = HashSet::new();
        rows(ALARMS, &[], |row| {
            let name: String = column(row, 1);
            if !self.raised.contains(&name) {
                let (value, hint): (String, String) = (column(row, 2), column(row, 3));
                pg::warn(PgSqlErrorCode::ERRCODE_WARNING, format!("klaviyo_sync: {name}: {value}"), hint);
            }
            raised.insert(name);
        })?;
        for name in self.raised.difference(&raised) {
            log!("klaviyo_sync: {name} is as it should be again");
        }
        self.raised = raised;
        self.look_at = Instant::now() + start.elapsed() * SHARE;
        Ok(())
    }
}
