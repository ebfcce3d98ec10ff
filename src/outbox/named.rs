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

/// The same, also where it stands within a text, as in a filter of a path.
pub fn people_within(json: &str) -> Vec<String> {
    let mut people = BTreeSet::new();
    each_text(json, |text| {
        for text in [text.into(), percent_decode_str(text).decode_utf8_lossy()] {
            people.extend(
                text.split(|c: char| c.is_whitespace() || "\"'()<>[]{},;:=?&/".contains(c))
                    .filter_map(person),
            );
        }
    });
    people.into_iter().collect()
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
