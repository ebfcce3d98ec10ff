//! Items, variants and categories, one by one and by jobs.

use serde_json::{Value, json};

use crate::client::{
    Answer, CATEGORIES, Connection, ITEMS, Sandbox, VARIANTS, batch, batch_errors, done_batch,
};

const KINDS: [(&str, &str); 3] = [(ITEMS, "item"), (VARIANTS, "variant"), (CATEGORIES, "category")];
const AT_ONCE: [&str; 6] = ["--rates", "off", "--job-queued", "0", "--job-processing", "0"];

fn id(external_id: &str) -> String {
    format!("$custom:::$default:::{external_id}")
}

fn one(kind: &str, external_id: &str) -> Value {
    json!({"type": format!("catalog-{kind}"), "id": id(external_id)})
}

/// A new thing; a variant is one of the item `i`.
fn new(kind: &str, external_id: &str) -> Value {
    let attributes = match kind {
        "category" => json!({"external_id": external_id, "name": "Shirts"}),
        "item" => {
            json!({"external_id": external_id, "title": "Shirt", "description": "Blue", "url": "https://s.example"})
        }
        _ => {
            json!({"external_id": external_id, "title": "Shirt", "description": "Blue", "url": "https://s.example",
            "sku": "S", "inventory_quantity": 3, "price": 9.99})
        }
    };
    let mut thing = json!({"type": format!("catalog-{kind}"), "attributes": attributes});
    if kind == "variant" {
        thing["relationships"] = json!({"item": {"data": one("item", "i")}});
    }
    thing
}

/// A change of a thing's attributes.
fn change(kind: &str, external_id: &str, attributes: &Value) -> Value {
    let mut thing = one(kind, external_id);
    thing["attributes"] = attributes.clone();
    thing
}

fn data(thing: &Value) -> Value {
    json!({ "data": thing })
}

fn create(api: &mut Connection, path: &str, thing: &Value) {
    let answer = api.post(path, &data(thing)).unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// The status, the code and the pointer of a refusal.
fn refusal(answer: &Answer) -> Value {
    let error = answer.error();
    json!([answer.status, error["code"], error["source"]["pointer"]])
}

fn jobs(kind: &str, act: &str) -> String {
    format!("/api/catalog-{kind}-bulk-{act}-jobs")
}

/// The attribute that a kind is named by.
fn name(kind: &str) -> &'static str {
    if kind == "category" { "name" } else { "title" }
}

#[test]
fn a_thing_is_created_changed_and_deleted() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    create(&mut api, ITEMS, &new("item", "i"));
    for (path, kind) in KINDS {
        let created = api.post(path, &data(&new(kind, "7 b/ü"))).unwrap();
        assert_eq!((created.status, created.number("ratelimit-limit")), (201, 750), "{kind}");
        let resource = created.json()["data"].clone();
        assert_eq!(resource["id"], id("7 b/ü"));
        assert_eq!(resource["attributes"]["external_id"], "7 b/ü");
        assert_eq!(resource["attributes"].get("created").is_some(), kind != "category", "{kind}");
        assert_eq!(resource["attributes"].get("published").is_some(), kind != "category", "{kind}");
        let link = resource["links"]["self"].as_str().unwrap().trim_end_matches('/').to_owned();
        let found = api.get(&link).unwrap();
        assert_eq!((found.status, found.number("ratelimit-limit")), (200, 3_500), "{kind}");
        assert_eq!(found.json(), created.json());
        let taken = api.post(path, &data(&new(kind, "7 b/ü"))).unwrap();
        assert_eq!(refusal(&taken), json!([409, "duplicate", "/data/attributes/external_id"]), "{kind}");

        let at = &link[link.find("/api/").unwrap()..];
        let body = data(&change(kind, "7 b/ü", &json!({name(kind): "Old"})));
        let changed = api.request("PATCH", at, &body).unwrap();
        assert_eq!((changed.status, changed.number("ratelimit-limit")), (200, 750), "{kind}");
        assert_eq!(changed.json()["data"]["attributes"][name(kind)], "Old");
        let body = data(&change(kind, "8", &json!({})));
        assert_eq!(refusal(&api.request("PATCH", at, &body).unwrap()), json!([400, "invalid", "/data/id"]));
        let nobody = format!("{path}/{}", id("8"));
        assert_eq!(
            refusal(&api.request("PATCH", &nobody, &body).unwrap()),
            json!([404, "not_found", "/data/id"])
        );

        let deleted = api.request("DELETE", at, &Value::Null).unwrap();
        assert_eq!((deleted.status, deleted.body.len()), (204, 0), "{kind}");
        for method in ["GET", "DELETE"] {
            let gone = api.request(method, at, &Value::Null).unwrap();
            assert_eq!(refusal(&gone), json!([404, "not_found", "/data"]), "{method} {kind}");
        }
        assert_eq!(api.post(at, &body).unwrap().header("allow"), Some("GET, PATCH, DELETE"));
        assert_eq!(api.request("PUT", path, &Value::Null).unwrap().header("allow"), Some("GET, POST"));
        assert_eq!(api.get(&format!("{nobody}?include=variants")).unwrap().status, 400);
    }
}

#[test]
fn a_change_of_one_attribute_leaves_the_others() {
    let sandbox = Sandbox::start(&[]);
    let mut api = sandbox.api();
    let mut item = new("item", "i");
    item["attributes"]["price"] = json!(42);
    item["attributes"]["images"] = json!(["https://s.example/1"]);
    create(&mut api, ITEMS, &item);
    let body = data(&change("item", "i", &json!({"price": null, "custom_metadata": {"top": true}})));
    let changed = api.request("PATCH", &format!("{ITEMS}/{}", id("i")), &body).unwrap();
    let attributes = changed.json()["data"]["attributes"].clone();
    assert_eq!(
        json!([
            attributes["title"],
            attributes["price"],
            attributes["images"],
            attributes["custom_metadata"]
        ]),
        json!(["Shirt", null, ["https://s.example/1"], {"top": true}])
    );
    let bad = data(&change("item", "i", &json!({"price": "42", "color": "blue"})));
    let answer = api.request("PATCH", &format!("{ITEMS}/{}", id("i")), &bad).unwrap();
    assert_eq!((answer.status, answer.json()["errors"].as_array().unwrap().len()), (400, 2));
    assert_eq!(sandbox.get("catalog")["items"][0]["writes"], 2);
}

#[test]
fn things_belong_together() {
    let sandbox = Sandbox::start(&["--rates", "off"]);
    let mut api = sandbox.api();
    create(&mut api, CATEGORIES, &new("category", "c1"));
    create(&mut api, CATEGORIES, &new("category", "c2"));
    let mut item = new("item", "i");
    let categories = |ids: &[&str]| {
        let ids: Vec<Value> = ids.iter().map(|id| one("category", id)).collect();
        json!({"categories": {"data": ids}})
    };
    item["relationships"] = categories(&["c1", "c3"]);
    let refused = api.post(ITEMS, &data(&item)).unwrap();
    assert_eq!(refusal(&refused), json!([404, "not_found", "/data/relationships/categories/data/1/id"]));
    item["relationships"] = categories(&["c1"]);
    create(&mut api, ITEMS, &item);
    let variant = api.post(VARIANTS, &data(&new("variant", "v"))).unwrap();
    assert_eq!(variant.json()["data"]["relationships"]["item"]["data"], one("item", "i"));
    let mut stray = new("variant", "w");
    stray["relationships"]["item"]["data"] = one("item", "j");
    let refused = api.post(VARIANTS, &data(&stray)).unwrap();
    assert_eq!(refusal(&refused), json!([404, "not_found", "/data/relationships/item/data/id"]));
    let shown = || {
        let catalog = sandbox.get("catalog");
        let item = &catalog["items"][0];
        json!([
            item["variants"],
            item["categories"],
            catalog["categories"][1]["items"],
            catalog["variants"][0]["item"]
        ])
    };
    assert_eq!(shown(), json!([[id("v")], [id("c1")], [], id("i")]));

    let mut moved = change("item", "i", &json!({}));
    let at = format!("{ITEMS}/{}", id("i"));
    moved["relationships"] = categories(&["c2"]);
    assert_eq!(api.request("PATCH", &at, &data(&moved)).unwrap().status, 200);
    assert_eq!(shown(), json!([[id("v")], [id("c2")], [id("i")], id("i")]));
    assert_eq!(api.request("PATCH", &at, &data(&change("item", "i", &json!({})))).unwrap().status, 200);
    assert_eq!(shown(), json!([[id("v")], [id("c2")], [id("i")], id("i")]), "nothing was said of categories");
    let mut emptied = change("category", "c2", &json!({}));
    emptied["relationships"] = json!({"items": {"data": []}});
    let path = format!("{CATEGORIES}/{}", id("c2"));
    assert_eq!(api.request("PATCH", &path, &data(&emptied)).unwrap().status, 200);
    assert_eq!(shown(), json!([[id("v")], [], [], id("i")]));
    emptied["relationships"] = json!({"items": {"data": [one("item", "j")]}});
    let refused = api.request("PATCH", &path, &data(&emptied)).unwrap();
    assert_eq!(refusal(&refused), json!([404, "not_found", "/data/relationships/items/data/0/id"]));

    assert_eq!(api.request("DELETE", &at, &Value::Null).unwrap().status, 204);
    let catalog = sandbox.get("catalog");
    assert_eq!(
        (&catalog["items"], &catalog["variants"]),
        (&json!([]), &json!([])),
        "its variants go with it"
    );
    assert_eq!(catalog["categories"].as_array().unwrap().len(), 2);
    sandbox.control("POST", "reset", Value::Null);
    assert_eq!(sandbox.get("catalog"), json!({"items": [], "variants": [], "categories": []}));
}

#[test]
fn things_are_listed_page_by_page_and_by_their_ids() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    create(&mut api, ITEMS, &new("item", "i"));
    for (path, kind) in KINDS {
        for hundred in [0, 100, 200] {
            let count = if hundred == 200 { 3 } else { 100 };
            let entries = (hundred..hundred + count).map(|n| new(kind, &format!("n{n}")));
            assert_eq!(done_batch(&mut api, &jobs(kind, "create"), entries)["completed_count"], count);
        }
        let mut found = Vec::new();
        let mut next = Some(json!(path));
        while let Some(link) = next {
            let page = api.get(link.as_str().unwrap()).unwrap();
            assert_eq!(page.status, 200, "{page:?}");
            found.push(page.json()["data"].as_array().unwrap().clone());
            assert!(found.len() < 10, "the pages do not end");
            next = page.json()["links"].get("next").cloned();
        }
        let more = usize::from(kind == "item");
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 3 + more]);
        let (first, last) = (&found[0][more], found[2].last().unwrap());
        assert_eq!((&first["id"], &last["id"]), (&json!(id("n0")), &json!(id("n202"))));
        let filter = format!("filter=any(ids,[%22{}%22,%27{}%27,%22x%22])", id("n202"), id("n7"));
        let some = api.get(&format!("{path}?page[size]=1&{filter}")).unwrap().json();
        assert_eq!(some["data"][0]["id"], id("n7"));
        let next = api.get(some["links"]["next"].as_str().unwrap()).unwrap().json();
        assert_eq!((&next["data"][0]["id"], next["links"].get("next")), (&json!(id("n202")), None));
        for (query, parameter) in [
            ("page[size]=101", "page[size]"),
            ("filter=equals(ids,%22x%22)", "filter"),
            ("filter=contains(title,%22x%22)", "filter"),
            ("sort=created", "sort"),
        ] {
            let refused = api.get(&format!("{path}?{query}")).unwrap();
            assert_eq!((refused.status, &refused.error()["source"]["parameter"]), (400, &json!(parameter)));
        }
    }
}

#[test]
fn a_job_does_what_it_can() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    create(&mut api, ITEMS, &new("item", "i"));
    for (path, kind) in KINDS {
        create(&mut api, path, &new(kind, "old"));
        let mut stray = new(kind, "stray");
        let (relationship, part) = match kind {
            "item" => (json!({"categories": {"data": [one("category", "x")]}}), "categories/data/0/id"),
            "variant" => (json!({"item": {"data": one("item", "x")}}), "item/data/id"),
            _ => (json!({"items": {"data": [one("item", "i"), one("item", "x")]}}), "items/data/1/id"),
        };
        stray["relationships"] = relationship;
        let entries = [new(kind, "a"), new(kind, "old"), stray, new(kind, "a"), new(kind, "b")];
        let job = done_batch(&mut api, &jobs(kind, "create"), entries);
        assert_eq!(json!([job["total_count"], job["completed_count"]]), json!([5, 2]));
        assert_eq!(
            batch_errors(&job),
            [
                json!(["duplicate", "1/attributes/external_id"]),
                json!(["not_found", format!("2/relationships/{part}")]),
                json!(["duplicate", "3/attributes/external_id"]),
            ]
        );

        let attributes = json!({name(kind): "New"});
        let entries = [change(kind, "x", &attributes), change(kind, "a", &attributes)];
        let job = done_batch(&mut api, &jobs(kind, "update"), entries);
        assert_eq!(
            (&job["completed_count"], batch_errors(&job)),
            (&json!(1), vec![json!(["not_found", "0/id"])])
        );
        let shown = api.get(&format!("{path}/{}", id("a"))).unwrap().json();
        assert_eq!(shown["data"]["attributes"][name(kind)], "New");

        let entries = [one(kind, "a"), one(kind, "x"), one(kind, "a"), one(kind, "old")];
        let job = done_batch(&mut api, &jobs(kind, "delete"), entries);
        assert_eq!(job["completed_count"], 2);
        assert_eq!(batch_errors(&job), [json!(["not_found", "1/id"]), json!(["not_found", "2/id"])]);
        assert_eq!(api.get(&format!("{path}/{}", id("a"))).unwrap().status, 404);
        assert_eq!(api.get(&format!("{path}/{}", id("b"))).unwrap().status, 200);
    }
}

#[test]
fn what_a_fault_refuses_fails_alone() {
    let sandbox = Sandbox::start(&AT_ONCE);
    let mut api = sandbox.api();
    sandbox.faults(json!([{"kind": "refuse", "match": "odd", "code": "odd", "detail": "No."}]));
    let path = jobs("item", "create");
    let job = done_batch(&mut api, &path, [new("item", "a"), new("item", "odd"), new("item", "b")]);
    assert_eq!(job["completed_count"], 2);
    let error = &job["errors"][0];
    assert_eq!(
        json!([error["code"], error["title"], error["detail"], error["source"]]),
        json!(["odd", "Invalid input.", "No.", {"pointer": "/data/attributes/items/data/1"}])
    );
    let last = sandbox.get("receipts")["receipts"][0].clone();
    assert_eq!((&last["fault"], &last["accepted"]), (&json!("refuse"), &json!(true)));
    assert_eq!(refusal(&api.post(ITEMS, &data(&new("item", "odd"))).unwrap()), json!([400, "odd", "/data"]));
}

#[test]
fn a_job_goes_through_its_states() {
    // As slow as an hour, so that each state lasts until it is told to end.
    let sandbox = Sandbox::start(&["--job-queued", "3600000", "--job-processing", "3600000"]);
    let mut api = sandbox.api();
    let path = jobs("item", "create");
    let answer = api.post(&path, &batch(&path, [new("item", "a"), new("item", "b")])).unwrap();
    assert_eq!((answer.status, answer.number("ratelimit-limit")), (202, 750));
    let document = answer.json();
    assert_eq!(document["data"]["type"], "catalog-item-bulk-create-job");
    let job = document["data"]["links"]["self"].as_str().unwrap();
    for (setting, status, done) in [
        (json!({}), "queued", 0),
        (json!({"queued_ms": 0}), "processing", 0),
        (json!({"processing_ms": 0}), "complete", 2),
    ] {
        sandbox.control("PUT", "bulk", setting);
        let of = api.get(job).unwrap().json()["data"]["attributes"].clone();
        assert_eq!(json!([of["status"], of["completed_count"]]), json!([status, done]));
        assert_eq!(of["completed_at"].is_string(), status == "complete");
    }
    let other = job.replace("create", "update");
    assert_eq!(api.get(&other).unwrap().status, 404, "a job has one path");
    assert_eq!(api.get(&format!("{job}?include=items")).unwrap().status, 400);
    assert_eq!(
        api.post(&job[job.find("/api/").unwrap()..], &json!({})).unwrap().header("allow"),
        Some("GET")
    );
}

#[test]
fn a_job_has_limits() {
    let sandbox = Sandbox::start(&["--rates", "off", "--job-queued", "3600000"]);
    let mut api = sandbox.api();
    type Entry = fn(&str, &str) -> Value;
    let changed: Entry = |kind, external_id| change(kind, external_id, &json!({}));
    let acts = [("create", new as Entry), ("update", changed), ("delete", one)];
    for (_, kind) in KINDS {
        for (act, entry) in acts {
            let path = jobs(kind, act);
            let many = |count: usize| batch(&path, (0..count).map(|n| entry(kind, &n.to_string())));
            assert_eq!(api.post(&path, &many(100)).unwrap().status, 202, "{path}");
            for count in [0, 101] {
                let refused = api.post(&path, &many(count)).unwrap();
                assert_eq!(refused.status, 400, "{count} {path}");
                assert!(refused.error()["source"]["pointer"].as_str().unwrap().ends_with("/data"), "{path}");
            }
            let mut bad = entry(kind, "7");
            bad["lists"] = json!([]);
            let refused = api.post(&path, &batch(&path, [entry(kind, "7"), bad])).unwrap();
            assert_eq!(refused.status, 400, "{path}");
            assert!(
                refused.error()["source"]["pointer"].as_str().unwrap().ends_with("/data/1/lists"),
                "{path}"
            );
        }
    }
    let path = jobs("item", "create");
    let large = |length: usize| {
        let mut item = new("item", "7");
        item["attributes"]["description"] = json!("x".repeat(length));
        batch(&path, [item])
    };
    let rest = 5_000_000 - large(0).to_string().len();
    assert_eq!(api.post(&path, &large(rest + 1)).unwrap().status, 413);
    assert_eq!(api.post(&path, &large(rest)).unwrap().status, 202);
    // Of the 500 that may be under way there are ten.
    for _ in 10..500 {
        assert_eq!(api.post(&path, &large(0)).unwrap().status, 202);
    }
    assert_eq!(refusal(&api.post(&path, &large(0)).unwrap()), json!([409, "too_many_jobs", "/data"]));
    let other = jobs("category", "delete");
    assert_eq!(api.post(&other, &batch(&other, [one("category", "7")])).unwrap().status, 409);
    sandbox.control("PUT", "bulk", json!({"queued_ms": 0, "processing_ms": 0}));
    assert_eq!(api.post(&path, &large(0)).unwrap().status, 202);
}

#[test]
fn it_is_told_which_jobs_there_are() {
    let sandbox = Sandbox::start(&["--rates", "off", "--job-queued", "60000", "--job-processing", "0"]);
    let mut api = sandbox.api();
    let path = "/api/catalog-category-bulk-create-jobs";
    let made: Vec<Value> = (0..101)
        .map(|n| {
            let answer = api.post(path, &batch(path, [new("category", &n.to_string())])).unwrap();
            assert_eq!(answer.status, 202, "{answer:?}");
            answer.json()["data"]["id"].clone()
        })
        .collect();
    let ids = |api: &mut Connection, query: &str| -> Vec<Value> {
        let answer = api.get(&format!("{path}{query}")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect()
    };
    let queued = ids(&mut api, "?filter=equals(status,%22queued%22)");
    assert_eq!(queued.len(), 100, "a page");
    assert_eq!(queued[0], made[100], "the latest first");
    let next = ids(&mut api, "?filter=equals(status,%22queued%22)&page[cursor]=100");
    assert_eq!(next, [made[0].clone()]);
    assert!(ids(&mut api, "?filter=equals(status,%22processing%22)").is_empty());
    assert_eq!(ids(&mut api, "").len(), 100, "of all");
    for wrong in ["?filter=any(status,[%22queued%22])", "?filter=equals(id,%221%22)", "?page[size]=5", "?x=1"]
    {
        assert_eq!(api.get(&format!("{path}{wrong}")).unwrap().status, 400, "{wrong}");
    }
    let others = api.get("/api/catalog-item-bulk-create-jobs").unwrap().json();
    assert_eq!(others["data"], json!([]));
}
