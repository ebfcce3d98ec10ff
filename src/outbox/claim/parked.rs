//! Messages that have waited for import jobs.

use std::collections::HashSet;

use pgrx::spi;

use super::{CHUNK, Claimed, Claimer, Found};
use crate::pg::spi::{arg, rows};

const NUMBERED: &str = "
    SELECT o.seq, o.message_id, o.account, o.kind, o.key, o.payload, o.enqueued_at
    FROM klaviyo.outbox AS o
    WHERE o.seq = ANY ($1) AND o.account = $2
    ORDER BY o.seq";

impl Claimer {
    /// Reads some of those that wait for nothing any more but room.
    pub(super) fn parked(&mut self, claimed: &mut Claimed) -> Result<(), spi::Error> {
        let Some((account, due)) = self.room.due(CHUNK) else { return Ok(()) };
        let mut gone: HashSet<i64> = due.iter().copied().collect();
        let args = [arg(due), arg(account.as_str())];
        rows(NUMBERED, &args, |row| {
            gone.remove(&self.offer(row, Found::Parked, claimed));
        })?;
        gone.into_iter().for_each(|seq| self.room.unpark(&account, seq));
        claimed.more = true;
        Ok(())
    }
}
