//! Campaigns, and the templates they need.

use harness::{CAMPAIGN_CALLS, Cluster, Sandbox};
use serde_json::{Value, json};

use super::hand::{HEADERS, Hand};

fn campaign(list: &str, definition: &Value, send_strategy: &Value) -> Value {
    let message = json!({"type": "campaign-message", "attributes": {"definition": definition}});
    json!({"data": {"type": "campaign", "attributes": {
        "name": "Sale",
        "audiences": {"included": [list], "excluded": []},
        "send_strategy": send_strategy,
        "send_options": {"use_smart_sending": true},
        "campaign-messages": {"data": [message]},
    }}})
}

/// The body of a call that makes a job about a campaign.
fn job(path: &str, id: &str) -> Value {
    json!({"data": {"type": path.trim_start_matches("/api/").trim_end_matches('s'), "id": id}})
}

#[test]
fn the_sandbox_answers_calls_about_campaigns_as_the_document_says() {
    let Some(document) = super::document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off", "--job-processing", "0"]);
    let sandbox = sandbox.start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let list = sandbox.make_list("Newsletter");
    let template = json!({"data": {"type": "template", "attributes": {
        "name": "Sale", "editor_type": "CODE", "html": "<p>Sale</p>", "text": "Sale"}}});
    let template = hand.send("POST", "/api/templates", &HEADERS, &template.to_string(), &[201]);
    let template = template["data"]["id"].as_str().expect("an id").to_owned();
    hand.send("GET", &format!("/api/templates/{template}"), &HEADERS, "", &[200]);
    hand.send("GET", "/api/templates/nobody", &HEADERS, "", &[404]);
    hand.post("/api/templates", "{}", 400);

    let email =
        json!({"channel": "email", "content": {"subject": "Sale", "from_email": "shop@shop.example"}});
    let sms = json!({"channel": "sms", "content": {"body": "Sale"}});
    let later =
        json!({"method": "static", "datetime": "2099-01-01T00:00:00Z", "options": {"is_local": true}});
    for (definition, strategy) in [(&email, &json!({"method": "immediate"})), (&sms, &later)] {
        let body = campaign(&list, definition, strategy).to_string();
        let made = hand.send("POST", "/api/campaigns", &HEADERS, &body, &[201]);
        let id = made["data"]["id"].as_str().expect("an id").to_owned();
        let message = &made["data"]["relationships"]["campaign-messages"]["data"][0]["id"];
        let at = format!("/api/campaigns/{id}");
        hand.send("GET", &at, &HEADERS, "", &[200]);
        hand.send("GET", &format!("{at}?include=campaign-messages"), &HEADERS, "", &[200]);
        hand.send("GET", &format!("{at}/campaign-messages"), &HEADERS, "", &[200]);
        let assigned = json!({"data": {"type": "campaign-message", "id": message,
            "relationships": {"template": {"data": {"type": "template", "id": template}}}}});
        let status = if definition == &email { 200 } else { 400 };
        hand.post("/api/campaign-message-assign-template", &assigned.to_string(), status);
        for (jobs, result) in [
            ("/api/campaign-recipient-estimation-jobs", Some("/api/campaign-recipient-estimations")),
            ("/api/campaign-send-jobs", None),
        ] {
            hand.send("GET", &format!("{jobs}/{id}"), &HEADERS, "", &[404]);
            hand.post(jobs, &job(jobs, "nobody").to_string(), 404);
            hand.post(jobs, &job(jobs, &id).to_string(), 202);
            harness::eventually("the job is complete", harness::PATIENCE, || {
                let told = hand.send("GET", &format!("{jobs}/{id}"), &HEADERS, "", &[200]);
                told["data"]["attributes"]["status"] == "complete"
            });
            if let Some(result) = result {
                hand.send("GET", &format!("{result}/{id}"), &HEADERS, "", &[200]);
            }
        }
        hand.post("/api/campaign-send-jobs", &job("/api/campaign-send-jobs", &id).to_string(), 400);
        let mut stop = job("/api/campaign-send-jobs", &id);
        stop["data"]["attributes"] = json!({"action": "revert"});
        let status = if definition == &email { 400 } else { 204 };
        hand.send("PATCH", &format!("/api/campaign-send-jobs/{id}"), &HEADERS, &stop.to_string(), &[status]);
        hand.send("GET", &at, &HEADERS, "", &[200]);
        hand.send("DELETE", &at, &HEADERS, "", &[204]);
        hand.send("DELETE", &at, &HEADERS, "", &[404]);
        hand.post("/api/campaigns", &body, 201);
    }
    hand.post("/api/campaigns", "{}", 400);
    hand.post("/api/campaigns", &campaign("nobody", &sms, &later).to_string(), 404);
    for channel in ["email", "sms"] {
        let listed =
            format!("/api/campaigns?filter=equals(messages.channel,%22{channel}%22)&sort=-created_at");
        let listed = hand.send("GET", &listed, &HEADERS, "", &[200]);
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
    }
    hand.send("GET", "/api/campaigns", &HEADERS, "", &[400]);

    let accepted: Vec<_> = sandbox.receipts().into_iter().filter(|receipt| receipt.accepted).collect();
    document.assert_requests(&accepted);
    super::assert_made(&accepted, &CAMPAIGN_CALLS);
}
