//! Messages in import jobs.

use std::ops::Range;
use std::time::Duration;

use delivery::room::Class;
use delivery::{ImportId, Message, PastImport, kind};
use pgrx::Uuid;
use pgrx::spi;

use super::{Claimer, id, time};
use crate::outbox::import::{self, count};
use crate::pg::spi::{arg, column, json_column, micros_column, rows};

/// What still waits of a part of a job's messages, in the order of its body; with their payloads if that is wanted.
const OF_JOB: &str = "
    SELECT m.seq, m.message_id, m.account, m.kind, m.key, CASE WHEN $2 THEN m.payload ELSE '{}' END, m.enqueued_at,
           m.attempts, m.strikes, p.place
    FROM klaviyo.bulk_job AS j
    CROSS JOIN LATERAL unnest(j.seqs[$3:$4], j.positions[$3:$4]) WITH ORDINALITY AS p (seq, place, number)
    CROSS JOIN LATERAL (
        SELECT o.seq, o.message_id, o.account, o.kind, o.key, o.payload, o.enqueued_at, 0 AS attempts, 0 AS strikes
        FROM klaviyo.outbox AS o
        WHERE o.seq = p.seq AND o.account = j.account
        UNION ALL
        SELECT r.seq, r.message_id, r.account, r.kind, r.key, r.payload, r.enqueued_at, r.attempts, r.strikes
        FROM klaviyo.retry AS r
        WHERE r.seq = p.seq AND r.account = j.account
        OFFSET 0
    ) AS m
    WHERE j.job_id = $1
    ORDER BY p.number";

impl Claimer {
    /// A job of an earlier worker: nothing reads its messages from now on.
    pub fn follow(&mut self, job: import::Open) -> Result<PastImport, spi::Error> {
        let import::Open { id, account, klaviyo_id, messages, profiles, announced_at } = job;
        let mut keys = Vec::new();
        for (message, _) in self.of_job(&account, id, &(0..messages), false)? {
            self.room.follow(&account, message.seq);
            keys.push(message.key);
        }
        let locks = self.room.lock_keys(&account, id, &keys);
        Ok(PastImport { id, klaviyo_id, messages, profiles, sent_at: announced_at, keys, locks })
    }

    /// A part of the messages of a job that is over, with their places in its body. They are in memory from now on.
    pub fn recall(
        &mut self,
        account: &str,
        id: ImportId,
        part: &Range<usize>,
        payloads: bool,
    ) -> Result<Vec<(Message, usize)>, spi::Error> {
        let mut messages = self.of_job(account, id, part, payloads)?;
        messages.retain(|(message, _)| self.room.leave_job(account, message.seq));
        for (message, _) in &messages {
            let class = Class::of(message);
            self.room.add(message.seq, account, class, message.unique_id, message.payload.len());
        }
        Ok(messages)
    }

    fn of_job(
        &self,
        account: &str,
        job: ImportId,
        part: &Range<usize>,
        payloads: bool,
    ) -> Result<Vec<(Message, usize)>, spi::Error> {
        let mut messages = Vec::new();
        // Postgres counts from 1, and to the last.
        let (first, last) = (count(part.start + 1), count(part.end));
        rows(OF_JOB, &[arg(Uuid::from_bytes(job)), arg(payloads), arg(first), arg(last)], |row| {
            let seq: i64 = column(row, 1);
            let Some(kind) = kind::find(&column::<String>(row, 4)) else { return };
            if self.is_removed(account, seq) {
                return;
            }
            let message = Message {
                seq,
                id: id(row),
                kind,
                key: column(row, 5),
                payload: json_column(row, 6),
                enqueued_at: time(micros_column(row, 7)),
                attempts: column::<i32>(row, 8).unsigned_abs(),
                strikes: column::<i32>(row, 9).unsigned_abs(),
                wait: Duration::ZERO,
                redriven: false,
                rides: true,
                // Only profiles are in jobs.
                unique_id: None,
                carries_state: true,
                // By now others wait for it.
                backfill: false,
                may_be_done: false,
            };
            messages.push((message, usize::try_from(column::<i32>(row, 10)).unwrap_or_default()));
        })?;
        Ok(messages)
    }
}
