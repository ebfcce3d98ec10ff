//! Messages about people whose data was to be deleted: they are discarded, lest they bring the person back.

use std::collections::HashMap;
use std::time::SystemTime;

use delivery::{Ending, Message, Outcome};
use pgrx::{Uuid, spi};

use super::Claimed;
use crate::pg::spi::{arg, column, rows, value};
use crate::settings;

const ANY: &str = "SELECT EXISTS (SELECT FROM klaviyo.deletion)";

/// Which of these messages, each an element with one of its identifiers, are about somebody who was to be deleted, and by
/// which request. What was queued before that is of no use any more, however late it comes; what was queued after is a
/// straggler for `$5` minutes, unless the person was readmitted before it.
const THEIRS: &str = "
    SELECT DISTINCT ON (m.number) m.number, d.message_id
    FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[]) AS m (number, account, seq, identifier)
    JOIN klaviyo.account AS a ON a.name = m.account
    JOIN klaviyo.deletion AS d
      ON d.digest = klaviyo.person_digest(a.person_salt, m.identifier) AND d.account = m.account
    WHERE m.seq < d.seq
       OR m.seq > d.seq AND (d.readmitted_seq IS NULL OR m.seq < d.readmitted_seq)
          AND ($5 IS NULL OR d.requested_at > pg_catalog.now() - $5 * interval '1 minute')
    ORDER BY m.number, d.seq DESC";

/// Takes out of what was found what is about such people.
pub fn discard(claimed: &mut Claimed) -> Result<(), spi::Error> {
    let is_nothing = claimed.messages.values().all(|messages| messages.iter().all(is_exempt));
    if is_nothing || !value::<bool>(ANY, &[])?.unwrap_or_default() {
        return Ok(());
    }
    let all =
        claimed.messages.iter().flat_map(|(account, messages)| messages.iter().map(move |it| (account, it)));
    let (mut numbers, mut accounts, mut seqs, mut identifiers) = (vec![], vec![], vec![], vec![]);
    for (number, (account, message)) in (0..).zip(all.filter(|(_, message)| !is_exempt(message))) {
        for identifier in &message.key {
            numbers.push(number);
            accounts.push(account.as_str());
            seqs.push(message.seq);
            identifiers.push(identifier.strip_prefix("history:").unwrap_or(identifier).to_owned());
        }
    }
    let mut theirs: HashMap<i32, [u8; 16]> = HashMap::new();
    let args = [arg(numbers), arg(accounts), arg(seqs), arg(identifiers), arg(settings::straggler_minutes())];
    rows(THEIRS, &args, |row| {
        theirs.insert(column(row, 1), *column::<Uuid>(row, 2).as_bytes());
    })?;
    let mut number = 0;
    for messages in claimed.messages.values_mut() {
        messages.retain(|message| {
            if is_exempt(message) {
                return true;
            }
            let by = theirs.get(&number).copied();
            number += 1;
            claimed.undeliverable.extend(
                by.map(|by| Outcome::of(message, SystemTime::now(), false, Ending::Discarded { by })),
            );
            by.is_none()
        });
    }
    claimed.messages.retain(|_, messages| !messages.is_empty());
    Ok(())
}

/// A request for deletion is never in the way of itself.
fn is_exempt(message: &Message) -> bool {
    message.kind.deletes()
}
