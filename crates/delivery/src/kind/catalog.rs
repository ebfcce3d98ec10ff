//! The catalog: items, their variants, and categories that items are in.
//!
//! Payload: `{"external_id": …, "attributes": {…}, "item": …, "categories": […]}`, of which only the first is always there. An item's
//! variants are in order with it, for they need it; an item that needs a category which waits is tried again until that is there.

use klaviyo::{
    CREATE_CATEGORIES, CREATE_ITEMS, CREATE_VARIANTS, DELETE_CATEGORIES, DELETE_ITEMS, DELETE_VARIANTS,
    ResourceCalls, UPDATE_CATEGORIES, UPDATE_ITEMS, UPDATE_VARIANTS, catalog_id,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::profile::open_object;
use super::resource::{Act, Entry, Resource};
use super::{Checked, push_raw, push_string};
use crate::invalid::{Fault, Invalid};
use crate::key;

/// Bytes of an id. Klaviyo names no bound; this keeps what is no id out of every table.
const LONGEST_ID: usize = 200;

/// Bytes of `custom_metadata` (spec: `CatalogItemCreateQueryResourceObject`).
pub const METADATA: usize = 100_000;

/// Bytes of all attributes (spec: the body of a job has 5 MB).
const LONGEST: usize = 1_000_000;

/// A kind of thing in the catalog.
#[derive(Debug)]
pub struct Thing {
    /// What a message of it is called, and what its key begins with.
    pub name: &'static str,
    /// Attributes without which none is made.
    required: &'static [&'static str],
    /// Attributes that can be emptied.
    nullable: &'static [&'static str],
    /// Whether it is of an item.
    pub of_item: bool,
}

pub const ITEMS: Thing = Thing {
    name: "catalog_item",
    required: &["title", "description", "url"],
    nullable: &["price", "image_full_url", "image_thumbnail_url", "images", "custom_metadata"],
    of_item: false,
};
pub const VARIANTS: Thing = Thing {
    name: "catalog_variant",
    required: &["title", "description", "sku", "inventory_quantity", "price", "url"],
    nullable: &["image_full_url", "image_thumbnail_url", "images", "custom_metadata"],
    of_item: true,
};
pub const CATEGORIES: Thing =
    Thing { name: "catalog_category", required: &["name"], nullable: &[], of_item: false };

/// What `klaviyo_upsert_catalog_item` and the like were given.
#[derive(Debug, Clone, Default)]
pub struct Draft<'a> {
    pub external_id: Option<&'a str>,
    /// Each by its name, JSON.
    pub attributes: Vec<(&'static str, String)>,
    /// Attributes to be emptied.
    pub clear: Vec<String>,
    /// The item that it is of.
    pub item: Option<&'a str>,
    /// Those that it is in from now on, and in no other.
    pub categories: Option<Vec<String>>,
}

impl Draft<'_> {
    /// Checks it, and lays it down, with the kind of message that it is: what is enough to make one may make it.
    pub fn check(&self, thing: &Thing) -> Result<(&'static str, Checked), Invalid> {
        let external_id = check_id("external_id", self.external_id)?;
        let item = self.item.map(|item| check_id("item", Some(item))).transpose()?;
        for category in self.categories.iter().flatten() {
            check_id("categories", Some(category))?;
        }
        self.check_clear(thing)?;
        let mut attributes = String::from("{");
        for (name, value) in &self.attributes {
            push_raw(&mut attributes, name, value);
        }
        self.clear.iter().for_each(|name| push_raw(&mut attributes, name, "null"));
        attributes.push('}');
        if attributes.len() > LONGEST {
            return Err(Invalid::new(
                Fault::TooLarge,
                format!("the {} is too large", thing.name),
                format!("Its attributes have {} bytes, of {LONGEST} that fit.", attributes.len()),
                "Send less, as in description or custom_metadata.",
            ));
        }
        let mut payload = String::from("{");
        push_string(&mut payload, "external_id", external_id);
        push_raw(&mut payload, "attributes", &attributes);
        let mut key = vec![key::identifier(thing.name, external_id)];
        if let Some(item) = item {
            push_string(&mut payload, "item", item);
            key.push(key::identifier(ITEMS.name, item));
        }
        if let Some(categories) = &self.categories {
            push_raw(&mut payload, "categories", &Value::from(categories.as_slice()).to_string());
        }
        payload.push('}');
        let has = |name: &&str| self.attributes.iter().any(|(given, _)| given == name);
        let is_whole = thing.required.iter().all(has) && (item.is_some() || !thing.of_item);
        let kind = [ITEM, VARIANT, CATEGORY].into_iter().find(|kind| kind.name == thing.name);
        let kind = kind
            .map_or(thing.name, |kind| if is_whole { kind.name } else { kind.instead.unwrap_or(kind.name) });
        Ok((kind, Checked { key, payload }))
    }

    fn check_clear(&self, thing: &Thing) -> Result<(), Invalid> {
        let is_given = |name: &String| self.attributes.iter().any(|(given, _)| given == name);
        let wrong = |name: &&String| !thing.nullable.contains(&name.as_str()) || is_given(name);
        match self.clear.iter().find(wrong) {
            None => Ok(()),
            Some(name) => Err(Invalid::new(
                Fault::Clear,
                "argument \"clear\" is not a list of fields to clear",
                format!("\"{name}\" is not one of {}, or has a value besides.", thing.nullable.join(", ")),
                "Name each field that is to be emptied, and give it no value.",
            )),
        }
    }
}

/// Lays down that one be deleted.
pub fn delete(thing: &Thing, external_id: Option<&str>) -> Result<Checked, Invalid> {
    let external_id = check_id("external_id", external_id)?;
    let mut payload = String::from("{");
    push_string(&mut payload, "external_id", external_id);
    payload.push('}');
    Ok(Checked { key: vec![key::identifier(thing.name, external_id)], payload })
}

fn check_id<'a>(argument: &str, id: Option<&'a str>) -> Result<&'a str, Invalid> {
    let is_one = |id: &&str| !id.trim().is_empty() && id.len() <= LONGEST_ID;
    id.filter(is_one).ok_or_else(|| {
        Invalid::new(
            Fault::Catalog,
            format!("argument \"{argument}\" is NULL, blank or too long"),
            format!("It must have 1 to {LONGEST_ID} bytes."),
            "Pass the shop's own id of it, as text.",
        )
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    external_id: String,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    item: Option<String>,
    categories: Option<Vec<String>>,
}

fn entry(thing: &Thing, calls: &ResourceCalls, act: Act, payload: &str) -> Result<Entry, String> {
    let payload: Payload = serde_json::from_str(payload).map_err(|error| error.to_string())?;
    let id = catalog_id(&payload.external_id);
    let mut json = String::from("{");
    push_string(&mut json, "type", calls.resource);
    if act != Act::Create {
        push_string(&mut json, "id", &id);
    }
    if act == Act::Delete {
        json.push('}');
        return Ok(Entry { id, json });
    }
    let attributes = payload.attributes.ok_or("it says nothing of it")?.get();
    push_raw(
        &mut json,
        "attributes",
        &match act {
            Act::Create => made(thing, &payload.external_id, attributes)?,
            Act::Update | Act::Delete => attributes.to_owned(),
        },
    );
    let of = |resource: &str, id: &str| json!({"type": resource, "id": catalog_id(id)});
    let item = payload.item.filter(|_| act == Act::Create).map(|item| of(CREATE_ITEMS.resource, &item));
    if act == Act::Create && thing.of_item && item.is_none() {
        return Err("it does not say of which item it is".to_owned());
    }
    let categories = payload.categories.map(|categories| {
        categories.iter().map(|id| of(CREATE_CATEGORIES.resource, id)).collect::<Vec<Value>>()
    });
    let item = item.map(|item| json!({"item": {"data": item}}));
    let categories = categories.map(|categories| json!({"categories": {"data": categories}}));
    if let Some(relationships) = item.or(categories) {
        push_raw(&mut json, "relationships", &relationships.to_string());
    }
    json.push('}');
    Ok(Entry { id, json })
}

/// Its categories. An item is in order with its variants as it is.
fn categories_of(payload: &str) -> Vec<String> {
    let categories = serde_json::from_str::<Payload>(payload).ok().and_then(|payload| payload.categories);
    let key = |category: &String| key::identifier(CATEGORIES.name, category);
    categories.iter().flatten().map(key).collect()
}

/// The attributes of what is to be made. What is to be empty is left out.
fn made(thing: &Thing, external_id: &str, attributes: &str) -> Result<String, String> {
    let given: serde_json::Map<String, Value> =
        serde_json::from_str(attributes).map_err(|error| error.to_string())?;
    if let Some(missing) = thing.required.iter().find(|name| given.get(**name).is_none_or(Value::is_null)) {
        return Err(format!("it has no {missing}"));
    }
    let mut made = String::from("{");
    push_string(&mut made, "external_id", external_id);
    push_string(&mut made, "integration_type", "$custom");
    push_string(&mut made, "catalog_type", "$default");
    let attributes = open_object(attributes).ok_or("it says nothing of it")?;
    Ok(format!("{made},{attributes}}}"))
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $const:ident = $name:literal $thing:ident $calls:ident $act:ident $instead:expr;)+) => {
        $(
            $(#[$doc])*
            pub const $const: Resource = Resource {
                name: $name,
                calls: $calls,
                act: Act::$act,
                instead: $instead,
                needs: categories_of,
                entry: |act, payload| entry(&$thing, $calls, act, payload),
            };
        )+
    };
}

kinds! {
    /// An item as it is to be.
    ITEM = "catalog_item" ITEMS CREATE_ITEMS Create Some("catalog_item_update");
    /// What changes of one.
    ITEM_UPDATE = "catalog_item_update" ITEMS UPDATE_ITEMS Update Some("catalog_item");
    /// The end of one, and of its variants.
    ITEM_DELETE = "catalog_item_delete" ITEMS DELETE_ITEMS Delete None;
    /// A variant as it is to be.
    VARIANT = "catalog_variant" VARIANTS CREATE_VARIANTS Create Some("catalog_variant_update");
    /// What changes of one.
    VARIANT_UPDATE = "catalog_variant_update" VARIANTS UPDATE_VARIANTS Update Some("catalog_variant");
    /// The end of one.
    VARIANT_DELETE = "catalog_variant_delete" VARIANTS DELETE_VARIANTS Delete None;
    /// A category as it is to be.
    CATEGORY = "catalog_category" CATEGORIES CREATE_CATEGORIES Create Some("catalog_category_update");
    /// What changes of one.
    CATEGORY_UPDATE = "catalog_category_update" CATEGORIES UPDATE_CATEGORIES Update Some("catalog_category");
    /// The end of one; items stay.
    CATEGORY_DELETE = "catalog_category_delete" CATEGORIES DELETE_CATEGORIES Delete None;
}

#[cfg(test)]
mod tests {
    use klaviyo::Request;

    use super::*;
    use crate::kind::{Kind, Otherwise};
    use crate::message::Failure;

    fn item() -> Draft<'static> {
        let texts =
            [("title", "\"Shirt\""), ("description", "\"Of linen\""), ("url", "\"https://b.example\"")];
        Draft {
            external_id: Some("S-1"),
            attributes: texts.map(|(name, value)| (name, value.to_owned())).to_vec(),
            ..Draft::default()
        }
    }

    fn body(kind: &Resource, payload: &str) -> Value {
        serde_json::from_slice(&kind.body(payload).expect("a body")).expect("JSON")
    }

    #[test]
    fn an_item_is_made_or_changed_by_the_same_message() {
        let draft =
            Draft { categories: Some(vec!["Tops".to_owned()]), clear: vec!["price".to_owned()], ..item() };
        let (kind, checked) = draft.check(&ITEMS).expect("valid");
        assert_eq!((kind, checked.key.as_slice()), ("catalog_item", &["catalog_item:S-1".to_owned()][..]));
        let id = "$custom:::$default:::S-1";
        let categories = json!({"categories": {"data": [{"type": "catalog-category", "id": "$custom:::$default:::Tops"}]}});
        let attributes =
            json!({"title": "Shirt", "description": "Of linen", "url": "https://b.example", "price": null});
        let mut made = attributes.clone();
        for (name, value) in
            [("external_id", "S-1"), ("integration_type", "$custom"), ("catalog_type", "$default")]
        {
            made[name] = value.into();
        }
        assert_eq!(
            body(&ITEM, &checked.payload),
            json!({"data": {"type": "catalog-item", "attributes": made, "relationships": categories}})
        );
        assert_eq!(
            body(&ITEM_UPDATE, &checked.payload),
            json!({"data": {"type": "catalog-item", "id": id, "attributes": attributes, "relationships": categories}})
        );
        let to = Request::to(&DELETE_ITEMS.one, id, Vec::new());
        assert_eq!(ITEM_DELETE.request(&delete(&ITEMS, Some("S-1")).expect("valid").payload), Ok(to));
    }

    #[test]
    fn what_is_not_enough_for_a_new_one_changes_one() {
        let part = Draft { attributes: vec![("price", "9.90".to_owned())], ..item() };
        let (kind, checked) = part.check(&ITEMS).expect("valid");
        assert_eq!(kind, "catalog_item_update");
        assert!(ITEM.body(&checked.payload).is_err() && ITEM_UPDATE.body(&checked.payload).is_ok());
        let missing = Failure { status: Some(404), ..Failure::default() };
        assert!(
            ITEM_UPDATE.otherwise(&checked.payload, &missing, &[]).is_none(),
            "there is nothing to change"
        );
        let (_, whole) = item().check(&ITEMS).expect("valid");
        let otherwise = |kind: &Resource, status, pointers: &[String]| {
            let failure = Failure { status: Some(status), ..Failure::default() };
            match kind.otherwise(&whole.payload, &failure, pointers) {
                Some(Otherwise::As(kind)) => kind.name(),
                Some(Otherwise::Done) => "done",
                None => "refused",
            }
        };
        assert_eq!(otherwise(&ITEM_UPDATE, 404, &[]), "catalog_item");
        let category = ["/data/relationships/categories/data/0/id".to_owned()];
        assert_eq!(otherwise(&ITEM_UPDATE, 404, &category), "refused");
        assert_eq!(otherwise(&ITEM, 409, &[]), "catalog_item_update");
        assert_eq!(otherwise(&ITEM, 400, &[]), "refused");
        assert_eq!(otherwise(&ITEM_DELETE, 404, &[]), "done");
        assert_eq!(ITEM.after_job(&whole.payload).map(Kind::name), Some("catalog_item_update"));
        assert!(ITEM_UPDATE.after_job(&whole.payload).is_none());
    }

    #[test]
    fn a_variant_comes_after_its_item_and_is_not_moved() {
        let names = ["title", "description", "sku", "inventory_quantity", "price", "url"];
        let attributes = names.map(|name| (name, "1".to_owned())).to_vec();
        let draft = Draft { external_id: Some("S-1-M"), attributes, item: Some("S-1"), ..Draft::default() };
        let (kind, checked) = draft.check(&VARIANTS).expect("valid");
        assert_eq!(
            (kind, checked.key.as_slice()),
            ("catalog_variant", &["catalog_variant:S-1-M".to_owned(), "catalog_item:S-1".to_owned()][..])
        );
        let of = json!({"item": {"data": {"type": "catalog-item", "id": "$custom:::$default:::S-1"}}});
        assert_eq!(body(&VARIANT, &checked.payload)["data"]["relationships"], of);
        assert_eq!(body(&VARIANT_UPDATE, &checked.payload)["data"].get("relationships"), None);
        let (kind, checked) = Draft { item: None, ..draft }.check(&VARIANTS).expect("valid");
        assert_eq!(kind, "catalog_variant_update", "of which item nobody knows");
        assert!(VARIANT.body(&checked.payload).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let long = "x".repeat(LONGEST_ID + 1);
        for external_id in [None, Some(" "), Some(long.as_str())] {
            let draft = Draft { external_id, ..item() };
            assert_eq!(draft.check(&ITEMS).expect_err("invalid").fault, Fault::Catalog);
            assert_eq!(delete(&ITEMS, external_id).expect_err("invalid").fault, Fault::Catalog);
        }
        for clear in ["title", "nothing"] {
            let draft = Draft { clear: vec![clear.to_owned()], ..item() };
            assert_eq!(draft.check(&ITEMS).expect_err("invalid").fault, Fault::Clear);
        }
        let categories = Some(vec![String::new()]);
        assert_eq!(Draft { categories, ..item() }.check(&ITEMS).expect_err("invalid").fault, Fault::Catalog);
        let attributes = vec![("title", format!("\"{}\"", "x".repeat(LONGEST)))];
        assert_eq!(Draft { attributes, ..item() }.check(&ITEMS).expect_err("invalid").fault, Fault::TooLarge);
        assert!(ITEM.body("{}").is_err() && ITEM_UPDATE.body(r#"{"external_id":"1"}"#).is_err());
    }
}
