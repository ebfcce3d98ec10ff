//! What a pull reads of profiles: all that there are and what has changed since, page by page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{
    EVENTS, IMPORT, LISTS, METRICS, PROFILES, SUBSCRIBE, SUPPRESS, Sandbox, UNSUBSCRIBE, consents, profile,
    until,
};
use crate::pages::{all, each, pages, rows};

/// A time as an address can have it.
fn in_address(time: &str) -> String {
    time.replace('+', "%2B")
}

fn seed(sandbox: &Sandbox, body: Value) -> Vec<String> {
    let made = sandbox.control("POST", "profiles", body);
    serde_json::from_value(made["ids"].clone()).unwrap()
}

#[test]
fn all_profiles_are_read_in_the_order_in_which_they_changed() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let ids = seed(&sandbox, json!({"count": 250, "prefix": "shopper"}));
    assert_eq!(BTreeSet::from_iter(&ids).len(), 250);
    let found = pages(&mut api, &format!("{PROFILES}?sort=updated&page[size]=100"));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
    let found = found.concat();
    let expected: Vec<String> = (1..=250).map(|n| format!("shopper-{n}@shop.example")).collect();
    assert_eq!(each(&found, "email"), expected);
    let times = each(&found, "updated");
    assert!(times.is_sorted() && BTreeSet::from_iter(&times).len() == 250, "{times:?}");
    let newest_first = all(&mut api, &format!("{PROFILES}?sort=-updated&page[size]=7"), "email");
    assert_eq!(newest_first, expected.iter().rev().cloned().collect::<Vec<_>>());

    // A time as it is written is one that the filter reads, and leaves nobody out.
    for (operator, expected) in [("greater-than", &expected[200..]), ("less-than", &expected[..199])] {
        let filter = format!("filter={operator}(updated,{})", in_address(&times[199]));
        assert_eq!(all(&mut api, &format!("{PROFILES}?{filter}&sort=updated"), "email"), expected);
        // In another order too.
        assert_eq!(all(&mut api, &format!("{PROFILES}?{filter}"), "email"), expected);
    }
    let between = format!(
        "filter=greater-than(updated,{}),less-than(updated,{})",
        in_address(&times[9]),
        in_address(&times[12])
    );
    assert_eq!(
        all(&mut api, &format!("{PROFILES}?{between}&sort=-updated"), "email"),
        [&*expected[11], &expected[10]]
    );
}

#[test]
fn what_changes_at_klaviyo_is_found_after_the_last_that_was_read() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let ids = seed(
        &sandbox,
        json!({"profiles": [
            {"email": "a@shop.example"}, {"email": "b@shop.example", "first_name": "Bob"}, {"external_id": "7"},
        ]}),
    );
    let first = rows(&api.get(&format!("{PROFILES}?sort=-updated&page[size]=1")).unwrap());
    let since = in_address(first[0]["attributes"]["updated"].as_str().unwrap());
    let changed = format!("{PROFILES}?filter=greater-than(updated,{since})&sort=updated");
    assert_eq!(rows(&api.get(&changed).unwrap()), [Value::Null; 0]);
    let change = |body: Value| sandbox.try_control("PUT", &format!("profiles/{}", ids[0]), body);
    let attributes = json!({"first_name": "Ada", "properties": {"vip": true}});
    assert_eq!(change(json!({"attributes": attributes})).status, 200);
    assert_eq!(
        api.post(IMPORT, &profile(json!({"email": "b@shop.example", "title": "Dr"}))).unwrap().status,
        200
    );
    let found = rows(&api.get(&changed).unwrap());
    assert_eq!([&found[0]["id"], &found[1]["id"]], [&json!(ids[0]), &json!(ids[1])]);
    let attributes = &found[0]["attributes"];
    assert_eq!(json!([attributes["first_name"], attributes["properties"]]), json!(["Ada", {"vip": true}]));
    assert_eq!(found[1]["attributes"]["first_name"], "Bob");
    assert!(attributes["created"].as_str() < attributes["updated"].as_str(), "{attributes}");
    let stored = sandbox.get("profiles");
    assert_eq!(
        (&stored["profiles"][0]["updates"], &stored["profiles"][1]["updates"]),
        (&json!(0), &json!(1))
    );

    for (body, status) in [
        (json!({"attributes": {"email": "b@shop.example"}}), 409),
        (json!({"attributes": {"email": "nobody"}}), 400),
        (json!({"attributes": {"vip": true}}), 400),
        (json!({"first_name": "Ada"}), 400),
    ] {
        let refused = change(body.clone());
        assert_eq!(refused.status, status, "{body}");
        assert!(refused.json()["error"].is_string());
    }
    assert_eq!(sandbox.try_control("PUT", "profiles/01X", json!({"attributes": {}})).status, 404);
    sandbox.control("DELETE", &format!("profiles/{}", ids[1]), Value::Null);
    assert_eq!(sandbox.try_control("DELETE", &format!("profiles/{}", ids[1]), Value::Null).status, 404);
    let left: Vec<Value> = pages(&mut api, &format!("{PROFILES}?sort=-updated")).concat();
    assert_eq!(left.iter().map(|row| &row["id"]).collect::<Vec<_>>(), [&ids[0], &ids[2]]);
}

#[test]
fn nobody_is_skipped_while_others_change() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let ids = seed(&sandbox, json!({"count": 60, "prefix": "p"}));
    let mut seen = Vec::new();
    let mut next = Some(format!("{PROFILES}?sort=updated&page[size]=10"));
    let mut reads = 0;
    while let Some(link) = next {
        let page = api.get(&link).unwrap();
        seen.extend(rows(&page).iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        next = page.json()["links"].get("next").map(|link| link.as_str().unwrap().to_owned());
        reads += 1;
        if reads < 6 {
            // One that was read and the last of the page move to the end, and one goes that was read.
            let last = seen.last().unwrap();
            for id in [&seen[seen.len() - 5], last] {
                sandbox.control("PUT", &format!("profiles/{id}"), json!({"attributes": {"title": "Dr"}}));
            }
            let gone = &seen[seen.len() - 3];
            sandbox.control("DELETE", &format!("profiles/{gone}"), Value::Null);
        }
    }
    let distinct = BTreeSet::from_iter(&seen);
    assert_eq!(distinct, BTreeSet::from_iter(&ids));
    assert_eq!(seen.len(), 70, "those that moved come again");
}

#[test]
fn cursors_are_refused_that_are_none() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    seed(&sandbox, json!({"count": 3}));
    let first = api.get(&format!("{PROFILES}?sort=updated&page[size]=1")).unwrap().json();
    let next = first["links"]["next"].as_str().unwrap();
    assert_eq!(api.get(next).unwrap().status, 200);
    let cursor = next.split("cursor%5D=").nth(1).unwrap().split('&').next().unwrap();
    for (path, query) in [
        (PROFILES, "page[cursor]=1"),
        (PROFILES, "page[cursor]="),
        (PROFILES, "sort=updated&page[cursor]=5b5d"),
        (PROFILES, &format!("sort=-updated&page[cursor]={cursor}")),
        (EVENTS, &format!("sort=datetime&page[cursor]={cursor}")),
        (METRICS, "page[cursor]=x"),
        (LISTS, "page[cursor]=10"),
    ] {
        let refused = api.get(&format!("{path}?{query}")).unwrap();
        let parameter = &refused.error()["source"]["parameter"];
        assert_eq!((refused.status, parameter), (400, &json!("page[cursor]")), "{path} {query}");
    }
}

#[test]
fn subscriptions_are_shown_when_they_are_asked_for() {
    let sandbox = Sandbox::start(&["--rates", "off", "--job-queued", "0", "--job-processing", "0"]);
    let mut api = sandbox.api();
    let list = api.post(LISTS, &json!({"data": {"type": "list", "attributes": {"name": "News"}}})).unwrap();
    let list = list.json()["data"]["id"].as_str().unwrap().to_owned();
    let consent = |consent: &str| json!({"marketing": {"consent": consent}});
    let ada = |word: &str| {
        let subscriptions = json!({"email": consent(word), "sms": consent(word)});
        json!({"email": "ada@shop.example", "phone_number": "+15005550006", "subscriptions": subscriptions})
    };
    let bob = json!({"email": "bob@shop.example", "subscriptions": {"email": consent("SUBSCRIBED")}});
    let both = consents(SUBSCRIBE, &[ada("SUBSCRIBED"), bob], Some(&list));
    assert_eq!(api.post(SUBSCRIBE, &both).unwrap().status, 202);

    let asked = "additional-fields[profile]=subscriptions";
    let found = pages(&mut api, &format!("{PROFILES}?sort=email&{asked}")).concat();
    let of = |row: &Value| row["attributes"]["subscriptions"].clone();
    let email = of(&found[0])["email"]["marketing"].clone();
    assert_eq!(json!([email["can_receive_email_marketing"], email["consent"]]), json!([true, "SUBSCRIBED"]));
    assert!(email["consent_timestamp"].is_string());
    assert_eq!(json!([email["suppression"], email["list_suppressions"]]), json!([[], []]));
    let sms = of(&found[0])["sms"].clone();
    assert_eq!(sms["marketing"]["can_receive_sms_marketing"], true);
    assert_eq!(sms["transactional"]["consent"], "NEVER_SUBSCRIBED");
    assert_eq!(sms["transactional"]["consent_timestamp"], Value::Null);
    assert_eq!(of(&found[1])["sms"]["marketing"]["can_receive_sms_marketing"], false);
    let since = in_address(found[0]["attributes"]["updated"].as_str().unwrap());

    // From the list, then from all; and one is suppressed.
    let mut leave = ada("UNSUBSCRIBED");
    leave["subscriptions"] = json!({"email": consent("UNSUBSCRIBED")});
    assert_eq!(api.post(UNSUBSCRIBE, &consents(UNSUBSCRIBE, &[leave], Some(&list))).unwrap().status, 202);
    assert_eq!(
        api.post(UNSUBSCRIBE, &consents(UNSUBSCRIBE, &[ada("UNSUBSCRIBED")], None)).unwrap().status,
        202
    );
    let job = consents(SUPPRESS, &[json!({"email": "bob@shop.example"})], None);
    assert_eq!(api.post(SUPPRESS, &job).unwrap().status, 202);
    // All of it is a change of the profiles.
    let changed = format!("{PROFILES}?filter=greater-than(updated,{since})&sort=updated&{asked}");
    let found = until(|| Some(rows(&api.get(&changed).unwrap())).filter(|found| found.len() == 2));
    let email = of(&found[0])["email"]["marketing"].clone();
    assert_eq!(
        json!([email["can_receive_email_marketing"], email["consent"]]),
        json!([false, "UNSUBSCRIBED"])
    );
    let suppression = &email["suppression"][0];
    assert_eq!(suppression["reason"], "UNSUBSCRIBE");
    assert_eq!(suppression["timestamp"], email["consent_timestamp"]);
    assert_eq!(email["list_suppressions"][0]["list_id"], list);
    assert!(email["list_suppressions"][0]["timestamp"].is_string());
    let email = of(&found[1])["email"]["marketing"].clone();
    assert_eq!(json!([email["can_receive_email_marketing"], email["consent"]]), json!([false, "SUBSCRIBED"]));
    assert_eq!(email["suppression"][0]["reason"], "USER_SUPPRESSED");

    let id = found[0]["id"].as_str().unwrap();
    let one = api.get(&format!("{PROFILES}/{id}?{asked}")).unwrap().json();
    assert_eq!(of(&one["data"]), of(&found[0]));
    for (query, is_shown) in [
        ("", false),
        (&*format!("{asked}&fields[profile]=email"), false),
        ("fields[profile]=subscriptions", false),
        (&*format!("{asked}&fields[profile]=email,subscriptions"), true),
    ] {
        for path in [PROFILES.to_owned(), format!("{LISTS}/{list}/profiles")] {
            for row in rows(&api.get(&format!("{path}?{query}")).unwrap()) {
                assert_eq!(row["attributes"].get("subscriptions").is_some(), is_shown, "{path} {query}");
            }
        }
    }
}

#[test]
fn members_are_read_in_the_order_in_which_they_joined() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let list = api.post(LISTS, &json!({"data": {"type": "list", "attributes": {"name": "News"}}})).unwrap();
    let path = format!("{LISTS}/{}", list.json()["data"]["id"].as_str().unwrap());
    let ids = seed(&sandbox, json!({"count": 5, "prefix": "p"}));
    for id in ids.iter().rev() {
        let body = json!({"data": [{"type": "profile", "id": id}]});
        assert_eq!(api.post(&format!("{path}/relationships/profiles"), &body).unwrap().status, 204);
    }
    let path = format!("{path}/profiles");
    let found = pages(&mut api, &format!("{path}?sort=joined_group_at&page[size]=2"));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let found = found.concat();
    let expected = ["p-5", "p-4", "p-3", "p-2", "p-1"].map(|name| format!("{name}@shop.example"));
    assert_eq!(each(&found, "email"), expected);
    let times = each(&found, "joined_group_at");
    assert!(times.is_sorted(), "{times:?}");
    let newest_first = all(&mut api, &format!("{path}?sort=-joined_group_at&page[size]=2"), "email");
    assert_eq!(newest_first, expected.iter().rev().cloned().collect::<Vec<_>>());
    for (operator, expected) in [
        ("greater-than", &expected[3..]),
        ("greater-or-equal", &expected[2..]),
        ("less-than", &expected[..2]),
        ("less-or-equal", &expected[..3]),
    ] {
        let filter = format!("filter={operator}(joined_group_at,{})", in_address(&times[2]));
        assert_eq!(all(&mut api, &format!("{path}?{filter}"), "email"), expected, "{operator}");
    }
    let both = format!(
        "filter=any(email,[%22p-1@shop.example%22,%22p-4@shop.example%22]),greater-than(joined_group_at,{})",
        in_address(&times[2])
    );
    assert_eq!(all(&mut api, &format!("{path}?{both}"), "email"), [&*expected[4]]);
}

#[test]
fn seeds_are_checked() {
    let sandbox = Sandbox::start(&[]);
    let event = |change: fn(&mut Value)| {
        let mut body = json!({"metric": "M", "email": "a@shop.example", "count": 2});
        change(&mut body);
        sandbox.try_control("POST", "events", body).status
    };
    assert_eq!(event(|_| {}), 200);
    for wrong in [
        |body: &mut Value| body["email"] = json!("nobody"),
        |body| body["metric"] = json!(""),
        |body| body["count"] = json!(0),
        |body| body["count"] = json!(1_000_001),
        |body| body["start"] = json!("yesterday"),
        |body| body["start"] = json!("1980-01-01T00:00:00Z"),
        |body| body["step_seconds"] = json!(1e30),
        |body| body["step_seconds"] = json!(1e10),
        |body| body["unique_id"] = json!("x"),
    ] as [fn(&mut Value); 9]
    {
        assert_eq!(event(wrong), 400);
    }
    for wrong in [
        json!({"count": 1_000_001}),
        json!({"profiles": [{"email": "nobody"}]}),
        json!({"profiles": [{"email": "b@shop.example"}, {"vip": 1}]}),
        json!({"count": 1, "prefix": "a b"}),
        json!({"count": 1, "start": "today"}),
        json!([]),
    ] {
        assert_eq!(sandbox.try_control("POST", "profiles", wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(sandbox.counts(), (2, 1), "what is refused makes nothing");
    let start = json!({"count": 3, "prefix": "p", "start": "2026-01-01T00:00:00Z", "step_seconds": 0.5});
    seed(&sandbox, start);
    let found = rows(&sandbox.api().get(&format!("{PROFILES}?sort=updated&page[size]=3")).unwrap());
    let expected = ["00:00:00", "00:00:00.5", "00:00:01"].map(|time| format!("2026-01-01T{time}+00:00"));
    assert_eq!(each(&found, "updated"), expected);
    assert_eq!(each(&found, "created"), expected);
}
