//! What a dead letter keeps of a message that was refused when it was queued.

use delivery::invalid::Invalid;
use delivery::json::JsonLimits;

use super::messages::{cut, json};
use crate::pg::function::Arguments;

/// Bytes of a text argument that a dead letter keeps. A longer one is never valid.
const KEPT: usize = 100_000;

/// Bytes of a JSON argument that a dead letter keeps: as many as an event may have.
const KEPT_JSON: usize = 5_000_000;

/// The arguments of a refused message, for its dead letter, so that it can be put right from there. Only what is so
/// large that it could not be sent anyway is cut or left out.
#[derive(Default)]
pub struct Given(String);

impl Given {
    pub fn text(&mut self, name: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        let kept = cut(text, KEPT);
        self.put(name, &serde_json::Value::from(kept).to_string());
        if kept.len() < text.len() {
            self.put(&format!("{name} (bytes before it was cut)"), &text.len().to_string());
        }
    }

    pub fn texts(&mut self, name: &str, texts: Option<Vec<Option<String>>>) {
        let Some(texts) = texts else { return };
        let all = serde_json::Value::from(texts).to_string();
        if all.len() <= KEPT {
            self.put(name, &all);
        } else {
            self.put(&format!("{name} (bytes, left out)"), &all.len().to_string());
        }
    }

    pub fn json(&mut self, name: &'static str, arguments: &Arguments, number: usize) {
        match kept(name, arguments, number) {
            Ok(None) => {}
            Ok(Some(text)) => self.put(name, &text),
            Err(_) => self.put(&format!("{name} (left out, more bytes than)"), &KEPT_JSON.to_string()),
        }
    }

    /// All of it, where it is one JSON argument.
    pub fn of(arguments: &Arguments, number: usize) -> String {
        kept("given", arguments, number).ok().flatten().unwrap_or_else(|| "{}".to_owned())
    }

    /// `value` is JSON already, and is kept to the letter.
    fn put(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&serde_json::Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(value);
    }

    pub fn finish(self) -> String {
        if self.0.is_empty() { "{}".to_owned() } else { self.0 + "}" }
    }
}

fn kept(argument: &'static str, arguments: &Arguments, number: usize) -> Result<Option<String>, Invalid> {
    json(arguments, number, JsonLimits { argument, properties: usize::MAX, bytes: KEPT_JSON, shaped: false })
}
