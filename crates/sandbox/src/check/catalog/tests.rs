use serde_json::{Value, json};

use super::MAX_FLAT;
use crate::catalog::Kind;
use crate::check::{self, ThingDraft};
use crate::error::ApiError;

const ID: &str = "$custom:::$default:::7";

fn pointers(errors: Vec<ApiError>) -> Vec<String> {
    let mut pointers: Vec<String> = errors.into_iter().map(|error| error.pointer).collect();
    pointers.sort();
    pointers
}

/// A new thing with no more than it must have.
fn least(kind: Kind) -> Value {
    let attributes = match kind {
        Kind::Item => {
            json!({"external_id": "7", "title": "Shirt", "description": "", "url": "https://shop.example/7"})
        }
        Kind::Variant => json!({"external_id": "7", "title": "Shirt", "description": "", "sku": "S-7",
            "inventory_quantity": 0.5, "price": 9.99, "url": "https://shop.example/7"}),
        Kind::Category => json!({"external_id": "7", "name": "Shirts"}),
    };
    let mut data = json!({"type": kind.resource(), "attributes": attributes});
    if kind == Kind::Variant {
        data["relationships"] = json!({"item": {"data": {"type": "catalog-item", "id": ID}}});
    }
    data
}

fn created(kind: Kind, change: impl FnOnce(&mut Value)) -> Result<ThingDraft, Vec<String>> {
    let mut body = json!({"data": least(kind)});
    change(&mut body["data"]);
    check::thing(&(&body).into(), kind).map_err(pointers)
}

fn changed(kind: Kind, change: impl FnOnce(&mut Value)) -> Result<ThingDraft, Vec<String>> {
    let mut body = json!({"data": {"type": kind.resource(), "id": ID, "attributes": {}}});
    change(&mut body["data"]);
    check::thing_change(&(&body).into(), kind, ID).map_err(pointers)
}

#[test]
fn a_new_thing_has_all_attributes() {
    for kind in Kind::ALL {
        let draft = created(kind, |_| {}).unwrap();
        assert_eq!(draft.id, ID);
        assert_eq!(draft.attributes.len(), kind.attributes().len() + 1);
        for attribute in kind.attributes().iter().filter(|attribute| !attribute.is_required) {
            assert_eq!(draft.attributes[attribute.name], attribute.unsaid());
            let null = created(kind, |data| data["attributes"][attribute.name] = Value::Null).unwrap();
            assert_eq!(null.attributes, draft.attributes, "{} of {kind:?}", attribute.name);
        }
        let required = kind.attributes().iter().filter(|attribute| attribute.is_required);
        for name in required.map(|attribute| attribute.name).chain(["external_id"]) {
            let pointer = format!("/data/attributes/{name}");
            let without = created(kind, |data| {
                data["attributes"].as_object_mut().unwrap().remove(name);
            });
            assert_eq!(without.unwrap_err(), [pointer.as_str()]);
            let null = created(kind, |data| data["attributes"][name] = Value::Null);
            assert_eq!(null.unwrap_err(), [pointer]);
        }
    }
    let draft = created(Kind::Variant, |_| {}).unwrap();
    assert_eq!(
        (&draft.attributes["published"], &draft.attributes["inventory_policy"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(
        (draft.related, created(Kind::Item, |_| {}).unwrap().related),
        (Some(vec![ID.to_owned()]), None)
    );
}

#[test]
fn attributes_have_types() {
    for (name, good, bad) in [
        ("title", json!("x"), &[json!(7), json!({}), json!([])][..]),
        ("price", json!(42), &[json!("42"), json!(true)]),
        ("inventory_policy", json!(2), &[json!(3), json!(-1), json!(0.5), json!("1")]),
        ("images", json!(["a", "b"]), &[json!("a"), json!(["a", 7]), json!([null])]),
        ("custom_metadata", json!({"a": 1, "b": null}), &[json!("{}"), json!([])]),
        ("published", json!(false), &[json!("false"), json!(0)]),
    ] {
        let set = |value: &Value| {
            let (attribute, value) = (name.to_owned(), value.clone());
            move |data: &mut Value| data["attributes"][&attribute] = value
        };
        assert_eq!(created(Kind::Variant, set(&good)).unwrap().attributes[name], good);
        assert_eq!(changed(Kind::Variant, set(&good)).unwrap().attributes[name], good);
        for value in bad {
            let pointer = format!("/data/attributes/{name}");
            assert_eq!(created(Kind::Variant, set(value)).unwrap_err(), [pointer.as_str()], "{value}");
            assert_eq!(changed(Kind::Variant, set(value)).unwrap_err(), [pointer], "{value}");
        }
    }
    let nested = created(Kind::Item, |data| {
        data["attributes"]["custom_metadata"] = json!({"a": 1, "b": {}, "c/d": [1]});
    });
    let at = "/data/attributes/custom_metadata";
    assert_eq!(nested.unwrap_err(), [format!("{at}/b"), format!("{at}/c~1d")]);
    let large = |length: usize| {
        created(Kind::Item, |data| data["attributes"]["custom_metadata"] = json!({"a": "x".repeat(length)}))
    };
    // Besides the text there are eight characters.
    assert!(large(MAX_FLAT - 8).is_ok());
    assert_eq!(large(MAX_FLAT - 7).unwrap_err(), [at]);
}

#[test]
fn there_is_one_integration_and_one_catalog() {
    for (name, only) in [("integration_type", "$custom"), ("catalog_type", "$default")] {
        assert!(created(Kind::Item, |data| data["attributes"][name] = json!(only)).is_ok());
        assert!(created(Kind::Item, |data| data["attributes"][name] = Value::Null).is_ok());
        for bad in [json!("$shopify"), json!(7)] {
            let found = created(Kind::Item, |data| data["attributes"][name] = bad.clone());
            assert_eq!(found.unwrap_err(), [format!("/data/attributes/{name}")]);
        }
        let changed = changed(Kind::Item, |data| data["attributes"][name] = json!(only));
        assert_eq!(changed.unwrap_err(), [format!("/data/attributes/{name}")], "it cannot be changed");
    }
}

#[test]
fn what_is_unknown_is_refused() {
    for kind in Kind::ALL {
        let found = created(kind, |data| {
            data["id"] = json!(ID);
            data["type"] = json!("catalog");
            data["attributes"]["color"] = json!("blue");
            data["relationships"]["tags"] = json!({});
        });
        let expected = ["/data/attributes/color", "/data/id", "/data/relationships/tags", "/data/type"];
        assert_eq!(found.unwrap_err(), expected, "{kind:?}");
        let found = changed(kind, |data| data["attributes"]["external_id"] = json!("8"));
        assert_eq!(found.unwrap_err(), ["/data/attributes/external_id"], "{kind:?}");
        let found = changed(kind, |data| {
            data.as_object_mut().unwrap().remove("attributes");
        });
        assert_eq!(found.unwrap_err(), ["/data/attributes"], "{kind:?}");
        assert_eq!(changed(kind, |data| data["id"] = json!("7")).unwrap_err(), ["/data/id"], "{kind:?}");
    }
    assert_eq!(
        created(Kind::Item, |data| data["attributes"]["external_id"] = json!(" ")).unwrap_err().len(),
        1
    );
}

#[test]
fn a_change_says_what_it_changes() {
    let draft = changed(Kind::Item, |data| data["attributes"] = json!({"title": null, "price": 7})).unwrap();
    assert_eq!(Value::Object(draft.attributes), json!({"title": null, "price": 7}));
    assert_eq!(draft.related, None);
}

#[test]
fn relationships_name_things_of_the_other_kind() {
    let related = |kind: Kind, name: &str, relationship: Value| {
        let set = |data: &mut Value| data["relationships"] = json!({name: relationship});
        [created(kind, set), changed(kind, set)]
            .map(|draft| draft.map(|draft| draft.related.map(|ids| ids.len())))
    };
    for (kind, name, resource) in
        [(Kind::Item, "categories", "catalog-category"), (Kind::Category, "items", "catalog-item")]
    {
        let thing = json!({"type": resource, "id": ID});
        for (relationship, expected) in
            [(json!({}), None), (json!({"data": []}), Some(0)), (json!({"data": [thing, thing]}), Some(2))]
        {
            assert_eq!(related(kind, name, relationship), [Ok(expected), Ok(expected)]);
        }
        for (relationship, pointer) in [
            (json!({"data": null}), "data"),
            (json!({"data": thing}), "data"),
            (json!({"data": [thing, 7]}), "data/1"),
            (json!({"data": [{"type": "catalog-variant", "id": ID}]}), "data/0/type"),
            (json!({"data": [{"type": resource}]}), "data/0/id"),
            (json!({"data": [{"type": resource, "id": ID, "attributes": {}}]}), "data/0/attributes"),
            (json!({"data": [], "links": {}}), "links"),
        ] {
            let expected = vec![format!("/data/relationships/{name}/{pointer}")];
            assert_eq!(related(kind, name, relationship), [Err(expected.clone()), Err(expected)]);
        }
    }
    for (relationships, pointer) in [
        (Value::Null, ""),
        (json!({}), "/item"),
        (json!({"item": {}}), "/item/data"),
        (json!({"item": {"data": {"type": "catalog-category", "id": ID}}}), "/item/data/type"),
        (json!({"item": {"data": {"type": "catalog-item"}}}), "/item/data/id"),
    ] {
        let found = created(Kind::Variant, |data| data["relationships"] = relationships);
        assert_eq!(found.unwrap_err(), [format!("/data/relationships{pointer}")]);
    }
    let moved =
        changed(Kind::Variant, |data| data["relationships"] = least(Kind::Variant)["relationships"].clone());
    assert_eq!(moved.unwrap_err(), ["/data/relationships"], "a variant stays with its item");
}
