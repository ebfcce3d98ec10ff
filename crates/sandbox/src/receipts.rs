//! What arrived, in order, and what became of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use hyper::Version;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::call::Call;

/// How many bytes of bodies a page of receipts has, the last row's not counted. A bulk call is up to 5 MB, and a page is
/// one text in memory, here and at the reader's.
const MAX_PAGE: usize = 32_000_000;

/// Refers to one row; a row of before a reset is no longer found by it.
#[derive(Clone, Copy)]
pub struct Ticket {
    epoch: u64,
    /// The row's number, from 1.
    pub n: u64,
}

/// One request whose head and body were read.
struct Receipt {
    at_us: u64,
    connection: u64,
    version: &'static str,
    method: Arc<str>,
    path: Arc<str>,
    /// What it is counted under: paths that differ in an id are one.
    counted: Arc<str>,
    key_suffix: Option<Arc<str>>,
    revision: Option<Arc<str>>,
    content_type: Option<Arc<str>>,
    outcome: Outcome,
    size: usize,
    body: Option<Bytes>,
}

/// How a request ended; all empty while it has not.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Outcome {
    /// The status that was sent, if an answer was begun.
    pub status: Option<u16>,
    /// The fault that decided.
    pub fault: Option<&'static str>,
    /// Whether the request's effect is in the store.
    pub accepted: bool,
}

/// A receipt as the control path shows it.
#[derive(Serialize)]
pub struct ReceiptView<'a> {
    n: u64,
    at_us: u64,
    connection: u64,
    version: &'a str,
    method: &'a str,
    path: &'a str,
    key_suffix: Option<&'a str>,
    revision: Option<&'a str>,
    content_type: Option<&'a str>,
    status: Option<u16>,
    fault: Option<&'a str>,
    accepted: bool,
    /// Bytes of the body, kept or not.
    size: usize,
    body: Option<BodyView<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum BodyView<'a> {
    Json(&'a RawValue),
    Text(String),
}

/// Path (as the OpenAPI document writes it), status, fault.
type Ending = (Arc<str>, Option<u16>, Option<&'static str>);

/// How many requests to a path ended in one way.
#[derive(Serialize)]
pub struct Count<'a> {
    path: &'a str,
    status: Option<u16>,
    fault: Option<&'a str>,
    count: u64,
}

/// All receipts since the last reset.
pub struct Receipts {
    rows: Vec<Receipt>,
    counts: HashMap<Ending, u64>,
    /// Paths, revisions and the like repeat in every request; each text is kept once.
    texts: HashSet<Arc<str>>,
    epoch: u64,
    store_bodies: bool,
}

impl Receipts {
    pub fn new(store_bodies: bool) -> Self {
        Self { rows: Vec::new(), counts: HashMap::new(), texts: HashSet::new(), epoch: 0, store_bodies }
    }

    pub fn clear(&mut self) {
        *self = Self { epoch: self.epoch + 1, ..Self::new(self.store_bodies) };
    }

    /// Adds the row of a request that was read to its end. Of the key only the last four characters are kept.
    pub fn open(
        &mut self,
        at_us: u64,
        connection: u64,
        head: &Parts,
        key: Option<&str>,
        body: &Bytes,
    ) -> Ticket {
        let path = head.uri.path();
        let counted = self.text(Call::at(&head.method, path).map_or(path, |(call, _)| call.path()));
        let receipt = Receipt {
            at_us,
            connection,
            version: version(head.version),
            method: self.text(head.method.as_str()),
            path: self.text(path),
            counted: Arc::clone(&counted),
            key_suffix: key.map(|key| self.text(last_four(key))),
            revision: self.header(&head.headers, &HeaderName::from_static("revision")),
            content_type: self.header(&head.headers, &CONTENT_TYPE),
            outcome: Outcome::default(),
            size: body.len(),
            body: self.store_bodies.then(|| body.clone()),
        };
        self.rows.push(receipt);
        *self.counts.entry((counted, None, None)).or_default() += 1;
        Ticket { epoch: self.epoch, n: self.rows.len() as u64 }
    }

    /// Whether the ticket's row still exists.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        ticket.epoch == self.epoch
    }

    /// Writes down how the request ended.
    pub fn close(&mut self, ticket: Ticket, outcome: Outcome) {
        if !self.is_current(ticket) {
            return;
        }
        let Some(row) = usize::try_from(ticket.n - 1).ok().and_then(|at| self.rows.get_mut(at)) else {
            return;
        };
        let before = std::mem::replace(&mut row.outcome, outcome);
        let counted = Arc::clone(&row.counted);
        if let Some(count) = self.counts.get_mut(&(Arc::clone(&counted), before.status, before.fault)) {
            *count -= 1;
        }
        *self.counts.entry((counted, outcome.status, outcome.fault)).or_default() += 1;
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// At most `limit` rows after row number `after`, fewer if their bodies grow large.
    pub fn after(&self, after: usize, limit: usize, bodies: bool) -> Vec<ReceiptView<'_>> {
        let mut room = MAX_PAGE;
        let rows = self.rows.iter().zip(1..).skip(after).take(limit).take_while(|(row, _)| {
            let fits = room > 0;
            room = room.saturating_sub(if bodies { row.size } else { 0 });
            fits
        });
        rows.map(|(row, n)| row.view(n, bodies)).collect()
    }

    /// Requests by path, status and fault, sorted.
    pub fn counts(&self) -> Vec<Count<'_>> {
        let mut counts: Vec<Count> = self
            .counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|((path, status, fault), &count)| Count { path, status: *status, fault: *fault, count })
            .collect();
        counts.sort_by_key(|count| (count.path, count.status, count.fault));
        counts
    }

    /// Requests answered 429, by a window or by a fault.
    pub fn throttled(&self) -> u64 {
        let throttled = self.counts.iter().filter(|((_, status, _), _)| *status == Some(429));
        throttled.map(|(_, count)| count).sum()
    }

    fn header(&mut self, headers: &HeaderMap, name: &HeaderName) -> Option<Arc<str>> {
        headers.get(name).map(|value| self.text(&String::from_utf8_lossy(value.as_bytes())))
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }
}

impl Receipt {
    fn view(&self, n: u64, with_body: bool) -> ReceiptView<'_> {
        ReceiptView {
            n,
            at_us: self.at_us,
            connection: self.connection,
            version: self.version,
            method: &self.method,
            path: &self.path,
            key_suffix: self.key_suffix.as_deref(),
            revision: self.revision.as_deref(),
            content_type: self.content_type.as_deref(),
            status: self.outcome.status,
            fault: self.outcome.fault,
            accepted: self.outcome.accepted,
            size: self.size,
            body: self.body.as_deref().filter(|_| with_body).map(body_view),
        }
    }
}

fn body_view(body: &[u8]) -> BodyView<'_> {
    match serde_json::from_slice(body) {
        Ok(json) => BodyView::Json(json),
        Err(_) => BodyView::Text(String::from_utf8_lossy(body).into_owned()),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn last_four(key: &str) -> &str {
    let start = key.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    &key[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str) -> Parts {
        hyper::Request::post(path).header("revision", "2026-07-15").body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_row_is_numbered_from_one_and_closed_in_place() {
        let mut receipts = Receipts::new(true);
        let first =
            receipts.open(5, 1, &head("/api/events"), Some("pk_secret1234"), &Bytes::from("{\"a\": 1}"));
        let second = receipts.open(6, 1, &head("/api/events"), None, &Bytes::from("not json"));
        receipts.close(first, Outcome { status: Some(202), fault: None, accepted: true });
        assert_eq!((first.n, second.n), (1, 2));
        let rows = serde_json::to_value(receipts.after(0, usize::MAX, true)).unwrap();
        assert_eq!(rows[0]["status"], 202);
        assert_eq!(rows[0]["body"]["a"], 1);
        assert_eq!(rows[0]["key_suffix"], "1234");
        assert_eq!(rows[1]["status"], serde_json::Value::Null);
        assert_eq!(rows[1]["body"], "not json");
        assert_eq!(receipts.after(1, 5, true).len(), 1);
        assert_eq!(receipts.counts().iter().map(|count| count.count).sum::<u64>(), 2);
    }

    #[test]
    fn a_ticket_of_before_a_reset_closes_nothing() {
        let mut receipts = Receipts::new(false);
        let old = receipts.open(5, 1, &head("/api/events"), None, &Bytes::new());
        receipts.clear();
        receipts.open(6, 1, &head("/api/events"), None, &Bytes::new());
        receipts.close(old, Outcome { status: Some(202), fault: None, accepted: true });
        assert_eq!(receipts.after(0, 1, true)[0].status, None);
    }

    #[test]
    fn a_page_of_large_bodies_is_short() {
        let mut receipts = Receipts::new(true);
        let body = Bytes::from(vec![b' '; MAX_PAGE / 2]);
        for _ in 0..5 {
            receipts.open(5, 1, &head("/api/event-bulk-create-jobs"), None, &body);
        }
        assert_eq!(receipts.after(0, usize::MAX, true).len(), 2);
        assert_eq!(receipts.after(4, usize::MAX, true).len(), 1);
        let heads = serde_json::to_value(receipts.after(0, usize::MAX, false)).unwrap();
        assert_eq!(heads.as_array().unwrap().len(), 5);
        assert_eq!((&heads[0]["size"], heads[0]["body"].is_null()), (&MAX_PAGE.div_euclid(2).into(), true));
    }
}
