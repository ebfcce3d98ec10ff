//! Which profile is it? Lists are told of their members by Klaviyo's ids alone.

use klaviyo::{Endpoint, GET_PROFILES, Request, ask_profiles};

use super::asked::{About, Asked, Found};
use super::{Answer, Question, Says};
use crate::batch::Batch;
use crate::kind::list_member::Payload;
use crate::message::Failure;

/// The question.
pub struct ProfileIds;

fn about(payload: &str) -> Result<About, String> {
    let (identifier, value) = Payload::read(payload)?.who()?;
    Ok(About { list: String::new(), identifier, value })
}

fn ask(_: &str, identifier: &str, values: &[String]) -> Request {
    ask_profiles(identifier, values)
}

impl Question for ProfileIds {
    fn endpoint(&self) -> &'static Endpoint {
        &GET_PROFILES
    }

    fn is_for(&self, payload: &str) -> bool {
        about(payload).is_ok()
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Asked::new(about, ask, GET_PROFILES.max_items))
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let About { identifier, value, .. } = about(payload)?;
        Ok(ask_profiles(identifier, &[value]))
    }

    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>> {
        Some(Box::new(Ids(Found::read(body)?)))
    }
}

/// The ids of those it was asked about.
struct Ids(Found);

impl Answer for Ids {
    fn says(&self, payload: &str) -> Says {
        let known = about(payload).ok().and_then(|about| self.0.id(&about));
        match (known, Payload::read(payload)) {
            (Some(id), Ok(payload)) => Says::GoAs(payload.with_id(id)),
            _ => Says::Stop(Failure {
                code: "no_such_profile".to_owned(),
                reason: "Klaviyo has no profile with this identifier, and a list takes nobody else"
                    .to_owned(),
                ..Failure::default()
            }),
        }
    }
}
