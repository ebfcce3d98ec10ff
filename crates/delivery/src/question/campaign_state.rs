//! How does a campaign stand, and which message has it? One that is not a draft any more must not be sent; a template is
//! given to its message; what is over need not be cancelled.

use klaviyo::{Campaign, Endpoint, GET_CAMPAIGN, Request, ask_campaign, campaign_of};

use super::asked::Nobody;
use super::{Answer, Question, Says};
use crate::batch::Batch;
use crate::campaign::Step;
use crate::message::Failure;
use crate::verdict::kept;

/// The question.
pub struct CampaignState;

impl Question for CampaignState {
    fn endpoint(&self) -> &'static Endpoint {
        &GET_CAMPAIGN
    }

    fn is_for(&self, payload: &str) -> bool {
        Step::read(payload).is_ok_and(|step| step.campaign.is_some())
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Nobody(&GET_CAMPAIGN))
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        Ok(ask_campaign(Step::read(payload)?.id()?))
    }

    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>> {
        Some(Box::new(State(campaign_of(body)?)))
    }
}

/// How it stands.
struct State(Campaign);

impl Answer for State {
    fn says(&self, payload: &str) -> Says {
        match Step::read(payload) {
            Ok(step) if step.template.is_some() => self.says_to_template(step),
            Ok(Step { revert: Some(revert), .. }) => self.says_to_cancel(payload, revert),
            _ => self.says_to_send(),
        }
    }

    fn campaign(&self) -> Option<&Campaign> {
        Some(&self.0)
    }
}

impl State {
    /// Who asks again after his call was lost is told by it.
    fn says_to_send(&self) -> Says {
        if self.0.status == Campaign::DRAFT {
            return Says::GoOnceSettled;
        }
        let failure = failure("not_a_draft", format!("the campaign is \"{}\" already", self.0.status));
        Says::StopUnlessDone { failure, id: Some(self.0.id.clone()) }
    }

    /// Whether a draft is about to be sent its status need not show at once: then it is Klaviyo's to say.
    fn says_to_cancel(&self, payload: &str, revert: bool) -> Says {
        let Campaign { id, status, .. } = &self.0;
        let go = |was_draft| match Step::read(payload) {
            Ok(step) => Says::GoAs(Step { was_draft, ..step }.write()),
            Err(_) => Says::Go,
        };
        let too_late =
            |what: &str| Says::Stop(failure("too_late", format!("the campaign is \"{status}\": {what}")));
        match status.as_str() {
            Campaign::DRAFT => go(Some(true)),
            Campaign::SENT => too_late("it cannot be cancelled any more"),
            _ if self.0.is_cancelled() && revert => too_late("it cannot be a draft again"),
            _ if self.0.is_cancelled() => Says::Done { id: id.clone() },
            _ => go(None),
        }
    }

    fn says_to_template(&self, step: Step) -> Says {
        match self.0.messages.as_slice() {
            [message] => Says::GoAs(Step { message: Some(message.clone()), ..step }.write()),
            messages => Says::Stop(failure(
                "not_one_message",
                format!(
                    "the campaign has {} messages ({}), and it is not clear which is to have the template",
                    messages.len(),
                    messages.join(", ")
                ),
            )),
        }
    }
}

fn failure(code: &str, reason: String) -> Failure {
    Failure { code: code.to_owned(), reason: kept(reason), ..Failure::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(status: &str, messages: &[&str], payload: &str) -> Says {
        let messages: Vec<_> =
            messages.iter().map(|id| serde_json::json!({"type": "campaign-message", "id": id})).collect();
        let body = serde_json::json!({"data": {"id": "C", "attributes": {"name": "Sale", "status": status},
            "relationships": {"campaign-messages": {"data": messages}}}});
        CampaignState.read(body.to_string().as_bytes()).expect("an answer").says(payload)
    }

    fn code(says: Says) -> String {
        match says {
            Says::Stop(failure) | Says::StopUnlessDone { failure, .. } => failure.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_draft_is_sent() {
        let payload = r#"{"campaign":"C"}"#;
        assert!(CampaignState.is_for(payload));
        assert!(!CampaignState.is_for(r#"{"made_by":"0197a000-0000-7000-8000-000000006b73"}"#));
        assert_eq!(says("Draft", &["M"], payload), Says::GoOnceSettled);
        for status in ["Preparing to send", "Scheduled", "Sending", "Sent", "Cancelled"] {
            assert_eq!(code(says(status, &["M"], payload)), "not_a_draft", "{status}");
        }
    }

    #[test]
    fn what_is_over_is_not_cancelled() {
        let payload = |revert| format!(r#"{{"campaign":"C","revert":{revert}}}"#);
        let told = |status, revert| says(status, &["M"], &payload(revert));
        for status in ["Scheduled", "Sending", "Preparing to send"] {
            assert_eq!(told(status, false), Says::GoAs(payload(false)));
        }
        assert_eq!(
            told("Draft", true),
            Says::GoAs(r#"{"campaign":"C","revert":true,"was_draft":true}"#.to_owned())
        );
        let was_draft = r#"{"campaign":"C","revert":true,"was_draft":true}"#;
        assert_eq!(says("Sending", &["M"], was_draft), Says::GoAs(payload(true)), "it is none any more");
        assert_eq!(told("Cancelled: No Recipients", false), Says::Done { id: "C".to_owned() });
        assert_eq!(code(told("Cancelled", true)), "too_late");
        assert_eq!(code(told("Sent", false)), "too_late");
    }

    #[test]
    fn a_template_is_for_the_one_message() {
        let payload = r#"{"campaign":"C","template":"T"}"#;
        let told = r#"{"campaign":"C","template":"T","message":"M"}"#;
        assert_eq!(says("Draft", &["M"], payload), Says::GoAs(told.to_owned()));
        for messages in [&["M", "N"][..], &[]] {
            assert_eq!(code(says("Draft", messages, payload)), "not_one_message");
        }
    }
}
