use serde_json::{Value, json};

use super::*;
use crate::check;
use crate::error::ApiError;

const DATA: &str = "/data/attributes/profiles/data";

fn now() -> Timestamp {
    "2026-07-15T12:00:00Z".parse().unwrap()
}

fn subscribed(profiles: Value, change: impl FnOnce(&mut Value)) -> Result<ConsentDraft, Vec<ApiError>> {
    let mut body = json!({"data": {
        "type": "profile-subscription-bulk-create-job", "attributes": {"profiles": {"data": profiles}},
    }});
    change(&mut body["data"]);
    check::subscription(&(&body).into(), now())
}

fn unsubscribed(profiles: Value, change: impl FnOnce(&mut Value)) -> Result<ConsentDraft, Vec<ApiError>> {
    let mut body = json!({"data": {
        "type": "profile-subscription-bulk-delete-job", "attributes": {"profiles": {"data": profiles}},
    }});
    change(&mut body["data"]);
    check::unsubscription(&(&body).into(), now())
}

fn pointers(checked: Result<ConsentDraft, Vec<ApiError>>) -> Vec<String> {
    let mut found: Vec<String> =
        checked.err().unwrap_or_default().into_iter().map(|error| error.pointer).collect();
    found.sort();
    found
}

fn profile(attributes: Value) -> Value {
    json!({"type": "profile", "attributes": attributes})
}

fn marketing(consent: &str) -> Value {
    json!({"marketing": {"consent": consent}})
}

/// Somebody with an address, of whose marketing this is said.
fn by_email(parameters: Value) -> Value {
    profile(json!({"email": "a@a.co", "subscriptions": {"email": {"marketing": parameters}}}))
}

#[test]
fn a_full_call_passes() {
    let both = profile(json!({
        "email": "Sarah@Example.com", "phone_number": "+15005550006", "age_gated_date_of_birth": "2001-01-31",
        "subscriptions": {
            "email": marketing("SUBSCRIBED"),
            "sms": {"marketing": {"consent": "SUBSCRIBED"}, "transactional": {"consent": "SUBSCRIBED"}},
        },
    }));
    let by_id = json!({"type": "profile", "id": "01X", "attributes": {
        "email": null, "subscriptions": {"sms": marketing("SUBSCRIBED")},
    }});
    let draft = subscribed(json!([both, by_id]), |data| {
        data["attributes"]["custom_source"] = json!("a form");
        data["attributes"]["historical_import"] = Value::Null;
        data["relationships"] = json!({"list": {"data": {"type": "list", "id": "Y6nRLr"}}});
    })
    .unwrap();
    assert_eq!(draft.list.as_deref(), Some("Y6nRLr"));
    let [both, by_id] = &draft.profiles[..] else { panic!("two profiles") };
    assert_eq!(both.profile.attributes["email"], "sarah@example.com");
    assert_eq!(both.channels, [Channel::Email, Channel::Sms, Channel::SmsTransactional]);
    assert_eq!((by_id.profile.id.as_deref(), &by_id.channels[..]), (Some("01X"), &[Channel::Sms][..]));
    assert!(by_id.profile.attributes.is_empty(), "null clears nothing");

    let gone = profile(json!({"phone_number": "+15005550006", "subscriptions": {
        "sms": {"transactional": {"consent": "UNSUBSCRIBED"}},
    }}));
    let draft = unsubscribed(json!([gone]), |data| data["relationships"] = json!({})).unwrap();
    assert_eq!((draft.list, &draft.profiles[0].channels[..]), (None, &[Channel::SmsTransactional][..]));
}

#[test]
fn numbers_have_limits() {
    let many = |count: usize, consent: &str| json!(vec![by_email(json!({"consent": consent})); count]);
    for (count, expected) in [(0, Some(DATA)), (1_000, None), (1_001, Some(DATA))] {
        let found = pointers(subscribed(many(count, "SUBSCRIBED"), |_| {}));
        assert_eq!(found.first().map(String::as_str), expected, "{count}");
    }
    for (count, expected) in [(0, Some(DATA)), (100, None), (101, Some(DATA))] {
        let found = pointers(unsubscribed(many(count, "UNSUBSCRIBED"), |_| {}));
        assert_eq!(found.first().map(String::as_str), expected, "{count}");
    }
}

#[test]
fn every_wrong_field_has_its_pointer() {
    let profiles = json!([
        profile(json!({"email": "nobody", "phone_number": "0800", "first_name": "x", "subscriptions": {
            "email": {"marketing": {"consent": "UNSUBSCRIBED", "at": 1}, "open_tracking": {"consent": "SUBSCRIBED"}},
            "push": {},
        }})),
        profile(json!({"phone_number": "+10005550006", "subscriptions": {"sms": marketing("SUBSCRIBED")}})),
        profile(
            json!({"email": "a@a.co", "age_gated_date_of_birth": "20010131", "subscriptions": {"email": {}}})
        ),
        profile(json!({"email": "a@a.co"})),
        by_email(json!({"consent": null})),
        7,
    ]);
    let found = pointers(subscribed(profiles, |data| {
        data["attributes"]["historical_import"] = json!("no");
        data["attributes"]["custom_source"] = json!(7);
        data["attributes"]["source"] = json!("x");
        data["relationships"] = json!({"list": {"data": {"type": "segment"}}, "lists": {}});
    }));
    let profile = |rest: &str| format!("{DATA}/{rest}");
    assert_eq!(
        found,
        [
            "/data/attributes/custom_source".to_owned(),
            "/data/attributes/historical_import".to_owned(),
            profile("0/attributes/email"),
            profile("0/attributes/first_name"),
            profile("0/attributes/phone_number"),
            profile("0/attributes/subscriptions/email/marketing/at"),
            profile("0/attributes/subscriptions/email/marketing/consent"),
            profile("0/attributes/subscriptions/email/open_tracking"),
            profile("0/attributes/subscriptions/push"),
            profile("1/attributes/phone_number"),
            profile("2/attributes/age_gated_date_of_birth"),
            profile("2/attributes/subscriptions"),
            profile("3/attributes/subscriptions"),
            profile("4/attributes/subscriptions/email/marketing/consent"),
            profile("5"),
            "/data/attributes/source".to_owned(),
            "/data/relationships/list/data/id".to_owned(),
            "/data/relationships/list/data/type".to_owned(),
            "/data/relationships/lists".to_owned(),
        ]
    );
    let list_of_nothing = |data: &mut Value| data["relationships"] = json!({"list": {}});
    let gone = json!([by_email(json!({"consent": "UNSUBSCRIBED"}))]);
    assert_eq!(pointers(unsubscribed(gone, list_of_nothing)), ["/data/relationships/list/data"]);
}

#[test]
fn a_channel_needs_its_identifier_unless_there_is_an_id() {
    let both = json!({"subscriptions": {
        "email": marketing("SUBSCRIBED"), "sms": {"marketing": {"consent": "SUBSCRIBED"}, "transactional": {"consent": "SUBSCRIBED"}},
    }});
    let missing = [format!("{DATA}/0/attributes/email"), format!("{DATA}/0/attributes/phone_number")];
    assert_eq!(pointers(subscribed(json!([profile(both.clone())]), |_| {})), missing);
    let by_id = json!([{"type": "profile", "id": "01X", "attributes": both}]);
    assert_eq!(pointers(subscribed(by_id, |_| {})), [""; 0]);
    let by_id = json!([{"type": "profile", "id": "01X", "attributes": {
        "email": "a@a.co", "subscriptions": {"email": marketing("UNSUBSCRIBED")},
    }}]);
    assert_eq!(pointers(unsubscribed(by_id, |_| {})), [format!("{DATA}/0/id")], "of no unsubscription");
}

#[test]
fn times_of_consent_belong_to_historical_imports() {
    let at = format!("{DATA}/0/attributes/subscriptions/email/marketing/consented_at");
    let found = |historical: Value, consented_at: Value| {
        let item = by_email(json!({"consent": "SUBSCRIBED", "consented_at": consented_at}));
        pointers(subscribed(json!([item]), |data| data["attributes"]["historical_import"] = historical))
    };
    let past = "2026-07-15T11:59:59Z";
    for (historical, consented_at) in [
        (Value::Null, json!(past)),
        (json!(false), json!(past)),
        (json!(false), json!(7)),
        (json!(true), Value::Null),
        (json!(true), json!(7)),
        (json!(true), json!("yesterday")),
        (json!(true), json!("2026-07-15T12:00:00Z")),
    ] {
        assert_eq!(
            found(historical.clone(), consented_at.clone()),
            std::slice::from_ref(&at),
            "{historical} {consented_at}"
        );
    }
    assert_eq!(found(json!(true), json!(past)), [""; 0]);
    assert_eq!(found(json!(false), Value::Null), [""; 0]);
    let item = by_email(json!({"consent": "UNSUBSCRIBED", "consented_at": past}));
    assert_eq!(pointers(unsubscribed(json!([item]), |_| {})), [at]);
}
