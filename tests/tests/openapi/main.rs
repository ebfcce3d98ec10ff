//! What is sent, and what the sandbox answers, is as Klaviyo's OpenAPI document says.
//!
//! These tests do something only where the environment variable `KLAVIYO_OPENAPI` names the document.

mod campaigns;
mod catalog;
mod hand;
mod people;
mod pulls;
mod reports;
mod webhooks;

use hand::{HEADERS, Hand, KEY, MEDIA_TYPE, REVISION};
use harness::{
    BULK_CALLS, Bulk, CALLS, Cluster, DELETION_CALL, Fault, OpenApi, Rates, Receipt, Sandbox, Shop, explain,
};
use serde_json::{Value, json};

fn document() -> Option<OpenApi> {
    let document = OpenApi::from_env();
    if document.is_none() {
        println!("skipped: KLAVIYO_OPENAPI does not name Klaviyo's OpenAPI document");
    }
    document
}

/// Each of these calls is among the requests.
fn assert_made(requests: &[Receipt], calls: &[(&str, &str)]) {
    for (method, path) in calls {
        let is_it = |request: &Receipt| {
            request.method.eq_ignore_ascii_case(method) && harness::is_at(path, &request.path)
        };
        assert!(requests.iter().any(is_it), "{method} {path} was never made");
    }
}

/// Everything that the functions can be given, and what becomes of it on the way.
const MESSAGES: [&str; 14] = [
    "klaviyo_track_event('Placed Order', external_id => '1')",
    "klaviyo_track_event('Placed Order', 'ada@shop.example')",
    "klaviyo_track_event('Placed Order', phone_number => '+15005550006')",
    "klaviyo_track_event('Placed Order', 'ada@shop.example', phone_number => '+15005550006', external_id => '7',
         properties => '{\"items\": [{\"sku\": \"a\", \"price\": 9.99}, null], \"\\u00fc\": {\"deep\": [[1]]},
                         \"n\": 12345678901234567890.5, \"none\": null, \"yes\": true}',
         value => 19.98, value_currency => 'USD', unique_id => 'order-1', event_time => '2026-01-02 03:04:05.678+05:30',
         profile => '{\"first_name\": \"Ada\", \"last_name\": null, \"properties\": {\"plan\": \"paid\"},
                      \"location\": {\"city\": \"London\", \"latitude\": 51.5, \"longitude\": \"-0.1\"},
                      \"meta\": {\"patch_properties\": {\"append\": {\"skus\": \"a\"}, \"unset\": [\"old\"]}}}')",
    "klaviyo_track_event('Placed Order', external_id => '1', value => -0.00001)",
    "klaviyo_track_event('Placed Order', external_id => '1', value => 1e300)",
    "klaviyo_track_event('Placed Order', external_id => '1', event_time => '1991-01-01 00:00:00+00')",
    "klaviyo_track_event('Refused', external_id => '1', properties => '{\"how\": \"refused\"}')",
    "klaviyo_upsert_profile(external_id => '2')",
    "klaviyo_upsert_profile(external_id => '3', email => 'bob@shop.example', phone_number => '+4930123456',
         first_name => 'Bob', last_name => 'B\"\\', organization => 'Shop', title => 'Clerk', locale => 'de-DE',
         image => 'https://shop.example/bob.png',
         location => '{\"address1\": \"a\", \"address2\": \"b\", \"city\": \"c\", \"country\": \"d\", \"region\": \"e\",
                       \"zip\": \"f\", \"timezone\": \"Europe/Berlin\", \"ip\": \"127.0.0.1\", \"latitude\": 1.5,
                       \"longitude\": \"2.5\"}',
         properties => '{\"list\": [1, 2], \"map\": {\"a\": null}, \"none\": null}')",
    "klaviyo_upsert_profile(external_id => '4', clear => '{first_name,last_name,organization,title,locale,image}')",
    // These travel together.
    "klaviyo_upsert_profile(external_id => '5', first_name => 'Eve', properties => '{\"a\": 1, \"b\": 2}')",
    "klaviyo_upsert_profile(external_id => '5', last_name => 'E', properties => '{\"b\": null}', clear => '{first_name}')",
    "klaviyo_upsert_profile(external_id => '6', properties => '{\"how\": \"refused\"}')",
];

/// A shop that has sent all of [`MESSAGES`], some of them more than once.
fn busy_shop() -> Shop {
    let shop = Shop::builder()
        .setting("klaviyo.enabled", "off")
        .setting("klaviyo.poll_interval", "1s")
        .setting("klaviyo.retry_min_delay", "20ms")
        .setting("klaviyo.retry_max_delay", "300ms")
        .start();
    let mut db = shop.connect();
    for message in MESSAGES {
        db.execute(&format!("SELECT {message}"), &[])
            .unwrap_or_else(|error| panic!("{message}: {}", explain(&error)));
    }
    shop.sandbox.set_faults(&[
        Fault::status(400).matching("refused"),
        Fault::status(503).times(3),
        Fault::throttle(0).times(1),
        Fault::reset_after().times(2),
    ]);
    shop.cluster.set("klaviyo.enabled", "on");
    assert_eq!(shop.drain_soon().dead, 2, "only what was refused on purpose");
    shop
}

#[test]
fn what_is_sent_is_as_the_document_says() {
    let Some(document) = document() else { return };
    let shop = busy_shop();
    let receipts = shop.sandbox.receipts();
    let counts = document.assert_requests(&receipts);
    for call in CALLS {
        let count = counts.get(call).copied().unwrap_or_default();
        println!("{count} requests to {call}");
        assert!(count > 0, "{call} was never made");
    }
    shop.assert_requests_conform();
}

/// Changes a valid body.
type Mutation = (&'static str, fn(&mut Value));

const EVENT_MUTATIONS: [Mutation; 14] = [
    ("a wrong type", |body| body["data"]["attributes"]["value"] = json!("19.98")),
    ("a wrong type of an object", |body| body["data"]["attributes"]["properties"] = json!([])),
    ("null where there is none", |body| body["data"]["attributes"]["properties"] = json!(null)),
    ("a wrong type in a profile", |body| {
        body["data"]["attributes"]["profile"]["data"]["attributes"]["email"] = json!(1);
    }),
    ("a missing required part", |body| remove(&mut body["data"]["attributes"], "metric")),
    ("missing attributes", |body| remove(&mut body["data"], "attributes")),
    ("a missing type", |body| remove(&mut body["data"], "type")),
    ("a missing name", |body| {
        remove(&mut body["data"]["attributes"]["metric"]["data"]["attributes"], "name");
    }),
    ("no data", |body| remove(body, "data")),
    ("an unknown field", |body| body["data"]["attributes"]["uniqueId"] = json!("a")),
    ("an unknown field at the top", |body| body["meta"] = json!({})),
    ("an unknown field of a location", |body| {
        body["data"]["attributes"]["profile"]["data"]["attributes"]["location"]["town"] = json!("London");
    }),
    ("a wrong word", |body| body["data"]["type"] = json!("events")),
    ("a time that is none", |body| body["data"]["attributes"]["time"] = json!("2026-01-02 03:04:05")),
];

const PROFILE_MUTATIONS: [Mutation; 8] = [
    ("a wrong type", |body| body["data"]["attributes"]["first_name"] = json!(["Bob"])),
    ("a wrong type of an object", |body| body["data"]["attributes"]["location"] = json!("Berlin")),
    ("a wrong type of all", |body| *body = json!([body])),
    ("a missing required part", |body| remove(&mut body["data"], "attributes")),
    ("a missing type", |body| remove(&mut body["data"], "type")),
    ("an unknown field", |body| body["data"]["attributes"]["fisrt_name"] = json!("Bob")),
    ("an unknown field beside the attributes", |body| body["data"]["relationships"] = json!({})),
    ("a wrong word", |body| body["data"]["type"] = json!("person")),
];

fn remove(object: &mut Value, member: &str) {
    object.as_object_mut().and_then(|object| object.remove(member)).expect("it was there");
}

#[test]
fn a_changed_request_is_found_out() {
    let Some(document) = document() else { return };
    let shop = busy_shop();
    let receipts = shop.sandbox.receipts();
    let mutations =
        [(CALLS[0], "order-1", &EVENT_MUTATIONS[..]), (CALLS[1], "bob.png", &PROFILE_MUTATIONS[..])];
    for (call, full, mutations) in mutations {
        let receipt =
            receipts.iter().find(|receipt| receipt.path == call && receipt.body.to_string().contains(full));
        let body = &receipt.expect("the fullest one was sent").body;
        assert_eq!(document.fault_of_request("POST", call, body), None);
        for (what, change) in mutations {
            let mut changed = body.clone();
            change(&mut changed);
            assert!(document.fault_of_request("POST", call, &changed).is_some(), "{call}: {what} passes");
        }
    }
}

fn event(profile: &Value, properties: &Value) -> String {
    let metric = json!({"data": {"type": "metric", "attributes": {"name": "Placed Order"}}});
    json!({"data": {"type": "event", "attributes": {
        "metric": metric, "properties": properties, "profile": {"data": profile},
    }}})
    .to_string()
}

fn profile(attributes: &Value) -> Value {
    json!({"type": "profile", "attributes": attributes})
}

fn import(profile: &Value) -> String {
    json!({"data": profile}).to_string()
}

#[test]
fn the_sandbox_answers_as_the_document_says() {
    let Some(document) = document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let [events, imports] = CALLS;
    let ada = profile(&json!({"email": "ada@shop.example"}));

    hand.post(events, &event(&ada, &json!({})), 202);
    hand.post(imports, &import(&profile(&json!({"external_id": "7"}))), 201);
    hand.post(imports, &import(&ada), 200);
    let full = json!({
        "email": "bob@shop.example", "phone_number": "+15005550006", "external_id": "8", "first_name": "Bob",
        "title": null, "location": {"city": "Berlin", "latitude": 1.5, "longitude": "2.5"}, "properties": {"a": [1]},
    });
    hand.post(imports, &import(&profile(&full)), 201);
    hand.post(imports, &import(&profile(&full)), 200);
    hand.post(events, &event(&profile(&full), &json!({"a": 1})), 202);

    hand.post(imports, &import(&profile(&json!({"email": "ada@shop.example", "external_id": "7"}))), 409);
    // What the sandbox has no reason of its own to answer, it can be told to.
    let unknown = json!({"type": "profile", "id": "nobody", "attributes": {"email": "eve@shop.example"}});
    hand.post(events, &event(&unknown, &json!({})), 404);
    hand.post(imports, &import(&unknown), 404);
    hand.post("/api/nothing", "{}", 404);
    sandbox.set_faults(&[Fault::status(409)]);
    hand.post(events, &event(&ada, &json!({})), 409);
    sandbox.clear_faults();

    for (call, body, nobody, long) in [
        (events, event(&ada, &json!({})), event(&profile(&json!({})), &json!({})), 5_000_000),
        (imports, import(&ada), import(&profile(&json!({}))), 100_000),
    ] {
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            "{\"data\": {}}",
            "{\"data\": {\"type\": \"x\", \"attributes\": 1}}",
            &nobody,
        ] {
            hand.post(call, bad, 400);
        }
        hand.send("POST", call, &[KEY, MEDIA_TYPE], &body, &[400]);
        hand.send("POST", call, &[KEY, MEDIA_TYPE, ("revision", "2020-01-01")], &body, &[400]);
        hand.send("POST", call, &[REVISION, MEDIA_TYPE], &body, &[401]);
        hand.send("POST", call, &[REVISION, MEDIA_TYPE, ("Authorization", "Bearer pk_a")], &body, &[401]);
        hand.send("PUT", call, &HEADERS, &body, &[405]);
        hand.post(call, &"x".repeat(long + 1), 413);
        hand.send("POST", call, &[KEY, REVISION, ("Content-Type", "text/plain")], &body, &[415]);
        for status in [403, 500, 502, 503, 504] {
            sandbox.set_faults(&[Fault::status(status)]);
            hand.post(call, &body, status);
        }
        sandbox.set_faults(&[Fault::throttle(1)]);
        hand.post(call, &body, 429);
        sandbox.clear_faults();
        // One of its own accord: with windows that allow a single request.
        let count_scale = Some(0.000_1);
        sandbox.set_rates(&Rates { enabled: Some(true), count_scale, window_scale: Some(60.0) });
        for _ in 0..100 {
            hand.send("POST", call, &HEADERS, &body, &[200, 202, 429]);
        }
        assert!(hand.count(call, 429) > 1, "it throttles nobody");
        sandbox.set_rates(&Rates { enabled: Some(false), count_scale: Some(1.0), window_scale: Some(1.0) });
    }

    let errors = [400, 401, 403, 404, 405, 409, 413, 415, 429, 500, 502, 503, 504];
    let expected = errors.iter().flat_map(|status| CALLS.map(|call| (call, *status)));
    for (call, status) in expected.chain([(events, 202), (imports, 200), (imports, 201)]) {
        let count = hand.count(call, status);
        println!("{count} answers {status} of {call}");
        assert!(count > 0, "{call} never answered {status}");
    }
}

#[test]
fn the_sandbox_answers_bulk_calls_as_the_document_says() {
    let Some(document) = document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let [(_, bulk), (_, jobs), _, (_, job), (_, errors)] = BULK_CALLS;
    let events = |ids: &[&str]| {
        let metric = json!({"data": {"type": "metric", "attributes": {"name": "Placed Order"}}});
        let event = |id: &&str| {
            let attributes = json!({"properties": {"a": 1}, "metric": metric, "unique_id": id});
            json!({"type": "event", "attributes": attributes})
        };
        let group = json!({"type": "event-bulk-create", "attributes": {
            "profile": {"data": profile(&json!({"email": "ada@shop.example"}))},
            "events": {"data": ids.iter().map(event).collect::<Vec<_>>()},
        }});
        let groups = json!({"events-bulk-create": {"data": [group]}});
        json!({"data": {"type": "event-bulk-create-job", "attributes": groups}})
    };
    let people = json!({"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": [
        profile(&json!({"external_id": "7"})), profile(&json!({"phone_number": "+10005550006"})),
        profile(&json!({"phone_number": "+10005550007"})),
    ]}}}});
    for (call, body) in [(bulk, &events(&["1"])), (jobs, &people)] {
        assert_eq!(document.fault_of_request("POST", call, body), None);
    }

    hand.post(bulk, &events(&["1", "2"]).to_string(), 202);
    hand.post(bulk, &events(&["3", "2"]).to_string(), 400);
    sandbox.set_bulk(&Bulk { repeats: Some("after"), queued_ms: Some(3_600_000), ..Bulk::default() });
    hand.post(bulk, &events(&["3", "2"]).to_string(), 202);
    assert_eq!((sandbox.stats().events, sandbox.stats().bulk_repeats), (2, 2));

    hand.post(jobs, &people.to_string(), 202);
    let id = &sandbox.jobs()[0].id;
    let (job, errors) = (job.replace("{job_id}", id), errors.replace("{id}", id));
    for (status, queued_ms, processing_ms) in
        [("queued", 3_600_000, 0), ("processing", 0, 3_600_000), ("complete", 0, 0)]
    {
        let (queued_ms, processing_ms) = (Some(queued_ms), Some(processing_ms));
        sandbox.set_bulk(&Bulk { queued_ms, processing_ms, ..Bulk::default() });
        hand.send("GET", jobs, &HEADERS, "", &[200]);
        hand.send("GET", &job, &HEADERS, "", &[200]);
        hand.send("GET", &errors, &HEADERS, "", &[200]);
        assert_eq!(sandbox.jobs()[0].status, status);
    }
    assert_eq!((sandbox.jobs()[0].completed_count, sandbox.jobs()[0].failed_count), (1, 2));
    for query in ["page%5Bsize%5D=1", "page%5Bsize%5D=1&page%5Bcursor%5D=1"] {
        hand.send("GET", &format!("{errors}?{query}"), &HEADERS, "", &[200]);
    }
    sandbox.set_bulk(&Bulk { original_payloads: Some(false), ..Bulk::default() });
    hand.send("GET", &errors, &HEADERS, "", &[200]);

    for call in [bulk, jobs] {
        for bad in ["", "{", "[]", "{}", "{\"data\": {}}"] {
            hand.post(call, bad, 400);
        }
        hand.send("POST", call, &[REVISION, MEDIA_TYPE], "{}", &[401]);
        hand.send("PUT", call, &HEADERS, "", &[405]);
        hand.post(call, &"x".repeat(5_000_001), 413);
    }
    for path in [jobs, &job, &errors] {
        hand.send("GET", path, &[REVISION], "", &[401]);
    }
    for path in [&job, &errors] {
        hand.send("POST", path, &HEADERS, "{}", &[405]);
        hand.send("GET", &format!("{path}?include=lists"), &HEADERS, "", &[400]);
        hand.send("GET", &path.replace(id, "nobody"), &HEADERS, "", &[404]);
    }
    document.assert_requests(sandbox.receipts().iter().filter(|receipt| receipt.accepted));
}

#[test]
fn the_sandbox_answers_requests_for_deletion_as_the_document_says() {
    let Some(document) = document() else { return };
    // For its directory only.
    let cluster = Cluster::builder().preload(false).start();
    let sandbox = Sandbox::builder().arguments(["--rates", "off"]).start(cluster.directory());
    let mut hand = Hand::new(&sandbox, &document);
    let request = |attributes: Value| {
        json!({"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data":
            {"type": "profile", "attributes": attributes}}}}})
    };
    for attributes in [json!({"email": "ada@shop.example"}), json!({"phone_number": "+15005550006"})] {
        let body = request(attributes);
        assert_eq!(document.fault_of_request("POST", DELETION_CALL, &body), None);
        hand.post(DELETION_CALL, &body.to_string(), 202);
    }
    let two = request(json!({"email": "ada@shop.example", "phone_number": "+15005550006"}));
    for bad in ["", "{", "{}", &two.to_string(), &request(json!({"email": "ada"})).to_string()] {
        hand.post(DELETION_CALL, bad, 400);
    }
    hand.send("POST", DELETION_CALL, &[REVISION, MEDIA_TYPE], "{}", &[401]);
    hand.send("GET", DELETION_CALL, &HEADERS, "", &[405]);
}
