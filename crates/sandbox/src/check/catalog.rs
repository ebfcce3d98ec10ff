//! Things of the catalog: new, changed, or named to be deleted.

use serde_json::{Map, Number, Value};
use serde_json_borrow::Value as Borrowed;

use super::fields::{Findings, Object};
use crate::catalog::{Act, Attribute, CATALOG, INTEGRATION, Kind, Type, id_of};

/// Bytes of an object, written without spaces. Source: `custom_metadata` in Klaviyo's OpenAPI document ("100kb"), read as
/// decimal so that either reading is kept.
const MAX_FLAT: usize = 100_000;

/// A checked thing.
#[derive(Debug)]
pub struct ThingDraft {
    pub kind: Kind,
    pub id: String,
    /// All of a new thing. Of a change what it said: absent leaves alone, null clears.
    pub attributes: Map<String, Value>,
    /// The ids of what it is related to; none leaves alone what it has.
    pub related: Option<Vec<String>>,
}

/// Checks a `CatalogItemCreateQuery` or its like.
pub fn check_create(findings: &mut Findings, root: Object<'_, '_>, kind: Kind) -> Option<ThingDraft> {
    root.only(findings, kind.resource(), &["data"]);
    let data = root.object(findings, "data")?;
    check_thing(findings, data, kind, Act::Create)
}

/// Checks a `CatalogItemUpdateQuery` or its like for the thing with this id.
pub fn check_update(
    findings: &mut Findings,
    root: Object<'_, '_>,
    kind: Kind,
    id: &str,
) -> Option<ThingDraft> {
    root.only(findings, kind.resource(), &["data"]);
    let data = root.object(findings, "data")?;
    let draft = check_thing(findings, data, kind, Act::Update)?;
    if draft.id != id {
        findings.add(data.at.key("id"), "'id' must be that in the path.");
    }
    Some(draft)
}

/// Checks a `CatalogItemCreateQueryResourceObject` or one of its like, alone or one of many.
pub fn check_thing(
    findings: &mut Findings,
    data: Object<'_, '_>,
    kind: Kind,
    act: Act,
) -> Option<ThingDraft> {
    data.resource_type(findings, kind.resource());
    let known: &[&str] = match (act, kind) {
        (Act::Create, _) => &["type", "attributes", "relationships"],
        (Act::Update, Kind::Variant) => &["type", "id", "attributes"],
        (Act::Update, _) => &["type", "id", "attributes", "relationships"],
        (Act::Delete, _) => &["type", "id"],
    };
    data.only(findings, kind.resource(), known);
    match act {
        Act::Create => {
            let related = check_related(findings, data, kind);
            let attributes = data.object(findings, "attributes")?;
            let (id, attributes) = check_new(findings, attributes, kind)?;
            Some(ThingDraft { kind, id, attributes, related })
        }
        Act::Update => {
            let id = data.required_text(findings, "id");
            let related = if kind == Kind::Variant { None } else { check_related(findings, data, kind) };
            let attributes = data.object(findings, "attributes")?;
            let attributes = check_changes(findings, attributes, kind);
            Some(ThingDraft { kind, id: id?.to_owned(), attributes, related })
        }
        Act::Delete => {
            let id = data.required_text(findings, "id")?.to_owned();
            Some(ThingDraft { kind, id, attributes: Map::new(), related: None })
        }
    }
}

fn check_new(
    findings: &mut Findings,
    object: Object<'_, '_>,
    kind: Kind,
) -> Option<(String, Map<String, Value>)> {
    const ONLY: [(&str, &str); 2] = [("integration_type", INTEGRATION), ("catalog_type", CATALOG)];
    let names = kind.attributes().iter().map(|attribute| attribute.name);
    let known: Vec<&str> = names.chain(["external_id"]).chain(ONLY.map(|(key, _)| key)).collect();
    object.only(findings, kind.resource(), &known);
    for (key, only) in ONLY {
        if object.text(findings, key).is_some_and(|text| text != only) {
            findings.add(object.at.key(key), format!("'{key}' must be '{only}'."));
        }
    }
    let mut attributes = Map::new();
    for attribute in kind.attributes() {
        if attribute.is_required && object.map.get(attribute.name).is_none_or(Borrowed::is_null) {
            object.missing(findings, attribute.name);
        }
        let value = read(findings, object, attribute).unwrap_or_else(|| attribute.unsaid());
        attributes.insert(attribute.name.to_owned(), value);
    }
    let external_id = object.filled_text(findings, "external_id")?;
    attributes.insert("external_id".to_owned(), external_id.into());
    Some((id_of(external_id), attributes))
}

fn check_changes(findings: &mut Findings, object: Object<'_, '_>, kind: Kind) -> Map<String, Value> {
    let names: Vec<&str> = kind.attributes().iter().map(|attribute| attribute.name).collect();
    object.only(findings, kind.resource(), &names);
    let said = kind.attributes().iter().filter(|attribute| object.map.contains_key(attribute.name));
    let change = |attribute: &Attribute| {
        (attribute.name.to_owned(), read(findings, object, attribute).unwrap_or_default())
    };
    said.map(change).collect()
}

/// An attribute that may be absent or null.
fn read(findings: &mut Findings, object: Object<'_, '_>, attribute: &Attribute) -> Option<Value> {
    let key = attribute.name;
    match attribute.of {
        Type::Text => object.text(findings, key).map(Value::from),
        Type::Boolean => object.typed(findings, key, "a boolean", Borrowed::as_bool).map(Value::from),
        Type::Number => object.typed(findings, key, "a number", |value| match value {
            Borrowed::Number(number) => Some(Number::from(*number).into()),
            _ => None,
        }),
        Type::Policy => object.typed(findings, key, "0, 1 or 2", |value| {
            value.as_i64().filter(|policy| (0..=2).contains(policy)).map(Value::from)
        }),
        Type::Texts => object.typed(findings, key, "an array of strings", |value| {
            value.as_array().filter(|texts| texts.iter().all(Borrowed::is_string)).map(|_| value.into())
        }),
        Type::Flat => {
            let flat = object.optional_object(findings, key)?;
            check_flat(findings, flat);
            Some(Value::Object(flat.map.into()))
        }
    }
}

fn check_flat(findings: &mut Findings, flat: Object<'_, '_>) {
    for (key, value) in flat.map.iter() {
        if value.is_object() || value.is_array() {
            findings.add(flat.at.key(key), "There may be no objects and arrays in it.");
        }
    }
    // A JSON object always has a text.
    let size = serde_json::to_string(flat.map).unwrap_or_default().len();
    if size > MAX_FLAT {
        findings.add(flat.at, format!("It has at most {MAX_FLAT} bytes, this has {size}."));
    }
}

/// The relationships: an item must be named of a variant, and anything else may be absent.
fn check_related(findings: &mut Findings, data: Object<'_, '_>, kind: Kind) -> Option<Vec<String>> {
    let name = kind.relationship();
    if kind == Kind::Variant {
        return data.related(findings, name, kind.related().resource()).map(|id| vec![id.to_owned()]);
    }
    let relationships = data.optional_object(findings, "relationships")?;
    relationships.only(findings, kind.resource(), &[name]);
    let related = relationships.optional_object(findings, name)?;
    related.only(findings, name, &["data"]);
    related.map.get("data")?;
    related.items(findings, "data", |findings, item| {
        item.identifier(findings, kind.related().resource()).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests;
