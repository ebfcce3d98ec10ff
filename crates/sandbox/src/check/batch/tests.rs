use jiff::Timestamp;
use serde_json::{Value, json};

use crate::catalog::{Act, Kind};
use crate::check;
use crate::work::Work;

fn checked(work: Work, entries: Value, change: impl FnOnce(&mut Value)) -> Result<usize, Vec<String>> {
    let attributes = json!({work.entries(): {"data": entries}});
    let mut body = json!({"data": {"type": work.resource(), "attributes": attributes}});
    change(&mut body["data"]);
    check::batch(&(&body).into(), work, Timestamp::now())
        .map(|entries| entries.len())
        .map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
}

fn profile(email: &str) -> Value {
    json!({"type": "profile", "attributes": {"email": email}})
}

/// One that the job takes.
fn entry(work: Work) -> Value {
    let related = |kind: Kind| json!({"type": kind.resource(), "id": "$custom:::$default:::7"});
    match work {
        Work::Suppress | Work::Unsuppress => profile("a@a.co"),
        Work::Codes => json!({"type": "coupon-code", "attributes": {"unique_code": "A1"},
            "relationships": {"coupon": {"data": {"type": "coupon", "id": "10OFF"}}}}),
        Work::Catalog(Kind::Category, Act::Create) => {
            json!({"type": "catalog-category", "attributes": {"external_id": "7", "name": "Shirts"}})
        }
        Work::Catalog(Kind::Item, Act::Create) => json!({"type": "catalog-item", "attributes": {
            "external_id": "7", "title": "Shirt", "description": "Blue", "url": "https://shop.example/7"}}),
        Work::Catalog(Kind::Variant, Act::Create) => json!({"type": "catalog-variant", "attributes": {
            "external_id": "7-M", "title": "Shirt", "description": "Blue", "url": "https://shop.example/7",
            "sku": "S-M", "inventory_quantity": 3, "price": 9.99},
            "relationships": {"item": {"data": related(Kind::Item)}}}),
        Work::Catalog(kind, Act::Update) => {
            let mut thing = related(kind);
            thing["attributes"] = json!({});
            thing
        }
        Work::Catalog(kind, Act::Delete) => related(kind),
    }
}

#[test]
fn every_job_has_a_form_and_a_number_of_entries() {
    for work in Work::all() {
        let (max, at) = (work.max_entries(), format!("/data/attributes/{}/data", work.entries()));
        let many = |count: usize| checked(work, json!(vec![entry(work); count]), |_| {});
        assert_eq!(many(max), Ok(max), "{work:?}");
        assert_eq!(many(max + 1), Err(vec![at.clone()]), "{work:?}");
        assert_eq!(many(0), Err(vec![at.clone()]), "{work:?}");
        let mut found = checked(work, json!([entry(work), 7]), |data| {
            data["type"] = json!("job");
            data["id"] = json!("01X");
            data["attributes"]["lists"] = json!([]);
            data["attributes"][work.entries()]["links"] = json!({});
        })
        .unwrap_err();
        found.sort();
        let mut expected = [
            "/data/attributes/lists".to_owned(),
            format!("{at}/1"),
            format!("/data/attributes/{}/links", work.entries()),
            "/data/id".to_owned(),
            "/data/type".to_owned(),
        ];
        expected.sort();
        assert_eq!(found, expected, "{work:?}");
        let of_another_type = json!([{"type": "thing", "attributes": entry(work)["attributes"]}]);
        let found = checked(work, of_another_type, |_| {}).unwrap_err();
        assert!(found.contains(&format!("{at}/0/type")), "{work:?}: {found:?}");
    }
}

#[test]
fn addresses_have_a_form() {
    let profiles = json!([
        profile("nobody"),
        {"type": "profile", "id": "01X", "attributes": {"email": null, "phone_number": "+15005550006"}},
        profile("A@a.co"),
    ]);
    let mut found = checked(Work::Suppress, profiles, |data| {
        data["relationships"] = json!({"list": {"data": {"type": "list", "id": "Y6nRLr"}}});
    })
    .unwrap_err();
    found.sort();
    assert_eq!(
        found,
        [
            "/data/attributes/profiles/data/0/attributes/email",
            "/data/attributes/profiles/data/1/attributes/email",
            "/data/attributes/profiles/data/1/attributes/phone_number",
            "/data/attributes/profiles/data/1/id",
            "/data/relationships",
        ]
    );
}
