//! `klaviyo_upsert_catalog_item`, `klaviyo_delete_catalog_item` and their likes, and `klaviyo_create_coupon_code`.

use delivery::invalid::Invalid;
use delivery::json::JsonLimits;
use delivery::kind::catalog::{self, CATEGORIES, Draft, ITEMS, METADATA, Thing, VARIANTS};
use delivery::kind::coupon_code;
use delivery::kind::event::check_number;
use serde_json::Value;

use super::given::Given;
use super::messages::{boolean, json, numeric, queue, texts, timestamp_text};
use crate::outbox::enqueue::Name;
use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_upsert_catalog_item, pg_finfo_klaviyo_upsert_catalog_item, upsert_item);
sql_function!(klaviyo_upsert_catalog_variant, pg_finfo_klaviyo_upsert_catalog_variant, upsert_variant);
sql_function!(klaviyo_upsert_catalog_category, pg_finfo_klaviyo_upsert_catalog_category, upsert_category);
sql_function!(klaviyo_delete_catalog_item, pg_finfo_klaviyo_delete_catalog_item, delete_item);
sql_function!(klaviyo_delete_catalog_variant, pg_finfo_klaviyo_delete_catalog_variant, delete_variant);
sql_function!(klaviyo_delete_catalog_category, pg_finfo_klaviyo_delete_catalog_category, delete_category);
sql_function!(klaviyo_create_coupon_code, pg_finfo_klaviyo_create_coupon_code, create_coupon_code);

/// What an argument is, and what it becomes.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Number,
    Integer,
    Texts,
    Json,
    Boolean,
}

/// An argument that is an attribute: its name, its number, its type.
type Attribute = (&'static str, usize, Type);

const ITEM: [Attribute; 9] = [
    ("title", 1, Type::Text),
    ("description", 2, Type::Text),
    ("url", 3, Type::Text),
    ("price", 4, Type::Number),
    ("image_full_url", 5, Type::Text),
    ("image_thumbnail_url", 6, Type::Text),
    ("images", 7, Type::Texts),
    ("custom_metadata", 9, Type::Json),
    ("published", 10, Type::Boolean),
];

const VARIANT: [Attribute; 12] = [
    ("title", 2, Type::Text),
    ("description", 3, Type::Text),
    ("sku", 4, Type::Text),
    ("url", 5, Type::Text),
    ("price", 6, Type::Number),
    ("inventory_quantity", 7, Type::Number),
    ("inventory_policy", 8, Type::Integer),
    ("image_full_url", 9, Type::Text),
    ("image_thumbnail_url", 10, Type::Text),
    ("images", 11, Type::Texts),
    ("custom_metadata", 12, Type::Json),
    ("published", 13, Type::Boolean),
];

const CATEGORY: [Attribute; 1] = [("name", 1, Type::Text)];

/// `klaviyo_upsert_catalog_item(external_id, title, description, url, price, image_full_url, image_thumbnail_url, images,
/// categories, custom_metadata, published, clear, account)`
fn upsert_item(arguments: &Arguments) -> Returned {
    let more = |draft| Draft {
        categories: texts(arguments, 8),
        clear: texts(arguments, 11).unwrap_or_default(),
        ..draft
    };
    upsert(arguments, &ITEMS, &ITEM, &[("categories", 8), ("clear", 11)], 12, more)
}

/// `klaviyo_upsert_catalog_variant(external_id, item, title, description, sku, url, price, inventory_quantity,
/// inventory_policy, image_full_url, image_thumbnail_url, images, custom_metadata, published, clear, account)`
fn upsert_variant(arguments: &Arguments) -> Returned {
    let item: Option<&str> = arguments.get(1);
    let more = |draft| Draft { item, clear: texts(arguments, 14).unwrap_or_default(), ..draft };
    upsert(arguments, &VARIANTS, &VARIANT, &[("clear", 14)], 15, more)
}

/// `klaviyo_upsert_catalog_category(external_id, name, account)`
fn upsert_category(arguments: &Arguments) -> Returned {
    upsert(arguments, &CATEGORIES, &CATEGORY, &[], 2, |draft| draft)
}

fn upsert<'a>(
    arguments: &'a Arguments,
    thing: &Thing,
    attributes: &[Attribute],
    lists: &[(&'static str, usize)],
    account: usize,
    more: impl FnOnce(Draft<'a>) -> Draft<'a>,
) -> Returned {
    let read = || -> Result<Draft<'a>, Invalid> {
        let mut draft = Draft { external_id: arguments.get(0), ..Draft::default() };
        for attribute in attributes {
            draft.attributes.extend(value(arguments, *attribute)?.map(|value| (attribute.0, value)));
        }
        Ok(draft)
    };
    let checked = read().and_then(|draft| more(draft).check(thing));
    let kind = checked.as_ref().map_or(thing.name, |(kind, _)| kind);
    let given = || {
        let mut given = Given::default();
        given.text("external_id", arguments.get(0));
        for (name, number, of) in attributes {
            match of {
                Type::Text => given.text(name, arguments.get(*number)),
                Type::Number => given.text(name, numeric(arguments, *number)),
                Type::Integer => given.text(name, integer(arguments, *number).as_deref()),
                Type::Texts => given.texts(name, arguments.get(*number)),
                Type::Json => given.json(name, arguments, *number),
                Type::Boolean => given.text(name, boolean(arguments, *number)),
            }
        }
        if thing.of_item {
            given.text("item", arguments.get(1));
        }
        lists.iter().for_each(|(name, number)| given.texts(name, arguments.get(*number)));
        given.finish()
    };
    queue(
        kind,
        &Name::next(),
        arguments.get(account),
        pg::now(),
        || checked.map(|(_, checked)| checked),
        given,
    )
}

/// An attribute as JSON; none where it is absent.
fn value(arguments: &Arguments, (name, number, of): Attribute) -> Result<Option<String>, Invalid> {
    Ok(match of {
        Type::Text => arguments.get::<&str>(number).map(|text| Value::from(text).to_string()),
        Type::Number => numeric(arguments, number).map(|number| finite(name, number)).transpose()?,
        Type::Integer => integer(arguments, number),
        Type::Texts => texts(arguments, number).map(|texts| Value::from(texts).to_string()),
        Type::Json => {
            let limits = JsonLimits { argument: name, properties: usize::MAX, bytes: METADATA, shaped: true };
            json(arguments, number, limits)?
        }
        Type::Boolean => boolean(arguments, number).map(str::to_owned),
    })
}

fn integer(arguments: &Arguments, number: usize) -> Option<String> {
    arguments.get(number).map(|it: i32| it.to_string())
}

fn finite(argument: &str, number: &str) -> Result<String, Invalid> {
    check_number(argument, number).map(|()| number.to_owned())
}

/// `klaviyo_delete_catalog_item(external_id, account)`
fn delete_item(arguments: &Arguments) -> Returned {
    delete(arguments, &ITEMS, "catalog_item_delete")
}

/// `klaviyo_delete_catalog_variant(external_id, account)`
fn delete_variant(arguments: &Arguments) -> Returned {
    delete(arguments, &VARIANTS, "catalog_variant_delete")
}

/// `klaviyo_delete_catalog_category(external_id, account)`
fn delete_category(arguments: &Arguments) -> Returned {
    delete(arguments, &CATEGORIES, "catalog_category_delete")
}

fn delete(arguments: &Arguments, thing: &Thing, kind: &'static str) -> Returned {
    let checked = || catalog::delete(thing, arguments.get(0));
    let given = || {
        let mut given = Given::default();
        given.text("external_id", arguments.get(0));
        given.finish()
    };
    queue(kind, &Name::next(), arguments.get(1), pg::now(), checked, given)
}

/// `klaviyo_create_coupon_code(coupon, code, expires_at, account)`
fn create_coupon_code(arguments: &Arguments) -> Returned {
    let checked = || {
        coupon_code::Draft {
            coupon: arguments.get(0),
            code: arguments.get(1),
            // timestamptz is passed as the 64 bits it is.
            expires_at: arguments.datum(2).map(|time| pg::micros(time.value() as i64)),
        }
        .check()
    };
    let given = || {
        let mut given = Given::default();
        given.text("coupon", arguments.get(0));
        given.text("code", arguments.get(1));
        given.text("expires_at", arguments.datum(2).map(timestamp_text).as_deref());
        given.finish()
    };
    queue("coupon_code", &Name::next(), arguments.get(3), pg::now(), checked, given)
}
