//! Writes JSON that came in piece by piece, and stops at the first piece that Klaviyo would not take. One pass, no
//! tree, and never more memory than the limit: a short value can stand for a very long text.

use serde::Serialize;

use crate::invalid::{Fault, Invalid};

/// What Klaviyo takes in one JSON value.
#[derive(Debug, Clone, Copy)]
pub struct JsonLimits {
    /// The argument, as errors name it.
    pub argument: &'static str,
    /// Entries of the outermost object.
    pub properties: usize,
    /// Bytes of the whole text.
    pub bytes: usize,
    /// Whether the value must be an object within Klaviyo's limits of depth, items and strings. If not, only the bytes
    /// count: for keeping a record of what was refused.
    pub shaped: bool,
}

/// Levels of objects and arrays, the outermost counted (Klaviyo's guide to events, "Limitations").
const DEPTH: usize = 10;
/// Items of an array (the same).
const ITEMS: usize = 4_000;
/// Bytes of a string (spec: `EventCreateQueryV2`, "each string cannot be larger than 100 KB").
const STRING: usize = 100_000;

/// Gets an object, key by key and value by value, and holds its text.
#[derive(Debug)]
pub struct JsonWriter {
    limits: JsonLimits,
    text: Vec<u8>,
    /// For each open container: whether it is an array, and how many entries it has.
    open: Vec<(bool, usize)>,
    after_key: bool,
}

impl JsonWriter {
    pub fn new(limits: JsonLimits) -> Self {
        Self { limits, text: Vec::with_capacity(256), open: Vec::new(), after_key: false }
    }

    pub fn begin(&mut self, array: bool) -> Result<(), Invalid> {
        if array {
            self.inside()?;
        }
        self.value()?;
        if self.limits.shaped && self.open.len() == DEPTH {
            return Err(self.refuse(
                Fault::Properties,
                "is nested too deep",
                format!("Klaviyo takes {DEPTH} levels."),
                "Flatten it, or leave the inner levels out.",
            ));
        }
        self.text.push(if array { b'[' } else { b'{' });
        self.open.push((array, 0));
        Ok(())
    }

    pub fn end(&mut self) -> Result<(), Invalid> {
        if let Some((array, _)) = self.open.pop() {
            self.text.push(if array { b']' } else { b'}' });
        }
        self.fits()
    }

    pub fn key(&mut self, key: &str) -> Result<(), Invalid> {
        self.comma()?;
        self.quoted(key)?;
        self.text.push(b':');
        self.after_key = true;
        Ok(())
    }

    pub fn string(&mut self, string: &str) -> Result<(), Invalid> {
        self.inside()?;
        self.value()?;
        self.quoted(string)
    }

    /// A number, `true`, `false` or `null`, as JSON writes it.
    pub fn literal(&mut self, literal: &str) -> Result<(), Invalid> {
        self.inside()?;
        self.value()?;
        if self.text.len() + literal.len() > self.limits.bytes {
            return Err(self.too_large());
        }
        self.text.extend_from_slice(literal.as_bytes());
        self.fits()
    }

    /// The text of the whole object.
    pub fn finish(self) -> String {
        String::from_utf8(self.text).expect("only UTF-8 was written")
    }

    /// What stands before a value: nothing after a key, a comma in an array.
    fn value(&mut self) -> Result<(), Invalid> {
        if std::mem::take(&mut self.after_key) { Ok(()) } else { self.comma() }
    }

    fn comma(&mut self) -> Result<(), Invalid> {
        let outermost = self.open.len() == 1;
        let Some((array, entries)) = self.open.last_mut() else { return Ok(()) };
        if *entries > 0 {
            self.text.push(b',');
        }
        *entries += 1;
        let (array, entries) = (*array, *entries);
        if self.limits.shaped && array && entries > ITEMS {
            return Err(self.refuse(
                Fault::Properties,
                "holds an array that is too long",
                format!("Klaviyo takes {ITEMS} items in an array."),
                "Send fewer items.",
            ));
        }
        if outermost && entries > self.limits.properties {
            return Err(self.refuse(
                Fault::Properties,
                "has too many entries",
                format!("Klaviyo takes {}.", self.limits.properties),
                "Send fewer, or group some in a nested object.",
            ));
        }
        Ok(())
    }

    fn quoted(&mut self, string: &str) -> Result<(), Invalid> {
        if self.limits.shaped && string.len() > STRING {
            return Err(self.refuse(
                Fault::TooLarge,
                "holds a string that is too long",
                format!("It has {} bytes; Klaviyo takes {STRING}.", string.len()),
                "Shorten it.",
            ));
        }
        string
            .serialize(&mut serde_json::Serializer::new(&mut self.text))
            .expect("a string can be written to memory");
        self.fits()
    }

    fn fits(&self) -> Result<(), Invalid> {
        if self.text.len() > self.limits.bytes { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Invalid {
        self.refuse(
            Fault::TooLarge,
            "is too large",
            format!("Klaviyo takes {} bytes.", self.limits.bytes),
            "Send less.",
        )
    }

    /// Refuses an outermost value that is a scalar or an array.
    fn inside(&self) -> Result<(), Invalid> {
        if !self.open.is_empty() || !self.limits.shaped {
            return Ok(());
        }
        Err(self.refuse(
            Fault::Properties,
            "is not a JSON object",
            "It must be an object of names and values.".to_owned(),
            "Build it with jsonb_build_object('name', value, …).",
        ))
    }

    fn refuse(&self, fault: Fault, what: &str, detail: String, hint: &'static str) -> Invalid {
        Invalid::new(fault, format!("argument \"{}\" {what}", self.limits.argument), detail, hint)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const LIMITS: JsonLimits =
        JsonLimits { argument: "properties", properties: 400, bytes: 1_000_000, shaped: true };

    fn write(writer: &mut JsonWriter, value: &Value) -> Result<(), Invalid> {
        match value {
            Value::Object(entries) => {
                writer.begin(false)?;
                for (key, value) in entries {
                    writer.key(key)?;
                    write(writer, value)?;
                }
                writer.end()
            }
            Value::Array(items) => {
                writer.begin(true)?;
                items.iter().try_for_each(|item| write(writer, item))?;
                writer.end()
            }
            Value::String(string) => writer.string(string),
            other => writer.literal(&other.to_string()),
        }
    }

    fn written(value: &Value) -> Result<String, Invalid> {
        let mut writer = JsonWriter::new(LIMITS);
        write(&mut writer, value)?;
        Ok(writer.finish())
    }

    fn nested(levels: usize) -> Value {
        (1..levels).fold(serde_json::json!({}), |inner, _| serde_json::json!({ "in": inner }))
    }

    #[test]
    fn writes_what_it_was_given() {
        let value =
            serde_json::json!({"a": 1, "b": [true, null, "x\"\\\u{1}é"], "c": {"d": {}, "e": []}, "": 0.5});
        let text = written(&value).expect("valid");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn a_record_may_have_any_shape_and_not_any_size() {
        let record = |value: &Value| {
            let mut writer = JsonWriter::new(JsonLimits { shaped: false, ..LIMITS });
            write(&mut writer, value).map(|()| writer.finish())
        };
        for value in
            [serde_json::json!("text"), serde_json::json!([1, [2]]), serde_json::json!(null), nested(50)]
        {
            let text = record(&value).expect("kept");
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
        assert!(record(&serde_json::json!("x".repeat(1_000_001))).is_err());
    }

    #[test]
    fn stops_at_each_limit_and_not_before() {
        let entries = |n: usize| Value::Object((0..n).map(|i| (i.to_string(), Value::Null)).collect());
        let text = |n: usize| serde_json::json!({ "a": "x".repeat(n) });
        let array = |n: usize| serde_json::json!({ "a": vec![0; n] });
        for fits in [nested(DEPTH), entries(400), text(STRING), array(ITEMS)] {
            written(&fits).expect("within the limits");
        }
        for (over, fault) in [
            (nested(DEPTH + 1), Fault::Properties),
            (entries(401), Fault::Properties),
            (text(STRING + 1), Fault::TooLarge),
            (array(ITEMS + 1), Fault::Properties),
            (serde_json::json!([]), Fault::Properties),
            (serde_json::json!({ "a": vec!["x".repeat(STRING); 11] }), Fault::TooLarge),
        ] {
            assert_eq!(written(&over).expect_err("over a limit").fault, fault);
        }
    }
}
