use serde_json::{Value, json};

use super::*;
use crate::check::{self, ListDraft, Whose};

fn now() -> Timestamp {
    "2026-07-15T12:00:00.9Z".parse().unwrap()
}

/// Somebody with these identifiers, and what is said of their channels.
fn person(who: Value, channels: &[Channel], consent: &str) -> Value {
    let mut subscriptions = json!({});
    for channel in channels {
        let (name, kind) = match channel {
            Channel::Email => ("email", "marketing"),
            Channel::Sms => ("sms", "marketing"),
            Channel::SmsTransactional => ("sms", "transactional"),
        };
        subscriptions[name][kind]["consent"] = json!(consent);
    }
    let mut profile = json!({"type": "profile", "attributes": {"subscriptions": subscriptions}});
    for (key, value) in who.as_object().unwrap() {
        let place = if key == "id" { &mut profile } else { &mut profile["attributes"] };
        place[key] = value.clone();
    }
    profile
}

fn body(kind: &str, profiles: &[Value], list: Option<&str>) -> Value {
    let mut body = json!({"data": {"type": kind, "attributes": {"profiles": {"data": profiles}}}});
    if let Some(id) = list {
        body["data"]["relationships"] = json!({"list": {"data": {"type": "list", "id": id}}});
    }
    body
}

type People<'a> = &'a [(Value, &'a [Channel])];

fn subscribe(store: &mut Store, people: People<'_>, list: Option<&str>) -> Result<(), Vec<ApiError>> {
    let people: Vec<Value> =
        people.iter().map(|(who, channels)| person(who.clone(), channels, "SUBSCRIBED")).collect();
    let body = body("profile-subscription-bulk-create-job", &people, list);
    store.subscribe(check::subscription(&(&body).into(), now()).unwrap(), 1, now())
}

fn unsubscribe(store: &mut Store, people: People<'_>, list: Option<&str>) -> Result<(), Vec<ApiError>> {
    let people: Vec<Value> =
        people.iter().map(|(who, channels)| person(who.clone(), channels, "UNSUBSCRIBED")).collect();
    let body = body("profile-subscription-bulk-delete-job", &people, list);
    store.unsubscribe(check::unsubscription(&(&body).into(), now()).unwrap(), 2, now())
}

fn list(store: &mut Store) -> String {
    store.create_list(ListDraft { name: "News".to_owned(), opt_in: None }, now()).id.clone()
}

/// Of each profile the subscriptions, the suppressions, the lists, and those that it unsubscribed from.
fn shown(store: &Store) -> Vec<Value> {
    let profiles = serde_json::to_value(store.profiles()).unwrap();
    let show = |profile: &Value| {
        let of = &profile["subscriptions"];
        json!([
            [of["email"], of["sms"], of["sms_transactional"]],
            profile["suppressions"],
            profile["lists"],
            profile["list_suppressions"],
        ])
    };
    profiles.as_array().unwrap().iter().map(show).collect()
}

fn changes(store: &Store) -> Vec<Value> {
    let log = serde_json::to_value(store.consents()).unwrap();
    let change = |entry: &Value| json!([entry["n"], entry["email"], entry["change"], entry["channels"]]);
    log.as_array().unwrap().iter().map(change).collect()
}

const NEVER: &str = "NEVER_SUBSCRIBED";
const YES: &str = "SUBSCRIBED";
const NO: &str = "UNSUBSCRIBED";

#[test]
fn a_subscription_is_to_its_channels_alone() {
    let mut store = Store::new(1);
    let ada = json!({"email": "Ada@example.com", "phone_number": "+15005550006"});
    subscribe(&mut store, &[(ada.clone(), &[Channel::Email])], None).unwrap();
    assert_eq!(shown(&store), [json!([[YES, NEVER, NEVER], [], [], []])]);
    subscribe(&mut store, &[(ada, &[Channel::SmsTransactional])], None).unwrap();
    assert_eq!(shown(&store), [json!([[YES, NEVER, YES], [], [], []])]);
    let profiles = serde_json::to_value(store.profiles()).unwrap();
    let attributes = json!({"email": "ada@example.com", "phone_number": "+15005550006"});
    assert_eq!((&profiles[0]["attributes"], &profiles[0]["updates"]), (&attributes, &json!(0)));
    assert_eq!(
        changes(&store),
        [
            json!([1, "ada@example.com", "subscribed", ["email"]]),
            json!([1, "ada@example.com", "subscribed", ["sms_transactional"]]),
        ]
    );
}

#[test]
fn a_subscription_lifts_suppressions_if_it_is_to_mails() {
    let mut store = Store::new(1);
    let ada = json!({"email": "ada@example.com", "phone_number": "+15005550006"});
    unsubscribe(&mut store, &[(ada.clone(), &[Channel::Email, Channel::Sms])], None).unwrap();
    store.suppress("ada@example.com".to_owned(), 3, now());
    store.suppress("ada@example.com".to_owned(), 3, now());
    let suppressed = json!(["UNSUBSCRIBE", "USER_SUPPRESSED"]);
    assert_eq!(shown(&store), [json!([[NO, NO, NEVER], suppressed, [], []])]);
    subscribe(&mut store, &[(ada.clone(), &[Channel::Sms])], None).unwrap();
    assert_eq!(shown(&store), [json!([[NO, YES, NEVER], suppressed, [], []])]);
    subscribe(&mut store, &[(ada, &[Channel::Email])], None).unwrap();
    assert_eq!(shown(&store), [json!([[YES, YES, NEVER], [], [], []])]);
}

#[test]
fn lifting_leaves_what_the_profile_did_itself() {
    let mut store = Store::new(1);
    unsubscribe(&mut store, &[(json!({"email": "ada@example.com"}), &[Channel::Email])], None).unwrap();
    store.suppress("ada@example.com".to_owned(), 3, now());
    assert!(store.unsuppress("ada@example.com", 4, now()));
    assert_eq!(shown(&store), [json!([[NO, NEVER, NEVER], ["UNSUBSCRIBE"], [], []])]);
    assert!(!store.unsuppress("bob@example.com", 4, now()));
    assert_eq!((store.profile_count(), store.consents().len()), (1, 3));
}

#[test]
fn whoever_is_on_the_list_leaves_it_and_whoever_is_not_leaves_all() {
    let mut store = Store::new(1);
    let list = list(&mut store);
    let ada = json!({"email": "ada@example.com"});
    let bob = json!({"email": "bob@example.com"});
    subscribe(&mut store, &[(ada.clone(), &[Channel::Email])], Some(&list)).unwrap();
    subscribe(&mut store, &[(bob.clone(), &[Channel::Email])], None).unwrap();
    let people = [(ada.clone(), &[Channel::Email][..]), (bob, &[Channel::Email][..])];
    unsubscribe(&mut store, &people, Some(&list)).unwrap();
    assert_eq!(
        shown(&store),
        [json!([[YES, NEVER, NEVER], [], [], [list]]), json!([[NO, NEVER, NEVER], ["UNSUBSCRIBE"], [], []]),]
    );
    assert_eq!(
        changes(&store)[2..],
        [
            json!([2, "ada@example.com", "unsubscribed", ["email"]]),
            json!([2, "bob@example.com", "unsubscribed_everywhere", ["email"]]),
        ]
    );
    // Sent again, since an answer got lost.
    unsubscribe(&mut store, &people[..1], Some(&list)).unwrap();
    assert_eq!(shown(&store)[0], json!([[NO, NEVER, NEVER], ["UNSUBSCRIBE"], [], [list]]));
    subscribe(&mut store, &[(ada, &[Channel::Email])], Some(&list)).unwrap();
    assert_eq!(shown(&store)[0], json!([[YES, NEVER, NEVER], [], [list], []]));
}

#[test]
fn without_a_list_nobody_leaves_one() {
    let mut store = Store::new(1);
    let list = list(&mut store);
    let ada = json!({"email": "ada@example.com"});
    subscribe(&mut store, &[(ada.clone(), &[Channel::Email])], Some(&list)).unwrap();
    unsubscribe(&mut store, &[(ada, &[Channel::Email])], None).unwrap();
    assert_eq!(shown(&store), [json!([[NO, NEVER, NEVER], ["UNSUBSCRIBE"], [list], []])]);
}

#[test]
fn an_unknown_id_fails_the_call_and_nothing_is_done() {
    let mut store = Store::new(1);
    let people = [
        (json!({"email": "ada@example.com"}), &[Channel::Email][..]),
        (json!({"id": "01UNKNOWN"}), &[Channel::Email][..]),
    ];
    let errors = subscribe(&mut store, &people, Some("XXXXXX")).unwrap_err();
    let found: Vec<_> = errors.iter().map(|error| (error.status.as_u16(), error.pointer.as_str())).collect();
    assert_eq!(
        found,
        [(404, "/data/relationships/list/data/id"), (404, "/data/attributes/profiles/data/1/id"),]
    );
    assert!(unsubscribe(&mut store, &people[..1], Some("XXXXXX")).is_err());
    assert_eq!((store.profile_count(), store.consents().len()), (0, 0));
}

#[test]
fn a_deleted_profile_is_on_no_list_and_in_the_log_without_its_identifiers() {
    let mut store = Store::new(1);
    let list = list(&mut store);
    let ada = json!({"email": "ada@example.com", "phone_number": "+15005550006"});
    subscribe(&mut store, &[(ada.clone(), &[Channel::Email, Channel::Sms])], Some(&list)).unwrap();
    store.delete(&Whose::Has(Identifier::Email, "ADA@example.com".to_owned()));
    let log = serde_json::to_value(store.consents()).unwrap();
    assert_eq!((&log[0]["email"], &log[0]["phone_number"]), (&Value::Null, &Value::Null));
    assert_eq!((&log[0]["change"], &log[0]["list"]), (&json!("subscribed"), &json!(list)));
    assert_eq!(serde_json::to_value(store.list_views()).unwrap()[0]["members"], json!([]));
    assert!(store.profiles().is_empty());
    subscribe(&mut store, &[(ada, &[Channel::Email])], None).unwrap();
    assert_eq!(shown(&store), [json!([[YES, NEVER, NEVER], [], [], []])], "another person");
}

#[test]
fn clearing_forgets_lists_and_consents() {
    let mut store = Store::new(1);
    list(&mut store);
    store.suppress("ada@example.com".to_owned(), 3, now());
    store.clear();
    assert!(store.lists().is_empty() && store.consents().is_empty());
}
