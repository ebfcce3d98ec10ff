//! The query of a call that reads.

pub mod campaigns;
pub mod listing;
pub mod lists;
pub mod reports;

use axum::extract::Query;
use hyper::Uri;
use serde_json::Value;

use crate::error::ApiError;
use crate::filter::{ANY, EQUALS, FILTER, Filter};
use crate::page::Page;
use crate::uri::encoded;

/// Rows of a page: by default and at most. Source: `page[size]` of the call in Klaviyo's OpenAPI document.
#[derive(Clone, Copy)]
struct Sizes {
    default: usize,
    most: usize,
}

impl Sizes {
    fn read(self, name: &str, value: &str) -> Result<usize, ApiError> {
        let size = value.parse().ok().filter(|size| (1..=self.most).contains(size));
        let detail = || format!("Page size must be between 1 and {}.", self.most);
        size.ok_or_else(|| ApiError::parameter(name, detail()))
    }
}

const SIZES: Sizes = Sizes { default: 20, most: 100 };
const SIZES_OF_LISTS: Sizes = Sizes { default: 10, most: 10 };
const SIZES_OF_MANY: Sizes = Sizes { default: 100, most: 100 };

/// The parameter that names attributes of profiles.
const FIELDS: &str = "fields[profile]";
/// What it may name. The document has more of it: predictions, and members of a location and of subscriptions.
const PROFILE: [&str; 16] = [
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
    "subscriptions",
    "title",
    "updated",
];
/// When a profile joined a list or a segment.
pub const JOINED: &str = "joined_group_at";
/// What it may name of a profile there.
const MEMBER: [&str; 17] = {
    let mut names = [JOINED; 17];
    let (known, _) = names.split_at_mut(PROFILE.len());
    known.copy_from_slice(&PROFILE);
    names
};

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
        match name.as_str() {
            "page[size]" => page.size = sizes.read(&name, &value)?,
            "page[cursor]" => {
                page.start = value.parse().map_err(|_| ApiError::parameter(&name, "Invalid cursor."))?;
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

/// Which things of the catalog a query asks for.
pub fn things(uri: &Uri) -> Result<Selection, ApiError> {
    selection(uri, Some((&[ANY], &["ids"])))
}

/// Which of a coupon's codes a query asks for.
pub fn codes(uri: &Uri) -> Result<Selection, ApiError> {
    selection(uri, None)
}

/// Refuses any parameter.
pub fn none(uri: &Uri) -> Result<(), ApiError> {
    parameters(uri)?.first().map_or(Ok(()), |(name, _)| Err(unknown(name)))
}

/// What a query asks for.
pub struct Selection {
    pub page: Page,
    pub filter: Option<Filter>,
    link: Link,
}

impl Selection {
    /// The address of the list, for the links to its pages.
    pub fn url(&self, api_url: &str) -> String {
        self.link.url(api_url)
    }
}

/// The path of a list, and the parameters that another page has too.
#[derive(Clone)]
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

/// A selection by one of these filters. Where there are none there is no parameter for them.
fn selection(uri: &Uri, filters: Option<Filters<'_>>) -> Result<Selection, ApiError> {
    let mut filter = None;
    let mut link = Link::to(uri);
    let page = page_with(uri, SIZES_OF_MANY, |name, value| {
        match (name, filters) {
            (FILTER, Some((operators, fields))) => filter = Some(Filter::parse(value, operators, fields)?),
            _ => return Ok(false),
        }
        link.keep(name, value);
        Ok(true)
    })?;
    Ok(Selection { page, filter, link })
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
    fn a_selection_has_a_filter_and_links_that_keep_it() {
        let found = things(&uri("page[size]=5&filter=any(ids,%5B%22a%2Bb%22%5D)"));
        let found = found.map_err(|error| error.pointer).unwrap();
        assert_eq!(found.page, Page { start: 0, size: 5 });
        assert_eq!(found.filter.as_ref().unwrap().values, ["a+b"]);
        assert_eq!(found.url("http://k"), "http://k/api/x?filter=any%28ids%2C%5B%22a%2Bb%22%5D%29");
    }

    #[test]
    fn each_list_has_parameters_of_its_own() {
        type Read = fn(&Uri) -> Result<Selection, ApiError>;
        for (read, query, parameter) in [
            (things as Read, "page[size]=101", "page[size]"),
            (things, "filter=equals(ids,%227%22)", "filter"),
            (things, "filter=any(id,[%227%22])", "filter"),
            (things, "include=variants", "include"),
            (codes, "page[size]=101", "page[size]"),
            (codes, "filter=equals(status,%22USED%22)", "filter"),
        ] {
            assert_eq!(
                read(&uri(query)).err().map(|error| error.pointer).as_deref(),
                Some(parameter),
                "{query}"
            );
        }
        for read in [things as Read, codes] {
            assert_eq!(read(&uri("")).ok().unwrap().page.size, 100);
        }
    }
}
