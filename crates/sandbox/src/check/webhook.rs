//! Webhooks: where requests go, and what they tell of.

use super::fields::{Findings, Object};
use crate::webhooks::TOPICS;

const WEBHOOK: &str = "webhook";
const TOPIC: &str = "webhook-topic";
/// The relationship to what it is told of.
const TOPICS_OF_IT: &str = "webhook-topics";

/// A checked new webhook.
#[derive(Debug)]
pub struct WebhookDraft {
    pub name: String,
    pub description: Option<String>,
    pub endpoint_url: String,
    pub secret_key: String,
    /// Ids of topics, each once.
    pub topics: Vec<String>,
}

/// A checked change of one: what is absent or null stays as it is.
#[derive(Debug)]
pub struct WebhookChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub endpoint_url: Option<String>,
    pub secret_key: Option<String>,
    pub enabled: Option<bool>,
    pub topics: Option<Vec<String>>,
}

/// Checks a `WebhookCreateQuery`.
pub fn check_create(findings: &mut Findings, root: Object<'_, '_>) -> Option<WebhookDraft> {
    root.only(findings, WEBHOOK, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, WEBHOOK);
    data.only(findings, WEBHOOK, &["type", "attributes", "relationships"]);
    let relationships = data.object(findings, "relationships");
    let topics = relationships.and_then(|relationships| check_topics(findings, relationships));
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, WEBHOOK, &["name", "description", "endpoint_url", "secret_key"]);
    let name = attributes.filled_text(findings, "name");
    let description = attributes.text(findings, "description").map(str::to_owned);
    let endpoint_url = attributes.required_text(findings, "endpoint_url");
    let endpoint_url = endpoint_url.and_then(|url| check_url(findings, attributes, url));
    let secret_key = attributes.filled_text(findings, "secret_key")?.to_owned();
    Some(WebhookDraft {
        name: name?.to_owned(),
        description,
        endpoint_url: endpoint_url?,
        secret_key,
        topics: topics?,
    })
}

/// Checks a `WebhookPartialUpdateQuery` for the webhook with this id.
pub fn check_update(findings: &mut Findings, root: Object<'_, '_>, id: &str) -> Option<WebhookChange> {
    root.only(findings, WEBHOOK, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, WEBHOOK);
    data.only(findings, WEBHOOK, &["type", "id", "attributes", "relationships"]);
    if data.required_text(findings, "id").is_some_and(|said| said != id) {
        findings.add(data.at.key("id"), "'id' must be that of the webhook in the path.");
    }
    let relationships = data.optional_object(findings, "relationships");
    let topics = relationships.and_then(|relationships| check_topics(findings, relationships));
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, WEBHOOK, &["name", "description", "endpoint_url", "secret_key", "enabled"]);
    let endpoint_url = attributes.text(findings, "endpoint_url");
    Some(WebhookChange {
        name: attributes.text(findings, "name").map(str::to_owned),
        description: attributes.text(findings, "description").map(str::to_owned),
        endpoint_url: endpoint_url.and_then(|url| check_url(findings, attributes, url)),
        secret_key: attributes.text(findings, "secret_key").map(str::to_owned),
        enabled: attributes.flag(findings, "enabled"),
        topics,
    })
}

/// The topics of a relationship, which must be known, and some.
fn check_topics(findings: &mut Findings, relationships: Object<'_, '_>) -> Option<Vec<String>> {
    relationships.only(findings, WEBHOOK, &[TOPICS_OF_IT]);
    let mut topics = relationships.each(findings, TOPICS_OF_IT, |findings, topic| {
        let id = topic.identifier(findings, TOPIC)?;
        if !TOPICS.contains(&id) {
            findings.add(topic.at.key("id"), format!("The topic '{id}' does not exist."));
        }
        Some(id.to_owned())
    })?;
    if topics.is_empty() {
        let related = relationships.at.key(TOPICS_OF_IT);
        findings.add(related.key("data"), "A webhook must have a topic.");
    }
    topics.sort_unstable();
    topics.dedup();
    Some(topics)
}

/// Source: the description of `endpoint_url`.
fn check_url(findings: &mut Findings, attributes: Object<'_, '_>, url: &str) -> Option<String> {
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
    if host.is_none_or(str::is_empty) {
        findings.add(attributes.at.key("endpoint_url"), "'endpoint_url' must be an https URL.");
        return None;
    }
    Some(url.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::check;
    use crate::error::ApiError;

    fn webhook() -> Value {
        json!({"data": {"type": "webhook",
            "attributes": {"name": "Opens", "endpoint_url": "https://shop.example/in", "secret_key": "s"},
            "relationships": {"webhook-topics": {"data": [
                {"type": "webhook-topic", "id": "event:klaviyo.opened_email"},
                {"type": "webhook-topic", "id": "event:klaviyo.opened_email"},
            ]}},
        }})
    }

    fn pointers(
        body: &Value,
        check: impl FnOnce(&serde_json_borrow::Value<'_>) -> Vec<ApiError>,
    ) -> Vec<String> {
        let text = body.to_string();
        let body: serde_json_borrow::Value<'_> = serde_json::from_str(&text).unwrap();
        check(&body).into_iter().map(|error| error.pointer).collect()
    }

    fn refusals(body: &Value) -> Vec<String> {
        pointers(body, |body| check::webhook(body).err().unwrap_or_default())
    }

    #[test]
    fn a_webhook_has_what_it_needs() {
        let text = webhook().to_string();
        let draft = check::webhook(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(draft.topics, ["event:klaviyo.opened_email"]);
        assert_eq!(draft.endpoint_url, "https://shop.example/in");
        for (at, wrong) in [
            ("/data/type", json!("hook")),
            ("/data/attributes/name", json!(" ")),
            ("/data/attributes/name", json!(null)),
            ("/data/attributes/endpoint_url", json!("http://shop.example/in")),
            ("/data/attributes/endpoint_url", json!("https:///in")),
            ("/data/attributes/endpoint_url", json!(7)),
            ("/data/attributes/secret_key", json!("")),
            ("/data/relationships/webhook-topics/data", json!([])),
            ("/data/relationships/webhook-topics/data/1/id", json!("event:klaviyo.nothing")),
            ("/data/relationships/webhook-topics/data/0/type", json!("topic")),
        ] {
            let mut body = webhook();
            *body.pointer_mut(at).unwrap() = wrong;
            assert_eq!(refusals(&body), [at], "{body}");
        }
        for (at, key) in [("/data", "id"), ("/data/attributes", "enabled"), ("/data/relationships", "flow")] {
            let mut body = webhook();
            body.pointer_mut(at).unwrap()[key] = json!(true);
            assert_eq!(refusals(&body), [format!("{at}/{key}")]);
        }
        let mut body = webhook();
        body["data"].as_object_mut().unwrap().remove("relationships");
        assert_eq!(refusals(&body), ["/data/relationships"]);
    }

    #[test]
    fn a_change_may_say_little() {
        let change =
            |attributes: Value| json!({"data": {"type": "webhook", "id": "W", "attributes": attributes}});
        let refusals =
            |body: &Value| pointers(body, |body| check::webhook_change(body, "W").err().unwrap_or_default());
        for fine in [json!({}), json!({"enabled": false, "name": null}), json!({"secret_key": "t"})] {
            assert_eq!(refusals(&change(fine)), [""; 0]);
        }
        let http = change(json!({"endpoint_url": "http://shop.example"}));
        assert_eq!(refusals(&http), ["/data/attributes/endpoint_url"]);
        assert_eq!(refusals(&change(json!({"enabled": "no"}))), ["/data/attributes/enabled"]);
        let mut other = change(json!({}));
        other["data"]["id"] = json!("V");
        assert_eq!(refusals(&other), ["/data/id"]);
    }
}
