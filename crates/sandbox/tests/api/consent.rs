//! Who consents to be sent to, and who does no more.

use serde_json::{Value, json};

use crate::client::{Connection, LISTS, SUBSCRIBE, SUPPRESS, Sandbox, UNSUBSCRIBE, UNSUPPRESS, consents};

const DATA: &str = "/data/attributes/profiles/data";

/// Somebody with this address, and the consent to mails.
fn by_mail(email: &str, consent: &str) -> Value {
    json!({"email": email, "subscriptions": {"email": {"marketing": {"consent": consent}}}})
}

fn by_sms(phone: &str, consent: &str) -> Value {
    json!({"phone_number": phone, "subscriptions": {"sms": {"marketing": {"consent": consent}}}})
}

fn status(api: &mut Connection, path: &str, profiles: &[Value], list: Option<&str>) -> u16 {
    api.post(path, &consents(path, profiles, list)).unwrap().status
}

fn new_list(api: &mut Connection) -> String {
    let body = json!({"data": {"type": "list", "attributes": {"name": "News"}}});
    api.post(LISTS, &body).unwrap().json()["data"]["id"].as_str().unwrap().to_owned()
}

/// Of each profile its address, its subscriptions to mail and SMS, its suppressions and its lists.
fn profiles(sandbox: &Sandbox) -> Vec<Value> {
    let show = |profile: &Value| {
        let of = &profile["subscriptions"];
        json!([
            profile["attributes"]["email"],
            of["email"],
            of["sms"],
            profile["suppressions"],
            profile["lists"]
        ])
    };
    sandbox.get("profiles")["profiles"].as_array().unwrap().iter().map(show).collect()
}

fn log(sandbox: &Sandbox) -> Vec<Value> {
    let show = |entry: &Value| json!([entry["n"], entry["email"], entry["change"], entry["list"]]);
    sandbox.get("consents")["consents"].as_array().unwrap().iter().map(show).collect()
}

#[test]
fn profiles_are_subscribed_and_put_on_the_list() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let list = new_list(&mut api);
    let people = [by_mail("Ada@example.com", "SUBSCRIBED"), by_sms("+15005550006", "SUBSCRIBED")];
    let answer = api.post(SUBSCRIBE, &consents(SUBSCRIBE, &people, Some(&list))).unwrap();
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    assert_eq!((answer.number("ratelimit-limit"), answer.number("ratelimit-remaining")), (750, 749));
    assert_eq!(
        profiles(&sandbox),
        [
            json!(["ada@example.com", "SUBSCRIBED", "NEVER_SUBSCRIBED", [], [list]]),
            json!([null, "NEVER_SUBSCRIBED", "SUBSCRIBED", [], [list]]),
        ]
    );
    let entries = sandbox.get("consents")["consents"].clone();
    let expected = json!({
        "n": 2, "profile_id": sandbox.get("profiles")["profiles"][1]["id"], "email": null,
        "phone_number": "+15005550006", "change": "subscribed", "channels": ["sms"], "list": list,
    });
    assert_eq!(entries[1], expected);
    assert_eq!(sandbox.receipt()["accepted"], true);
    let twice = [by_mail("bob@example.com", "SUBSCRIBED"), by_mail("BOB@example.com", "SUBSCRIBED")];
    assert_eq!(status(&mut api, SUBSCRIBE, &twice, None), 202);
    assert_eq!((profiles(&sandbox).len(), log(&sandbox).len()), (3, 4));
}

#[test]
fn who_is_not_on_the_list_is_unsubscribed_from_all() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let list = new_list(&mut api);
    assert_eq!(status(&mut api, SUBSCRIBE, &[by_mail("ada@example.com", "SUBSCRIBED")], Some(&list)), 202);
    assert_eq!(status(&mut api, SUBSCRIBE, &[by_mail("bob@example.com", "SUBSCRIBED")], None), 202);
    let people =
        ["ada@example.com", "bob@example.com", "eve@example.com"].map(|email| by_mail(email, "UNSUBSCRIBED"));
    assert_eq!(status(&mut api, UNSUBSCRIBE, &people, Some(&list)), 202);
    assert_eq!(
        profiles(&sandbox),
        [
            json!(["ada@example.com", "SUBSCRIBED", "NEVER_SUBSCRIBED", [], []]),
            json!(["bob@example.com", "UNSUBSCRIBED", "NEVER_SUBSCRIBED", ["UNSUBSCRIBE"], []]),
            json!(["eve@example.com", "UNSUBSCRIBED", "NEVER_SUBSCRIBED", ["UNSUBSCRIBE"], []]),
        ]
    );
    assert_eq!(
        log(&sandbox)[2..],
        [
            json!([4, "ada@example.com", "unsubscribed", list]),
            json!([4, "bob@example.com", "unsubscribed_everywhere", list]),
            json!([4, "eve@example.com", "unsubscribed_everywhere", list]),
        ]
    );
    assert_eq!(status(&mut api, SUBSCRIBE, &[by_mail("bob@example.com", "SUBSCRIBED")], None), 202);
    assert_eq!(profiles(&sandbox)[1], json!(["bob@example.com", "SUBSCRIBED", "NEVER_SUBSCRIBED", [], []]));
}

#[test]
fn one_bad_profile_fails_the_call_and_is_pointed_at() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let ada = by_mail("ada@example.com", "SUBSCRIBED");
    let mut push = ada.clone();
    push["subscriptions"]["push"] = json!({"marketing": {"consent": "SUBSCRIBED"}});
    let mut historical = ada.clone();
    historical["subscriptions"]["email"]["marketing"]["consented_at"] = json!("2020-01-01T00:00:00Z");
    for (bad, pointer) in [
        (by_mail("nobody", "SUBSCRIBED"), "email"),
        (by_sms("0800", "SUBSCRIBED"), "phone_number"),
        (by_mail("ada@example.com", "UNSUBSCRIBED"), "subscriptions/email/marketing/consent"),
        (push, "subscriptions/push"),
        (historical.clone(), "subscriptions/email/marketing/consented_at"),
    ] {
        let answer = api.post(SUBSCRIBE, &consents(SUBSCRIBE, &[ada.clone(), bad], None)).unwrap();
        assert_eq!(answer.status, 400);
        assert_eq!(answer.error()["source"]["pointer"], format!("{DATA}/1/attributes/{pointer}"));
    }
    let unknown =
        api.post(SUBSCRIBE, &consents(SUBSCRIBE, std::slice::from_ref(&ada), Some("XXXXXX"))).unwrap();
    assert_eq!((unknown.status, &unknown.error()["code"]), (404, &json!("not_found")));
    assert_eq!(unknown.error()["source"]["pointer"], "/data/relationships/list/data/id");
    let many = vec![by_mail("ada@example.com", "UNSUBSCRIBED"); 101];
    assert_eq!(status(&mut api, UNSUBSCRIBE, &many, None), 400);
    let mut large = consents(SUBSCRIBE, &[ada], None);
    large["data"]["x"] = json!("y".repeat(5_000_000));
    assert_eq!(api.post(SUBSCRIBE, &large).unwrap().status, 413);
    assert_eq!(api.get(SUBSCRIBE).unwrap().header("allow"), Some("POST"));
    assert_eq!((sandbox.counts(), log(&sandbox).len()), ((0, 0), 0));

    let mut import = consents(SUBSCRIBE, &[historical], None);
    import["data"]["attributes"]["historical_import"] = json!(true);
    assert_eq!(api.post(SUBSCRIBE, &import).unwrap().status, 202);
}

#[test]
fn a_profile_that_contains_a_text_is_refused() {
    let sandbox = Sandbox::start(&["--job-queued", "0", "--job-processing", "0"]);
    let mut api = sandbox.api();
    sandbox
        .faults(json!([{"kind": "refuse", "match": "u-odd", "code": "odd", "pointer": "/attributes/email"}]));
    for (path, people) in [
        (SUBSCRIBE, ["ada@example.com", "u-odd@example.com"].map(|email| by_mail(email, "SUBSCRIBED"))),
        (UNSUBSCRIBE, ["ada@example.com", "u-odd@example.com"].map(|email| by_mail(email, "UNSUBSCRIBED"))),
        (SUPPRESS, ["ada@example.com", "u-odd@example.com"].map(|email| json!({"email": email}))),
        (UNSUPPRESS, ["ada@example.com", "u-odd@example.com"].map(|email| json!({"email": email}))),
    ] {
        let answer = api.post(path, &consents(path, &people, None)).unwrap();
        assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("odd")), "{path}");
        assert_eq!(answer.error()["source"]["pointer"], format!("{DATA}/1/attributes/email"), "{path}");
        assert_eq!(sandbox.counts(), (0, 0), "{path}");
        assert_eq!(status(&mut api, path, &people[..1], None), 202, "{path}");
        sandbox.control("POST", "reset", Value::Null);
        sandbox.faults(
            json!([{"kind": "refuse", "match": "u-odd", "code": "odd", "pointer": "/attributes/email"}]),
        );
    }
}

#[test]
fn whose_data_is_deleted_is_on_no_list_and_unnamed_in_the_log() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let list = new_list(&mut api);
    assert_eq!(status(&mut api, SUBSCRIBE, &[by_mail("ada@example.com", "SUBSCRIBED")], Some(&list)), 202);
    let deletion = json!({"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data":
        {"type": "profile", "attributes": {"email": "ada@example.com"}}}}}});
    assert_eq!(api.post("/api/data-privacy-deletion-jobs", &deletion).unwrap().status, 202);
    assert_eq!(sandbox.get("lists")["lists"], json!([{"id": list, "name": "News", "members": []}]));
    assert_eq!(log(&sandbox), [json!([2, null, "subscribed", list])]);
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!((&sandbox.get("lists")["lists"], log(&sandbox).len()), (&json!([]), 0));
}
