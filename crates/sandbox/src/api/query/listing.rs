//! The queries of the calls that read lists in an order, whose pages are found by keys.

use hyper::Uri;
use serde_json::{Value, json};

use super::{FILTER, Fields, Link, Sizes, parameters, unknown};
use crate::error::ApiError;
use crate::filter::{Condition, Field, Test, conditions};
use crate::order::{Key, Order, Rank, Slice, cursor, key_at};

/// The parameter that asks for more attributes of profiles than an answer has by itself.
const ADDITIONAL: &str = "additional-fields[profile]";
/// What it may name. The document has predictions too.
pub const SUBSCRIPTIONS: &str = "subscriptions";

/// What a list can be asked for. Source: the parameters of the call in Klaviyo's OpenAPI document.
pub(super) struct Spec {
    /// None if the size of a page is no parameter.
    pub sizes: Sizes,
    pub is_sized: bool,
    pub filters: &'static [Field],
    /// What it can be sorted by; what it is sorted by unless somebody asks, Klaviyo does not say.
    pub orders: &'static [&'static str],
    pub default: Order,
    /// The parameter that names attributes, and which it may name.
    pub fields: Option<(&'static str, &'static [&'static str])>,
    /// Whether more attributes of profiles can be asked for.
    pub is_of_profiles: bool,
}

/// What of a resource a query asks for.
#[derive(Default)]
pub struct Shown {
    pub fields: Fields,
    pub with_subscriptions: bool,
}

/// Which resources a query asks for.
pub struct Listing {
    pub slice: Slice,
    pub conditions: Vec<Condition>,
    pub shown: Shown,
    is_sized: bool,
    cursor: Option<String>,
    link: Link,
}

impl Spec {
    pub fn read(&self, uri: &Uri) -> Result<Listing, ApiError> {
        self.read_with(uri, |_, _| Ok(false))
    }

    /// The same with further parameters, of which `known` says whether it knows them.
    pub fn read_with(
        &self,
        uri: &Uri,
        mut known: impl FnMut(&str, &str) -> Result<bool, ApiError>,
    ) -> Result<Listing, ApiError> {
        let mut link = Link::to(uri);
        let (mut size, mut cursor, mut order) = (self.sizes.default, None, self.default);
        let (mut found, mut shown) = (Vec::new(), Shown::default());
        for (name, value) in parameters(uri)? {
            match name.as_str() {
                "page[size]" if self.is_sized => {
                    size = self.sizes.read(&name, &value)?;
                    continue;
                }
                "page[cursor]" => {
                    cursor = Some(value);
                    continue;
                }
                FILTER if !self.filters.is_empty() => found = conditions(&value, self.filters)?,
                "sort" if !self.orders.is_empty() => order = Order::parse(&value, self.orders)?,
                _ if self.shows(&mut shown, &name, &value)? || known(&name, &value)? => {}
                _ => return Err(unknown(&name)),
            }
            link.keep(&name, &value);
        }
        let after = match &cursor {
            Some(text) => {
                let invalid = || ApiError::parameter("page[cursor]", "Invalid cursor.");
                Some(key_at(text, order).ok_or_else(invalid)?)
            }
            None => None,
        };
        let (from, to) = bounds(&found, order.field);
        let slice = Slice { order, after, from, to, size };
        let is_sized = self.is_sized;
        Ok(Listing { slice, conditions: found, shown, is_sized, cursor, link })
    }

    /// The same of one resource.
    pub fn read_one(&self, uri: &Uri) -> Result<Shown, ApiError> {
        let mut shown = Shown::default();
        for (name, value) in parameters(uri)? {
            if !self.shows(&mut shown, &name, &value)? {
                return Err(unknown(&name));
            }
        }
        Ok(shown)
    }

    /// Takes in a parameter that says what is shown, if it is one.
    fn shows(&self, shown: &mut Shown, name: &str, value: &str) -> Result<bool, ApiError> {
        match self.fields {
            Some((parameter, known)) if parameter == name => {
                shown.fields = Fields::parse(name, value, known)?
            }
            _ if self.is_of_profiles && name == ADDITIONAL => {
                Fields::parse(name, value, &[SUBSCRIPTIONS])?;
                shown.with_subscriptions = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Listing {
    /// The links of the page, which goes on after a row if there are more.
    pub fn links(&self, api_url: &str, last: Option<&Key>) -> Value {
        let page = |cursor: Option<&str>| {
            let mut link = self.link.clone();
            if let Some(cursor) = cursor {
                link.keep("page[cursor]", cursor);
            }
            if self.is_sized {
                link.keep("page[size]", &self.slice.size.to_string());
            }
            link.url(api_url)
        };
        let mut links = json!({"self": page(self.cursor.as_deref())});
        // The document's links are strings: where there is none, the member is missing.
        if let Some(last) = last {
            links["next"] = page(Some(&cursor(self.slice.order, last))).into();
        }
        links
    }

    /// Whether all conditions on some fields are met; the test of a field comes from `is_met`.
    pub fn meets(&self, is_met: impl Fn(&str, &Test) -> bool) -> bool {
        self.conditions.iter().all(|condition| is_met(condition.field, &condition.test))
    }
}

/// The two names of when an event happened.
const EVENT_TIME: [&str; 2] = ["datetime", "timestamp"];

/// The ranks between which everything lies that meets the conditions on a field: the first, and the first after them.
fn bounds(conditions: &[Condition], field: &str) -> (Option<Rank>, Option<Rank>) {
    let is_it = |name| name == field || (EVENT_TIME.contains(&name) && EVENT_TIME.contains(&field));
    let (mut from, mut to) = (None, None);
    for condition in conditions.iter().filter(|condition| is_it(condition.field)) {
        match condition.test {
            Test::After(time) | Test::From(time) => from = from.max(Some(Rank::time(time))),
            Test::Until(time) | Test::Before(time) => {
                let after = Some(Rank::Number(time.as_microsecond() + 1));
                to = if to.is_none() { after } else { to.min(after) };
            }
            _ => {}
        }
    }
    (from, to)
}
