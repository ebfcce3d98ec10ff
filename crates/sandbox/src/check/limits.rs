//! The size limits of an event's properties.

use serde_json_borrow::{Map, Value};

use super::fields::{At, Findings};

/// Properties of an event. Source: `EventCreateQueryV2` in Klaviyo's OpenAPI document.
const MAX_PROPERTIES: usize = 400;
/// Bytes of a string, from the same place ("100 KB"), read as decimal so that either reading is kept.
const MAX_STRING: usize = 100_000;
/// Items of an array. Source: Klaviyo's documentation of the events API's limitations.
const MAX_ITEMS: usize = 4_000;
/// Objects and arrays in one another, the properties object itself counted. Same source.
const MAX_DEPTH: usize = 10;

/// Checks the properties object of an event, and everything in it.
pub fn check(findings: &mut Findings, at: At<'_>, properties: &Map<'_>) {
    if properties.len() > MAX_PROPERTIES {
        let detail =
            format!("An event has at most {MAX_PROPERTIES} properties, this has {}.", properties.len());
        findings.add(at, detail);
    }
    members(findings, at, properties, 1);
}

fn members(findings: &mut Findings, at: At<'_>, object: &Map<'_>, depth: usize) {
    for (key, value) in object.iter() {
        value_within(findings, at.key(key), value, depth);
    }
}

/// Checks the length of every string in a value, which bulk calls limit everywhere.
pub fn check_strings(findings: &mut Findings, at: At<'_>, value: &Value<'_>) {
    match value {
        Value::Str(text) => check_string(findings, at, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_strings(findings, at.index(index), item);
            }
        }
        Value::Object(object) => {
            for (key, value) in object.iter() {
                check_strings(findings, at.key(key), value);
            }
        }
        _ => {}
    }
}

fn check_string(findings: &mut Findings, at: At<'_>, text: &str) {
    if text.len() > MAX_STRING {
        findings.add(at, format!("A string has at most {MAX_STRING} bytes, this has {}.", text.len()));
    }
}

/// `depth` counts the containers around the value.
fn value_within(findings: &mut Findings, at: At<'_>, value: &Value<'_>, depth: usize) {
    match value {
        Value::Str(text) => check_string(findings, at, text),
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
            findings.add(at, format!("Properties are nested at most {MAX_DEPTH} levels deep."));
        }
        Value::Array(items) => {
            if items.len() > MAX_ITEMS {
                let detail = format!("An array has at most {MAX_ITEMS} items, this has {}.", items.len());
                findings.add(at, detail);
            }
            for (index, item) in items.iter().enumerate() {
                value_within(findings, at.index(index), item, depth + 1);
            }
        }
        Value::Object(object) => members(findings, at, object, depth + 1),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{At, Findings, check};

    fn pointers(properties: Value) -> Vec<String> {
        let mut findings = Findings::default();
        let properties = serde_json_borrow::Value::from(&properties);
        check(&mut findings, At::ROOT.key("p"), properties.as_object().unwrap());
        findings.into_errors().into_iter().map(|error| error.pointer).collect()
    }

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!({}), |inner, _| json!({ "in": inner }))
    }

    #[test]
    fn each_limit_holds_exactly() {
        let many = |count| Value::Object((0..count).map(|n| (n.to_string(), json!(n))).collect());
        assert_eq!(pointers(many(400)), [""; 0]);
        assert_eq!(pointers(many(401)), ["/p"]);
        assert_eq!(pointers(json!({"s": "x".repeat(100_000), "a": vec![0; 4_000]})), [""; 0]);
        assert_eq!(
            pointers(
                json!({"a": vec![0; 4_001], "b": {"s": "x".repeat(100_001)}, "c/d": ["x".repeat(100_001)]})
            ),
            ["/p/a", "/p/b/s", "/p/c~1d/0"]
        );
        assert_eq!(pointers(nested(10)), [""; 0]);
        assert_eq!(pointers(nested(11)), ["/p".to_owned() + &"/in".repeat(10)]);
    }
}
