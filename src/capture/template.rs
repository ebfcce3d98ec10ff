//! The metrics that every shop has, with the names of properties that Klaviyo's own integrations of shops send, so that its
//! standard flows and reports find them.
//!
//! Names are those of <https://developers.klaviyo.com/en/docs/guide_to_integrating_a_platform_without_a_pre_built_klaviyo_integration>.

use serde_json::{Map, Value};

use super::operation::At;
use super::refusal;
use crate::pg::function::Refusal;

/// What is known of a metric.
#[derive(Debug)]
pub struct Template {
    pub metric: &'static str,
    /// Properties that flows and reports need.
    required: &'static [&'static str],
    /// Others that Klaviyo knows, in lists that several metrics share.
    known: &'static [&'static [&'static str]],
    /// What its items are made of, if it has some.
    items: Option<Items>,
    /// Whether reports add up its value.
    has_value: bool,
    /// Whether it is what becomes of an order later.
    is_change: bool,
}

#[derive(Debug, Clone, Copy)]
struct Items {
    required: &'static [&'static str],
    known: &'static [&'static str],
    /// What an item's categories are called, and those of them all.
    categories: (&'static str, &'static str),
}

const OF_ORDER: &[&str] = &[
    "ItemNames",
    "Items",
    "Categories",
    "Brands",
    "DiscountCode",
    "DiscountValue",
    "BillingAddress",
    "ShippingAddress",
];
const ORDERED: Items = Items {
    required: &["ProductID", "ProductName"],
    known: &["SKU", "Quantity", "ItemPrice", "RowTotal", "ProductURL", "ImageURL", "Categories", "Brand"],
    categories: ("Categories", "Categories"),
};
const CHECKED_OUT: Items = Items {
    required: &["ProductID", "ProductName"],
    known: &["SKU", "Quantity", "ItemPrice", "RowTotal", "ProductURL", "ImageURL", "ProductCategories"],
    categories: ("ProductCategories", "Categories"),
};

const fn of_order(
    metric: &'static str,
    known: &'static [&'static [&'static str]],
    is_change: bool,
) -> Template {
    Template { metric, required: &["OrderId"], known, items: Some(ORDERED), has_value: true, is_change }
}

pub const ALL: [Template; 8] = [
    of_order("Placed Order", &[OF_ORDER], false),
    Template {
        metric: "Ordered Product",
        required: &["OrderId", "ProductID", "ProductName"],
        known: &[&["SKU", "Quantity", "ProductURL", "ImageURL", "Categories", "ProductBrand"]],
        items: None,
        has_value: true,
        is_change: false,
    },
    of_order("Fulfilled Order", &[OF_ORDER], true),
    of_order("Cancelled Order", &[OF_ORDER, &["Reason"]], true),
    of_order("Refunded Order", &[OF_ORDER, &["Reason"]], true),
    Template {
        metric: "Started Checkout",
        required: &["CheckoutURL"],
        known: &[&["ItemNames", "Items", "Categories"]],
        items: Some(CHECKED_OUT),
        has_value: true,
        is_change: false,
    },
    Template {
        metric: "Viewed Product",
        required: &["ProductID", "ProductName"],
        known: &[&["SKU", "Categories", "ImageURL", "URL", "Brand", "Price", "CompareAtPrice"]],
        items: None,
        has_value: false,
        is_change: false,
    },
    Template {
        metric: "Active on Site",
        required: &[],
        known: &[],
        items: None,
        has_value: false,
        is_change: false,
    },
];

impl Template {
    pub fn named(metric: &str) -> Result<&'static Self, Refusal> {
        const TEMPLATES: &[Template] = &ALL;
        TEMPLATES.iter().find(|template| template.metric == metric).ok_or_else(|| {
            let names: Vec<&str> = TEMPLATES.iter().map(|template| template.metric).collect();
            refusal::argument(
                format!("\"{metric}\" is not a metric that there is a template of"),
                format!("There are {}.", names.join(", ")),
                "For a metric of your own, call klaviyo_sync_events().",
            )
        })
    }

    /// What makes an event of a row if nobody says.
    pub fn on(&self, has_condition: bool) -> &'static str {
        if self.is_change && has_condition { "insert or update" } else { "insert" }
    }

    /// When a row is looked at if nobody says: items are written after what they belong to.
    pub fn at(&self) -> At {
        if self.items.is_some() { At::Commit } else { At::Statement }
    }

    /// Refuses properties that flows and reports would not find.
    pub fn check(
        &self,
        properties: &Map<String, Value>,
        has_items: bool,
        has_value: bool,
    ) -> Result<(), Refusal> {
        self.check_names("properties", properties, self.required, &self.known.concat())?;
        if self.has_value && !has_value {
            return Err(self.missing("a value", "value", "Name the column or expression: value => 'total'."));
        }
        match self.items {
            Some(_) if !has_items && !properties.contains_key("Items") => Err(self.missing(
                "items",
                "items",
                "Say what an item is made of, and where items stand: items => '{\"ProductID\": \"i.product_id\", …}', items_from => 'order_items AS i WHERE i.order_id = row.id'.",
            )),
            None if has_items => Err(refusal::argument(
                format!("\"{}\" has no items", self.metric),
                "Argument \"items\" is given.",
                "Pass what it has as properties.",
            )),
            _ => Ok(()),
        }
    }

    fn missing(&self, what: &str, argument: &str, hint: &str) -> Refusal {
        refusal::argument(
            format!("\"{}\" has no {}", self.metric, what.trim_start_matches("a ")),
            format!("Klaviyo's flows and reports look at it; argument \"{argument}\" is not given."),
            hint,
        )
    }

    fn check_names(
        &self,
        argument: &str,
        given: &Map<String, Value>,
        required: &[&str],
        known: &[&str],
    ) -> Result<(), Refusal> {
        let names = || required.iter().chain(known).copied();
        for name in given.keys() {
            let alike = names().find(|known| plain(known) == plain(name));
            if let Some(meant) = alike.filter(|meant| meant != name) {
                return Err(refusal::argument(
                    format!("argument \"{argument}\" names \"{name}\""),
                    format!("Klaviyo's flows and reports call it {meant}."),
                    "Call it so; names that are not like one of Klaviyo's are your own.",
                ));
            }
        }
        match required.iter().find(|name| !given.contains_key(**name)) {
            None => Ok(()),
            Some(missing) => Err(refusal::argument(
                format!("argument \"{argument}\" does not say {missing}"),
                format!("\"{}\" has {}.", self.metric, names().collect::<Vec<_>>().join(", ")),
                format!("Name the column or expression: '{{\"{missing}\": \"…\"}}'."),
            )),
        }
    }

    /// What is made of the items, as an expression: an object of the items themselves, and what Klaviyo wants to know of
    /// them together. `from` is where they stand, as after FROM.
    pub fn items(&self, given: &Map<String, Value>, from: &str) -> Result<String, Refusal> {
        let Some(items) = self.items else { return Ok(String::new()) };
        self.check_names("items", given, items.required, items.known)?;
        let mut fields = Vec::new();
        for (name, sql) in given {
            let Some(sql) = sql.as_str() else {
                return Err(refusal::argument(
                    format!("argument \"items.{name}\" is no expression"),
                    "Each field of an item is an SQL expression over what items_from names.",
                    "For example '{\"ProductID\": \"i.product_id\"}'.",
                ));
            };
            fields.push(field(name, sql));
        }
        let of = |name: &str| given.get(name).and_then(Value::as_str);
        if let (None, Some(quantity), Some(price)) = (of("RowTotal"), of("Quantity"), of("ItemPrice")) {
            fields.push(field("RowTotal", &format!("({quantity}\n) * ({price}\n)")));
        }
        let all = |name: &str| format!("coalesce(jsonb_agg(items.item -> '{name}'), '[]')");
        let each = |name: &str| {
            format!(
                "(SELECT coalesce(jsonb_agg(DISTINCT it.one), '[]') FROM jsonb_path_query(jsonb_agg(items.item -> '{name}'), '$[*][*]') AS it (one) WHERE it.one <> 'null')"
            )
        };
        let mut summary = vec![
            "'Items', coalesce(jsonb_agg(items.item), '[]')".to_owned(),
            format!("'ItemNames', {}", all("ProductName")),
        ];
        let (categories, of_all) = items.categories;
        if given.contains_key(categories) {
            summary.push(format!("'{of_all}', {}", each(categories)));
        }
        if given.contains_key("Brand") {
            summary.push(format!("'Brands', {}", each("Brand")));
        }
        Ok(format!(
            "(SELECT jsonb_build_object({}) FROM (SELECT jsonb_build_object({}) AS item FROM {from}\n) AS items)",
            summary.join(", "),
            fields.join(", ")
        ))
    }
}

fn field(name: &str, sql: &str) -> String {
    format!("{}, ({sql}\n)", pgrx::spi::quote_literal(name))
}

/// A name without what people write differently.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}
