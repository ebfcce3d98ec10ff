//! Campaigns: made with their messages, given a template, sent once, and asked about.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::endpoint::{JOB_LIMITS, question};
use crate::{Endpoint, Method, Request};

/// `create_campaign`: a draft; there may be others of its name.
pub const CREATE_CAMPAIGN: Endpoint = change("create-campaign", Method::Post, "/api/campaigns");

/// `assign_template_to_campaign_message`: gives a message a copy of a template.
pub const ASSIGN_TEMPLATE: Endpoint =
    change("assign-template-to-campaign-message", Method::Post, "/api/campaign-message-assign-template");

/// `send_campaign`: a job that sends it, or schedules that.
pub const SEND_CAMPAIGN: Endpoint = change("send-campaign", Method::Post, "/api/campaign-send-jobs");

/// `cancel_campaign_send`: ends such a job, and the campaign with it or not.
pub const CANCEL_SEND: Endpoint =
    change("cancel-campaign-send", Method::Patch, "/api/campaign-send-jobs/{id}");

/// `refresh_campaign_recipient_estimation`: a job that counts whom it would go to.
pub const ESTIMATE_RECIPIENTS: Endpoint =
    change("refresh-campaign-recipient-estimation", Method::Post, "/api/campaign-recipient-estimation-jobs");

/// `get_campaigns`: which there are, of a channel.
pub const GET_CAMPAIGNS: Endpoint =
    Endpoint { max_items: 1, optional: false, ..asked("get-campaigns", "/api/campaigns") };

/// `get_campaign`: how one stands.
pub const GET_CAMPAIGN: Endpoint =
    Endpoint { max_items: 1, optional: false, ..asked("get-campaign", "/api/campaigns/{id}") };

/// `get_campaign_send_job`: how the sending of a campaign stands.
pub const GET_SEND_JOB: Endpoint = asked("get-campaign-send-job", "/api/campaign-send-jobs/{id}");

/// `get_campaign_recipient_estimation_job`: how the counting stands.
pub const GET_ESTIMATION_JOB: Endpoint =
    asked("get-campaign-recipient-estimation-job", "/api/campaign-recipient-estimation-jobs/{id}");

/// `get_campaign_recipient_estimation`: what was counted.
pub const GET_ESTIMATION: Endpoint =
    asked("get-campaign-recipient-estimation", "/api/campaign-recipient-estimations/{id}");

const fn change(name: &'static str, method: Method, path: &'static str) -> Endpoint {
    Endpoint {
        name,
        method,
        path,
        scopes: &["campaigns:write"],
        limits: JOB_LIMITS,
        // The document names none; this is that of the other calls.
        max_body: 5_000_000,
        max_items: 1,
        optional: false,
    }
}

const fn asked(name: &'static str, path: &'static str) -> Endpoint {
    question(name, path, &["campaigns:read"])
}

/// Body of `create_campaign`.
pub fn campaign_body(attributes: &Value) -> Vec<u8> {
    body(json!({"type": "campaign", "attributes": attributes}))
}

/// Body of `assign_template_to_campaign_message`.
pub fn template_body(message: &str, template: &str) -> Vec<u8> {
    let template = json!({"data": {"type": "template", "id": template}});
    body(json!({"type": "campaign-message", "id": message, "relationships": {"template": template}}))
}

/// Body of `send_campaign`.
pub fn send_body(campaign: &str) -> Vec<u8> {
    body(json!({"type": "campaign-send-job", "id": campaign}))
}

/// Body of `cancel_campaign_send`: with `revert` the campaign is a draft again, else it is cancelled for good.
pub fn cancel_body(campaign: &str, revert: bool) -> Vec<u8> {
    let action = if revert { "revert" } else { "cancel" };
    body(json!({"type": "campaign-send-job", "id": campaign, "attributes": {"action": action}}))
}

/// Body of `refresh_campaign_recipient_estimation`.
pub fn estimation_body(campaign: &str) -> Vec<u8> {
    body(json!({"type": "campaign-recipient-estimation-job", "id": campaign}))
}

fn body(data: Value) -> Vec<u8> {
    json!({"data": data}).to_string().into_bytes()
}

/// Asks how a campaign stands, and which messages it has.
pub fn ask_campaign(id: &str) -> Request {
    Request::get(&GET_CAMPAIGN, id).with("include", "campaign-messages")
}

/// Asks for the campaigns of a channel whose names contain a text, made since a time in RFC 3339 form; the latest hundred.
pub fn ask_campaigns(channel: &str, name: &str, since: &str) -> Request {
    let (channel, name) = (Value::from(channel), Value::from(name));
    let filter = format!(
        "equals(messages.channel,{channel}),contains(name,{name}),greater-or-equal(created_at,{since})"
    );
    Request::get(&GET_CAMPAIGNS, "").with("filter", filter).with("sort", "-created_at")
}

/// A campaign, as far as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Klaviyo's.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// How it stands, in Klaviyo's words.
    pub status: String,
    /// When it is sent, or was, in RFC 3339 form; none until that is known.
    pub send_time: Option<String>,
    /// The lists and segments that it goes to, and those that it does not.
    pub audiences: Audiences,
    /// Ids of its messages.
    pub messages: Vec<String>,
}

/// Whom a campaign is for: ids of lists and segments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Audiences {
    /// To whom it goes.
    #[serde(default)]
    pub included: Vec<String>,
    /// To whom of them it does not.
    pub excluded: Option<Vec<String>>,
}

impl Campaign {
    /// The status of one that nothing has been done with, or nothing any more.
    pub const DRAFT: &'static str = "Draft";
    /// The status of one that is sent later.
    pub const SCHEDULED: &'static str = "Scheduled";
    /// The status of one that has been sent.
    pub const SENT: &'static str = "Sent";

    /// Whether it is sent later, or nobody knows how it stands: nothing of it will change soon.
    pub fn is_awaited(&self) -> bool {
        matches!(
            self.status.as_str(),
            Self::SCHEDULED | "Variations Sent" | "Queued without Recipients" | "Unknown"
        )
    }

    /// Whether it is cancelled, for whatever reason.
    pub fn is_cancelled(&self) -> bool {
        self.status.starts_with("Cancelled")
    }
}

#[derive(Deserialize)]
struct Resource {
    id: String,
    attributes: Attributes,
    relationships: Option<Relationships>,
}

#[derive(Deserialize)]
struct Attributes {
    name: String,
    status: String,
    send_time: Option<String>,
    #[serde(default)]
    audiences: Audiences,
}

#[derive(Deserialize)]
struct Relationships {
    #[serde(rename = "campaign-messages")]
    messages: Option<Messages>,
}

#[derive(Deserialize)]
struct Messages {
    data: Option<Vec<Id>>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl From<Resource> for Campaign {
    fn from(Resource { id, attributes, relationships }: Resource) -> Self {
        let Attributes { name, status, send_time, audiences } = attributes;
        let messages = relationships.and_then(|its| its.messages?.data).unwrap_or_default();
        let messages = messages.into_iter().map(|message| message.id).collect();
        Self { id, name, status, send_time, audiences, messages }
    }
}

#[derive(Deserialize)]
struct Body<D> {
    data: D,
}

/// A campaign, by an answer that is about it.
pub fn campaign_of(body: &[u8]) -> Option<Campaign> {
    Some(serde_json::from_slice::<Body<Resource>>(body).ok()?.data.into())
}

/// Those that an answer lists.
pub fn campaigns_of(body: &[u8]) -> Option<Vec<Campaign>> {
    let body = serde_json::from_slice::<Body<Vec<Resource>>>(body).ok()?;
    Some(body.data.into_iter().map(Campaign::from).collect())
}

/// Whom a campaign would go to, as far as that was counted.
pub fn recipients_of(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Resource {
        attributes: Attributes,
    }
    #[derive(Deserialize)]
    struct Attributes {
        estimated_recipient_count: i64,
    }
    Some(serde_json::from_slice::<Body<Resource>>(body).ok()?.data.attributes.estimated_recipient_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{REVISION, Session};

    #[test]
    fn bodies_name_what_they_are_about() {
        let read = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).expect("JSON");
        assert_eq!(
            read(template_body("M", "T")),
            json!({"data": {"type": "campaign-message", "id": "M",
                "relationships": {"template": {"data": {"type": "template", "id": "T"}}}}})
        );
        assert_eq!(read(send_body("C")), json!({"data": {"type": "campaign-send-job", "id": "C"}}));
        for (revert, action) in [(false, "cancel"), (true, "revert")] {
            assert_eq!(read(cancel_body("C", revert))["data"]["attributes"], json!({"action": action}));
        }
        assert_eq!(read(estimation_body("C"))["data"]["type"], "campaign-recipient-estimation-job");
    }

    #[test]
    fn campaigns_are_asked_for_by_name_and_read() {
        let session = Session::new("http://127.0.0.1:1", REVISION, "pk_test").expect("a session");
        let url = ask_campaigns("email", "a\"b", "2026-11-30T00:00:00Z").url(&session);
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let filter = r#"equals(messages.channel,"email"),contains(name,"a\"b"),greater-or-equal(created_at,2026-11-30T00:00:00Z)"#;
        assert_eq!(query[0], ("filter".to_owned(), filter.to_owned()));
        let resource = json!({"type": "campaign", "id": "C",
            "attributes": {"name": "Sale", "status": "Cancelled: No Recipients", "send_time": null,
                "audiences": {"included": ["Y6nRLr"], "excluded": null}},
            "relationships": {"campaign-messages": {"data": [{"type": "campaign-message", "id": "M"}]}}});
        let campaign = campaign_of(json!({"data": resource}).to_string().as_bytes()).expect("a campaign");
        assert!(campaign.is_cancelled() && campaign.messages == ["M"] && campaign.send_time.is_none());
        assert_eq!(campaign.audiences.included, ["Y6nRLr"]);
        let listed = campaigns_of(json!({"data": [resource]}).to_string().as_bytes());
        assert_eq!(listed, Some(vec![campaign]));
        assert_eq!((campaign_of(b"{}"), campaigns_of(b"{}")), (None, None));
        let counted = br#"{"data":{"id":"C","attributes":{"estimated_recipient_count":12}}}"#;
        assert_eq!((recipients_of(counted), recipients_of(b"{}")), (Some(12), None));
    }
}
