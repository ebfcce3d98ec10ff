//! Calls that do something with a campaign, or with a message of one, that is there.

use super::fields::{Findings, Object};

const SEND_JOB: &str = "campaign-send-job";
const ESTIMATION_JOB: &str = "campaign-recipient-estimation-job";
const MESSAGE: &str = "campaign-message";

/// What is to become of a campaign that is being sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// It is never sent.
    Cancel,
    /// It is a draft again.
    Revert,
}

/// Which template a message is to be written with.
#[derive(Debug)]
pub struct Assignment {
    pub message: String,
    pub template: String,
}

/// Checks a `CampaignSendJobCreateQuery`: the id of the campaign.
pub fn check_send(findings: &mut Findings, root: Object<'_, '_>) -> Option<String> {
    check_id(findings, root, SEND_JOB)
}

/// Checks a `CampaignRecipientEstimationJobCreateQuery`: the same.
pub fn check_estimation(findings: &mut Findings, root: Object<'_, '_>) -> Option<String> {
    check_id(findings, root, ESTIMATION_JOB)
}

fn check_id(findings: &mut Findings, root: Object<'_, '_>, resource: &str) -> Option<String> {
    root.only(findings, resource, &["data"]);
    root.object(findings, "data")?.identifier(findings, resource).map(str::to_owned)
}

/// Checks a `CampaignSendJobPartialUpdateQuery` for the campaign with this id.
pub fn check_action(findings: &mut Findings, root: Object<'_, '_>, id: &str) -> Option<Action> {
    root.only(findings, SEND_JOB, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, SEND_JOB);
    data.only(findings, SEND_JOB, &["type", "id", "attributes"]);
    if data.required_text(findings, "id").is_some_and(|said| said != id) {
        findings.add(data.at.key("id"), "'id' must be that of the campaign in the path.");
    }
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, SEND_JOB, &["action"]);
    match attributes.choice(findings, "action", &["cancel", "revert"])? {
        "cancel" => Some(Action::Cancel),
        _ => Some(Action::Revert),
    }
}

/// Checks a `CampaignMessageAssignTemplateQuery`.
pub fn check_assignment(findings: &mut Findings, root: Object<'_, '_>) -> Option<Assignment> {
    root.only(findings, MESSAGE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, MESSAGE);
    data.only(findings, MESSAGE, &["type", "id", "relationships"]);
    let template = data.related(findings, "template", "template");
    let message = data.required_text(findings, "id")?;
    Some(Assignment { message: message.to_owned(), template: template?.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check;
    use crate::error::ApiError;

    fn pointers(errors: Vec<ApiError>) -> Vec<String> {
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn a_job_names_its_campaign() {
        let send = |body: Value| check::campaign_to_send(&(&body).into()).map_err(pointers);
        let estimate = |body: Value| check::campaign_to_estimate(&(&body).into()).map_err(pointers);
        assert_eq!(send(json!({"data": {"type": SEND_JOB, "id": "01X"}})).unwrap(), "01X");
        assert_eq!(estimate(json!({"data": {"type": ESTIMATION_JOB, "id": "01X"}})).unwrap(), "01X");
        assert_eq!(estimate(json!({"data": {"type": SEND_JOB, "id": "01X"}})).unwrap_err(), ["/data/type"]);
        for (body, expected) in [
            (json!({}), &["/data"][..]),
            (json!({"data": {"id": "01X"}}), &["/data/type"]),
            (json!({"data": {"type": SEND_JOB}}), &["/data/id"]),
            (
                json!({"data": {"type": SEND_JOB, "id": 7, "attributes": {}}}),
                &["/data/attributes", "/data/id"],
            ),
            (json!({"data": {"type": SEND_JOB, "id": "01X"}, "meta": {}}), &["/meta"]),
        ] {
            assert_eq!(send(body).unwrap_err(), expected);
        }
    }

    #[test]
    fn an_action_is_one_of_two_and_of_the_campaign_in_the_path() {
        let checked = |id: &str, attributes: Value| {
            let body = json!({"data": {"type": SEND_JOB, "id": id, "attributes": attributes}});
            check::send_job_change(&(&body).into(), "01X").map_err(pointers)
        };
        assert_eq!(checked("01X", json!({"action": "cancel"})), Ok(Action::Cancel));
        assert_eq!(checked("01X", json!({"action": "revert"})), Ok(Action::Revert));
        assert_eq!(checked("01Y", json!({"action": "revert"})).unwrap_err(), ["/data/id"]);
        for (attributes, pointer) in [
            (json!({}), "action"),
            (json!({"action": "stop"}), "action"),
            (json!({"action": "cancel", "why": ""}), "why"),
        ] {
            assert_eq!(checked("01X", attributes).unwrap_err(), [format!("/data/attributes/{pointer}")]);
        }
    }

    #[test]
    fn an_assignment_names_message_and_template() {
        let checked = |relationships: Value| {
            let body = json!({"data": {"type": MESSAGE, "id": "01X", "relationships": relationships}});
            check::assignment(&(&body).into()).map_err(pointers)
        };
        let assignment =
            checked(json!({"template": {"data": {"type": "template", "id": "RipRmi"}}})).unwrap();
        assert_eq!((assignment.message.as_str(), assignment.template.as_str()), ("01X", "RipRmi"));
        for (relationships, pointer) in [
            (json!(null), ""),
            (json!({}), "/template"),
            (json!({"template": {}}), "/template/data"),
            (json!({"template": {"data": {"type": "list", "id": "RipRmi"}}}), "/template/data/type"),
            (json!({"template": {"data": {"type": "template"}}}), "/template/data/id"),
        ] {
            assert_eq!(checked(relationships).unwrap_err(), [format!("/data/relationships{pointer}")]);
        }
    }
}
