//! A page of a list, and the links to those beside it.

use std::ops::Range;

use serde_json::{Value, json};

/// A page of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Page {
    /// The place of its first row in the list.
    pub start: usize,
    pub size: usize,
}

impl Page {
    /// The rows of it that there are, and the links of a list that has so many. The address may have parameters.
    pub fn of(self, count: usize, url: &str) -> (Range<usize>, Value) {
        let Range { start, end } = self.start.min(count)..self.start.saturating_add(self.size).min(count);
        let before = if url.contains('?') { '&' } else { '?' };
        let link =
            |start: usize| format!("{url}{before}page%5Bcursor%5D={start}&page%5Bsize%5D={}", self.size);
        let mut links = json!({"self": link(self.start)});
        // The document's links are strings: where there is none, the member is missing.
        if end < count {
            links["next"] = link(end).into();
        }
        if start > 0 {
            links["prev"] = link(start.saturating_sub(self.size)).into();
        }
        (start..end, links)
    }
}
