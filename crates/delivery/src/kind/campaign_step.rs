//! What is done with a campaign: its message gets a template, its recipients are counted, it is sent, or that is cancelled.
//!
//! Payload: see [`Step`]. A campaign is never sent twice: how it stands is read before, and where nobody knows what has come of
//! the call that sends it, that tells; or else a person decides.

use klaviyo::{
    ASSIGN_TEMPLATE, CANCEL_SEND, ESTIMATE_RECIPIENTS, Endpoint, Request, SEND_CAMPAIGN, cancel_body,
    estimation_body, send_body, template_body,
};

use super::{Checked, Kind, Lost, Otherwise, Reading, Rides};
use crate::campaign::{Act, Meant, Step, is_id};
use crate::invalid::{Fault, Invalid};
use crate::message::Failure;
use crate::question::{CampaignState, Question};

/// Lays down that a campaign be sent, or its recipients counted.
pub fn plain(campaign: Option<&str>) -> Result<Checked, Invalid> {
    laid_down(campaign, Step::default())
}

/// Lays down that its message have a template.
pub fn with_template(campaign: Option<&str>, template: Option<&str>) -> Result<Checked, Invalid> {
    let template = template.filter(|template| is_id(template)).ok_or_else(|| {
        Invalid::new(
            Fault::Campaign,
            "argument \"template\" names no template",
            "Klaviyo's ids are of letters and digits.",
            "Pass the id that stands in the template's address at Klaviyo.",
        )
    })?;
    laid_down(campaign, Step { template: Some(template.to_owned()), ..Step::default() })
}

/// Lays down that its sending be cancelled; with `revert` it is a draft again.
pub fn cancel(campaign: Option<&str>, revert: bool) -> Result<Checked, Invalid> {
    laid_down(campaign, Step { revert: Some(revert), ..Step::default() })
}

fn laid_down(campaign: Option<&str>, step: Step) -> Result<Checked, Invalid> {
    let meant = Meant::read(campaign)?;
    let step = match &meant {
        Meant::Id(id) => Step { campaign: Some(id.clone()), ..step },
        Meant::MadeBy(message) => Step { made_by: Some(*message), ..step },
    };
    Ok(Checked { key: vec![meant.key()], payload: step.write() })
}

/// A kind of these.
pub struct CampaignStep {
    name: &'static str,
    act: Act,
    endpoint: &'static Endpoint,
    lost: Lost,
    questions: &'static [&'static dyn Question],
}

/// A template for its message. Another copy of it takes the place of the first.
pub const TEMPLATE: CampaignStep = CampaignStep {
    name: "campaign_template",
    act: Act::AssignTemplate,
    endpoint: &ASSIGN_TEMPLATE,
    lost: Lost::Repeated,
    questions: &[&CampaignState],
};

/// To how many it would go.
pub const ESTIMATE: CampaignStep = CampaignStep {
    name: "campaign_estimate",
    act: Act::Estimate,
    endpoint: &ESTIMATE_RECIPIENTS,
    lost: Lost::Repeated,
    questions: &[],
};

/// Its sending.
pub const SEND: CampaignStep = CampaignStep {
    name: "campaign_send",
    act: Act::Send,
    endpoint: &SEND_CAMPAIGN,
    lost: Lost::ReadBackOrStopped,
    questions: &[&CampaignState],
};

/// The end of that.
pub const CANCEL: CampaignStep = CampaignStep {
    name: "campaign_cancel",
    act: Act::Cancel,
    endpoint: &CANCEL_SEND,
    lost: Lost::ReadBack,
    questions: &[&CampaignState],
};

impl Kind for CampaignStep {
    fn name(&self) -> &'static str {
        self.name
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(self.endpoint)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        Ok(self.request(payload)?.body().to_vec())
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let step = Step::read(payload)?;
        let id = step.id()?;
        let body = match (self.act, &step) {
            (Act::AssignTemplate, Step { template: Some(template), message: Some(message), .. }) => {
                template_body(message, template)
            }
            (Act::Estimate, _) => estimation_body(id),
            (Act::Send, _) => send_body(id),
            (Act::Cancel, Step { revert: Some(revert), .. }) => cancel_body(id, *revert),
            _ => return Err("it does not say what is to become of the campaign".to_owned()),
        };
        // The id stands in the path where that has a place for it.
        Ok(Request::to(self.endpoint, id, body))
    }

    fn lost(&self) -> Lost {
        self.lost
    }

    fn stops(&self, _: &str) -> bool {
        self.act == Act::Send
    }

    /// What was a draft and is not being sent need not be cancelled.
    fn otherwise(&self, payload: &str, failure: &Failure, _: &[String]) -> Option<Otherwise> {
        let was_draft = || Step::read(payload).is_ok_and(|step| step.was_draft == Some(true));
        let is_over =
            self.act == Act::Cancel && failure.status.is_some_and(|status| status < 500) && was_draft();
        is_over.then_some(Otherwise::Done)
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Never, carries_state: false, backfill: false }
    }

    fn questions(&self) -> &'static [&'static dyn Question] {
        self.questions
    }

    fn campaign(&self) -> Option<Act> {
        Some(self.act)
    }

    fn expires(&self) -> bool {
        self.act == Act::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_is_to_become_of_which_campaign() {
        let send = plain(Some("C1")).expect("valid");
        assert_eq!(send.key, ["campaign:C1"]);
        assert_eq!(SEND.request(&send.payload), Ok(Request::to(&SEND_CAMPAIGN, "C1", send_body("C1"))));
        assert_eq!(ESTIMATE.body(&send.payload), Ok(estimation_body("C1")));
        let cancel = cancel(Some("C1"), true).expect("valid");
        assert_eq!(
            CANCEL.request(&cancel.payload),
            Ok(Request::to(&CANCEL_SEND, "C1", cancel_body("C1", true)))
        );
        let template = with_template(Some("C1"), Some("T1")).expect("valid");
        assert!(TEMPLATE.request(&template.payload).is_err(), "nobody has said yet for which message");
        assert!(CANCEL.request(&send.payload).is_err());
        let later = plain(Some("0197a000-0000-7000-8000-000000006b73")).expect("valid");
        assert_eq!(later.key, ["campaign:0197a000-0000-7000-8000-000000006b73"]);
        assert!(SEND.request(&later.payload).is_err(), "there is no such campaign yet");
        for bad in [plain(None), with_template(Some("C1"), None), with_template(None, Some("T1"))] {
            assert_eq!(bad.expect_err("invalid").fault, Fault::Campaign);
        }
    }

    #[test]
    fn what_was_a_draft_needs_no_cancelling() {
        let refused = Failure { status: Some(400), ..Failure::default() };
        let done = |payload| matches!(CANCEL.otherwise(payload, &refused, &[]), Some(Otherwise::Done));
        assert!(done(r#"{"campaign":"C","revert":false,"was_draft":true}"#));
        assert!(!done(r#"{"campaign":"C","revert":false}"#));
        let payload = r#"{"campaign":"C","was_draft":true}"#;
        assert!(SEND.otherwise(payload, &refused, &[]).is_none());
    }
}
