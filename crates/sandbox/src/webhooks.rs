//! Webhooks: what each is to be told of, and the requests that tell it.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::call::Call;
use crate::check::{WebhookChange, WebhookDraft};
use crate::error::ApiError;
use crate::store::{rfc3339, ulid};

/// What a webhook can be told of. Which there are is an account's own affair; these are some that Klaviyo's guides name.
pub const TOPICS: [&str; 13] = [
    "event:klaviyo.bounced_email",
    "event:klaviyo.clicked_email",
    "event:klaviyo.clicked_sms",
    "event:klaviyo.marked_email_as_spam",
    "event:klaviyo.opened_email",
    "event:klaviyo.received_email",
    "event:klaviyo.received_sms",
    "event:klaviyo.sent_sms",
    "event:klaviyo.subscribed_to_email_marketing",
    "event:klaviyo.subscribed_to_sms_marketing",
    "event:klaviyo.unsubscribed_from_email_marketing",
    "event:klaviyo.unsubscribed_from_sms_marketing",
    "event:klaviyo.updated_email_preferences",
];

/// The account that all of this is about.
const ACCOUNT: &str = "SANDBX";

/// One webhook.
pub struct Webhook {
    pub id: String,
    draft: WebhookDraft,
    is_enabled: bool,
    created: Timestamp,
    updated: Timestamp,
}

/// All webhooks.
pub struct Webhooks {
    random: fastrand::Rng,
    /// In the order of their creation.
    webhooks: Vec<Webhook>,
}

/// Something that a webhook may be told.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occurrence {
    pub topic: String,
    /// Whom it is about.
    pub profile_id: String,
    #[serde(default)]
    pub properties: Value,
}

/// A request, as Klaviyo would send it.
#[derive(Serialize)]
pub struct Request {
    pub endpoint_url: String,
    /// By their names.
    pub headers: Value,
    pub body: String,
}

/// The resource of a topic.
pub fn topic(id: &str, api_url: &str) -> Value {
    let link = format!("{api_url}{}/{id}/", Call::WebhookTopics.path());
    json!({"type": "webhook-topic", "id": id, "links": {"self": link}})
}

impl Webhooks {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), webhooks: Vec::new() }
    }

    pub fn clear(&mut self) {
        *self = Self { random: self.random.fork(), webhooks: Vec::new() };
    }

    pub fn create(&mut self, draft: WebhookDraft, now: Timestamp) -> &Webhook {
        let id = ulid(&mut self.random);
        self.webhooks.push(Webhook { id, draft, is_enabled: true, created: now, updated: now });
        &self.webhooks[self.webhooks.len() - 1]
    }

    /// All, in the order of their creation.
    pub fn all(&self) -> &[Webhook] {
        &self.webhooks
    }

    pub fn get(&self, id: &str) -> Result<&Webhook, ApiError> {
        self.webhooks.iter().find(|webhook| webhook.id == id).ok_or_else(unknown)
    }

    pub fn change(&mut self, id: &str, change: WebhookChange, now: Timestamp) -> Result<&Webhook, ApiError> {
        let webhook = self.webhooks.iter_mut().find(|webhook| webhook.id == id).ok_or_else(unknown)?;
        webhook.change(change, now);
        Ok(webhook)
    }

    pub fn delete(&mut self, id: &str) -> Result<(), ApiError> {
        self.get(id)?;
        self.webhooks.retain(|webhook| webhook.id != id);
        Ok(())
    }

    /// The requests that tell of this: one for each webhook that is to be told of any of it.
    pub fn requests(&mut self, occurrences: &[Occurrence], api_url: &str, now: Timestamp) -> Vec<Request> {
        let random = &mut self.random;
        let events: Vec<(&str, Value)> = occurrences
            .iter()
            .map(|occurrence| (occurrence.topic.as_str(), occurrence.event(&ulid(random), api_url, now)))
            .collect();
        let requests = self.webhooks.iter().filter(|webhook| webhook.is_enabled);
        requests.filter_map(|webhook| webhook.request(&events, now)).collect()
    }
}

fn unknown() -> ApiError {
    ApiError::not_found("A webhook with this id does not exist.")
}

impl Occurrence {
    /// As an entry of a request's body; its payload is that of `GET /api/events/{id}` (`GetEventResponseCompoundDocument`).
    fn event(&self, id: &str, api_url: &str, now: Timestamp) -> Value {
        let profile = json!({"data": {"type": "profile", "id": self.profile_id}});
        let properties = if self.properties.is_null() { json!({}) } else { self.properties.clone() };
        let data = json!({
            "type": "event",
            "id": id,
            "attributes": {
                "timestamp": now.as_second(),
                "event_properties": properties,
                "datetime": rfc3339(now),
            },
            "relationships": {"profile": profile},
            "links": {"self": format!("{api_url}{}/{id}/", Call::Events.path())},
        });
        json!({"topic": self.topic, "external_id": id, "payload": {"data": data}})
    }
}

impl Webhook {
    fn change(&mut self, change: WebhookChange, now: Timestamp) {
        let WebhookChange { name, description, endpoint_url, secret_key, enabled, topics } = change;
        let draft = &mut self.draft;
        draft.name = name.unwrap_or_else(|| std::mem::take(&mut draft.name));
        draft.description = description.or_else(|| draft.description.take());
        draft.endpoint_url = endpoint_url.unwrap_or_else(|| std::mem::take(&mut draft.endpoint_url));
        draft.secret_key = secret_key.unwrap_or_else(|| std::mem::take(&mut draft.secret_key));
        draft.topics = topics.unwrap_or_else(|| std::mem::take(&mut draft.topics));
        self.is_enabled = enabled.unwrap_or(self.is_enabled);
        self.updated = now;
    }

    /// The request that tells of those events that it is to be told of, if there are any.
    fn request(&self, events: &[(&str, Value)], now: Timestamp) -> Option<Request> {
        let is_meant = |topic: &str| self.draft.topics.iter().any(|known| known == topic);
        let data: Vec<&Value> =
            events.iter().filter(|(topic, _)| is_meant(topic)).map(|(_, event)| event).collect();
        if data.is_empty() {
            return None;
        }
        let meta = json!({
            "klaviyo_account_id": ACCOUNT,
            "klaviyo_webhook_id": self.id,
            "timestamp": rfc3339(now),
        });
        let body = json!({"data": data, "meta": meta}).to_string();
        let timestamp = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let headers = json!({
            "Content-Type": "application/json",
            "Klaviyo-Webhook-Id": self.id,
            "Klaviyo-Timestamp": timestamp,
            "Klaviyo-Signature": signature(&self.draft.secret_key, &body, &timestamp),
        });
        Some(Request { endpoint_url: self.draft.endpoint_url.clone(), headers, body })
    }

    /// The answer about the one webhook (`PostWebhookResponse`, `GetWebhookResponse` and their like).
    pub fn document(&self, api_url: &str) -> Value {
        let resource = self.resource(api_url);
        json!({"links": resource["links"], "data": resource})
    }

    /// The path of the address is not shown, nor the secret.
    pub fn resource(&self, api_url: &str) -> Value {
        let WebhookDraft { name, description, endpoint_url, topics, .. } = &self.draft;
        let origin: Vec<&str> = endpoint_url.splitn(4, '/').take(3).collect();
        let link = format!("{api_url}{}/{}", Call::CreateWebhook.path(), self.id);
        let topics: Vec<Value> =
            topics.iter().map(|topic| json!({"type": "webhook-topic", "id": topic})).collect();
        json!({
            "type": "webhook",
            "id": self.id,
            "attributes": {
                "name": name,
                "description": description,
                "endpoint_url": origin.join("/"),
                "enabled": self.is_enabled,
                "created_at": rfc3339(self.created),
                "updated_at": rfc3339(self.updated),
            },
            "relationships": {"webhook-topics": {
                "data": topics,
                "links": {
                    "self": format!("{link}/relationships/webhook-topics/"),
                    "related": format!("{link}/webhook-topics/"),
                },
            }},
            "links": {"self": format!("{link}/")},
        })
    }
}

/// HMAC-SHA256 over the body and the text of the time, in lower-case hexadecimal digits.
fn signature(secret: &str, body: &str, timestamp: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(body.as_bytes());
    mac.update(timestamp.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string never fails.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
