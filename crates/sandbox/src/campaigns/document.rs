//! Campaigns, their messages and jobs as Klaviyo's API shows them, and as the control path does.

use serde_json::{Value, json};

use super::life::Job;
use super::{Campaign, Campaigns, Message};
use crate::call::Call;
use crate::time::written;

/// The jobs about a campaign.
#[derive(Clone, Copy)]
pub enum About {
    Send,
    Estimation,
}

impl About {
    const fn resource(self) -> &'static str {
        match self {
            Self::Send => "campaign-send-job",
            Self::Estimation => "campaign-recipient-estimation-job",
        }
    }

    const fn call(self) -> Call {
        match self {
            Self::Send => Call::SendCampaign,
            Self::Estimation => Call::EstimateRecipients,
        }
    }
}

impl Campaign {
    /// The campaign as answers have it (`CampaignResponseObjectResource` and its like).
    pub fn resource(&self, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}/", Call::Campaigns.path(), self.id);
        let messages: Vec<Value> =
            self.messages.iter().map(|message| json!({"type": MESSAGE, "id": message.id})).collect();
        json!({
            "type": CAMPAIGN,
            "id": self.id,
            "attributes": {
                "name": self.name,
                "status": self.status(),
                // There is no way to archive one here.
                "archived": false,
                "audiences": self.audiences,
                "send_options": {"use_smart_sending": self.use_smart_sending},
                "tracking_options": self.tracking_options,
                "send_strategy": self.strategy.object(),
                "created_at": written(self.created),
                "scheduled_at": self.scheduled.map(written),
                "updated_at": written(self.updated),
                "send_time": self.send_time.map(written),
            },
            "relationships": {
                "campaign-messages": related(&url, "campaign-messages", Some(messages.into())),
                // There are no tags here.
                "tags": related(&url, "tags", Some(json!([]))),
            },
            "links": {"self": url},
        })
    }

    /// The answer about the one campaign (`PostCampaignResponse`, `GetCampaignResponseCompoundDocument`).
    pub fn document(&self, api_url: &str) -> Value {
        in_document(self.resource(api_url))
    }

    /// A message of it as answers have it (`CampaignMessageResponseObjectResource`).
    pub fn message(&self, message: &Message, api_url: &str) -> Value {
        let attributes = json!({
            "definition": message.definition,
            "send_times": self.strategy.send_times(),
            "created_at": written(message.created),
            "updated_at": written(message.updated),
        });
        let mut resource = self.with_message(message, attributes, api_url);
        let url = resource["links"]["self"].as_str().unwrap_or_default().to_owned();
        resource["relationships"]["image"] = related(&url, "image", None);
        resource
    }

    /// The answer about a message that was given a template, in which it has another form
    /// (`PostCampaignMessageResponse`).
    pub fn assigned(&self, message: &Message, api_url: &str) -> Value {
        // The document requires a label that is a string.
        let label = message.definition.get("label").and_then(Value::as_str).unwrap_or_default();
        let attributes = json!({
            "label": label,
            "channel": message.channel,
            "content": message.definition.get("content"),
            "send_times": self.strategy.send_times(),
            "created_at": written(message.created),
            "updated_at": written(message.updated),
        });
        in_document(self.with_message(message, attributes, api_url))
    }

    fn with_message(&self, message: &Message, attributes: Value, api_url: &str) -> Value {
        let url = format!("{api_url}/api/campaign-messages/{}/", message.id);
        let template = message.template.as_ref().map(|id| json!({"type": "template", "id": id}));
        json!({
            "type": MESSAGE,
            "id": message.id,
            "attributes": attributes,
            "relationships": {
                "campaign": related(&url, "campaign", Some(json!({"type": CAMPAIGN, "id": self.id}))),
                "template": related(&url, "template", template),
            },
            "links": {"self": url},
        })
    }

    /// The answer about a job, if there ever was one (`PostCampaignSendJobResponse`,
    /// `GetCampaignRecipientEstimationJobResponse` and their like).
    pub fn job(&self, about: About, api_url: &str) -> Option<Value> {
        let job = match about {
            About::Send => self.send_job.as_ref(),
            About::Estimation => self.estimation_job.as_ref(),
        };
        let Job { status, .. } = job?;
        Some(in_document(json!({
            "type": about.resource(),
            "id": self.id,
            "attributes": {"status": status},
            "links": {"self": format!("{api_url}{}/{}/", about.call().path(), self.id)},
        })))
    }

    /// The answer about the estimation, once there is one (`GetCampaignRecipientEstimationResponse`).
    pub fn estimation(&self, api_url: &str) -> Option<Value> {
        Some(in_document(json!({
            "type": "campaign-recipient-estimation",
            "id": self.id,
            "attributes": {"estimated_recipient_count": self.estimate?},
            "links": {"self": format!("{api_url}/api/campaign-recipient-estimations/{}/", self.id)},
        })))
    }

    fn view(&self) -> Value {
        let message = |message: &Message| {
            json!({
                "id": message.id,
                "channel": message.channel,
                "definition": message.definition,
                "template": message.template,
            })
        };
        json!({
            "id": self.id,
            "name": self.name,
            "status": self.status(),
            "audiences": self.audiences,
            "send_strategy": self.strategy.object(),
            "messages": self.messages.iter().map(message).collect::<Vec<_>>(),
            "send_jobs": self.send_jobs,
            "sendings": self.sendings,
            "recipients": self.recipients,
        })
    }
}

impl Campaigns {
    /// All campaigns as the control path shows them.
    pub fn views(&self) -> Value {
        self.campaigns.iter().map(Campaign::view).collect()
    }
}

const CAMPAIGN: &str = "campaign";
const MESSAGE: &str = "campaign-message";

/// A relationship of the resource at this address, with the data if there is any.
fn related(url: &str, name: &str, data: Option<Value>) -> Value {
    let mut relationship =
        json!({"links": {"self": format!("{url}relationships/{name}/"), "related": format!("{url}{name}/")}});
    if let Some(data) = data {
        relationship["data"] = data;
    }
    relationship
}

fn in_document(resource: Value) -> Value {
    json!({"links": resource["links"], "data": resource})
}
