//! Is the person on the list that an unsubscribe names? Who is not would be unsubscribed from everything (spec:
//! `bulk_unsubscribe_profiles`). To make sure by adding him first could start flows, so it is only asked.

use klaviyo::{Endpoint, GET_LIST_PROFILES, Request, ask_list_members};

use super::asked::{About, Asked, Found};
use super::{Answer, Question, Says};
use crate::batch::Batch;
use crate::kind::consent::Payload;
use crate::message::Failure;

/// The question.
pub struct ListMembers;

fn about(payload: &str) -> Result<About, String> {
    let payload = Payload::read(payload)?;
    let (identifier, value) = payload.who()?;
    let list = payload.list.ok_or("it names no list")?;
    Ok(About { list: list.into_owned(), identifier, value })
}

impl Question for ListMembers {
    fn endpoint(&self) -> &'static Endpoint {
        &GET_LIST_PROFILES
    }

    fn is_for(&self, payload: &str) -> bool {
        Payload::read(payload).is_ok_and(|payload| payload.list.is_some())
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Asked::new(about, ask_list_members, GET_LIST_PROFILES.max_items))
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let About { list, identifier, value } = about(payload)?;
        Ok(ask_list_members(&list, identifier, &[value]))
    }

    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>> {
        Some(Box::new(Members(Found::read(body)?)))
    }
}

/// Who is on the list, of those it was asked about.
struct Members(Found);

impl Answer for Members {
    fn says(&self, payload: &str) -> Says {
        match about(payload) {
            Ok(about) if self.0.id(&about).is_some() => Says::Go,
            // Who is not on it any more has been unsubscribed.
            _ => Says::StopUnlessDone {
                failure: Failure {
                    code: "not_on_list".to_owned(),
                    reason: "the person is not on that list, or not any more, and nothing was done: Klaviyo \
                             would have unsubscribed them from everything"
                        .to_owned(),
                    ..Failure::default()
                },
                id: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Offered;

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
        let body =
            br#"{"data":[{"id":"01","attributes":{"email":"Ada@B.example","phone_number":"+15005550006"}}]}"#;
        let answer = ListMembers.read(body).expect("an answer");
        assert_eq!(answer.says(&email("Y", "ada@b.example")), Says::Go);
        assert_eq!(answer.says(&payload("Y", r#"{"phone_number":"+15005550006"}"#)), Says::Go);
        let Says::StopUnlessDone { failure, .. } = answer.says(&email("Y", "bob@b.example")) else {
            panic!("he is not on it")
        };
        assert_eq!(failure.code, "not_on_list");
        assert!(ListMembers.read(b"<html>").is_none());
    }
}
