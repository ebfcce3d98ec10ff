//! Coupons, their codes, and jobs that create many of those.

use serde_json::{Value, json};

use crate::client::{
    Answer, CODE_JOBS, CODES, COUPONS, Connection, Sandbox, batch, batch_errors, done_batch,
};

const AT_ONCE: [&str; 6] = ["--rates", "off", "--job-queued", "0", "--job-processing", "0"];

fn coupon(external_id: &str) -> Value {
    json!({"data": {"type": "coupon", "attributes": {"external_id": external_id}}})
}

fn entry(coupon: &str, code: &str) -> Value {
    json!({"type": "coupon-code", "attributes": {"unique_code": code},
        "relationships": {"coupon": {"data": {"type": "coupon", "id": coupon}}}})
}

fn code(coupon: &str, code: &str) -> Value {
    json!({"data": entry(coupon, code)})
}

/// The status, the code and the pointer of a refusal.
fn refusal(answer: &Answer) -> Value {
    let error = answer.error();
    json!([answer.status, error["code"], error["source"]["pointer"]])
}

fn create(api: &mut Connection, external_id: &str) {
    assert_eq!(api.post(COUPONS, &coupon(external_id)).unwrap().status, 201);
}

#[test]
fn a_coupon_is_what_the_shop_calls_it() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let mut body = coupon("10 % OFF/x");
    body["data"]["attributes"]["description"] = json!("10% off");
    body["data"]["attributes"]["monitor_configuration"] = json!({"low_balance_threshold": 500});
    let created = api.post(COUPONS, &body).unwrap();
    assert_eq!((created.status, created.number("ratelimit-limit")), (201, 60));
    assert_eq!(created.json()["data"]["id"], "10 % OFF/x");
    assert_eq!(created.json()["data"]["attributes"], body["data"]["attributes"]);
    let found = api.get(created.json()["data"]["links"]["self"].as_str().unwrap().trim_end_matches('/'));
    let found = found.unwrap();
    assert_eq!((found.status, found.number("ratelimit-limit")), (200, 750));
    assert_eq!(found.json(), created.json());

    let taken = api.post(COUPONS, &body).unwrap();
    assert_eq!(refusal(&taken), json!([409, "duplicate", "/data/attributes/external_id"]));
    body["data"]["attributes"]["name"] = json!("x");
    sandbox.control("PUT", "rates", json!({"enabled": false}));
    let unknown = api.post(COUPONS, &body).unwrap();
    assert_eq!(refusal(&unknown), json!([400, "invalid", "/data/attributes/name"]));
    assert_eq!(refusal(&api.get(&format!("{COUPONS}/20OFF")).unwrap()), json!([404, "not_found", "/data"]));
    assert_eq!(api.get(&format!("{COUPONS}/20OFF?include=x")).unwrap().status, 400);
    assert_eq!(api.request("PUT", COUPONS, &Value::Null).unwrap().header("allow"), Some("POST"));
    assert_eq!(sandbox.get("coupons")["coupons"][0]["codes"], json!([]));
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(sandbox.get("coupons"), json!({"coupons": []}));
    create(&mut api, "10 % OFF/x");
}

#[test]
fn a_code_is_of_a_coupon() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    create(&mut api, "10OFF");
    let mut body = code("10OFF", "A1");
    body["data"]["attributes"]["expires_at"] = json!("2027-01-01T01:00:00+01:00");
    let created = api.post(CODES, &body).unwrap();
    assert_eq!((created.status, created.number("ratelimit-limit")), (200, 3_500));
    let data = created.json()["data"].clone();
    assert_eq!(data["id"], "10OFF-A1");
    assert_eq!(
        data["attributes"],
        json!({"unique_code": "A1", "expires_at": "2027-01-01T00:00:00+00:00", "status": "UNASSIGNED"})
    );
    assert_eq!(data["relationships"]["coupon"]["data"], json!({"type": "coupon", "id": "10OFF"}));
    assert_eq!(api.get(&format!("{CODES}/10OFF-A1")).unwrap().json(), created.json());
    assert!(
        api.post(CODES, &code("10OFF", "A2")).unwrap().json()["data"]["attributes"]["expires_at"].is_string()
    );

    for (body, expected) in [
        (code("10OFF", "A1"), json!([409, "duplicate", "/data/attributes/unique_code"])),
        (code("20OFF", "A1"), json!([404, "not_found", "/data/relationships/coupon/data/id"])),
        (code("10OFF", ""), json!([400, "invalid", "/data/attributes/unique_code"])),
    ] {
        assert_eq!(refusal(&api.post(CODES, &body).unwrap()), expected);
    }
    assert_eq!(refusal(&api.get(&format!("{CODES}/10OFF-A3")).unwrap()), json!([404, "not_found", "/data"]));
    let codes = sandbox.get("coupons")["coupons"][0]["codes"].clone();
    assert_eq!(json!([codes[0]["id"], codes[1]["unique_code"], codes[2]]), json!(["10OFF-A1", "A2", null]));
}

#[test]
fn codes_are_listed_page_by_page() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    create(&mut api, "10OFF");
    create(&mut api, "20OFF");
    let entries = (0..205).map(|n| entry("10OFF", &format!("A{n}"))).chain([entry("20OFF", "B")]);
    assert_eq!(done_batch(&mut api, CODE_JOBS, entries)["completed_count"], 206);
    let (mut found, mut pages) = (Vec::new(), Vec::new());
    let mut next = Some(json!(format!("{COUPONS}/10OFF/coupon-codes")));
    while let Some(link) = next {
        let page = api.get(link.as_str().unwrap()).unwrap().json();
        let codes = page["data"].as_array().unwrap();
        pages.push(codes.len());
        found.extend(codes.iter().map(|code| code["attributes"]["unique_code"].clone()));
        assert!(pages.len() < 10, "the pages do not end: {pages:?}");
        next = page["links"].get("next").cloned();
    }
    assert_eq!(pages, [100, 100, 5]);
    assert_eq!(json!(found), (0..205).map(|n| format!("A{n}")).collect::<Value>());
    let small = api.get(&format!("{COUPONS}/10OFF/coupon-codes?page[size]=2&page[cursor]=204")).unwrap();
    assert_eq!(small.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(api.get(&format!("{COUPONS}/10OFF/coupon-codes?page[size]=101")).unwrap().status, 400);
    assert_eq!(api.get(&format!("{COUPONS}/30OFF/coupon-codes")).unwrap().status, 404);
}

#[test]
fn a_job_creates_codes_in_time() {
    // As slow as an hour, so that each state lasts until it is told to end.
    let sandbox = Sandbox::start(&["--job-queued", "3600000", "--job-processing", "3600000"]);
    let mut api = sandbox.api();
    create(&mut api, "10OFF");
    let body = batch(CODE_JOBS, [entry("10OFF", "A"), entry("10OFF", "B")]);
    let answer = api.post(CODE_JOBS, &body).unwrap();
    assert_eq!((answer.status, answer.number("ratelimit-limit")), (202, 750));
    let job = format!("{CODE_JOBS}/{}", answer.json()["data"]["id"].as_str().unwrap());
    for (setting, status, done) in [
        (json!({}), "queued", 0),
        (json!({"queued_ms": 0}), "processing", 0),
        (json!({"processing_ms": 0}), "complete", 2),
    ] {
        sandbox.control("PUT", "bulk", setting);
        let of = api.get(&job).unwrap().json()["data"]["attributes"].clone();
        let found = json!([of["status"], of["total_count"], of["completed_count"], of["failed_count"]]);
        assert_eq!(found, json!([status, 2, done, 0]));
        assert_eq!((&of["errors"], of["expires_at"].is_string()), (&json!([]), true));
        assert_eq!(of["completed_at"].is_string(), status == "complete");
        assert_eq!(sandbox.get("coupons")["coupons"][0]["codes"].as_array().unwrap().len(), done);
    }
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(api.get(&job).unwrap().status, 404);
}

#[test]
fn one_bad_code_does_not_stop_the_others() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    create(&mut api, "10OFF");
    sandbox.faults(
        json!([{"kind": "refuse", "match": "ODD", "code": "odd", "pointer": "/attributes/unique_code"}]),
    );
    let entries = [("10OFF", "A"), ("20OFF", "A"), ("10OFF", "A"), ("10OFF", "ODD"), ("10OFF", "B")]
        .map(|(c, u)| entry(c, u));
    let job = done_batch(&mut api, CODE_JOBS, entries);
    assert_eq!(job["completed_count"], 2);
    assert_eq!(
        batch_errors(&job),
        [
            json!(["not_found", "1/relationships/coupon/data/id"]),
            json!(["duplicate", "2/attributes/unique_code"]),
            json!(["odd", "3/attributes/unique_code"]),
        ]
    );
    let again = done_batch(&mut api, CODE_JOBS, [entry("10OFF", "B")]);
    assert_eq!(batch_errors(&again), [json!(["duplicate", "0/attributes/unique_code"])]);
    let alone = api.post(CODES, &code("10OFF", "ODD")).unwrap();
    assert_eq!(refusal(&alone), json!([400, "odd", "/data/attributes/unique_code"]));
    assert_eq!(refusal(&api.post(COUPONS, &coupon("ODD")).unwrap())[1], "odd");
}

#[test]
fn a_job_has_limits() {
    let sandbox = Sandbox::start(&["--rates", "off", "--job-queued", "3600000"]);
    let mut api = sandbox.api();
    let many = |count: usize| batch(CODE_JOBS, (0..count).map(|n| entry("10OFF", &n.to_string())));
    let at = json!("/data/attributes/coupon-codes/data");
    for count in [0, 1_001] {
        assert_eq!(refusal(&api.post(CODE_JOBS, &many(count)).unwrap()), json!([400, "invalid", at]));
    }
    let bad = batch(CODE_JOBS, [entry("10OFF", "A"), json!({"type": "coupon-code", "attributes": {}})]);
    let pointers = api.post(CODE_JOBS, &bad).unwrap().json()["errors"].clone();
    let pointers: Vec<&str> = pointers
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["source"]["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        pointers,
        ["relationships", "attributes/unique_code"]
            .map(|part| format!("/data/attributes/coupon-codes/data/1/{part}"))
    );
    assert_eq!(api.post(CODE_JOBS, &many(1_000)).unwrap().status, 202);
    for _ in 1..100 {
        assert_eq!(api.post(CODE_JOBS, &many(1)).unwrap().status, 202);
    }
    assert_eq!(refusal(&api.post(CODE_JOBS, &many(1)).unwrap()), json!([409, "too_many_jobs", "/data"]));
    sandbox.control("PUT", "bulk", json!({"queued_ms": 0, "processing_ms": 0}));
    assert_eq!(api.post(CODE_JOBS, &many(1)).unwrap().status, 202);
    assert_eq!(api.get(&format!("{CODE_JOBS}/01UNKNOWN")).unwrap().error()["code"], "not_found");
}

#[test]
fn the_control_path_makes_coupons() {
    let sandbox = Sandbox::start(&[]);
    sandbox.control("POST", "coupons", json!({"external_id": "10OFF"}));
    assert_eq!(sandbox.api().get(&format!("{COUPONS}/10OFF")).unwrap().status, 200);
    assert_eq!(sandbox.try_control("POST", "coupons", json!({"external_id": "10OFF"})).status, 409);
    assert_eq!(sandbox.try_control("POST", "coupons", json!({"id": "10OFF"})).status, 400);
    let attributes = json!({"external_id": "10OFF", "description": null, "monitor_configuration": null});
    assert_eq!(
        sandbox.get("coupons"),
        json!({"coupons": [{"id": "10OFF", "attributes": attributes, "codes": []}]})
    );
}
