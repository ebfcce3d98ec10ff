//! The query of a call that reads.

pub mod campaigns;

use axum::extract::Query;
use hyper::Uri;
use serde_json::Value;

use super::filter::{ANY, EQUALS, FILTER, Filter};
use crate::error::ApiError;
use crate::page::Page;
use crate::uri::encoded;

/// Rows of a page: by default and at most. Source: `page[size]` of the call in Klaviyo's OpenAPI document.
#[derive(Clone, Copy)]
struct Sizes {
    default: usize,
    most: usize,
}

const SIZES: Sizes = Sizes { default: 20, most: 100 };
const SIZES_OF_LISTS: Sizes = Sizes { default: 10, most: 10 };
const SIZES_OF_MANY: Sizes = Sizes { default: 100, most: 100 };

/// The parameter that names attributes of profiles.
const FIELDS: &str = "fields[profile]";
/// What it may name. The document has more of it: members of a location, subscriptions and predictions.
const PROFILE: [&str; 15] = [
    "created",
    "email",
    "external_id",
    "first_name",
    "id",
    "image",
    "last_event_date",
    "last_name",
    "locale",
    "location",
    "organization",
    "phone_number",
    "properties",
    "title",
    "updated",
];
/// What it may name besides of a profile on a list.
pub const JOINED: &str = "joined_group_at";

/// The page that a query asks for. No other parameter is known here.
pub fn page(uri: &Uri) -> Result<Page, ApiError> {
    page_with(uri, SIZES, |_, _| Ok(false))
}

/// The same, with further parameters, of which `known` says whether it knows them.
fn page_with(
    uri: &Uri,
    sizes: Sizes,
    mut known: impl FnMut(&str, &str) -> Result<bool, ApiError>,
) -> Result<Page, ApiError> {
    let mut page = Page { start: 0, size: sizes.default };
    for (name, value) in parameters(uri)? {
        let number: Option<usize> = value.parse().ok();
        match name.as_str() {
            "page[size]" => {
                let detail = format!("Page size must be between 1 and {}.", sizes.most);
                let size = number.filter(|size| (1..=sizes.most).contains(size));
                page.size = size.ok_or_else(|| ApiError::parameter(&name, detail))?;
            }
            "page[cursor]" => {
                page.start = number.ok_or_else(|| ApiError::parameter(&name, "Invalid cursor."))?;
            }
            _ => {
                if !known(&name, &value)? {
                    return Err(unknown(&name));
                }
            }
        }
    }
    Ok(page)
}

/// The page that a query for jobs asks for, the latest first, and whether only of jobs that are not at their end. Of
/// filters this one is known.
pub fn jobs(uri: &Uri) -> Result<(Page, bool), ApiError> {
    let mut open = false;
    let page = page_with(uri, SIZES, |name, value| match (name, value) {
        (FILTER, r#"any(status,["queued","processing"])"#) => {
            open = true;
            Ok(true)
        }
        ("sort", "-created_at") => Ok(true),
        _ => Ok(false),
    })?;
    Ok((page, open))
}

/// The page that a query for jobs of many entries asks for, and of which status they are to be. Of the size of a page the
/// document says nothing there.
pub fn batches(uri: &Uri) -> Result<(Page, Option<String>), ApiError> {
    let mut status = None;
    let page = page_with(uri, SIZES_OF_MANY, |name, value| match name {
        FILTER => {
            status = Filter::parse(value, &[EQUALS], &["status"])?.values.into_iter().next();
            Ok(true)
        }
        _ => Ok(false),
    })?;
    if parameters(uri)?.iter().any(|(name, _)| name == "page[size]") {
        return Err(unknown("page[size]"));
    }
    Ok((page, status))
}

/// Which lists a query asks for.
pub fn lists(uri: &Uri) -> Result<Selection, ApiError> {
    selection(uri, SIZES_OF_LISTS, (&[ANY, EQUALS], &["id", "name"]), &[])
}

/// Which profiles a query asks for.
pub fn profiles(uri: &Uri) -> Result<Selection, ApiError> {
    let fields = &["id", "email", "phone_number", "external_id"];
    selection(uri, SIZES, (&[ANY, EQUALS], fields), &PROFILE)
}

/// Which profiles on a list a query asks for.
pub fn members(uri: &Uri) -> Result<Selection, ApiError> {
    let filters: Filters<'_> = (&[ANY, EQUALS], &["email", "phone_number"]);
    selection(uri, SIZES, filters, &[&PROFILE[..], &[JOINED]].concat())
}

/// Which things of the catalog a query asks for.
pub fn things(uri: &Uri) -> Result<Selection, ApiError> {
    selection(uri, SIZES_OF_MANY, (&[ANY], &["ids"]), &[])
}

/// Which of a coupon's codes a query asks for.
pub fn codes(uri: &Uri) -> Result<Selection, ApiError> {
    selection(uri, SIZES_OF_MANY, (&[], &[]), &[])
}

/// What of the one profile a query asks for.
pub fn profile(uri: &Uri) -> Result<Fields, ApiError> {
    let mut fields = Fields::default();
    for (name, value) in parameters(uri)? {
        if name != FIELDS {
            return Err(unknown(&name));
        }
        fields = Fields::parse(&name, &value, &PROFILE)?;
    }
    Ok(fields)
}

/// Refuses any parameter.
pub fn none(uri: &Uri) -> Result<(), ApiError> {
    parameters(uri)?.first().map_or(Ok(()), |(name, _)| Err(unknown(name)))
}

/// What a query asks for.
pub struct Selection {
    pub page: Page,
    pub filter: Option<Filter>,
    pub fields: Fields,
    link: Link,
}

impl Selection {
    /// The address of the list, for the links to its pages.
    pub fn url(&self, api_url: &str) -> String {
        self.link.url(api_url)
    }
}

/// The path of a list, and the parameters that another page has too.
struct Link(String);

impl Link {
    fn to(uri: &Uri) -> Self {
        Self(uri.path().to_owned())
    }

    fn keep(&mut self, name: &str, value: &str) {
        let before = if self.0.contains('?') { '&' } else { '?' };
        self.0 += &format!("{before}{}={}", encoded(name), encoded(value));
    }

    fn url(&self, api_url: &str) -> String {
        format!("{api_url}{}", self.0)
    }
}

/// The attributes that an answer shows: all, unless some are named.
#[derive(Default)]
pub struct Fields(Option<Vec<String>>);

impl Fields {
    fn parse(parameter: &str, text: &str, known: &[&str]) -> Result<Self, ApiError> {
        let names: Vec<String> = text.split(',').map(str::to_owned).collect();
        match names.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                Err(ApiError::parameter(parameter, format!("'{name}' is no field that is known here.")))
            }
            None => Ok(Self(Some(names))),
        }
    }

    /// Takes the others out of a resource.
    pub fn narrow(&self, mut resource: Value) -> Value {
        if let (Some(names), Some(attributes)) = (&self.0, resource["attributes"].as_object_mut()) {
            attributes.retain(|name, _| names.contains(name));
        }
        resource
    }
}

/// The operators of filters, and the fields that they are on.
type Filters<'a> = (&'a [&'a str], &'a [&'static str]);

/// A selection by one of these filters. Where there are none there is no parameter for them, and likewise for fields to
/// name.
fn selection(
    uri: &Uri,
    sizes: Sizes,
    (operators, filters): Filters<'_>,
    names: &[&str],
) -> Result<Selection, ApiError> {
    let (mut filter, mut fields) = (None, Fields::default());
    let mut link = Link::to(uri);
    let page = page_with(uri, sizes, |name, value| {
        match name {
            FILTER if !filters.is_empty() => filter = Some(Filter::parse(value, operators, filters)?),
            FIELDS if !names.is_empty() => fields = Fields::parse(name, value, names)?,
            _ => return Ok(false),
        }
        link.keep(name, value);
        Ok(true)
    })?;
    Ok(Selection { page, filter, fields, link })
}

fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let Query(parameters) =
        Query::try_from_uri(uri).map_err(|error| ApiError::parameter("", error.body_text()))?;
    Ok(parameters)
}

fn unknown(name: &str) -> ApiError {
    ApiError::parameter(name, format!("klaviyo-sandbox does not know the parameter '{name}' here."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn uri(query: &str) -> Uri {
        format!("http://k/api/x?{query}").parse().unwrap()
    }

    fn read(query: &str) -> Result<(usize, usize), String> {
        page(&uri(query)).map(|page| (page.start, page.size)).map_err(|error| error.pointer)
    }

    #[test]
    fn pages_have_sizes_and_cursors() {
        assert_eq!(read(""), Ok((0, 20)));
        assert_eq!(read("page%5Bsize%5D=100&page[cursor]=300"), Ok((300, 100)));
        for (query, parameter) in [
            ("page[size]=0", "page[size]"),
            ("page[size]=101", "page[size]"),
            ("page[cursor]=x", "page[cursor]"),
            ("fields[import-error]=code", "fields[import-error]"),
        ] {
            assert_eq!(read(query), Err(parameter.to_owned()));
        }
    }

    #[test]
    fn a_selection_has_a_filter_fields_and_links_that_keep_them() {
        let found =
            members(&uri("page[size]=5&fields[profile]=email,id&filter=any(email,%5B%22a%2Bb@a.co%22%5D)"));
        let found = found.map_err(|error| error.pointer).unwrap();
        assert_eq!(found.page, Page { start: 0, size: 5 });
        assert_eq!(found.filter.as_ref().unwrap().values, ["a+b@a.co"]);
        assert_eq!(
            found.url("http://k"),
            "http://k/api/x?fields%5Bprofile%5D=email%2Cid&filter=any%28email%2C%5B%22a%2Bb%40a.co%22%5D%29"
        );
        let resource = json!({"id": "01X", "attributes": {"email": "a@a.co", "title": null}});
        assert_eq!(
            found.fields.narrow(resource.clone()),
            json!({"id": "01X", "attributes": {"email": "a@a.co"}})
        );
        assert_eq!(profiles(&uri("")).ok().unwrap().fields.narrow(resource.clone()), resource);
    }

    #[test]
    fn each_list_has_parameters_of_its_own() {
        type Read = fn(&Uri) -> Result<Selection, ApiError>;
        for (read, query, parameter) in [
            (lists as Read, "page[size]=11", "page[size]"),
            (lists, "fields[list]=name", "fields[list]"),
            (lists, "fields[profile]=email", "fields[profile]"),
            (lists, "filter=equals(created,%222026-07-15%22)", "filter"),
            (profiles, "fields[profile]=joined_group_at", "fields[profile]"),
            (profiles, "fields[profile]=email,subscriptions", "fields[profile]"),
            (profiles, "sort=id", "sort"),
            (members, "filter=equals(external_id,%227%22)", "filter"),
            (things, "page[size]=101", "page[size]"),
            (things, "filter=equals(ids,%227%22)", "filter"),
            (things, "filter=any(id,[%227%22])", "filter"),
            (things, "include=variants", "include"),
            (codes, "page[size]=101", "page[size]"),
            (codes, "filter=equals(status,%22USED%22)", "filter"),
            (members, "additional-fields[profile]=subscriptions", "additional-fields[profile]"),
        ] {
            assert_eq!(
                read(&uri(query)).err().map(|error| error.pointer).as_deref(),
                Some(parameter),
                "{query}"
            );
        }
        assert!(members(&uri("fields[profile]=joined_group_at")).is_ok());
        for (read, size) in [(lists as Read, 10), (things, 100), (codes, 100), (members, 20)] {
            assert_eq!(read(&uri("")).ok().unwrap().page.size, size);
        }
    }
}
