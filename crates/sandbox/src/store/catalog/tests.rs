use serde_json::{Value, json};

use super::*;
use crate::catalog::id_of;

/// Does something to a thing with this external id, and says where it is wrong.
fn perform(
    catalog: &mut Catalog,
    act: Act,
    (kind, external_id): (Kind, &str),
    attributes: Value,
    related: Option<&[&str]>,
) -> Result<(), (u16, String)> {
    let Value::Object(attributes) = attributes else { panic!("{attributes} is no object") };
    let related = related.map(|ids| ids.iter().map(|id| id_of(id)).collect());
    let draft = ThingDraft { kind, id: id_of(external_id), attributes, related };
    catalog.perform(act, draft, Timestamp::now()).map_err(|error| (error.status.as_u16(), error.pointer))
}

fn create(catalog: &mut Catalog, kind: Kind, external_id: &str, related: Option<&[&str]>) {
    perform(catalog, Act::Create, (kind, external_id), json!({}), related).unwrap();
}

/// Two items in two categories, of which the first has two variants.
fn shop() -> Catalog {
    let mut catalog = Catalog::default();
    create(&mut catalog, Kind::Category, "c1", None);
    create(&mut catalog, Kind::Item, "i1", Some(&["c1"]));
    create(&mut catalog, Kind::Item, "i2", None);
    create(&mut catalog, Kind::Category, "c2", Some(&["i1", "i2"]));
    create(&mut catalog, Kind::Variant, "v1", Some(&["i1"]));
    create(&mut catalog, Kind::Variant, "v2", Some(&["i1"]));
    create(&mut catalog, Kind::Variant, "v3", Some(&["i2"]));
    catalog
}

/// What belongs together with each thing, by external ids.
fn together(catalog: &Catalog, kind: Kind, name: &str) -> Value {
    let views = catalog.views();
    let short = |id: &Value| id.as_str().map(|id| id.rsplit(':').next().unwrap().to_owned());
    let row = |view: &Value| {
        let related = match &view[name] {
            Value::Array(ids) => ids.iter().map(short).collect(),
            id => vec![short(id)],
        };
        json!([short(&view["id"]), related])
    };
    views[kind.plural()].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn both_sides_know_what_belongs_together() {
    let mut catalog = shop();
    assert_eq!(together(&catalog, Kind::Item, "categories"), json!([["i1", ["c1", "c2"]], ["i2", ["c2"]]]));
    assert_eq!(together(&catalog, Kind::Category, "items"), json!([["c1", ["i1"]], ["c2", ["i1", "i2"]]]));
    assert_eq!(together(&catalog, Kind::Item, "variants"), json!([["i1", ["v1", "v2"]], ["i2", ["v3"]]]));
    assert_eq!(
        together(&catalog, Kind::Variant, "item"),
        json!([["v1", ["i1"]], ["v2", ["i1"]], ["v3", ["i2"]]])
    );

    perform(&mut catalog, Act::Update, (Kind::Item, "i1"), json!({}), Some(&["c2"])).unwrap();
    perform(&mut catalog, Act::Update, (Kind::Item, "i2"), json!({}), None).unwrap();
    assert_eq!(together(&catalog, Kind::Category, "items"), json!([["c1", []], ["c2", ["i1", "i2"]]]));
    perform(&mut catalog, Act::Update, (Kind::Category, "c2"), json!({}), Some(&[])).unwrap();
    assert_eq!(together(&catalog, Kind::Item, "categories"), json!([["i1", []], ["i2", []]]));
}

#[test]
fn an_item_takes_its_variants_with_it() {
    let mut catalog = shop();
    catalog.delete(Kind::Item, &id_of("i1")).unwrap();
    assert_eq!(together(&catalog, Kind::Variant, "item"), json!([["v3", ["i2"]]]));
    assert_eq!(together(&catalog, Kind::Category, "items"), json!([["c1", []], ["c2", ["i2"]]]));
    catalog.delete(Kind::Variant, &id_of("v3")).unwrap();
    assert_eq!(together(&catalog, Kind::Item, "variants"), json!([["i2", []]]));
    catalog.delete(Kind::Category, &id_of("c2")).unwrap();
    assert_eq!(together(&catalog, Kind::Item, "categories"), json!([["i2", []]]));
    create(&mut catalog, Kind::Item, "i1", None);
    assert_eq!(
        together(&catalog, Kind::Item, "variants"),
        json!([["i2", []], ["i1", []]]),
        "it is a new one"
    );
}

#[test]
fn what_is_there_already_and_what_is_not_is_refused() {
    let mut catalog = shop();
    let before = catalog.views();
    let item = (Kind::Item, "i1");
    for (act, thing, related, expected) in [
        (Act::Create, item, None, (409, "/attributes/external_id")),
        (Act::Update, (Kind::Item, "c1"), None, (404, "/id")),
        (Act::Delete, (Kind::Variant, "i1"), None, (404, "/id")),
        (Act::Update, item, Some(&["c1", "c3"][..]), (404, "/relationships/categories/data/1/id")),
        (Act::Create, (Kind::Category, "c3"), Some(&["i3"]), (404, "/relationships/items/data/0/id")),
        (Act::Create, (Kind::Variant, "v4"), Some(&["v1"]), (404, "/relationships/item/data/id")),
    ] {
        let found = perform(&mut catalog, act, thing, json!({"title": "x"}), related);
        assert_eq!(found, Err((expected.0, expected.1.to_owned())));
    }
    assert_eq!(catalog.views(), before);
}

#[test]
fn a_change_leaves_alone_what_it_does_not_say() {
    let mut catalog = Catalog::default();
    let item = (Kind::Item, "i1");
    perform(&mut catalog, Act::Create, item, json!({"title": "a", "price": 1, "url": "u"}), None).unwrap();
    perform(&mut catalog, Act::Update, item, json!({"title": "b", "price": null}), None).unwrap();
    let view = &catalog.views()["items"][0];
    assert_eq!(view["attributes"], json!({"title": "b", "price": null, "url": "u"}));
    assert_eq!(view["writes"], 2);
}

#[test]
fn some_are_chosen_by_their_ids_the_oldest_first() {
    let catalog = shop();
    let ids = ["i2", "i1", "i3", "i2"].map(id_of);
    let found =
        |ids| catalog.chosen(Kind::Item, ids).iter().map(|thing| thing.id.clone()).collect::<Vec<_>>();
    assert_eq!(found(Some(&ids)), ["i1", "i2"].map(id_of));
    assert_eq!(found(None), ["i1", "i2"].map(id_of));
    assert_eq!(found(Some(&[])).len(), 0);
}
