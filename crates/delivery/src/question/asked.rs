//! A call that asks about people by one of their identifiers.

use std::collections::HashMap;

use klaviyo::{Endpoint, Request, people_of};

use crate::batch::{Batch, Offered, Places};
use crate::key;

/// Bytes of the values in a question: with all the rest of the URL, as its bytes are written there, below the 8 KB that
/// servers take.
const VALUES: usize = 6_000;

/// What a message asks: about whom, and what that has in common with others of a call.
#[derive(Debug, PartialEq, Eq)]
pub struct About {
    /// A list's id, where the question is about one.
    pub list: String,
    pub identifier: &'static str,
    pub value: String,
}

/// Makes the call.
pub type Ask = fn(list: &str, identifier: &str, values: &[String]) -> Request;

/// A call that is being filled.
pub struct Asked {
    about: fn(&str) -> Result<About, String>,
    ask: Ask,
    most: usize,
    head: Option<(String, &'static str)>,
    values: Vec<String>,
    bytes: usize,
}

impl Asked {
    /// About so many at the most.
    pub fn new(about: fn(&str) -> Result<About, String>, ask: Ask, most: usize) -> Self {
        Self { about, ask, most, head: None, values: Vec::new(), bytes: 0 }
    }
}

impl Batch for Asked {
    fn offer(&mut self, payload: &str, _: usize) -> Offered {
        let Ok(About { list, identifier, value }) = (self.about)(payload) else { return Offered::Alone };
        let head = (list, identifier);
        if self.head.as_ref().is_some_and(|mine| *mine != head) {
            return Offered::Elsewhere;
        }
        let bytes = written(&value);
        if self.values.len() >= self.most || self.bytes + bytes > VALUES {
            return if self.values.is_empty() { Offered::Alone } else { Offered::Full };
        }
        self.head = Some(head);
        self.bytes += bytes;
        self.values.push(value);
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let (list, identifier) = self.head.unwrap_or_default();
        ((self.ask)(&list, identifier, &self.values), Box::new(NoPlaces))
    }
}

/// Bytes of a value in the URL, with its quotes and comma.
fn written(value: &str) -> usize {
    let plain = value.bytes().filter(u8::is_ascii_alphanumeric).count();
    9 + plain + 3 * (value.len() - plain)
}

/// A call about what never rides with others.
pub struct Nobody(pub &'static Endpoint);

impl Batch for Nobody {
    fn offer(&mut self, _: &str, _: usize) -> Offered {
        Offered::Alone
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        (Request::get(self.0, ""), Box::new(NoPlaces))
    }
}

/// Nothing is said of a part of a question.
pub struct NoPlaces;

impl Places for NoPlaces {
    fn is_about(&self, _: &str, _: usize) -> bool {
        false
    }

    fn position(&self, _: usize) -> Option<usize> {
        None
    }
}

/// Who was found: ids by identifiers.
pub struct Found(HashMap<String, String>);

impl Found {
    /// By an answer, where it can be read.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut found = HashMap::new();
        for person in people_of(body)? {
            for (name, value) in person.identifiers {
                found.insert(key::identifier(name, &value), person.id.clone());
            }
        }
        Some(Self(found))
    }

    /// The id of whom it was asked about.
    pub fn id(&self, about: &About) -> Option<&str> {
        self.0.get(&key::identifier(about.identifier, &about.value)).map(String::as_str)
    }
}
