//! Is the person on the list that an unsubscribe names? Who is not would be unsubscribed from everything (spec:
//! `bulk_unsubscribe_profiles`). To make sure by adding him first could start flows, so it is only asked.

use std::collections::HashSet;

use klaviyo::{Endpoint, GET_LIST_PROFILES, Request, ask_list_members, list_members_of};

use super::{Answer, Question, Says};
use crate::batch::{Batch, Offered, Places};
use crate::key;
use crate::kind::consent::Payload;
use crate::message::Failure;

/// Bytes of the values in a question: with all the rest of the URL, as its bytes are written there, below the 8 KB that
/// servers take.
const VALUES: usize = 6_000;

/// The question.
pub struct ListMembers;

impl Question for ListMembers {
    fn endpoint(&self) -> &'static Endpoint {
        &GET_LIST_PROFILES
    }

    fn is_for(&self, payload: &str) -> bool {
        Payload::read(payload).is_ok_and(|payload| payload.list.is_some())
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Asked::default())
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let About { list, identifier, value } = About::of(payload)?;
        Ok(ask_list_members(&list, identifier, &[value]))
    }

    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>> {
        let mut members = HashSet::new();
        for member in list_members_of(body)? {
            let named = [("email", member.email), ("phone_number", member.phone_number)];
            members
                .extend(named.into_iter().filter_map(|(name, value)| Some(key::identifier(name, &value?))));
        }
        Some(Box::new(Members(members)))
    }
}

/// Whom a message is about, and which list.
#[derive(Debug, PartialEq, Eq)]
struct About {
    list: String,
    identifier: &'static str,
    value: String,
}

impl About {
    fn of(payload: &str) -> Result<Self, String> {
        let payload = Payload::read(payload)?;
        let (identifier, value) = payload.who()?;
        let list = payload.list.ok_or("it names no list")?;
        Ok(Self { list: list.into_owned(), identifier, value })
    }
}

/// A call that is being filled.
#[derive(Default)]
struct Asked {
    /// List and identifier that all of it are about.
    head: Option<(String, &'static str)>,
    values: Vec<String>,
    bytes: usize,
}

impl Batch for Asked {
    fn offer(&mut self, payload: &str, _: usize) -> Offered {
        let Ok(About { list, identifier, value }) = About::of(payload) else { return Offered::Alone };
        let head = (list, identifier);
        if self.head.as_ref().is_some_and(|mine| *mine != head) {
            return Offered::Elsewhere;
        }
        let bytes = written(&value);
        if self.values.len() >= GET_LIST_PROFILES.max_items || self.bytes + bytes > VALUES {
            return if self.values.is_empty() { Offered::Alone } else { Offered::Full };
        }
        self.head = Some(head);
        self.bytes += bytes;
        self.values.push(value);
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let (list, identifier) = self.head.unwrap_or_default();
        (ask_list_members(&list, identifier, &self.values), Box::new(NoPlaces))
    }
}

/// Bytes of a value in the URL, with its quotes and comma.
fn written(value: &str) -> usize {
    let plain = value.bytes().filter(u8::is_ascii_alphanumeric).count();
    9 + plain + 3 * (value.len() - plain)
}

/// Nothing is said of a part of a question.
struct NoPlaces;

impl Places for NoPlaces {
    fn is_about(&self, _: &str, _: usize) -> bool {
        false
    }

    fn position(&self, _: usize) -> Option<usize> {
        None
    }
}

/// Who is on the list, of those it was asked about.
struct Members(HashSet<String>);

impl Answer for Members {
    fn says(&self, payload: &str) -> Says {
        match About::of(payload) {
            Ok(About { identifier, value, .. }) if self.0.contains(&key::identifier(identifier, &value)) => {
                Says::Go
            }
            _ => Says::Stop(Failure {
                code: "not_on_list".to_owned(),
                reason:
                    "the person is not on that list, and nothing was done: Klaviyo would have unsubscribed \
                         them from everything"
                        .to_owned(),
                ..Failure::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(list: &str, profile: &str) -> String {
        format!(r#"{{"list":"{list}","profile":{profile}}}"#)
    }

    fn email(list: &str, email: &str) -> String {
        payload(list, &format!(r#"{{"email":"{email}"}}"#))
    }

    #[test]
    fn only_what_names_a_list_asks() {
        assert!(ListMembers.is_for(&email("Y6nRLr", "a@b.example")));
        assert!(!ListMembers.is_for(r#"{"profile":{"email":"a@b.example"}}"#));
        assert!(ListMembers.request(r#"{"list":"Y","profile":{}}"#).is_err());
    }

    #[test]
    fn a_call_asks_about_one_list_and_one_identifier() {
        let mut batch = ListMembers.batch();
        let phone = payload("Y6nRLr", r#"{"phone_number":"+15005550006"}"#);
        let offered = [
            email("Y6nRLr", "a@b.example"),
            phone,
            email("Other", "a@b.example"),
            email("Y6nRLr", "c@b.example"),
            "{}".to_owned(),
        ]
        .map(|payload| batch.offer(&payload, 1));
        let (taken, elsewhere) = (Offered::Taken, Offered::Elsewhere);
        assert_eq!(offered, [taken, elsewhere, elsewhere, taken, Offered::Alone]);
        let both = ["a@b.example".to_owned(), "c@b.example".to_owned()];
        assert_eq!(batch.finish().0, ask_list_members("Y6nRLr", "email", &both));
    }

    #[test]
    fn a_call_asks_about_as_many_as_fit() {
        let mut batch = ListMembers.batch();
        let offer =
            |batch: &mut Box<dyn Batch>, n: usize| batch.offer(&email("Y", &format!("{n}@b.example")), 1);
        assert!((0..100).all(|n| offer(&mut batch, n) == Offered::Taken));
        assert_eq!(offer(&mut batch, 100), Offered::Full);
        let mut batch = ListMembers.batch();
        let long = |n: usize| email("Y", &format!("{n}{}@b.example", "x".repeat(200)));
        let taken = (0..100).take_while(|n| batch.offer(&long(*n), 1) == Offered::Taken).count();
        assert!((20..30).contains(&taken), "{taken}");
    }

    #[test]
    fn who_is_not_on_the_list_is_left_alone() {
        let body = br#"{"data":[{"attributes":{"email":"Ada@B.example","phone_number":"+15005550006"}}]}"#;
        let answer = ListMembers.read(body).expect("an answer");
        assert_eq!(answer.says(&email("Y", "ada@b.example")), Says::Go);
        assert_eq!(answer.says(&payload("Y", r#"{"phone_number":"+15005550006"}"#)), Says::Go);
        let Says::Stop(failure) = answer.says(&email("Y", "bob@b.example")) else {
            panic!("he is not on it")
        };
        assert_eq!(failure.code, "not_on_list");
        assert!(ListMembers.read(b"<html>").is_none());
    }
}
