//! Segments and flows, which only are read, and the orders of lists.

use serde_json::{Value, json};

use crate::client::{FLOWS, LISTS, SEGMENTS, Sandbox};
use crate::pages::{all, each, pages, rows};

fn make(sandbox: &Sandbox, path: &str, body: Value) -> String {
    sandbox.control("POST", path, body)["id"].as_str().unwrap().to_owned()
}

#[test]
fn segments_are_found_and_read_page_by_page() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    for n in 0..12 {
        make(&sandbox, "segments", json!({"name": format!("S{n:02}"), "is_active": n % 2 == 0}));
    }
    let found = pages(&mut api, SEGMENTS);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
    let names: Vec<String> = (0..12).map(|n| format!("S{n:02}")).collect();
    assert_eq!(each(&found.concat(), "name"), names);
    let times = each(&found.concat(), "created");
    let backwards: Vec<String> = names.iter().rev().cloned().collect();
    for (query, expected) in [
        ("sort=-name&page[size]=5".to_owned(), &backwards[..]),
        ("sort=updated&page[size]=5".to_owned(), &names),
        ("filter=equals(name,%22S03%22)".to_owned(), &names[3..4]),
        ("filter=any(name,[%22S03%22,%22S04%22,%22x%22])".to_owned(), &names[3..5]),
        (format!("filter=any(id,[%22{}%22])", found[1][0]["id"].as_str().unwrap()), &names[10..11]),
        (format!("filter=greater-than(created,{})", times[9].replace('+', "%2B")), &names[10..]),
        ("filter=equals(is_active,false),equals(name,%22S01%22)".to_owned(), &names[1..2]),
        ("filter=equals(is_starred,true)".to_owned(), &[]),
    ] {
        assert_eq!(all(&mut api, &format!("{SEGMENTS}?{query}"), "name"), expected, "{query}");
    }
    let path = format!("{SEGMENTS}/{}", found[0][1]["id"].as_str().unwrap());
    let one = api.get(&path).unwrap();
    assert_eq!(one.json()["data"], found[0][1]);
    assert_eq!(one.json()["data"]["attributes"]["is_active"], false);
    let narrow = api.get(&format!("{path}?fields[segment]=name")).unwrap().json();
    assert_eq!(narrow["data"]["attributes"], json!({"name": "S01"}));
    assert_eq!(api.post(SEGMENTS, &json!({})).unwrap().header("allow"), Some("GET"));
}

#[test]
fn segments_have_members_and_lose_them() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let made = sandbox.control("POST", "profiles", json!({"count": 4, "prefix": "p"}));
    let email = |n: usize| format!("p-{n}@shop.example");
    let id = make(&sandbox, "segments", json!({"name": "Buyers"}));
    let fill = |emails: &[String]| {
        let body = json!({ "emails": emails });
        sandbox.try_control("PUT", &format!("segments/{id}/members"), body)
    };
    let path = format!("{SEGMENTS}/{id}/profiles");
    assert_eq!(rows(&api.get(&path).unwrap()), [Value::Null; 0]);
    assert_eq!(fill(&[email(2)]).status, 200);
    assert_eq!(fill(&[email(2), email(1)]).status, 200);
    assert_eq!(fill(&[email(2), email(4), email(1)]).status, 200);
    let refused = fill(&["nobody@shop.example".to_owned()]);
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("nobody@shop.example"));

    let found = pages(&mut api, &format!("{path}?sort=joined_group_at&page[size]=1")).concat();
    assert_eq!(each(&found, "email"), [email(2), email(1), email(4)]);
    let since = each(&found, "joined_group_at")[0].replace('+', "%2B");
    let id_of_4 = made["ids"][3].as_str().unwrap();
    for (query, expected) in [
        ("sort=-joined_group_at".to_owned(), &[email(4), email(1), email(2)][..]),
        (format!("filter=greater-than(joined_group_at,{since})"), &[email(1), email(4)]),
        (format!("filter=less-or-equal(joined_group_at,{since})"), &[email(2)]),
        (format!("filter=any(profile_id,[%22{id_of_4}%22,%22x%22])"), &[email(4)]),
        ("filter=equals(email,%22P-1@shop.example%22)".to_owned(), &[email(1)]),
        ("filter=equals(email,%22p-3@shop.example%22)".to_owned(), &[]),
    ] {
        assert_eq!(all(&mut api, &format!("{path}?{query}"), "email"), expected, "{query}");
    }
    let asked = rows(&api.get(&format!("{path}?additional-fields[profile]=subscriptions")).unwrap());
    assert_eq!(asked[0]["attributes"]["subscriptions"]["email"]["marketing"]["consent"], "NEVER_SUBSCRIBED");

    let ids = [&made["ids"][0], &made["ids"][1], &made["ids"][3]];
    let view = json!([{"id": id, "name": "Buyers", "is_active": true, "members": ids}]);
    assert_eq!(sandbox.get("segments")["segments"], view);
    sandbox.control("DELETE", &format!("segments/{id}"), Value::Null);
    assert_eq!(sandbox.try_control("DELETE", &format!("segments/{id}"), Value::Null).status, 404);
    assert_eq!(fill(&[]).status, 404);
    for gone in [path, format!("{SEGMENTS}/{id}")] {
        let answer = api.get(&gone).unwrap();
        assert_eq!((answer.status, &answer.error()["code"]), (404, &json!("not_found")));
    }
    assert_eq!(sandbox.try_control("POST", "segments", json!({"title": "x"})).status, 400);
}

#[test]
fn flows_are_read_page_by_page() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let flow = |name: &str| json!({"name": name, "status": "live", "trigger_type": "Metric"});
    let ids: Vec<String> = (0..52).map(|n| make(&sandbox, "flows", flow(&format!("F{n:02}")))).collect();
    let found = pages(&mut api, FLOWS);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [50, 2]);
    let names: Vec<String> = (0..52).map(|n| format!("F{n:02}")).collect();
    assert_eq!(each(&found.concat(), "name"), names);
    let backwards: Vec<String> = names.iter().rev().cloned().collect();
    assert_eq!(all(&mut api, &format!("{FLOWS}?sort=-name&page[size]=20"), "name"), backwards);
    make(&sandbox, "flows", json!({"name": "Hello", "status": "draft", "trigger_type": "Added to List"}));
    for (filter, count) in [
        ("equals(status,%22draft%22)", 1),
        ("equals(trigger_type,%22Metric%22)", 52),
        ("contains(name,%22f0%22)", 10),
        ("equals(archived,true)", 0),
        (&*format!("any(id,[%22{}%22])", ids[7]), 1),
        ("less-than(created,2026-01-01T00:00:00Z)", 0),
    ] {
        assert_eq!(pages(&mut api, &format!("{FLOWS}?filter={filter}")).concat().len(), count, "{filter}");
    }
    let one = api.get(&format!("{FLOWS}/{}", ids[7])).unwrap();
    let attributes = &one.json()["data"]["attributes"];
    assert_eq!(
        json!([attributes["name"], attributes["status"], attributes["trigger_type"]]),
        json!(["F07", "live", "Metric"])
    );
    assert_eq!(api.get(&format!("{FLOWS}/XXXXXX")).unwrap().status, 404);
    for wrong in [json!({"name": "x", "status": "on", "trigger_type": "Metric"}), json!({"name": "x"})] {
        assert_eq!(sandbox.try_control("POST", "flows", wrong).status, 400);
    }
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(rows(&api.get(FLOWS).unwrap()), [Value::Null; 0]);
}

#[test]
fn limits_are_counted_by_the_call() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    for (path, limit) in [(SEGMENTS, 750), (FLOWS, 60), ("/api/metrics", 150), ("/api/events", 3_500)] {
        assert_eq!(api.get(path).unwrap().number("ratelimit-limit"), limit, "{path}");
    }
}

#[test]
fn lists_are_sorted() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let mut made = Vec::new();
    for name in ["b", "c", "a"] {
        let body = json!({"data": {"type": "list", "attributes": {"name": name}}});
        made.push(api.post(LISTS, &body).unwrap().json()["data"].clone());
    }
    let change = json!({"data": {"type": "list", "id": made[0]["id"], "attributes": {"name": "b"}}});
    let path = format!("{LISTS}/{}", made[0]["id"].as_str().unwrap());
    assert_eq!(api.request("PATCH", &path, &change).unwrap().status, 200);
    for (sort, expected) in [
        ("created", ["b", "c", "a"]),
        ("-created", ["a", "c", "b"]),
        ("updated", ["c", "a", "b"]),
        ("name", ["a", "b", "c"]),
        ("-name", ["c", "b", "a"]),
    ] {
        assert_eq!(all(&mut api, &format!("{LISTS}?sort={sort}&page[size]=2"), "name"), expected, "{sort}");
    }
    let mut ids: Vec<&str> = made.iter().map(|list| list["id"].as_str().unwrap()).collect();
    ids.sort();
    let found = pages(&mut api, &format!("{LISTS}?sort=id&page[size]=1")).concat();
    assert_eq!(found.iter().map(|list| list["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    let since = made[1]["attributes"]["created"].as_str().unwrap().replace('+', "%2B");
    assert_eq!(all(&mut api, &format!("{LISTS}?filter=greater-than(created,{since})"), "name"), ["a"]);
    assert_eq!(
        all(&mut api, &format!("{LISTS}?filter=greater-than(updated,{since})&sort=name"), "name"),
        ["a", "b"]
    );
}
