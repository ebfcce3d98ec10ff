//! Whom a message names of which no key is known, since it was refused.

use std::collections::BTreeSet;

use delivery::key;
use serde_json::Value;

/// Every text in it that is like an address or a number, whatever it stands for, as `klaviyo.outbox.key` has it.
pub fn people(json: &str) -> Vec<String> {
    let mut people = BTreeSet::new();
    let mut left: Vec<Value> = serde_json::from_str(json).into_iter().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => people.extend(person(&text)),
            Value::Array(values) => left.extend(values),
            Value::Object(values) => left.extend(values.into_iter().map(|(_, value)| value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    people.into_iter().collect()
}

fn person(text: &str) -> Option<String> {
    let text = text.trim();
    match text.as_bytes() {
        [b'+', ..] => Some(key::identifier("phone_number", text)),
        bytes if bytes.contains(&b'@') => Some(key::identifier("email", text)),
        _ => None,
    }
}
