//! Secrets that messages must carry: they stand in a table of their own, and in no message. Where one is to be, a message has a mark,
//! and the secret is put there in memory only, when the message is handed over.

use std::collections::HashMap;
use std::time::SystemTime;

use delivery::{Ending, Failure, Message, Outcome};
use pgrx::{Uuid, spi};
use serde_json::Value;

use super::claim::{Aside, Claimed};
use crate::pg::spi::{arg, column, rows, run, value};

/// What stands in a message in its place, as sql/43_manage_webhooks.sql has it.
const MARK: &str = "\"{klaviyo_sync.message_secret}\"";

/// Kind of message that may have one.
const KIND: &str = "call";

const SECRETS: &str =
    "SELECT s.message_id, s.secret FROM klaviyo.message_secret AS s WHERE s.message_id = ANY ($1)";

/// What Klaviyo has made, it is known by there: its requests are taken from now on.
const ADOPT: &str = "
    WITH made AS (
        DELETE FROM klaviyo.message_secret AS s
        USING klaviyo.delivery AS d
        WHERE d.message_id = s.message_id
        RETURNING s.account, s.secret, d.klaviyo_id
    ), webhook AS (
        INSERT INTO klaviyo.webhook (webhook, account)
        SELECT m.klaviyo_id, m.account FROM made AS m
        WHERE m.klaviyo_id ~ '^[A-Za-z0-9_.-]{1,128}$'
        ON CONFLICT DO NOTHING
        RETURNING webhook
    )
    INSERT INTO klaviyo.webhook_secret (webhook, secret)
    SELECT w.webhook, m.secret FROM webhook AS w JOIN made AS m ON m.klaviyo_id = w.webhook
    ON CONFLICT DO NOTHING";

const ANY: &str = "
    SELECT EXISTS (
        SELECT FROM klaviyo.message_secret AS s
        WHERE EXISTS (SELECT FROM klaviyo.delivery AS d WHERE d.message_id = s.message_id)
    )";

/// Of messages that have been given up long ago.
const FORGET: &str = "
    DELETE FROM klaviyo.message_secret AS s
    WHERE s.created_at < pg_catalog.now() - interval '400 days'
      AND NOT EXISTS (SELECT FROM klaviyo.dead_letter AS d WHERE d.message_id = s.message_id)";

/// Puts secrets into the messages that want one. A message whose secret is not here is not sent.
pub fn fill_in(claimed: &mut Claimed) -> Result<(), spi::Error> {
    let wants = |message: &Message| message.kind.name() == KIND && message.payload.contains(MARK);
    let all = claimed.messages.values().flatten();
    let ids: Vec<Uuid> = all.filter(|message| wants(message)).map(|it| Uuid::from_bytes(it.id)).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut secrets: HashMap<[u8; 16], String> = HashMap::new();
    rows(SECRETS, &[arg(ids)], |row| {
        secrets.insert(*column::<Uuid>(row, 1).as_bytes(), column(row, 2));
    })?;
    for (account, messages) in &mut claimed.messages {
        let (kept, without): (Vec<Message>, Vec<Message>) = std::mem::take(messages)
            .into_iter()
            .partition(|message| !wants(message) || secrets.contains_key(&message.id));
        *messages = kept;
        for message in messages.iter_mut().filter(|message| wants(message)) {
            let secret = Value::from(secrets[&message.id].as_str()).to_string();
            message.payload = message.payload.replacen(MARK, &secret, 1);
        }
        claimed.undeliverable.extend(without.iter().map(|message| lacking(account, message)));
    }
    Ok(())
}

/// It came from a dump, which carries no secrets, or whoever has queued it wrote the mark himself.
fn lacking(account: &str, message: &Message) -> Aside {
    let failure = Failure {
        code: "no_secret".to_owned(),
        reason: "the secret that it must carry is not in this database; discard it, and queue it anew"
            .to_owned(),
        ..Failure::default()
    };
    let ending = Ending::Dead { failure, newer: None };
    let outcome = Outcome::of(message, SystemTime::now(), false, ending);
    Aside::new(account, message, outcome)
}

/// Whether Klaviyo has taken a message with one.
pub fn is_any() -> Result<bool, spi::Error> {
    Ok(value::<bool>(ANY, &[])?.unwrap_or_default())
}

/// Has webhooks that Klaviyo has made be known by their secrets.
pub fn adopt() -> Result<usize, spi::Error> {
    run(ADOPT, &[])
}

/// Forgets secrets of which nobody makes use any more.
pub fn forget() -> Result<usize, spi::Error> {
    run(FORGET, &[])
}
