//! Campaigns: their life from a draft to the end, who is sent to, and how they are found.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::client::{
    ASSIGN, Answer, CAMPAIGNS, Connection, ESTIMATION_JOBS, ESTIMATIONS, IMPORT, LISTS, SEND_JOBS, Sandbox,
    TEMPLATES, profile, until,
};
use crate::pages::{each, pages};

const AT_ONCE: [&str; 6] = ["--rates", "off", "--job-queued", "0", "--job-processing", "0"];
/// As slow as an hour, so that each state lasts until it is told to end.
const SLOW: [&str; 6] = ["--rates", "off", "--job-queued", "3600000", "--job-processing", "3600000"];

/// A list with so many profiles on it, by its id.
fn list(api: &mut Connection, names: &[&str]) -> String {
    let body = json!({"data": {"type": "list", "attributes": {"name": "News"}}});
    let list = id(&api.post(LISTS, &body).unwrap());
    let import = |name: &&str| {
        let attributes = json!({"external_id": name});
        json!({"type": "profile", "id": id(&api.post(IMPORT, &profile(attributes)).unwrap())})
    };
    let members: Vec<Value> = names.iter().map(import).collect();
    if !members.is_empty() {
        let path = format!("{LISTS}/{list}/relationships/profiles");
        assert_eq!(api.post(&path, &json!({ "data": members })).unwrap().status, 204);
    }
    list
}

fn id(answer: &Answer) -> String {
    assert!((200..300).contains(&answer.status), "{answer:?}");
    answer.json()["data"]["id"].as_str().unwrap().to_owned()
}

fn email() -> Value {
    json!({"channel": "email", "content": {"subject": "Sale"}})
}

fn campaign(name: &str, list: &str, definition: &Value) -> Value {
    let message = json!({"type": "campaign-message", "attributes": {"definition": definition}});
    json!({"data": {"type": "campaign", "attributes": {
        "name": name,
        "audiences": {"included": [list]},
        "campaign-messages": {"data": [message]},
    }}})
}

fn create(api: &mut Connection, body: &Value) -> (String, String) {
    let answer = api.post(CAMPAIGNS, body).unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    let message = answer.json()["data"]["relationships"]["campaign-messages"]["data"][0]["id"].clone();
    (id(&answer), message.as_str().unwrap().to_owned())
}

/// A campaign to which nothing is lacking, by its id.
fn ready(sandbox: &Sandbox, api: &mut Connection, body: &Value) -> String {
    let (campaign, message) = create(api, body);
    assert_eq!(api.post(ASSIGN, &assignment(&message, &template(sandbox))).unwrap().status, 200);
    campaign
}

fn template(sandbox: &Sandbox) -> String {
    let made = sandbox.control("POST", "templates", json!({"name": "Sale"}));
    made["id"].as_str().unwrap().to_owned()
}

fn assignment(message: &str, template: &str) -> Value {
    json!({"data": {"type": "campaign-message", "id": message,
        "relationships": {"template": {"data": {"type": "template", "id": template}}}}})
}

/// The body of a call that makes a job about a campaign.
fn job(path: &str, campaign: &str) -> Value {
    let resource = path.trim_start_matches("/api/").trim_end_matches('s');
    json!({"data": {"type": resource, "id": campaign}})
}

fn send(api: &mut Connection, campaign: &str) -> Answer {
    api.post(SEND_JOBS, &job(SEND_JOBS, campaign)).unwrap()
}

fn stop(api: &mut Connection, campaign: &str, action: &str) -> Answer {
    let mut body = job(SEND_JOBS, campaign);
    body["data"]["attributes"] = json!({ "action": action });
    api.request("PATCH", &format!("{SEND_JOBS}/{campaign}"), &body).unwrap()
}

fn attributes(api: &mut Connection, path: &str, id: &str) -> Value {
    let answer = api.get(&format!("{path}/{id}")).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["attributes"].clone()
}

/// The statuses of a campaign and of its send job.
fn statuses(api: &mut Connection, id: &str) -> Value {
    let (campaign, job) = (attributes(api, CAMPAIGNS, id), attributes(api, SEND_JOBS, id));
    json!([campaign["status"], job["status"]])
}

/// What the control path says of the first campaign: send jobs, sendings, recipients.
fn sendings(sandbox: &Sandbox) -> Value {
    let campaign = sandbox.get("campaigns")["campaigns"][0].clone();
    json!([campaign["send_jobs"], campaign["sendings"], campaign["recipients"]])
}

/// The status, the code and the pointer of a refusal.
fn refusal(answer: &Answer) -> Value {
    let error = answer.error();
    json!([answer.status, error["code"], error["source"]["pointer"]])
}

/// A time in so many seconds, to the second.
fn soon(seconds: i64) -> String {
    let time = Timestamp::now() + SignedDuration::from_secs(seconds);
    Timestamp::from_second(time.as_second()).unwrap().to_string().replace('Z', "+00:00")
}

#[test]
fn a_campaign_is_a_draft_with_messages() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let (news, gone) = (list(&mut api, &[]), list(&mut api, &[]));
    let mut body = campaign("Sale", &news, &email());
    body["data"]["attributes"]["audiences"]["excluded"] = json!([gone]);
    let created = api.post(CAMPAIGNS, &body).unwrap();
    assert_eq!((created.status, created.number("ratelimit-limit")), (201, 150));
    let id = id(&created);
    let found = api.get(&format!("{CAMPAIGNS}/{id}")).unwrap();
    assert_eq!((found.status, found.json()), (200, created.json()));
    let data = &created.json()["data"];
    let of = &data["attributes"];
    assert_eq!(
        json!([
            of["name"],
            of["status"],
            of["archived"],
            of["audiences"],
            of["send_options"],
            of["send_strategy"]
        ]),
        json!(["Sale", "Draft", false, {"included": [news], "excluded": [gone]}, {"use_smart_sending": true},
            {"method": "immediate"}])
    );
    assert_eq!(json!([of["send_time"], of["scheduled_at"]]), json!([null, null]));
    assert_eq!(of["created_at"], of["updated_at"]);
    let links = &data["relationships"]["campaign-messages"]["links"];
    let related = links["related"].as_str().unwrap().trim_end_matches('/');
    let messages = api.get(related).unwrap();
    assert_eq!((messages.status, messages.number("ratelimit-limit")), (200, 150));
    let message = messages.json()["data"][0].clone();
    assert_eq!(messages.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(message["id"], data["relationships"]["campaign-messages"]["data"][0]["id"]);
    let content = message["attributes"]["definition"]["content"].clone();
    assert_eq!(json!([content["subject"], content["bcc_email"]]), json!(["Sale", null]));
    assert_eq!(message["relationships"]["campaign"]["data"], json!({"type": "campaign", "id": id}));
    assert_eq!(message["relationships"]["template"].get("data"), None);

    let with = api.get(&format!("{CAMPAIGNS}/{id}?include=campaign-messages&fields[campaign]=name")).unwrap();
    assert_eq!(with.json()["data"]["attributes"], json!({"name": "Sale"}));
    assert_eq!(with.json()["included"], json!([message]));
    let narrow = api.get(&format!("{related}?fields[campaign-message]=send_times")).unwrap();
    assert_eq!(narrow.json()["data"][0]["attributes"], json!({"send_times": []}));

    let path = format!("{CAMPAIGNS}/{id}");
    let deleted = api.request("DELETE", &path, &Value::Null).unwrap();
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(
        refusal(&api.request("DELETE", &path, &Value::Null).unwrap()),
        json!([404, "not_found", "/data"])
    );
    assert_eq!(api.get(&path).unwrap().status, 404);
    assert_eq!(api.get(related).unwrap().status, 404);
    assert_eq!(sandbox.get("campaigns"), json!({"campaigns": []}));
    assert_eq!(api.request("PUT", CAMPAIGNS, &Value::Null).unwrap().header("allow"), Some("GET, POST"));
}

#[test]
fn what_a_campaign_names_has_to_be_there() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &[]);
    let mut body = campaign("Sale", &news, &email());
    body["data"]["attributes"]["audiences"] = json!({"included": [news, "XXXXXX"], "excluded": ["YYYYYY"]});
    body["data"]["attributes"]["campaign-messages"]["data"][0]["relationships"] =
        json!({"image": {"data": {"type": "image", "id": "7"}}});
    let refused = api.post(CAMPAIGNS, &body).unwrap();
    let errors = refused.json()["errors"].clone();
    let pointers: Vec<&str> =
        errors.as_array().unwrap().iter().map(|error| error["source"]["pointer"].as_str().unwrap()).collect();
    assert_eq!(refused.status, 404);
    assert_eq!(
        pointers,
        [
            "audiences/included/1",
            "audiences/excluded/0",
            "campaign-messages/data/0/relationships/image/data/id"
        ]
        .map(|part| format!("/data/attributes/{part}"))
    );
    assert_eq!(
        refusal(&api.post(CAMPAIGNS, &campaign("", &news, &email())).unwrap()),
        json!([400, "invalid", "/data/attributes/name"])
    );
    assert_eq!(
        api.post(&format!("{CAMPAIGNS}?include=x"), &campaign("Sale", &news, &email())).unwrap().status,
        400
    );
    assert_eq!(sandbox.get("campaigns"), json!({"campaigns": []}));
}

#[test]
fn a_campaign_is_sent_in_time() {
    let sandbox = Sandbox::start(&SLOW);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a", "b"]);
    let id = ready(&sandbox, &mut api, &campaign("Sale", &news, &email()));
    assert_eq!(refusal(&api.get(&format!("{SEND_JOBS}/{id}")).unwrap()), json!([404, "not_found", "/data"]));
    let sent = send(&mut api, &id);
    assert_eq!((sent.status, &sent.json()["data"]["id"]), (202, &json!(id)));
    assert_eq!(sent.json()["data"]["attributes"], json!({"status": "queued"}));
    for (setting, expected, counts) in [
        (json!({}), json!(["Preparing to send", "queued"]), json!([1, 0, 0])),
        (json!({"queued_ms": 0}), json!(["Preparing to send", "processing"]), json!([1, 0, 0])),
        (json!({"processing_ms": 0}), json!(["Sent", "complete"]), json!([1, 1, 2])),
        (json!({"processing_ms": 3_600_000}), json!(["Sent", "complete"]), json!([1, 1, 2])),
    ] {
        sandbox.control("PUT", "bulk", setting);
        assert_eq!(statuses(&mut api, &id), expected);
        assert_eq!(sendings(&sandbox), counts);
        let again = send(&mut api, &id);
        assert_eq!(refusal(&again), json!([400, "invalid", "/data/id"]));
        let detail = again.error()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(expected[0].as_str().unwrap()), "{detail}");
    }
    let of = attributes(&mut api, CAMPAIGNS, &id);
    assert_eq!((of["send_time"].is_string(), &of["scheduled_at"]), (true, &Value::Null));
    for action in ["cancel", "revert"] {
        assert_eq!(refusal(&stop(&mut api, &id, action)), json!([400, "invalid", "/data/attributes/action"]));
    }
    assert_eq!(refusal(&send(&mut api, "01UNKNOWN")), json!([404, "not_found", "/data/id"]));
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(sandbox.get("campaigns"), json!({"campaigns": []}));
    assert_eq!(api.get(&format!("{CAMPAIGNS}/{id}")).unwrap().status, 404);
}

#[test]
fn nothing_is_sent_to_nobody() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a"]);
    let mut body = campaign("Sale", &news, &email());
    body["data"]["attributes"]["audiences"]["excluded"] = json!([news]);
    let id = ready(&sandbox, &mut api, &body);
    assert_eq!(send(&mut api, &id).status, 202);
    assert_eq!(statuses(&mut api, &id), json!(["Cancelled: No Recipients", "complete"]));
    assert_eq!(attributes(&mut api, CAMPAIGNS, &id)["send_time"], Value::Null);
    assert_eq!(sendings(&sandbox), json!([1, 0, 0]));
    assert_eq!(stop(&mut api, &id, "revert").status, 400);
    assert_eq!(send(&mut api, &id).status, 400);
}

#[test]
fn sending_is_cancelled_for_ever_or_reverted() {
    let sandbox = Sandbox::start(&SLOW);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a"]);
    let id = ready(&sandbox, &mut api, &campaign("Sale", &news, &email()));
    for action in ["cancel", "revert"] {
        assert_eq!(refusal(&stop(&mut api, &id, action)), json!([400, "invalid", "/data/attributes/action"]));
    }
    assert_eq!(send(&mut api, &id).status, 202);
    let reverted = stop(&mut api, &id, "revert");
    assert_eq!((reverted.status, reverted.body.len()), (204, 0));
    assert_eq!(statuses(&mut api, &id), json!(["Draft", "cancelled"]));
    assert_eq!(send(&mut api, &id).status, 202, "a draft is sent");
    assert_eq!(statuses(&mut api, &id), json!(["Preparing to send", "queued"]));
    assert_eq!(stop(&mut api, &id, "cancel").status, 204);
    assert_eq!(statuses(&mut api, &id), json!(["Cancelled", "cancelled"]));
    assert_eq!((send(&mut api, &id).status, stop(&mut api, &id, "revert").status), (400, 400));
    sandbox.control("PUT", "bulk", json!({"queued_ms": 0, "processing_ms": 0}));
    assert_eq!(statuses(&mut api, &id), json!(["Cancelled", "cancelled"]), "nothing is sent any more");
    assert_eq!(sendings(&sandbox), json!([2, 0, 0]));
    assert_eq!(refusal(&stop(&mut api, "01UNKNOWN", "cancel")), json!([404, "not_found", "/data/id"]));
    assert_eq!(refusal(&stop(&mut api, &id, "stop")), json!([400, "invalid", "/data/attributes/action"]));
}

#[test]
fn a_campaign_that_waits_is_scheduled_until_its_time() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a"]);
    let mut scheduled = |strategy: Value| {
        let mut body = campaign("Sale", &news, &email());
        body["data"]["attributes"]["send_strategy"] = strategy;
        ready(&sandbox, &mut api, &body)
    };
    let later = soon(3_600);
    let tomorrow = &soon(100_000)[..10];
    let ids = [
        json!({"method": "static", "datetime": later, "options": {"is_local": true}}),
        json!({"method": "throttled", "datetime": later, "throttle_percentage": 50}),
        json!({"method": "smart_send_time", "date": tomorrow}),
    ]
    .map(&mut scheduled);
    let [next, past, past_day] = [
        json!({"method": "static", "datetime": soon(3)}),
        json!({"method": "throttled", "datetime": soon(-1), "throttle_percentage": 50}),
        json!({"method": "smart_send_time", "date": &soon(-100_000)[..10]}),
    ]
    .map(&mut scheduled);
    sandbox.control("PUT", "bulk", json!({"queued_ms": 3_600_000}));
    for id in &ids {
        assert_eq!(send(&mut api, id).status, 202);
        assert_eq!(statuses(&mut api, id), json!(["Preparing to schedule", "queued"]));
    }
    sandbox.control("PUT", "bulk", json!({"queued_ms": 0}));
    let day = format!("{tomorrow}T00:00:00+00:00");
    for (id, time) in ids.iter().zip([&later, &later, &day]) {
        assert_eq!(statuses(&mut api, id), json!(["Scheduled", "complete"]));
        let of = attributes(&mut api, CAMPAIGNS, id);
        assert_eq!((of["scheduled_at"].is_string(), &of["send_time"]), (true, &json!(time)));
    }
    assert_eq!(stop(&mut api, &ids[0], "revert").status, 204);
    let of = attributes(&mut api, CAMPAIGNS, &ids[0]);
    assert_eq!(json!([of["status"], of["scheduled_at"], of["send_time"]]), json!(["Draft", null, null]));
    assert_eq!(stop(&mut api, &ids[1], "cancel").status, 204);
    assert_eq!(statuses(&mut api, &ids[1]), json!(["Cancelled", "cancelled"]));

    for id in [past, past_day] {
        let late = send(&mut api, &id);
        assert_eq!(refusal(&late), json!([400, "invalid", "/data/id"]));
        assert!(late.error()["detail"].as_str().unwrap().contains("past"));
    }
    assert_eq!(send(&mut api, &next).status, 202);
    assert_eq!(statuses(&mut api, &next), json!(["Scheduled", "complete"]));
    until(|| Some(()).filter(|()| statuses(&mut api, &next) == json!(["Sent", "complete"])));
    let message =
        api.get(&format!("{CAMPAIGNS}/{next}/campaign-messages")).unwrap().json()["data"][0].clone();
    let of = attributes(&mut api, CAMPAIGNS, &next);
    assert_eq!(
        message["attributes"]["send_times"],
        json!([{"datetime": of["send_time"], "is_local": false}])
    );
}

#[test]
fn a_message_needs_a_template_a_subject_or_a_body() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a"]);
    let body = json!({"data": {"type": "template", "attributes":
        {"name": "Sale", "editor_type": "CODE", "html": "<p>"}}});
    let template = api.post(TEMPLATES, &body).unwrap();
    assert_eq!(template.status, 201);
    let template = id(&template);
    let found = attributes(&mut api, TEMPLATES, &template);
    assert_eq!(json!([found["name"], found["html"], found["text"]]), json!(["Sale", "<p>", null]));
    assert_eq!(
        refusal(&api.get(&format!("{TEMPLATES}/XXXXXX")).unwrap()),
        json!([404, "not_found", "/data"])
    );

    let (campaign_id, message) = create(&mut api, &campaign("Sale", &news, &email()));
    let refused = send(&mut api, &campaign_id);
    assert_eq!(refusal(&refused), json!([400, "invalid", "/data/id"]));
    assert!(refused.error()["detail"].as_str().unwrap().contains("template"));
    let assigned = api.post(ASSIGN, &assignment(&message, &template)).unwrap();
    assert_eq!((assigned.status, assigned.json()["data"]["id"].as_str()), (200, Some(message.as_str())));
    let of = assigned.json()["data"]["attributes"].clone();
    let updated = attributes(&mut api, CAMPAIGNS, &campaign_id)["updated_at"].clone();
    assert_eq!(updated, of["updated_at"]);
    assert_ne!(of["updated_at"], of["created_at"]);
    assert_eq!(json!([of["label"], of["channel"], of["content"]["subject"]]), json!(["", "email", "Sale"]));
    let copy =
        assigned.json()["data"]["relationships"]["template"]["data"]["id"].as_str().unwrap().to_owned();
    assert_ne!(copy, template, "it is a copy");
    assert_eq!(attributes(&mut api, TEMPLATES, &copy)["name"], "Sale");
    let messages = api.get(&format!("{CAMPAIGNS}/{campaign_id}/campaign-messages")).unwrap().json();
    let named = messages["data"][0]["relationships"]["template"]["data"].clone();
    assert_eq!(named, json!({"type": "template", "id": copy}));
    assert_eq!(sandbox.get("campaigns")["campaigns"][0]["messages"][0]["template"], json!(copy));
    let at = "/data/relationships/template/data/id";
    for (message, template, expected) in [
        ("01UNKNOWN", template.as_str(), json!([404, "not_found", "/data/id"])),
        (message.as_str(), "XXXXXX", json!([404, "not_found", at])),
        (message.as_str(), copy.as_str(), json!([400, "invalid", at])),
    ] {
        assert_eq!(refusal(&api.post(ASSIGN, &assignment(message, template)).unwrap()), expected);
    }
    assert_eq!(send(&mut api, &campaign_id).status, 202);
    let late = api.post(ASSIGN, &assignment(&message, &template)).unwrap();
    assert_eq!(refusal(&late), json!([400, "invalid", "/data/id"]));

    let without_subject = json!({"channel": "email", "content": {"subject": " "}});
    let id = ready(&sandbox, &mut api, &campaign("Sale", &news, &without_subject));
    assert!(send(&mut api, &id).error()["detail"].as_str().unwrap().contains("subject"));
    let (id, message) = create(&mut api, &campaign("Sale", &news, &json!({"channel": "sms"})));
    assert!(send(&mut api, &id).error()["detail"].as_str().unwrap().contains("body"));
    let no_email = api.post(ASSIGN, &assignment(&message, &template)).unwrap();
    assert_eq!(refusal(&no_email), json!([400, "invalid", "/data/id"]));
    for definition in [
        json!({"channel": "sms", "content": {"body": "Sale"}}),
        json!({"channel": "mobile_push", "content": {"body": "Sale"}}),
    ] {
        let (id, _) = create(&mut api, &campaign("Sale", &news, &definition));
        assert_eq!(send(&mut api, &id).status, 202);
    }
}

#[test]
fn an_estimation_counts_whom_it_would_go_to() {
    let sandbox = Sandbox::start(&SLOW);
    let mut api = sandbox.api();
    let (some, more) = (list(&mut api, &["a", "b", "c"]), list(&mut api, &["c", "d"]));
    let off = list(&mut api, &["a", "x"]);
    let mut body = campaign("Sale", &some, &email());
    body["data"]["attributes"]["audiences"] = json!({"included": [some, more], "excluded": [off]});
    let (id, _) = create(&mut api, &body);
    for path in [ESTIMATION_JOBS, ESTIMATIONS] {
        assert_eq!(refusal(&api.get(&format!("{path}/{id}")).unwrap()), json!([404, "not_found", "/data"]));
    }
    let begun = api.post(ESTIMATION_JOBS, &job(ESTIMATION_JOBS, &id)).unwrap();
    assert_eq!((begun.status, &begun.json()["data"]["attributes"]), (202, &json!({"status": "queued"})));
    for (setting, status) in [(json!({}), "queued"), (json!({"queued_ms": 0}), "processing")] {
        sandbox.control("PUT", "bulk", setting);
        assert_eq!(attributes(&mut api, ESTIMATION_JOBS, &id), json!({ "status": status }));
        assert_eq!(api.get(&format!("{ESTIMATIONS}/{id}")).unwrap().status, 404);
    }
    // Who is on a list when the job ends is counted.
    let late = json!({"data": [{"type": "profile", "id": sandbox.get("profiles")["profiles"][4]["id"]}]});
    api.request("DELETE", &format!("{LISTS}/{off}/relationships/profiles"), &late).unwrap();
    api.post(&format!("{LISTS}/{some}/relationships/profiles"), &late).unwrap();
    sandbox.control("PUT", "bulk", json!({"processing_ms": 0}));
    assert_eq!(attributes(&mut api, ESTIMATION_JOBS, &id), json!({"status": "complete"}));
    let count = |api: &mut Connection| attributes(api, ESTIMATIONS, &id)["estimated_recipient_count"].clone();
    assert_eq!(count(&mut api), 4);
    api.request("DELETE", &format!("{LISTS}/{more}"), &Value::Null).unwrap();
    assert_eq!(count(&mut api), 4, "nothing was estimated since");
    api.post(ESTIMATION_JOBS, &job(ESTIMATION_JOBS, &id)).unwrap();
    assert_eq!(count(&mut api), 3);
    let unknown = api.post(ESTIMATION_JOBS, &job(ESTIMATION_JOBS, "01UNKNOWN")).unwrap();
    assert_eq!(refusal(&unknown), json!([404, "not_found", "/data/id"]));
}

#[test]
fn campaigns_are_found_by_channel_and_more() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a"]);
    let ids =
        ["Sale B", "Sale A", "Ünd, (more)"].map(|name| create(&mut api, &campaign(name, &news, &email())).0);
    let sms = json!({"channel": "sms", "content": {"body": "Sale"}});
    let (text, _) = create(&mut api, &campaign("Text", &news, &sms));
    assert_eq!(send(&mut api, &text).status, 202);
    let since = attributes(&mut api, CAMPAIGNS, &ids[1])["created_at"].as_str().unwrap().replace('+', "%2B");
    let (a, b, c) = (ids[1].as_str(), ids[0].as_str(), ids[2].as_str());
    let email = "equals(messages.channel,'email')";
    for (query, expected) in [
        (format!("filter={email}"), vec![b, a, c]),
        ("filter=equals(messages.channel,%22sms%22)".to_owned(), vec![&text]),
        ("filter=equals(messages.channel,'mobile_push')".to_owned(), vec![]),
        (format!("filter={email},contains(name,'sale')&sort=name"), vec![a, b]),
        (format!("filter={email}&sort=-created_at"), vec![c, a, b]),
        (format!("filter=and({email},contains(name,'%C3%9Cnd,%20(more)'))"), vec![c]),
        (format!("filter={email},equals(status,'Draft'),equals(archived,false)"), vec![b, a, c]),
        (format!("filter={email},equals(archived,true)"), vec![]),
        ("filter=equals(messages.channel,'sms'),any(status,['Sent','Sending'])".to_owned(), vec![&text]),
        (format!("filter={email},any(id,['{c}','{b}','01UNKNOWN'])"), vec![b, c]),
        (format!("filter={email},greater-than(created_at,{since})"), vec![c]),
        (format!("filter={email},greater-or-equal(created_at,'{since}')"), vec![a, c]),
        (format!("filter={email},less-than(created_at,{since})"), vec![b]),
        (format!("filter={email},greater-than(scheduled_at,2020-01-01T00:00:00Z)"), vec![]),
    ] {
        let query = query.replace(' ', "%20");
        let answer = api.get(&format!("{CAMPAIGNS}?{query}")).unwrap();
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let found: Vec<Value> =
            answer.json()["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        assert_eq!(json!(found), json!(expected), "{query}");
    }
    let first = format!(
        "{CAMPAIGNS}?page[size]=2&filter={email}&sort=name&include=campaign-messages&fields[campaign]=name"
    );
    let first = api.get(&first).unwrap().json();
    assert_eq!(first["data"][1]["attributes"], json!({"name": "Sale B"}));
    assert_eq!(first["included"].as_array().unwrap().len(), 2);
    let second = api.get(first["links"]["next"].as_str().unwrap()).unwrap().json();
    assert_eq!(second["data"][0]["id"], json!(c));
    assert_eq!((second["included"].as_array().unwrap().len(), second["links"].get("next")), (1, None));
    for (query, parameter) in [
        ("", "filter"),
        ("filter=contains(name,'x')", "filter"),
        ("filter=equals(messages.channel,'email')&sort=status", "sort"),
        ("filter=equals(messages.channel,'email')&include=tags", "include"),
        ("filter=equals(messages.channel,'email')&page[size]=101", "page[size]"),
    ] {
        let refused = api.get(&format!("{CAMPAIGNS}?{query}")).unwrap();
        assert_eq!(
            (refused.status, &refused.error()["source"]["parameter"]),
            (400, &json!(parameter)),
            "{query}"
        );
    }
}

#[test]
fn campaigns_of_each_channel_are_read_page_by_page() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &[]);
    let sms = json!({"channel": "sms", "content": {"body": "Sale"}});
    let push = json!({"channel": "mobile_push", "content": {"title": "Sale", "body": "Sale"}});
    for (channel, definition) in [("email", &email()), ("sms", &sms), ("mobile_push", &push)] {
        let mut names: Vec<String> = ["c", "a", "e", "b", "d"].map(|name| format!("{channel} {name}")).into();
        let made: Vec<String> =
            names.iter().map(|name| create(&mut api, &campaign(name, &news, definition)).0).collect();
        names.sort();
        let path = format!("{CAMPAIGNS}?filter=equals(messages.channel,'{channel}')&page[size]=2");
        let found = pages(&mut api, &format!("{path}&sort=name"));
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(each(&found.concat(), "name"), names);
        for (sort, is_reversed) in [("created_at", false), ("-updated_at", true), ("-created_at", true)] {
            let found = pages(&mut api, &format!("{path}&sort={sort}")).concat();
            let mut ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
            if is_reversed {
                ids.reverse();
            }
            assert_eq!(ids, made, "{sort}");
        }
        // One that goes between two pages takes no other with it.
        let first = api.get(&format!("{path}&sort=name")).unwrap();
        let gone = first.json()["data"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(api.request("DELETE", &format!("{CAMPAIGNS}/{gone}"), &Value::Null).unwrap().status, 204);
        let second = pages(&mut api, first.json()["links"]["next"].as_str().unwrap()).concat();
        assert_eq!(each(&second, "name"), names[2..]);
    }
}

#[test]
fn a_fault_that_stores_sends_though_nobody_hears_of_it() {
    for (kind, stored) in [
        ("reset_after", true),
        ("hang_after", true),
        ("half", true),
        ("reset_before", false),
        ("status", false),
    ] {
        let sandbox = Sandbox::start(&AT_ONCE);
        let mut api = sandbox.api();
        let news = list(&mut api, &["a"]);
        let id = ready(&sandbox, &mut api, &campaign("Sale", &news, &email()));
        sandbox.faults(json!([{"kind": kind, "ms": 50, "path": "/api/campaign", "method": "POST"}]));
        let unheard = |path: &str, body: &Value| {
            let answer = sandbox.api().post(path, body);
            assert!(answer.is_err() || kind == "status", "{answer:?}");
            let receipt = sandbox.receipt();
            assert_eq!(
                json!([receipt["path"], receipt["fault"], receipt["accepted"]]),
                json!([path, kind, stored])
            );
        };
        unheard(SEND_JOBS, &job(SEND_JOBS, &id));
        assert_eq!(sendings(&sandbox), if stored { json!([1, 1, 1]) } else { json!([0, 0, 0]) }, "{kind}");
        unheard(CAMPAIGNS, &campaign("Other", &news, &email()));
        let count = sandbox.get("campaigns")["campaigns"].as_array().unwrap().len();
        assert_eq!(count, if stored { 2 } else { 1 }, "{kind}");
        sandbox.control("DELETE", "faults", Value::Null);
        assert_eq!(send(&mut api, &id).status, if stored { 400 } else { 202 });
    }
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a"]);
    sandbox.faults(json!([{"kind": "refuse", "match": "Odd", "code": "odd", "pointer": "/attributes/name"}]));
    let odd = api.post(CAMPAIGNS, &campaign("Odd", &news, &email())).unwrap();
    assert_eq!(refusal(&odd), json!([400, "odd", "/data/attributes/name"]));
}

#[test]
fn the_control_path_shows_campaigns() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    let news = list(&mut api, &["a", "b"]);
    let sms = json!({"channel": "sms", "content": {"body": "Sale"}});
    let (id, message) = create(&mut api, &campaign("Sale", &news, &sms));
    assert_eq!(send(&mut api, &id).status, 202);
    let render = json!({"shorten_links": true, "add_org_prefix": true, "add_info_link": true,
        "add_opt_out_language": false});
    let definition =
        json!({"channel": "sms", "content": {"body": "Sale", "media_url": null}, "render_options": render});
    let expected = json!({
        "id": id, "name": "Sale", "status": "Sent",
        "audiences": {"included": [news], "excluded": []},
        "send_strategy": {"method": "immediate"},
        "messages": [{"id": message, "channel": "sms", "definition": definition, "template": null}],
        "send_jobs": 1, "sendings": 1, "recipients": 2,
    });
    assert_eq!(sandbox.get("campaigns"), json!({"campaigns": [expected]}));
    assert_eq!(sandbox.try_control("POST", "templates", json!({"id": "x"})).status, 400);
}
