//! Has a campaign been made? It is asked only where the answer to the call that makes it is lost. Names are not unique, so
//! it is one for the same audiences that was made since the message was queued.

use std::collections::BTreeSet;

use klaviyo::{Audiences, Campaign, Endpoint, GET_CAMPAIGNS, Request, ask_campaigns, campaigns_of};

use super::asked::Nobody;
use super::{Answer, Question, Says};
use crate::batch::Batch;
use crate::kind::campaign::Payload;

/// The question.
pub struct CampaignMade;

impl Question for CampaignMade {
    fn endpoint(&self) -> &'static Endpoint {
        &GET_CAMPAIGNS
    }

    fn is_for(&self, payload: &str) -> bool {
        Payload::read(payload).is_ok()
    }

    fn is_of_doubt(&self) -> bool {
        true
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Nobody(&GET_CAMPAIGNS))
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let payload = Payload::read(payload)?;
        Ok(ask_campaigns(payload.channel(), payload.name(), &payload.since))
    }

    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>> {
        Some(Box::new(Made(campaigns_of(body)?)))
    }
}

/// Those whose names contain that of the campaign.
struct Made(Vec<Campaign>);

impl Answer for Made {
    fn says(&self, payload: &str) -> Says {
        let Ok(payload) = Payload::read(payload) else { return Says::Go };
        let audiences = payload.audiences();
        let mine = sets(&audiences);
        let made = self
            .0
            .iter()
            .filter(|campaign| campaign.name == payload.name() && sets(&campaign.audiences) == mine);
        Says::MadeOneOf(made.map(|campaign| campaign.id.clone()).collect())
    }
}

fn sets(audiences: &Audiences) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let excluded = audiences.excluded.as_deref().unwrap_or_default();
    (audiences.included.iter().map(String::as_str).collect(), excluded.iter().map(String::as_str).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = r#"{"since":"2026-11-30T00:00:00Z","attributes":{"name":"Sale",
        "audiences":{"included":["A","B"]},
        "campaign-messages":{"data":[{"attributes":{"definition":{"channel":"sms"}}}]}}}"#;

    fn says(campaigns: &[(&str, &str, &[&str])]) -> Says {
        let resource = |(id, name, included): &(&str, &str, &[&str])| {
            serde_json::json!({"id": id, "attributes":
                {"name": name, "status": "Draft", "audiences": {"included": included, "excluded": []}}})
        };
        let body = serde_json::json!({"data": campaigns.iter().map(resource).collect::<Vec<_>>()});
        CampaignMade.read(body.to_string().as_bytes()).expect("an answer").says(PAYLOAD)
    }

    #[test]
    fn it_is_the_one_of_its_name_and_audiences() {
        assert!(CampaignMade.is_for(PAYLOAD) && CampaignMade.is_of_doubt());
        let request = CampaignMade.request(PAYLOAD).expect("a question");
        assert_eq!(request, ask_campaigns("sms", "Sale", "2026-11-30T00:00:00Z"));
        let others = [("1", "Sale 2", &["A", "B"][..]), ("2", "Sale", &["A"][..])];
        let made = |ids: &[&str]| Says::MadeOneOf(ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(says(&others), made(&[]));
        let [one, other] = others;
        assert_eq!(says(&[one, other, ("3", "Sale", &["B", "A"])]), made(&["3"]));
        assert_eq!(says(&[("3", "Sale", &["A", "B"]), ("4", "Sale", &["A", "B"])]), made(&["3", "4"]));
    }
}
