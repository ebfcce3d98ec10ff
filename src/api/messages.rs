//! `klaviyo_track_event`, `klaviyo_upsert_profile`, `klaviyo_upsert_changes`, `klaviyo_request_deletion`: check, queue, return
//! the id.

use std::cell::Cell;

use delivery::identifiers::Identifiers;
use delivery::invalid::{Fault, Invalid};
use delivery::json::{JsonLimits, JsonWriter};
use delivery::kind::profile_change::Change;
use delivery::kind::{Checked, deletion, event, merge, profile};
use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, pg_sys};

use super::given::Given;
use crate::outbox::enqueue::{self, Name};
use crate::pg;
use crate::pg::function::{Arguments, Refusal, Returned, sql_function};
use crate::settings::{ON_INVALID, OnInvalid};

sql_function!(klaviyo_track_event, pg_finfo_klaviyo_track_event, track_event);
sql_function!(klaviyo_upsert_profile, pg_finfo_klaviyo_upsert_profile, upsert_profile);
sql_function!(klaviyo_upsert_changes, pg_finfo_klaviyo_upsert_changes, upsert_changes);
sql_function!(klaviyo_request_deletion, pg_finfo_klaviyo_request_deletion, request_deletion);
sql_function!(klaviyo_merge_profiles, pg_finfo_klaviyo_merge_profiles, merge_profiles);
sql_function!(klaviyo_check_event, pg_finfo_klaviyo_check_event, check_event);
sql_function!(klaviyo_check_changes, pg_finfo_klaviyo_check_changes, check_changes);
sql_function!(klaviyo_bury_row, pg_finfo_klaviyo_bury_row, bury_row);
sql_function!(klaviyo_refuse_message, pg_finfo_klaviyo_refuse_message, refuse_message);
sql_function!(klaviyo_backfill_event, pg_finfo_klaviyo_backfill_event, backfill_event);
sql_function!(klaviyo_backfill_changes, pg_finfo_klaviyo_backfill_changes, backfill_changes);

/// The account of a message that names none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// `dead_letter.code` of a row that no message can be made of.
const BROKEN_MAPPING: &str = "broken_mapping";

/// `klaviyo_track_event(metric, email, properties, value, value_currency, unique_id, event_time, phone_number,
/// external_id, profile, account)`
fn track_event(arguments: &Arguments) -> Returned {
    let name = Name::next();
    let now = pg::now();
    let checked = || event_checked(arguments, false, &name.message_id, now);
    queue("event", &name, arguments.get(10), now, checked, || event_given(arguments))
}

/// `klaviyo.backfill_event`, which takes what `klaviyo_track_event` takes, and `again`.
fn backfill_event(arguments: &Arguments) -> Returned {
    let name = name_of_history(arguments.get(11));
    let now = pg::now();
    let checked = event_checked(arguments, true, &name.message_id, now);
    queue_history("event", &name, arguments.get(10), now, checked, || event_given(arguments))
}

/// What a dead letter of an event keeps of it.
fn event_given(arguments: &Arguments) -> String {
    let mut given = Given::default();
    for (name, number) in [
        ("metric", 0),
        ("email", 1),
        ("phone_number", 7),
        ("external_id", 8),
        ("value_currency", 4),
        ("unique_id", 5),
    ] {
        given.text(name, arguments.get(number));
    }
    given.text("value", numeric(arguments, 3));
    given.text("event_time", arguments.datum(6).map(timestamp_text).as_deref());
    given.json("properties", arguments, 2);
    given.json("profile", arguments, 9);
    given.finish()
}

fn event_checked(
    arguments: &Arguments,
    backfill: bool,
    message_id: &uuid::Uuid,
    now: i64,
) -> Result<Checked, Invalid> {
    let profile = json(arguments, 9, profile::limits("profile"))?;
    let properties = json(arguments, 2, event::PROPERTIES)?;
    event::Draft {
        metric: arguments.get(0).unwrap_or_default(),
        identifiers: Identifiers {
            email: arguments.get(1),
            phone_number: arguments.get(7),
            external_id: arguments.get(8),
        },
        profile: profile.as_deref(),
        properties: properties.as_deref(),
        value: numeric(arguments, 3),
        value_currency: arguments.get(4),
        unique_id: arguments.get(5),
        // timestamptz is passed as the 64 bits it is.
        time: arguments.datum(6).map(|time| pg::micros(time.value() as i64)),
        backfill,
    }
    .check(&message_id.to_string(), now)
}

/// `klaviyo.check_event`, which takes what `klaviyo_track_event` takes: what that would send, or why it would refuse.
fn check_event(arguments: &Arguments) -> Returned {
    preview("event", event_checked(arguments, false, &uuid::Uuid::nil(), pg::now()))
}

/// `klaviyo.check_changes(new, old)`: what `klaviyo_upsert_changes` would send, or why it would refuse.
fn check_changes(arguments: &Arguments) -> Returned {
    preview("profile", change(arguments).and_then(|change| change.unwrap_or_default().draft().check()))
}

/// The body of the call that carries a message, or a refusal, as JSON.
fn preview(kind: &str, checked: Result<Checked, Invalid>) -> Returned {
    let text = match checked {
        Ok(checked) => {
            let kind = delivery::kind::find(kind).unwrap_or_else(|| error!("there is no kind {kind}"));
            let body = kind
                .body(&checked.payload)
                .unwrap_or_else(|why| error!("{kind} has no body: {why}", kind = kind.name()));
            format!("{{\"request\":{}}}", String::from_utf8_lossy(&body))
        }
        Err(invalid) => serde_json::json!({
            "code": invalid.fault.code(),
            "reason": format!("{}. {}", invalid.message, invalid.detail),
            "hint": invalid.hint,
        })
        .to_string(),
    };
    Ok(text.into_datum())
}

/// `klaviyo_upsert_profile(email, phone_number, external_id, first_name, last_name, organization, title, locale,
/// image, location, properties, account, clear)`
fn upsert_profile(arguments: &Arguments) -> Returned {
    let name = Name::next();
    let checked = || {
        let location = json(arguments, 9, profile::limits("location"))?;
        let properties = json(arguments, 10, profile::limits("properties"))?;
        profile::Draft {
            identifiers: Identifiers {
                email: arguments.get(0),
                phone_number: arguments.get(1),
                external_id: arguments.get(2),
            },
            texts: std::array::from_fn(|text| arguments.get(3 + text)),
            location: location.as_deref(),
            properties: properties.as_deref(),
            clear: arguments
                .get::<Vec<Option<String>>>(12)
                .unwrap_or_default()
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect(),
            backfill: false,
        }
        .check()
    };
    let given = || {
        let mut given = Given::default();
        for (number, name) in
            ["email", "phone_number", "external_id"].into_iter().chain(profile::TEXTS).enumerate()
        {
            given.text(name, arguments.get(number));
        }
        given.json("location", arguments, 9);
        given.json("properties", arguments, 10);
        given.texts("clear", arguments.get(12));
        given.finish()
    };
    queue("profile", &name, arguments.get(11), pg::now(), checked, given)
}

/// `klaviyo_upsert_changes(new, old, account)`
fn upsert_changes(arguments: &Arguments) -> Returned {
    if arguments.datum(0).is_none() {
        return Ok(None);
    }
    let change = change(arguments);
    if matches!(change, Ok(None)) {
        return Ok(None);
    }
    let checked = || change?.unwrap_or_default().draft().check();
    queue("profile", &Name::next(), arguments.get(2), pg::now(), checked, || change_given(arguments))
}

/// `klaviyo.backfill_changes`, which takes what `klaviyo_upsert_changes` takes, and `again`.
fn backfill_changes(arguments: &Arguments) -> Returned {
    let name = name_of_history(arguments.get(3));
    let draft_of = |change: Option<Change>| {
        let change = change.unwrap_or_default();
        profile::Draft { backfill: true, ..change.draft() }.check()
    };
    let checked = change(arguments).and_then(draft_of);
    queue_history("profile", &name, arguments.get(2), pg::now(), checked, || change_given(arguments))
}

/// What a dead letter of a change keeps of it.
fn change_given(arguments: &Arguments) -> String {
    let mut given = Given::default();
    given.json("new", arguments, 0);
    given.json("old", arguments, 1);
    given.finish()
}

fn name_of_history(again: Option<bool>) -> Name {
    if again.unwrap_or_default() { Name::of_repeat() } else { Name::next() }
}

/// `klaviyo_request_deletion(email, phone_number, account)`
fn request_deletion(arguments: &Arguments) -> Returned {
    let checked = || deletion::Draft { email: arguments.get(0), phone_number: arguments.get(1) }.check();
    let given = || {
        let mut given = Given::default();
        given.text("email", arguments.get(0));
        given.text("phone_number", arguments.get(1));
        given.finish()
    };
    queue("deletion", &Name::next(), arguments.get(2), pg::now(), checked, given)
}

/// `klaviyo_merge_profiles(keep, merge, account)`
fn merge_profiles(arguments: &Arguments) -> Returned {
    let checked = || merge::Draft { keep: arguments.get(0), merge: arguments.get(1) }.check();
    let given = || {
        let mut given = Given::default();
        given.text("keep", arguments.get(0));
        given.text("merge", arguments.get(1));
        given.finish()
    };
    queue("merge", &Name::next(), arguments.get(2), pg::now(), checked, given)
}

/// `klaviyo.bury_row(account, kind, row, fault)`: of a row whose mapping is understood no more.
fn bury_row(arguments: &Arguments) -> Returned {
    let account = arguments.get(0).unwrap_or(DEFAULT_ACCOUNT);
    let kind = arguments.get(1).unwrap_or_default();
    let fault: &str = arguments.get(3).unwrap_or_default();
    let message_id = Name::next().message_id;
    let mut row = Given::default();
    row.json("row", arguments, 2);
    let reason = format!("the mapping of its table fails: {fault}");
    enqueue::bury(message_id, account, kind, &row.finish(), BROKEN_MAPPING, &reason, pg::now())
        .unwrap_or_else(|error| error!("{error}"));
    Ok(Uuid::from_bytes(*message_id.as_bytes()).into_datum())
}

/// `klaviyo.refuse_message(kind, account, code, message, detail, hint, given)`: what a function that is written in SQL does
/// with arguments that no message can be made of, as `klaviyo.on_invalid` has it.
fn refuse_message(arguments: &Arguments) -> Returned {
    let text = |number: usize| arguments.get::<String>(number).unwrap_or_default();
    let code = text(2);
    let fault = Fault::ALL.iter().copied().find(|fault| fault.code() == code);
    let fault = fault.unwrap_or_else(|| error!("there is no reason {code} to refuse a message"));
    let invalid = Invalid::new(fault, text(3), text(4), text(5));
    let kind = delivery::kind::find(&text(0)).unwrap_or_else(|| error!("there is no kind {}", text(0)));
    let given = || Given::of(arguments, 6);
    queue(kind.name(), &Name::next(), arguments.get(1), pg::now(), || Err(invalid), given)
}

/// What has changed between two states, the new and the old.
fn change(arguments: &Arguments) -> Result<Option<Change>, Invalid> {
    let new = json(arguments, 0, profile::limits("new"))?;
    // What was wrong with it is put right by the new one.
    let old = json(arguments, 1, profile::limits("old")).ok().flatten();
    Change::between(old.as_deref(), new.as_deref().unwrap_or_default())
}

/// Queues what passes its checks. What does not is refused, or, if the shop prefers, buried.
pub fn queue(
    kind: &'static str,
    name: &Name,
    account: Option<&str>,
    now: i64,
    checked: impl FnOnce() -> Result<Checked, Invalid>,
    given: impl FnOnce() -> String,
) -> Returned {
    let account = account.unwrap_or(DEFAULT_ACCOUNT);
    let queued = checked().and_then(|checked| insert(kind, name, account, now, &checked));
    match queued {
        Ok(()) => hint_if_not_preloaded(),
        Err(invalid) if ON_INVALID.get() == OnInvalid::DeadLetter => {
            bury(kind, name, account, now, &invalid, &given());
        }
        Err(invalid) => return Err(Refusal::from(invalid)),
    }
    Ok(Uuid::from_bytes(*name.message_id.as_bytes()).into_datum())
}

/// Queues history that passes its checks, and returns its number. What does not is buried: nobody waits for an answer.
fn queue_history(
    kind: &'static str,
    name: &Name,
    account: Option<&str>,
    now: i64,
    checked: Result<Checked, Invalid>,
    given: impl FnOnce() -> String,
) -> Returned {
    let account = account.unwrap_or(DEFAULT_ACCOUNT);
    match checked.and_then(|checked| insert(kind, name, account, now, &checked)) {
        Ok(()) => Ok(name.seq.into_datum()),
        Err(invalid) => {
            bury(kind, name, account, now, &invalid, &given());
            Ok(None)
        }
    }
}

fn insert(kind: &str, name: &Name, account: &str, now: i64, checked: &Checked) -> Result<(), Invalid> {
    match enqueue::enqueue(name, account, kind, checked, now) {
        Ok(true) => Ok(()),
        Ok(false) => Err(unknown_account(account)),
        Err(error) => error!("{error}"),
    }
}

fn bury(kind: &str, name: &Name, account: &str, now: i64, invalid: &Invalid, given: &str) {
    let reason = format!("{}. {}", invalid.message, invalid.detail);
    let account = cut(account, 63);
    if let Err(error) =
        enqueue::bury(name.message_id, account, kind, given, invalid.fault.code(), &reason, now)
    {
        error!("{error}");
    }
}

pub fn unknown_account(account: &str) -> Invalid {
    Invalid::new(
        Fault::UnknownAccount,
        format!("account \"{}\" does not exist", cut(account, 63)),
        "The message has nowhere to go.",
        "Add it with klaviyo_set_account().",
    )
}

/// Says once a session that messages will wait: nothing else would, on a server that lacks the worker.
fn hint_if_not_preloaded() {
    thread_local! {
        static SAID: Cell<bool> = const { Cell::new(false) };
    }
    if !crate::worker::is_loaded() && !SAID.replace(true) {
        pg::warn(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "queued, but nothing delivers it: klaviyo_sync is not loaded by the server",
            "Add klaviyo_sync to shared_preload_libraries and restart the server; the messages wait until then.",
        );
    }
}

/// A jsonb argument as text, within Klaviyo's limits.
pub fn json(arguments: &Arguments, number: usize, limits: JsonLimits) -> Result<Option<String>, Invalid> {
    let Some(datum) = arguments.datum(number) else { return Ok(None) };
    let mut writer = JsonWriter::new(limits);
    pg::jsonb::write(datum, &mut writer)?;
    Ok(Some(writer.finish()))
}

/// A numeric argument as it prints.
pub fn numeric(arguments: &Arguments, number: usize) -> Option<&str> {
    let datum = arguments.datum(number)?;
    // SAFETY: the argument is declared numeric; the text lives as long as the statement.
    unsafe { pg::jsonb::numeric_text(datum) }.to_str().ok()
}

/// A timestamptz as Postgres prints it, infinity included.
pub fn timestamp_text(time: pg_sys::Datum) -> String {
    // SAFETY: prints 64 bits into a buffer of its own, which is copied.
    unsafe { std::ffi::CStr::from_ptr(pg_sys::timestamptz_to_str(time.value() as i64)) }
        .to_string_lossy()
        .into_owned()
}

/// A boolean as JSON has it.
pub fn boolean(arguments: &Arguments, number: usize) -> Option<&'static str> {
    arguments.get(number).map(|it: bool| if it { "true" } else { "false" })
}

/// NULL among them is an empty text, which nothing is called.
pub fn texts(arguments: &Arguments, number: usize) -> Option<Vec<String>> {
    let texts: Vec<Option<String>> = arguments.get(number)?;
    Some(texts.into_iter().map(Option::unwrap_or_default).collect())
}

/// Days from 1970, where we count from, to 2000, where Postgres does.
const TO_2000: i32 = 10_957;

/// A date as the days since 1970; it is passed as the 32 bits it is.
pub fn days(arguments: &Arguments, number: usize) -> Option<i32> {
    arguments.datum(number).map(|date| (date.value() as i32).saturating_add(TO_2000))
}

/// The first bytes of a text, at most so many.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
