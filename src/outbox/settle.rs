//! Recording what became of messages: one transaction for all outcomes there are.

use std::collections::{HashMap, HashSet};

use delivery::kind::Kind;
use delivery::{Ending, Failure, KeptAnswer, Outcome, kind};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, spi};

use super::{is_to_be_deleted, named, unique_ids};
use crate::pg::spi::{arg, column, json_column, rows, run, value};
use crate::{pg, settings};

/// The rows of a table with the numbers `$1`, and with the message ids `$2`, which make sure of them: after the
/// extension has been dropped and made anew, numbers begin anew. There may be thousands, so no row is compared with all
/// ids, and OFFSET 0 keeps the planner, which knows nothing of how long the queue is, from reading any but these.
macro_rules! these {
    ($table:literal) => {
        concat!(
            "ARRAY(
                SELECT f.ctid
                FROM unnest($1::bigint[], $2::uuid[]) AS g (seq, message_id)
                CROSS JOIN LATERAL (
                    SELECT t.ctid FROM ",
            $table,
            " AS t WHERE t.seq = g.seq AND t.message_id = g.message_id OFFSET 0
                ) AS f
            )"
        )
    };
}

/// Where a message is on record already (a restored dump can bring one back), the record stays and the row goes.
///
/// What leaves `outbox` and `retry` for good, in the columns the two have in common; with `, payload` that as well, which is
/// long and is copied twice on its way. A row that stands in both, which is what rows brought back into a database that has
/// gone on can come to, has gone once.
macro_rules! gone {
    ($payload:literal) => {
        concat!(
            "WITH of_outbox AS (
                DELETE FROM klaviyo.outbox AS o WHERE o.ctid = ANY (",
            these!("klaviyo.outbox"),
            ")
                RETURNING seq, message_id, account, kind, key, enqueued_at, NULL::integer AS last_status,
                          NULL::text AS error_id",
            $payload,
            "
            ), of_retry AS (
                DELETE FROM klaviyo.retry AS r WHERE r.ctid = ANY (",
            these!("klaviyo.retry"),
            ")
                RETURNING seq, message_id, account, kind, key, enqueued_at, last_status, last_error_id",
            $payload,
            "
            ), gone AS (
                SELECT * FROM of_outbox
                UNION ALL
                SELECT * FROM of_retry AS r
                WHERE NOT EXISTS (SELECT FROM of_outbox AS o WHERE o.message_id = r.message_id AND o.seq = r.seq)
            )"
        )
    };
}

/// What is on record bears another time, so only the same transaction could meet a record of its own: of several outcomes
/// of a message the first is recorded, `$8`. To ask the table would cost a third of the insert.
const ACCEPTED: &str = concat!(
    gone!(""),
    "
    INSERT INTO klaviyo.delivery
        (message_id, seq, account, kind, key, http_status, attempts, klaviyo_id, klaviyo_error_id, enqueued_at, sent_at,
         settled_at, bulk)
    SELECT g.message_id, g.seq, g.account, g.kind, g.key, o.status, o.attempts, o.klaviyo_id, g.error_id, g.enqueued_at,
           o.sent_at, pg_catalog.now(), o.bulk
    FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::timestamptz[], $7::boolean[],
                $8::boolean[])
        AS o (seq, message_id, status, attempts, klaviyo_id, sent_at, bulk, is_first)
    JOIN gone AS g ON g.seq = o.seq AND g.message_id = o.message_id
    WHERE o.is_first"
);

/// The answer to a call that is being recorded as accepted, with the lane it was in. Where it names somebody who is to be
/// deleted, it is not kept: nobody would purge it.
const ANSWERED: &str = concat!(
    "INSERT INTO klaviyo.answer (message_id, seq, account, lane, answered_at, body)
    SELECT d.message_id, d.seq, d.account, $4, d.settled_at, CASE WHEN NOT ",
    is_to_be_deleted!("d.account"),
    " THEN $5::json END
    FROM klaviyo.delivery AS d
    WHERE d.message_id = $1 AND d.settled_at = pg_catalog.now()
    ON CONFLICT DO NOTHING"
);

/// Calls that have just become dead letters, and what is left of one that names such a person.
const DEAD_CALLS: &str = "
    SELECT l.message_id, l.payload FROM klaviyo.dead_letter AS l WHERE l.message_id = ANY ($1) AND l.kind = $2";
const EMPTY_DEAD_CALL: &str = concat!(
    "UPDATE klaviyo.dead_letter AS l SET payload = '{}' WHERE l.message_id = $1 AND ",
    is_to_be_deleted!("l.account")
);

/// A message that was redriven and then found to be superseded had no further call: what is known of the last stays.
const DEAD: &str = concat!(
    gone!(", payload"),
    ", newer AS (
        INSERT INTO klaviyo.superseded (message_id, newer_seq)
        SELECT g.message_id, o.newer
        FROM unnest($1::bigint[], $8::bigint[]) AS o (seq, newer)
        JOIN gone AS g ON g.seq = o.seq
        WHERE o.newer IS NOT NULL
        ON CONFLICT (message_id) DO NOTHING
    )
    INSERT INTO klaviyo.dead_letter
        (message_id, seq, account, kind, key, payload, code, reason, http_status, klaviyo_error_id, attempts,
         enqueued_at, died_at, duplicate_profile_id)
    SELECT g.message_id, g.seq, g.account, g.kind, g.key, g.payload, o.code, o.reason,
           coalesce(o.status, g.last_status), coalesce(o.error_id, g.error_id), o.attempts,
           g.enqueued_at, pg_catalog.clock_timestamp(), o.duplicate_profile_id
    FROM unnest($1::bigint[], $3::int[], $4::int[], $5::text[], $6::text[], $7::text[], $9::text[])
        AS o (seq, status, attempts, code, reason, error_id, duplicate_profile_id)
    JOIN gone AS g ON g.seq = o.seq
    ON CONFLICT DO NOTHING"
);

/// The first failure moves a message from `outbox` to `retry`, further ones change its row there.
const RETRY: &str = concat!(
    "
    WITH outcome AS (
        SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::int[], $5::int[], $6::text[], $7::text[],
                             $8::timestamptz[], $9::timestamptz[], $10::text[], $11::boolean[], $12::boolean[])
            AS o (seq, message_id, status, attempts, strikes, code, reason, sent_at, not_before, error_id, bulk,
                  may_be_done)
    ), moved AS (
        DELETE FROM klaviyo.outbox AS o WHERE o.ctid = ANY (",
    these!("klaviyo.outbox"),
    ")
        RETURNING o.seq, o.message_id, o.account, o.kind, o.key, o.payload, o.enqueued_at
    ), changed AS (
        UPDATE klaviyo.retry AS r
        SET attempts = o.attempts, strikes = o.strikes, not_before = o.not_before, last_attempt_at = o.sent_at,
            last_status = o.status, last_code = o.code, last_error = o.reason, last_error_id = o.error_id,
            last_bulk = o.bulk, may_be_done = o.may_be_done
        FROM outcome AS o
        WHERE r.seq = o.seq AND r.message_id = o.message_id
    )
    INSERT INTO klaviyo.retry
        (seq, message_id, account, kind, key, payload, enqueued_at, attempts, strikes, not_before, last_attempt_at,
         last_status, last_code, last_error, last_error_id, last_bulk, may_be_done)
    SELECT m.seq, m.message_id, m.account, m.kind, m.key, m.payload, m.enqueued_at, o.attempts, o.strikes, o.not_before,
           o.sent_at, o.status, o.code, o.reason, o.error_id, o.bulk, o.may_be_done
    FROM outcome AS o
    JOIN moved AS m ON m.seq = o.seq
    ON CONFLICT DO NOTHING"
);

/// States that were just accepted stand above older ones of the same profile that are put aside or redriven. A profile
/// is known by the identifiers of the message and by those known to belong to them: (`$1`, `$2`) are the message's id and
/// each of them. What this transaction has put into `delivery` bears its time, which names the one partition to look in.
const SUPERSEDE: &str = "
    INSERT INTO klaviyo.superseded (message_id, newer_seq)
    SELECT old.message_id, max(d.seq)
    FROM unnest($1::uuid[], $2::text[]) AS accepted (message_id, identifier)
    JOIN klaviyo.delivery AS d ON d.message_id = accepted.message_id AND d.settled_at = pg_catalog.now()
    JOIN (
        SELECT l.message_id, l.seq, l.account, l.key, l.kind FROM klaviyo.dead_letter AS l WHERE l.seq IS NOT NULL
        UNION ALL
        SELECT r.message_id, r.seq, r.account, r.key, r.kind FROM klaviyo.retry AS r WHERE r.redriven_at IS NOT NULL
    ) AS old ON old.account = d.account AND old.key @> ARRAY[accepted.identifier] AND old.seq < d.seq
    WHERE old.kind = ANY ($3)
      -- Asked for, though ON CONFLICT would do: that waits for whoever is just discarding the row.
      AND NOT EXISTS (SELECT FROM klaviyo.superseded AS s WHERE s.message_id = old.message_id)
    GROUP BY old.message_id
    ON CONFLICT (message_id) DO NOTHING";

/// For the record, without what is in it.
const DISCARDED: &str = concat!(
    gone!(""),
    "
    INSERT INTO klaviyo.discarded (message_id, discarded_by, account, kind, enqueued_at, discarded_at)
    SELECT g.message_id, o.discarded_by, g.account, g.kind, g.enqueued_at, pg_catalog.now()
    FROM unnest($1::bigint[], $2::uuid[], $3::uuid[]) AS o (seq, message_id, discarded_by)
    JOIN gone AS g ON g.seq = o.seq AND g.message_id = o.message_id
    ON CONFLICT DO NOTHING"
);

/// Beside the request, whose row somebody may have in an open transaction: he is not waited for. The runner sees to the rest.
const DELETION_ACCEPTED: &str = "
    INSERT INTO klaviyo.accepted_deletion (message_id, accepted_at)
    SELECT o.message_id, pg_catalog.now()
    FROM unnest($1) AS o (message_id)
    ON CONFLICT DO NOTHING";

const FORGET_SUPERSEDED: &str = "
    DELETE FROM klaviyo.superseded AS s
    WHERE NOT EXISTS (SELECT FROM klaviyo.dead_letter AS l WHERE l.message_id = s.message_id)
      AND NOT EXISTS (SELECT FROM klaviyo.retry AS r WHERE r.message_id = s.message_id)";

const HAS_OLD_STATES: &str = "
    SELECT EXISTS (SELECT FROM klaviyo.dead_letter AS l WHERE l.seq IS NOT NULL AND l.kind = ANY ($1))
        OR EXISTS (SELECT FROM klaviyo.retry AS r WHERE r.redriven_at IS NOT NULL AND r.kind = ANY ($1))";

/// Records outcomes. Knows whether there are states put aside, which accepted ones must be compared with.
pub struct Settler {
    old_states: bool,
}

impl Default for Settler {
    fn default() -> Self {
        Self { old_states: true }
    }
}

impl Settler {
    /// Looks whether states are put aside. Until the first look there may be. Afterwards nobody but this process puts
    /// any aside, so looking again now and then saves work, not correctness.
    pub fn look(&mut self) -> Result<(), spi::Error> {
        self.old_states = value::<bool>(HAS_OLD_STATES, &[arg(states())])?.unwrap_or_default();
        run(FORGET_SUPERSEDED, &[]).map(drop)
    }

    /// Records outcomes, in the transaction the caller has begun.
    pub fn settle(&mut self, outcomes: &[Outcome]) -> Result<(), spi::Error> {
        unique_ids::remember(outcomes)?;
        accepted(outcomes)?;
        retry(outcomes)?;
        self.dead(outcomes)?;
        discarded(outcomes)?;
        // Last, for what was accepted may stand above what died with it.
        if self.old_states { supersede(outcomes) } else { Ok(()) }
    }

    fn dead(&mut self, outcomes: &[Outcome]) -> Result<(), spi::Error> {
        let dead: Vec<(&Outcome, &Failure, Option<i64>)> = outcomes
            .iter()
            .filter_map(|outcome| match &outcome.ending {
                Ending::Dead { failure, newer } => Some((outcome, failure, *newer)),
                _ => None,
            })
            .collect();
        if dead.is_empty() {
            return Ok(());
        }
        self.old_states = true;
        let failures = || dead.iter().map(|(_, failure, _)| *failure);
        run(
            DEAD,
            &[
                arg(dead.iter().map(|(outcome, ..)| outcome.seq).collect::<Vec<_>>()),
                arg(ids(dead.iter().map(|(outcome, ..)| *outcome))),
                arg(statuses(failures())),
                arg(dead.iter().map(|(outcome, ..)| count(outcome.attempts)).collect::<Vec<_>>()),
                arg(failures().map(|failure| failure.code.clone()).collect::<Vec<_>>()),
                arg(failures().map(|failure| failure.reason.clone()).collect::<Vec<_>>()),
                arg(failures().map(|failure| failure.error_id.clone()).collect::<Vec<_>>()),
                arg(dead.iter().map(|(.., newer)| *newer).collect::<Vec<_>>()),
                arg(failures().map(|failure| failure.duplicate_profile_id.clone()).collect::<Vec<_>>()),
            ],
        )?;
        let mut calls: Vec<(Uuid, Vec<String>)> = Vec::new();
        let ids = ids(dead.iter().map(|(outcome, ..)| *outcome));
        rows(DEAD_CALLS, &[arg(ids), arg(kind::call::Call.name())], |row| {
            calls.push((column(row, 1), named::people_within(&json_column(row, 2))));
        })?;
        for (id, people) in calls.into_iter().filter(|(_, people)| !people.is_empty()) {
            run(EMPTY_DEAD_CALL, &[arg(id), arg(people), arg(settings::straggler_minutes())])?;
        }
        Ok(())
    }
}

fn accepted(outcomes: &[Outcome]) -> Result<(), spi::Error> {
    let accepted: Vec<(&Outcome, i32, Option<String>)> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.ending {
            Ending::Accepted { status, resource_id, .. } => {
                Some((outcome, i32::from(*status), resource_id.clone()))
            }
            _ => None,
        })
        .collect();
    if accepted.is_empty() {
        return Ok(());
    }
    let mut known = HashSet::with_capacity(accepted.len());
    run(
        ACCEPTED,
        &[
            arg(accepted.iter().map(|(outcome, ..)| outcome.seq).collect::<Vec<_>>()),
            arg(ids(accepted.iter().map(|(outcome, ..)| *outcome))),
            arg(accepted.iter().map(|(_, status, _)| *status).collect::<Vec<_>>()),
            arg(accepted.iter().map(|(outcome, ..)| count(outcome.attempts)).collect::<Vec<_>>()),
            arg(accepted.iter().map(|(.., id)| id.clone()).collect::<Vec<_>>()),
            arg(accepted.iter().map(|(outcome, ..)| sent_at(outcome)).collect::<Vec<_>>()),
            arg(accepted.iter().map(|(outcome, ..)| outcome.bulk).collect::<Vec<_>>()),
            arg(accepted.iter().map(|(outcome, ..)| known.insert(outcome.id)).collect::<Vec<_>>()),
        ],
    )?;
    let answered = || {
        outcomes.iter().filter_map(|outcome| match &outcome.ending {
            Ending::Accepted { answer: Some(answer), .. } => Some((outcome, answer)),
            _ => None,
        })
    };
    for (outcome, KeptAnswer { lane, body }) in answered() {
        let people = body.as_deref().map(named::people_within).unwrap_or_default();
        let id = Uuid::from_bytes(outcome.id);
        let minutes = settings::straggler_minutes();
        run(ANSWERED, &[arg(id), arg(people), arg(minutes), arg(*lane), arg(body.clone())])?;
    }
    let deletions = ids(accepted.iter().map(|(outcome, ..)| *outcome).filter(|outcome| outcome.deletes));
    if deletions.is_empty() { Ok(()) } else { run(DELETION_ACCEPTED, &[arg(deletions)]).map(drop) }
}

fn discarded(outcomes: &[Outcome]) -> Result<(), spi::Error> {
    let discarded = || {
        outcomes.iter().filter_map(|outcome| match outcome.ending {
            Ending::Discarded { by } => Some((outcome, Uuid::from_bytes(by))),
            _ => None,
        })
    };
    if discarded().next().is_none() {
        return Ok(());
    }
    run(
        DISCARDED,
        &[
            arg(discarded().map(|(outcome, _)| outcome.seq).collect::<Vec<_>>()),
            arg(ids(discarded().map(|(outcome, _)| outcome))),
            arg(discarded().map(|(_, by)| by).collect::<Vec<_>>()),
        ],
    )
    .map(drop)
}

fn supersede(outcomes: &[Outcome]) -> Result<(), spi::Error> {
    let (mut ids, mut identifiers) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        if let Ending::Accepted { state_of, .. } = &outcome.ending {
            ids.extend(state_of.iter().map(|_| Uuid::from_bytes(outcome.id)));
            identifiers.extend(state_of.iter().cloned());
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    run(SUPERSEDE, &[arg(ids), arg(identifiers), arg(states())]).map(drop)
}

fn retry(outcomes: &[Outcome]) -> Result<(), spi::Error> {
    // Where recording was held up, a message may have failed again meanwhile: its last failure counts.
    let again: HashMap<i64, (&Outcome, std::time::Duration, u32, &Failure)> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.ending {
            Ending::Retry { wait, strikes, failure } => {
                Some((outcome.seq, (outcome, *wait, *strikes, failure)))
            }
            _ => None,
        })
        .collect();
    let again: Vec<_> = again.into_values().collect();
    if again.is_empty() {
        return Ok(());
    }
    let now = pg::now();
    let failures = || again.iter().map(|(.., failure)| *failure);
    let not_before = |wait: std::time::Duration| {
        pg::timestamp(now.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
    };
    run(
        RETRY,
        &[
            arg(again.iter().map(|(outcome, ..)| outcome.seq).collect::<Vec<_>>()),
            arg(ids(again.iter().map(|(outcome, ..)| *outcome))),
            arg(statuses(failures())),
            arg(again.iter().map(|(outcome, ..)| count(outcome.attempts)).collect::<Vec<_>>()),
            arg(again.iter().map(|(_, _, strikes, _)| count(*strikes)).collect::<Vec<_>>()),
            arg(failures().map(|failure| failure.code.clone()).collect::<Vec<_>>()),
            arg(failures().map(|failure| failure.reason.clone()).collect::<Vec<_>>()),
            arg(again.iter().map(|(outcome, ..)| sent_at(outcome)).collect::<Vec<_>>()),
            arg(again.iter().map(|(_, wait, ..)| not_before(*wait)).collect::<Vec<_>>()),
            arg(failures().map(|failure| failure.error_id.clone()).collect::<Vec<_>>()),
            arg(again.iter().map(|(outcome, ..)| outcome.bulk).collect::<Vec<_>>()),
            arg(again.iter().map(|(outcome, ..)| outcome.may_be_done).collect::<Vec<_>>()),
        ],
    )
    .map(drop)
}

fn ids<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<Uuid> {
    outcomes.map(|outcome| Uuid::from_bytes(outcome.id)).collect()
}

/// Names of the kinds that describe a state.
fn states() -> Vec<String> {
    kind::ALL.iter().filter(|kind| kind.is_state()).map(|kind| kind.name().to_owned()).collect()
}

fn statuses<'a>(failures: impl Iterator<Item = &'a Failure>) -> Vec<Option<i32>> {
    failures.map(|failure| failure.status.map(i32::from)).collect()
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn sent_at(outcome: &Outcome) -> TimestampWithTimeZone {
    let since = outcome.sent_at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    pg::timestamp(i64::try_from(since.as_micros()).unwrap_or_default())
}
