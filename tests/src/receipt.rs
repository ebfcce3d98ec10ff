//! One request, as the sandbox received it.

use serde::Deserialize;
use serde_json::{Value, json};

/// A row of the sandbox's log of requests.
#[derive(Clone, Debug, Deserialize)]
pub struct Receipt {
    /// Its number, in order of arrival, from 1.
    pub n: u64,
    /// When it arrived, in microseconds since the sandbox started.
    pub at_us: u64,
    /// The connection it came on.
    pub connection: u64,
    /// The HTTP version.
    pub version: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The last four characters of the key it was signed with.
    pub key_suffix: Option<String>,
    /// The revision it asked for.
    pub revision: Option<String>,
    /// Its content type.
    pub content_type: Option<String>,
    /// The status it was answered with, if it was.
    pub status: Option<u16>,
    /// The fault that decided its fate, if one did.
    pub fault: Option<String>,
    /// Whether its effect is in the sandbox's store.
    pub accepted: bool,
    /// Its body: JSON, or else a string.
    pub body: Value,
}

impl Receipt {
    /// The value at a path of keys with dots between, such as `data.attributes.properties.order_id`.
    pub fn at(&self, path: &str) -> Option<&Value> {
        value_at(&self.body, path)
    }
}

/// The path of calls that carry many events.
pub const BULK_EVENTS: &str = "/api/event-bulk-create-jobs";

/// The path of calls that carry many profiles, and of those that ask about the jobs these make.
pub const BULK_PROFILES: &str = "/api/profile-bulk-import-jobs";

impl Receipt {
    /// What it carried, each as if it had come in a call of its own.
    pub fn messages(&self) -> Vec<Self> {
        let head = self.without_body();
        let mut messages = Vec::new();
        if let Some(profiles) = self.at("data.attributes.profiles.data") {
            for profile in list(Some(profiles)) {
                messages.push(Self { body: json!({ "data": profile }), ..head.clone() });
            }
            return messages;
        }
        if self.path != BULK_EVENTS {
            return vec![self.clone()];
        }
        for entry in list(self.at("data.attributes.events-bulk-create.data")) {
            for event in list(value_at(entry, "attributes.events.data")) {
                let mut event = event.clone();
                event["attributes"]["profile"] = entry["attributes"]["profile"].clone();
                messages.push(Self { body: json!({ "data": event }), ..head.clone() });
            }
        }
        messages
    }

    fn without_body(&self) -> Self {
        Self {
            version: self.version.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            key_suffix: self.key_suffix.clone(),
            revision: self.revision.clone(),
            content_type: self.content_type.clone(),
            fault: self.fault.clone(),
            body: Value::Null,
            ..*self
        }
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Those of the requests that were signed with a key, as far as its end tells: the sandbox keeps no more of it.
pub fn signed_with<'a>(receipts: &'a [Receipt], key: &str) -> Vec<&'a Receipt> {
    let suffix = Some(&key[key.len() - 4..]);
    receipts.iter().filter(|receipt| receipt.key_suffix.as_deref() == suffix).collect()
}

/// The value in a JSON document at a path of keys with dots between; null counts as nothing there.
pub fn value_at<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let found = path.split('.').try_fold(document, |value, key| value.get(key))?;
    (!found.is_null()).then_some(found)
}
