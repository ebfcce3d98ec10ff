//! Messages about people whose data was to be deleted: they are discarded, lest they bring the person back.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use delivery::{DeletionRequest, Ending, Message, Outcome, key};
use pgrx::spi::SpiTupleTable;
use pgrx::{Uuid, spi};

use super::{Aside, CHUNK, Claimed, Claimer, LATE_SHARE, id, time};
use crate::pg::spi::{arg, column, micros_column, rows, value};
use crate::settings;

const ANY: &str = "SELECT EXISTS (SELECT FROM klaviyo.deletion)";

/// With the number of the message that a request is about.
const THEIRS: &str = "
    SELECT (d.deletion).seq, (d.deletion).message_id, d.identifier, (d.deletion).requested_at, (d.deletion).readmitted_seq, d.seq
    FROM klaviyo.deletions_of($1, $2, $3) AS d";

/// What is on record of requests that were read just now.
const READ: &str = "
    SELECT d.seq, d.message_id, d.identifier, d.requested_at, d.readmitted_seq, d.account
    FROM klaviyo.deletion AS d
    WHERE d.message_id = ANY ($1) AND d.identifier IS NOT NULL";

/// Requests that have not been read.
const AHEAD: &str = "
    SELECT d.seq, d.message_id, d.identifier, d.requested_at, d.readmitted_seq, d.account
    FROM klaviyo.deletion AS d
    WHERE d.seq > $1 AND d.accepted_at IS NULL AND d.dropped_at IS NULL
    ORDER BY d.seq
    LIMIT $2";

/// Between two looks at what lies ahead.
const PAUSE: Duration = Duration::from_millis(500);

/// A look at requests that lie ahead of what has been read of the outbox: after which number it goes on, and when the next
/// may begin.
#[derive(Default)]
pub struct Ahead {
    after: Option<i64>,
    again_at: Option<Instant>,
    took: Duration,
}

impl Claimer {
    /// Has the HTTP thread know of requests that it has not been told of, and takes out of what was found what is about such
    /// people. `behind`: there is more in the outbox than was read, and so there may be requests in it.
    pub(super) fn deletions(&mut self, claimed: &mut Claimed, behind: bool) -> Result<(), spi::Error> {
        let mut read = std::mem::take(&mut claimed.read_requests);
        if read.is_empty() && !value::<bool>(ANY, &[])?.unwrap_or_default() {
            return Ok(());
        }
        if !read.is_empty() {
            let ids: Vec<Uuid> = read.keys().copied().map(Uuid::from_bytes).collect();
            rows(READ, &[arg(ids)], |row| drop(read.insert(id(row), (column(row, 6), request(row)))))?;
        }
        let mut tell = |account, request| claimed.requests.entry(account).or_default().push(request);
        read.into_values().for_each(|(account, request)| tell(account, request));
        let now = Instant::now();
        let waits = self.ahead.again_at.and_then(|at| at.checked_duration_since(now));
        if behind && waits.is_none() {
            let after = self.ahead.after.unwrap_or_default().max(self.gaps.cursor());
            let mut last = None;
            let found = rows(AHEAD, &[arg(after), arg(CHUNK as i64)], |row| {
                last = Some(column(row, 1));
                tell(column(row, 6), request(row));
            })?;
            self.ahead.after = last.filter(|_| found == CHUNK);
            self.ahead.took += now.elapsed();
            if self.ahead.after.is_none() {
                let took = std::mem::take(&mut self.ahead.took);
                self.ahead.again_at = Some(Instant::now() + (took * LATE_SHARE).max(PAUSE));
            }
        }
        // Who commits one meanwhile wakes us too early.
        claimed.look_again_in = claimed.look_again_in.into_iter().chain(waits.filter(|_| behind)).min();
        discard(claimed)
    }
}

/// Takes out of what was found what is about people who are to be deleted.
fn discard(claimed: &mut Claimed) -> Result<(), spi::Error> {
    let (mut accounts, mut seqs, mut identifiers) = (vec![], vec![], vec![]);
    let mut look_for = |account: &str, seq: i64, key: &[String]| {
        for identifier in key {
            accounts.push(account.to_owned());
            seqs.push(seq);
            identifiers.push(key::whose(identifier).to_owned());
        }
    };
    // A request is never in the way of itself, nor of another.
    for (account, messages) in &claimed.messages {
        for message in messages.iter().filter(|message| !message.kind.deletes()) {
            look_for(account, message.seq, &message.key);
        }
    }
    for Aside { account, key, outcome, .. } in &claimed.undeliverable {
        look_for(account, outcome.seq, key);
    }
    if seqs.is_empty() {
        return Ok(());
    }
    let mut theirs: HashMap<i64, Vec<DeletionRequest>> = HashMap::new();
    rows(THEIRS, &[arg(accounts), arg(seqs), arg(identifiers)], |row| {
        theirs.entry(column(row, 6)).or_default().push(request(row));
    })?;
    if theirs.is_empty() {
        return Ok(());
    }
    let by = |seq: i64, enqueued_at: SystemTime| {
        theirs.get(&seq)?.iter().find(|request| request.covers(seq, enqueued_at)).map(|request| request.id)
    };
    let mut useless = Vec::new();
    for (account, messages) in &mut claimed.messages {
        messages.retain(|message| {
            let Message { seq, enqueued_at, .. } = *message;
            let Some(by) = by(seq, enqueued_at) else { return true };
            let outcome = Outcome::of(message, SystemTime::now(), false, Ending::Discarded { by });
            useless.push(Aside { account: account.clone(), key: Vec::new(), enqueued_at, outcome });
            false
        });
    }
    claimed.messages.retain(|_, messages| !messages.is_empty());
    for aside in &mut claimed.undeliverable {
        if let Some(by) = by(aside.outcome.seq, aside.enqueued_at) {
            aside.outcome.ending = Ending::Discarded { by };
        }
    }
    claimed.undeliverable.extend(useless);
    Ok(())
}

/// What a request that was read says by itself: it may have come from another database, which has it on record.
pub(super) fn of_row(seq: i64, id: [u8; 16], key: &[String]) -> Option<DeletionRequest> {
    let identifier = key.first()?.clone();
    Some(DeletionRequest { id, seq, identifier, until: Some(SystemTime::UNIX_EPOCH), readmitted: None })
}

fn request(row: &SpiTupleTable) -> DeletionRequest {
    let until = |minutes: i32| time(micros_column(row, 4)) + Duration::from_secs(60) * minutes.unsigned_abs();
    DeletionRequest {
        seq: column(row, 1),
        id: id(row),
        identifier: column(row, 3),
        until: settings::straggler_minutes().map(until),
        readmitted: row.get(5).ok().flatten(),
    }
}
