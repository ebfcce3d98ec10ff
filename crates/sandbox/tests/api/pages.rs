//! Lists that are read page by page.

use serde_json::Value;

use crate::client::{Answer, Connection};

/// The rows of a page that there must be.
pub fn rows(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"].as_array().unwrap().clone()
}

/// The rows of each page from this one on.
pub fn pages(api: &mut Connection, path: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(link) = next {
        let page = api.get(&link).unwrap();
        pages.push(rows(&page));
        assert!(pages.len() < 1_000, "the pages do not end");
        next = page.json()["links"].get("next").map(|link| link.as_str().unwrap().to_owned());
    }
    pages
}

/// An attribute of each row.
pub fn each(rows: &[Value], attribute: &str) -> Vec<String> {
    rows.iter().map(|row| row["attributes"][attribute].as_str().unwrap().to_owned()).collect()
}

/// The same of all rows from this page on.
pub fn all(api: &mut Connection, path: &str, attribute: &str) -> Vec<String> {
    each(&pages(api, path).concat(), attribute)
}
