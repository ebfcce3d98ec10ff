//! Writing messages, inside the transaction of whoever calls.

use delivery::invalid::Fault;
use delivery::kind::Checked;
use pgrx::Uuid;
use pgrx::spi;

use crate::pg;
use crate::pg::spi::{arg, json_arg, run};
use crate::pg::transaction::{AtCommit, assign_id, at_commit};

/// A message's global identity. Version 7: ids made one after the other lie side by side in an index.
pub fn new_message_id() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

/// A row comes to be only where the account exists; the same statement finds out.
const INSERT: &str = "
    INSERT INTO klaviyo.outbox (message_id, account, kind, key, payload, enqueued_at)
    SELECT $1, a.name, $3, $4, $5, $6
    FROM klaviyo.account AS a
    WHERE a.name OPERATOR(pg_catalog.=) $2";

const INSERT_DEAD: &str = "
    INSERT INTO klaviyo.dead_letter
        (message_id, seq, account, kind, key, payload, code, reason, attempts, enqueued_at, died_at)
    VALUES ($1, NULL, $2, $3, '{}', $4, $5, $6, 0, $7, $7)";

/// Writes a message to the outbox. `Ok(false)`: there is no such account, and nothing was written.
pub fn enqueue(
    message_id: uuid::Uuid,
    account: &str,
    kind: &str,
    checked: &Checked,
    now: i64,
) -> Result<bool, spi::Error> {
    // The transaction has its id before the row has its number: see delivery::gaps.
    assign_id();
    let args = [
        arg(Uuid::from_bytes(*message_id.as_bytes())),
        arg(account),
        arg(kind),
        arg(checked.key.clone()),
        json_arg(&checked.payload),
        arg(pg::timestamp(now)),
    ];
    let rows = run(INSERT, &args)?;
    if rows > 0 {
        at_commit(AtCommit { wake: true, ..AtCommit::default() });
    }
    Ok(rows > 0)
}

/// Writes a message that was refused straight to the dead letters.
pub fn bury(
    message_id: uuid::Uuid,
    account: &str,
    kind: &str,
    payload: &str,
    fault: Fault,
    reason: &str,
    now: i64,
) -> Result<(), spi::Error> {
    let args = [
        arg(Uuid::from_bytes(*message_id.as_bytes())),
        arg(account),
        arg(kind),
        json_arg(payload),
        arg(fault.code()),
        arg(reason),
        arg(pg::timestamp(now)),
    ];
    run(INSERT_DEAD, &args).map(drop)
}
