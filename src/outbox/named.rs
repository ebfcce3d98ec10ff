//! Whom a message names of which no key is known, since it was refused, or whom one names besides its key.

use std::collections::BTreeSet;

use delivery::key;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Every text in it that is like an address or a number, whatever it stands for, as `klaviyo.outbox.key` has it.
pub fn people(json: &str) -> Vec<String> {
    let mut people = BTreeSet::new();
    each_text(json, |text| people.extend(person(text)));
    people.into_iter().collect()
}

/// The same, also where it stands within a text, as in a filter of a path, and in what is JSON only to Postgres.
pub fn people_within(json: &str) -> Vec<String> {
    let mut people = BTreeSet::new();
    if serde_json::from_str::<Value>(json).is_err() {
        people.extend(within(json));
    }
    each_text(json, |text| people.extend(within(text)));
    people.into_iter().collect()
}

/// Whatever a text may name: all of it, and each part of it between what may and what cannot stand in an address.
fn within(text: &str) -> impl Iterator<Item = String> {
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let parts = |text: &str, ends: &str| -> Vec<String> {
        let is_end = |c: char| c.is_whitespace() || ends.contains(c);
        text.split(is_end).filter_map(person).collect()
    };
    let all = [text, decoded.as_str()].map(|text| {
        [parts(text, ""), parts(text, "\"()<>[],;:\\"), parts(text, "\"'()<>[]{},;:=?&/\\")].concat()
    });
    all.into_iter().flatten().chain(person(text))
}

fn each_text(json: &str, mut each: impl FnMut(&str)) {
    let mut left: Vec<Value> = serde_json::from_str(json).into_iter().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => each(&text),
            Value::Array(values) => left.extend(values),
            Value::Object(values) => left.extend(values.into_iter().map(|(_, value)| value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn person(text: &str) -> Option<String> {
    let text = text.trim();
    match text.as_bytes() {
        [b'+', ..] => Some(key::identifier("phone_number", text)),
        bytes if bytes.contains(&b'@') => Some(key::identifier("email", text)),
        _ => None,
    }
}
