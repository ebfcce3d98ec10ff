//! Lists, their members, and what can be read of profiles.

use serde_json::{Value, json};

use crate::client::{Answer, Connection, IMPORT, LISTS, PROFILES, Sandbox, profile};
use crate::pages::rows;

fn list(name: &str) -> Value {
    json!({"data": {"type": "list", "attributes": {"name": name}}})
}

fn create(api: &mut Connection, name: &str) -> String {
    let answer = api.post(LISTS, &list(name)).unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    id(&answer.json())
}

fn id(document: &Value) -> String {
    document["data"]["id"].as_str().unwrap().to_owned()
}

/// Profiles with these addresses, by their ids.
fn people(api: &mut Connection, names: &[&str]) -> Vec<String> {
    let import = |name: &&str| {
        let attributes = json!({"email": format!("{name}@example.com"), "external_id": name});
        id(&api.post(IMPORT, &profile(attributes)).unwrap().json())
    };
    names.iter().map(import).collect()
}

fn members(ids: &[String]) -> Value {
    let ids: Vec<Value> = ids.iter().map(|id| json!({"type": "profile", "id": id})).collect();
    json!({ "data": ids })
}

fn emails(answer: &Answer) -> Vec<Value> {
    rows(answer).iter().map(|row| row["attributes"]["email"].clone()).collect()
}

#[test]
fn a_list_is_created_renamed_and_deleted() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let created = api.post(LISTS, &list("News")).unwrap();
    assert_eq!((created.status, created.number("ratelimit-limit")), (201, 150));
    let path = format!("{LISTS}/{}", id(&created.json()));
    let attributes = &created.json()["data"]["attributes"];
    assert_eq!(json!([attributes["name"], attributes["opt_in_process"]]), json!(["News", "single_opt_in"]));
    let found = api.get(&path).unwrap();
    assert_eq!((found.status, found.number("ratelimit-limit")), (200, 750));
    assert_eq!(found.json()["data"], created.json()["data"]);
    let link = created.json()["data"]["relationships"]["profiles"]["links"]["related"].clone();
    assert!(link.as_str().unwrap().ends_with(&format!("{path}/profiles/")), "{link}");

    let mut change = list("Old news");
    change["data"]["id"] = json!(id(&created.json()));
    let changed = api.request("PATCH", &path, &change).unwrap();
    assert_eq!((changed.status, &changed.json()["data"]["attributes"]["name"]), (200, &json!("Old news")));
    change["data"]["id"] = json!("XXXXXX");
    assert_eq!(api.request("PATCH", &path, &change).unwrap().error()["source"]["pointer"], "/data/id");
    let bad = api.post(LISTS, &list("")).unwrap();
    assert_eq!((bad.status, &bad.error()["source"]["pointer"]), (400, &json!("/data/attributes/name")));

    let deleted = api.request("DELETE", &path, &Value::Null).unwrap();
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    for method in ["GET", "DELETE"] {
        let gone = api.request(method, &path, &Value::Null).unwrap();
        assert_eq!((gone.status, &gone.error()["code"]), (404, &json!("not_found")), "{method}");
    }
    assert_eq!(api.post(&path, &list("News")).unwrap().header("allow"), Some("GET, PATCH, DELETE"));
    assert_eq!(api.request("PUT", LISTS, &Value::Null).unwrap().header("allow"), Some("GET, POST"));
    assert_eq!(sandbox.get("lists")["lists"], json!([]));
}

#[test]
fn lists_are_found_by_name_page_by_page() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    for n in 0..23 {
        create(&mut api, &format!("List, \"{n}\""));
    }
    let mut pages = Vec::new();
    let mut next = Some(json!(LISTS));
    while let Some(link) = next {
        let page = api.get(link.as_str().unwrap()).unwrap();
        pages.push(rows(&page).len());
        assert!(pages.len() < 10, "the pages do not end: {pages:?}");
        next = page.json()["links"].get("next").cloned();
    }
    assert_eq!(pages, [10, 10, 3]);
    let names = |answer: &Answer| -> Vec<Value> {
        rows(answer).iter().map(|row| row["attributes"]["name"].clone()).collect()
    };
    let one = api.get(&format!("{LISTS}?filter=equals(name,%22List,%20%5C%227%5C%22%22)")).unwrap();
    assert_eq!(names(&one), ["List, \"7\""]);
    let any = format!(
        "{LISTS}?page[size]=1&filter=any(name,[%27List,%20%227%22%27,%27List,%20%222%22%27,%27x%27])"
    );
    let first = api.get(&any).unwrap();
    assert_eq!(names(&first), ["List, \"2\""]);
    // The link to the other page keeps the filter.
    let second = api.get(first.json()["links"]["next"].as_str().unwrap()).unwrap();
    assert_eq!(names(&second), ["List, \"7\""]);
    assert_eq!(second.json()["links"].get("next"), None);
    for (query, parameter) in [
        ("page[size]=11", "page[size]"),
        ("filter=contains(name,%22x%22)", "filter"),
        ("filter=equals(name,x)", "filter"),
        ("include=tags", "include"),
    ] {
        let refused = api.get(&format!("{LISTS}?{query}")).unwrap();
        assert_eq!(
            (refused.status, &refused.error()["source"]["parameter"]),
            (400, &json!(parameter)),
            "{query}"
        );
    }
}

#[test]
fn members_are_put_on_read_and_taken_off() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    let list = create(&mut api, "News");
    let ids = people(&mut api, &["a", "b", "c"]);
    let (path, relationships) =
        (format!("{LISTS}/{list}/profiles"), format!("{LISTS}/{list}/relationships/profiles"));
    for id in &ids {
        let added = api.post(&relationships, &members(std::slice::from_ref(id))).unwrap();
        assert_eq!((added.status, added.body.len()), (204, 0));
    }
    let all = api.get(&path).unwrap();
    assert_eq!(emails(&all), ["a@example.com", "b@example.com", "c@example.com"]);
    assert!(rows(&all)[0]["attributes"]["joined_group_at"].is_string());
    for (query, expected) in [
        (
            "filter=any(email,[%22B@Example.com%22,%22c@example.com%22,%22x@example.com%22])",
            &["b@example.com", "c@example.com"][..],
        ),
        ("filter=equals(email,%22a@example.com%22)", &["a@example.com"]),
        ("filter=any(phone_number,[%22%2B15005550006%22])", &[]),
    ] {
        assert_eq!(emails(&api.get(&format!("{path}?{query}")).unwrap()), expected, "{query}");
    }
    let first = api.get(&format!("{path}?page[size]=2")).unwrap();
    assert_eq!(emails(&first), ["a@example.com", "b@example.com"]);
    let second = api.get(first.json()["links"]["next"].as_str().unwrap()).unwrap();
    assert_eq!((emails(&second), second.json()["links"].get("next")), (vec![json!("c@example.com")], None));
    let narrow = api.get(&format!("{path}?fields[profile]=email,id&page[size]=1")).unwrap();
    assert_eq!(rows(&narrow)[0]["attributes"], json!({"email": "a@example.com"}));
    assert_eq!(rows(&narrow)[0]["id"], json!(ids[0]));

    assert_eq!(api.request("DELETE", &relationships, &members(&ids[..1])).unwrap().status, 204);
    assert_eq!(emails(&api.get(&path).unwrap()), ["b@example.com", "c@example.com"]);
    let lists = sandbox.get("lists")["lists"].clone();
    assert_eq!(lists, json!([{"id": list, "name": "News", "members": ids[1..]}]));
    assert_eq!(sandbox.get("profiles")["profiles"][1]["lists"], json!([list]));
    assert_eq!(sandbox.get("profiles")["profiles"][1]["subscriptions"]["email"], "NEVER_SUBSCRIBED");
    assert_eq!(sandbox.get("consents")["consents"], json!([]));

    let unknown = [ids[0].clone(), "01UNKNOWN".to_owned()];
    for method in ["POST", "DELETE"] {
        let refused = api.request(method, &relationships, &members(&unknown)).unwrap();
        assert_eq!((refused.status, &refused.error()["source"]["pointer"]), (404, &json!("/data/1/id")));
        let many = members(&vec![ids[0].clone(); 1_001]);
        assert_eq!(api.request(method, &relationships, &many).unwrap().status, 400);
    }
    assert_eq!(emails(&api.get(&path).unwrap()), ["b@example.com", "c@example.com"], "nothing was done");
    let nowhere = format!("{LISTS}/XXXXXX/relationships/profiles");
    assert_eq!(api.post(&nowhere, &members(&ids)).unwrap().status, 404);
    assert_eq!(api.get(&format!("{LISTS}/XXXXXX/profiles")).unwrap().status, 404);
}

#[test]
fn profiles_are_found_by_their_identifiers() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let ids = people(&mut api, &["a", "b", "c"]);
    assert_eq!(emails(&api.get(PROFILES).unwrap()).len(), 3);
    for (query, expected) in [
        (format!("filter=any(id,[%22{}%22,%2201UNKNOWN%22])", ids[1]), &["b@example.com"][..]),
        ("filter=any(external_id,[%22c%22,%22a%22])".to_owned(), &["a@example.com", "c@example.com"]),
        ("filter=equals(email,%22A@example.com%22)".to_owned(), &["a@example.com"]),
        ("filter=equals(phone_number,%22%2B15005550006%22)".to_owned(), &[]),
    ] {
        assert_eq!(emails(&api.get(&format!("{PROFILES}?{query}")).unwrap()), expected, "{query}");
    }
    let one = api.get(&format!("{PROFILES}/{}?fields[profile]=external_id", ids[2])).unwrap();
    assert_eq!((one.status, one.number("ratelimit-limit")), (200, 750));
    assert_eq!(one.json()["data"]["attributes"], json!({"external_id": "c"}));
    let unknown = api.get(&format!("{PROFILES}/01UNKNOWN")).unwrap();
    assert_eq!((unknown.status, &unknown.error()["code"]), (404, &json!("not_found")));
    let refused = api.get(&format!("{PROFILES}?filter=equals(title,%22x%22)")).unwrap();
    assert_eq!((refused.status, &refused.error()["source"]["parameter"]), (400, &json!("filter")));
    assert_eq!(api.post(PROFILES, &json!({})).unwrap().header("allow"), Some("GET"));
}
