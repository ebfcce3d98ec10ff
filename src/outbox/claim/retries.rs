//! Messages whose calls have failed so far, and those that came back from the dead letters.

use std::time::{Duration, Instant};

use delivery::kind::Rides;
use delivery::room::Class;
use delivery::{Failure, Message, kind};
use pgrx::spi;

use super::{CHUNK, Claimed, Claimer, LATE_SHARE, id, time, unknown_kind};
use crate::outbox::{campaign, secrets};
use crate::pg;
use crate::pg::spi::{arg, column, json_column, micros_column, rows};

/// `retry_tried_idx` finds these few among any number of redriven ones.
const TRIED: &str = "
    SELECT r.seq, r.message_id, r.account, r.kind, r.key, r.payload, r.enqueued_at, r.attempts, r.strikes,
           r.not_before, r.may_be_done, false
    FROM klaviyo.retry AS r
    WHERE r.redriven_at IS NULL AND r.seq > $1
    ORDER BY r.seq
    LIMIT $2";

const REDRIVEN: &str = "
    SELECT r.seq, r.message_id, r.account, r.kind, r.key, r.payload, r.enqueued_at, r.attempts, r.strikes,
           r.not_before, r.may_be_done,
           EXISTS (SELECT FROM klaviyo.superseded AS s WHERE s.message_id = r.message_id)
    FROM klaviyo.retry AS r
    WHERE r.redriven_at IS NOT NULL AND r.seq > $1
    ORDER BY r.seq
    LIMIT $2";

impl Claimer {
    /// Messages whose calls have failed and that are not in memory: what an earlier worker was trying, or what came by
    /// a restored dump. They are older than what is in the outbox, so they come first, and whatever the room: they
    /// were in memory once, so there are not many. After this, redriven ones are looked for anew.
    pub fn recover(&mut self) -> Result<Claimed, spi::Error> {
        self.redriven = Some(0);
        self.missed.clear();
        let mut claimed = Claimed::default();
        self.tried(TRIED, 0, i64::MAX, &mut claimed)?;
        campaign::resolve(&mut claimed)?;
        self.deletions(&mut claimed, false)?;
        secrets::fill_in(&mut claimed)?;
        Ok(claimed)
    }

    /// Reads on among the redriven messages; from the beginning once those that were missed may have room.
    pub(super) fn redriven(&mut self, claimed: &mut Claimed) -> Result<(), spi::Error> {
        let start = Instant::now();
        if self.redriven.is_none()
            && start >= self.redriven_at
            && self.missed.iter().any(|(account, kind)| !self.room.is_full(account, kind))
        {
            self.redriven = Some(0);
            self.missed.clear();
        }
        let Some(after) = self.redriven else { return Ok(()) };
        self.redriven = self.tried(REDRIVEN, after, CHUNK as i64, claimed)?;
        self.redriven_took += start.elapsed();
        if self.redriven.is_none() {
            self.redriven_at = Instant::now() + std::mem::take(&mut self.redriven_took) * LATE_SHARE;
        }
        Ok(())
    }

    /// Messages tried before, with a number above `after`. Returns after which number to go on, if not all were read.
    ///
    /// Redriven ones can be any number, so they are taken as there is room; what was missed, and those of an account
    /// that cannot send, are found when the next look begins anew.
    fn tried(
        &mut self,
        query: &'static str,
        after: i64,
        limit: i64,
        claimed: &mut Claimed,
    ) -> Result<Option<i64>, spi::Error> {
        let redriven = query == REDRIVEN;
        let now = pg::now();
        let mut last = after;
        let read = rows(query, &[arg(after), arg(limit)], |row| {
            let seq: i64 = column(row, 1);
            let (account, kind): (String, String) = (column(row, 3), column(row, 4));
            last = seq;
            if self.room.holds(&account, seq) || self.is_removed(&account, seq) {
                return;
            }
            let known = kind::find(&kind);
            if redriven {
                // Of an account that has no room nothing more is taken, or a later message of a key would go before
                // an earlier one.
                let class = match known.filter(|kind| kind.endpoint().is_none()) {
                    Some(direct) => Class::of_kind(direct, &json_column(row, 6)).kind,
                    None => &kind,
                };
                if self.room.is_full(&account, class) {
                    self.missed.insert(account.clone(), class.to_owned());
                }
                if self.missed.contains_key(&account) || !self.room.is_open(&account) {
                    return;
                }
            }
            let id = id(row);
            let (attempts, strikes): (i32, i32) = (column(row, 8), column(row, 9));
            let Some(kind) = known else {
                return self.undeliverable(row, attempts, unknown_kind(&kind), claimed);
            };
            let key: Vec<String> = column(row, 5);
            claimed.saw(kind, seq, id, &account, &key);
            if column::<bool>(row, 12) {
                let failure = Failure {
                    code: "superseded".to_owned(),
                    reason: "a newer state of this profile has been accepted since".to_owned(),
                    ..Failure::default()
                };
                return self.undeliverable(row, attempts, failure, claimed);
            }
            let not_before = micros_column(row, 10);
            let payload = json_column(row, 6);
            let reading = kind.read(&account, id, &payload);
            let enqueued_at = micros_column(row, 7);
            let is_ours = self.fresh_from.get(&account).is_some_and(|from| seq >= *from)
                && self.marks.are_here(seq, enqueued_at);
            let may_be_elsewhere = kind.is_announced(&payload) && !redriven && !is_ours;
            // One that has failed by itself goes by itself.
            let rides = kind.goes_as_many_do() && reading.rides == Rides::Always && !redriven && strikes == 0;
            let unique_id = reading.rides.unique_id();
            if unique_id.is_some_and(|id| self.room.is_carried_by_rider(&account, &id)) {
                // Those that are not redriven are looked for again and again.
                if redriven {
                    self.missed.insert(account, kind.name().to_owned());
                }
                return;
            }
            let message = Message {
                seq,
                id,
                kind,
                key: reading.ordered(kind, key),
                payload,
                enqueued_at: time(enqueued_at),
                attempts: attempts.unsigned_abs(),
                strikes: strikes.unsigned_abs(),
                wait: Duration::from_micros(u64::try_from(not_before - now).unwrap_or_default()),
                redriven,
                rides,
                unique_id,
                // What a redriven event says of the person besides is not sent.
                carries_state: reading.carries_state && (kind.is_state() || !redriven),
                backfill: reading.backfill,
                // In the database that this is a copy of it may have been done since.
                may_be_done: column::<bool>(row, 11) || may_be_elsewhere,
            };
            self.take(account, message, claimed);
        })?;
        let cut = i64::try_from(read) == Ok(limit);
        claimed.more |= cut;
        Ok(cut.then_some(last))
    }
}
