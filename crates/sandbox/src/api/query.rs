//! The query of a call that reads.

use axum::extract::Query;
use hyper::Uri;

use crate::error::ApiError;
use crate::jobs::Page;

/// Rows of a page: by default and at most. Source: `page[size]` of the call in Klaviyo's OpenAPI document.
const PAGE_SIZE: usize = 20;
const MAX_PAGE_SIZE: usize = 100;

/// The page that a query asks for. No other parameter is known here.
pub fn page(uri: &Uri) -> Result<Page, ApiError> {
    page_with(uri, |_, _| false)
}

/// The same, with further parameters, of which `known` says whether it knows them.
fn page_with(uri: &Uri, mut known: impl FnMut(&str, &str) -> bool) -> Result<Page, ApiError> {
    let mut page = Page { start: 0, size: PAGE_SIZE };
    for (name, value) in parameters(uri)? {
        let number: Option<usize> = value.parse().ok();
        match name.as_str() {
            "page[size]" => {
                let detail = format!("Page size must be between 1 and {MAX_PAGE_SIZE}.");
                let size = number.filter(|size| (1..=MAX_PAGE_SIZE).contains(size));
                page.size = size.ok_or_else(|| ApiError::parameter(&name, detail))?;
            }
            "page[cursor]" => {
                page.start = number.ok_or_else(|| ApiError::parameter(&name, "Invalid cursor."))?;
            }
            _ if known(&name, &value) => {}
            _ => return Err(unknown(&name)),
        }
    }
    Ok(page)
}

/// The page that a query for jobs asks for, the latest first, and whether only of jobs that are not at their end. Of
/// filters this one is known.
pub fn jobs(uri: &Uri) -> Result<(Page, bool), ApiError> {
    let mut open = false;
    let page = page_with(uri, |name, value| match (name, value) {
        ("filter", r#"any(status,["queued","processing"])"#) => {
            open = true;
            true
        }
        ("sort", "-created_at") => true,
        _ => false,
    })?;
    Ok((page, open))
}

/// Refuses any parameter.
pub fn none(uri: &Uri) -> Result<(), ApiError> {
    parameters(uri)?.first().map_or(Ok(()), |(name, _)| Err(unknown(name)))
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

    fn read(query: &str) -> Result<(usize, usize), String> {
        let uri: Uri = format!("http://k/api/x?{query}").parse().unwrap();
        page(&uri).map(|page| (page.start, page.size)).map_err(|error| error.pointer)
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
}
