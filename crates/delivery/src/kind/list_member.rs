//! Members of a list: put on it, and taken off it, whatever the person has agreed to.
//!
//! Payload: `{"list": …, "email" | "phone_number" | "external_id": …}`, the list as in [`crate::list`]. Klaviyo is asked first
//! which profile that is, and its id is in the payload that is sent.

use klaviyo::{ADD_TO_LIST, Endpoint, REMOVE_FROM_LIST, Request, list_members_body};
use serde::{Deserialize, Serialize};

use super::{Checked, Kind, Lost, Reading, Rides, push_string};
use crate::batch::{Batch, Offered, Places};
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};
use crate::list::List;
use crate::question::{ListNames, ProfileIds, Question};

/// What `klaviyo_add_to_list` or `klaviyo_remove_from_list` was given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draft<'a> {
    pub list: Option<&'a str>,
    pub identifiers: Identifiers<'a>,
}

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let list = List::required(self.list)?;
        self.identifiers.check()?;
        if self.identifiers.given().count() > 1 {
            return Err(Invalid::new(
                Fault::TwoIdentifiers,
                "a member of a list is named by two identifiers",
                "Klaviyo is asked by one of them which profile it is.",
                "Pass one of email, phone_number and external_id.",
            ));
        }
        let mut payload = String::from("{");
        list.push(&mut payload);
        self.identifiers.given().for_each(|(name, value)| push_string(&mut payload, name, value));
        payload.push('}');
        Ok(Checked { key: self.identifiers.key(), payload })
    }
}

/// What is laid down.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    list_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// Klaviyo's, once it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Payload {
    /// # Errors
    /// Says why it is none of ours.
    pub fn read(payload: &str) -> Result<Self, String> {
        serde_json::from_str(payload).map_err(|error| error.to_string())
    }

    /// Whom it is about, and by which identifier.
    ///
    /// # Errors
    /// Where it names nobody.
    pub fn who(&self) -> Result<(&'static str, String), String> {
        let all = [
            ("email", &self.email),
            ("phone_number", &self.phone_number),
            ("external_id", &self.external_id),
        ];
        let mut given = all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        given.next().ok_or_else(|| "it names nobody".to_owned())
    }

    /// It, with what Klaviyo says.
    pub fn with_id(self, id: &str) -> String {
        let payload = Self { id: Some(id.to_owned()), ..self };
        serde_json::to_string(&payload).expect("texts can be written to memory")
    }

    fn told(payload: &str) -> Result<(String, String), String> {
        let Self { list, id, .. } = Self::read(payload)?;
        let list = list.ok_or("nobody has said yet which list it means")?;
        Ok((list, id.ok_or("nobody has said yet which profile it is")?))
    }
}

/// A kind of these.
pub struct ListMember {
    name: &'static str,
    endpoint: &'static Endpoint,
}

/// Puts somebody on a list. Who is on it stays so.
pub const ADD: ListMember = ListMember { name: "list_add", endpoint: &ADD_TO_LIST };

/// Takes somebody off it. Who is not on it stays so.
pub const REMOVE: ListMember = ListMember { name: "list_remove", endpoint: &REMOVE_FROM_LIST };

impl Kind for ListMember {
    fn name(&self) -> &'static str {
        self.name
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(self.endpoint)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        Ok(list_members_body(&[Payload::told(payload)?.1]))
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let (list, id) = Payload::told(payload)?;
        Ok(Request::to(self.endpoint, &list, list_members_body(&[id])))
    }

    fn lost(&self) -> Lost {
        Lost::Repeated
    }

    fn read(&self, _: &str, _: [u8; 16], payload: &str) -> Reading {
        let is_ours = Payload::read(payload).is_ok_and(|payload| payload.who().is_ok());
        let rides = if is_ours { Rides::Always } else { Rides::Never };
        Reading { rides, carries_state: false, backfill: false }
    }

    fn bulk(&self) -> Option<&'static Endpoint> {
        Some(self.endpoint)
    }

    fn batch(&self) -> Option<Box<dyn Batch>> {
        Some(Box::new(Members { endpoint: self.endpoint, list: None, ids: Vec::new() }))
    }

    fn questions(&self) -> &'static [&'static dyn Question] {
        &[&ListNames, &ProfileIds]
    }
}

/// A call that is being filled: of one list.
struct Members {
    endpoint: &'static Endpoint,
    list: Option<String>,
    ids: Vec<String>,
}

impl Batch for Members {
    fn offer(&mut self, payload: &str, _: usize) -> Offered {
        let Ok((list, id)) = Payload::told(payload) else { return Offered::Alone };
        if self.list.as_ref().is_some_and(|mine| *mine != list) {
            return Offered::Elsewhere;
        }
        if self.ids.len() >= self.endpoint.max_items {
            return Offered::Full;
        }
        self.list = Some(list);
        self.ids.push(id);
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let body = list_members_body(&self.ids);
        (Request::to(self.endpoint, &self.list.unwrap_or_default(), body), Box::new(MemberPlaces))
    }
}

/// A member stands where it was taken.
struct MemberPlaces;

impl Places for MemberPlaces {
    fn is_about(&self, pointer: &str, message: usize) -> bool {
        let member = pointer.strip_prefix("/data/").and_then(|rest| rest.split('/').next()?.parse().ok());
        member == Some(message)
    }

    fn position(&self, _: usize) -> Option<usize> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_by_one_identifier() {
        let email = Identifiers { email: Some("Ada@b.example"), ..Identifiers::default() };
        let checked = Draft { list: Some("Y6nRLr"), identifiers: email }.check().expect("valid");
        assert_eq!(checked.key, ["email:ada@b.example"]);
        assert_eq!(checked.payload, r#"{"list":"Y6nRLr","email":"Ada@b.example"}"#);
        assert!(ProfileIds.is_for(&checked.payload));
        assert!(ADD.request(&checked.payload).is_err(), "nobody has said which profile that is");
        let fault = |list, identifiers| Draft { list, identifiers }.check().expect_err("invalid").fault;
        assert_eq!(fault(None, email), Fault::List);
        assert_eq!(fault(Some(" "), email), Fault::List);
        assert_eq!(fault(Some("Y6nRLr"), Identifiers::default()), Fault::NoIdentifier);
        let two = Identifiers { external_id: Some("7"), ..email };
        assert_eq!(fault(Some("Y6nRLr"), two), Fault::TwoIdentifiers);
    }

    #[test]
    fn a_call_is_of_one_list_and_of_as_many_as_klaviyo_takes() {
        let told = |list: &str, n: usize| {
            let payload = format!(r#"{{"list":"{list}","external_id":"{n}"}}"#);
            Payload::read(&payload).expect("ours").with_id(&format!("id{n}"))
        };
        let mut batch = ADD.batch().expect("a call");
        assert_eq!(batch.offer(&told("A", 0), 1), Offered::Taken);
        assert_eq!(batch.offer(&told("B", 1), 1), Offered::Elsewhere);
        assert_eq!(batch.offer(r#"{"list":"A","external_id":"2"}"#, 1), Offered::Alone);
        assert!((1..1_000).all(|n| batch.offer(&told("A", n), 1) == Offered::Taken));
        assert_eq!(batch.offer(&told("A", 1_000), 1), Offered::Full);
        let (request, places) = batch.finish();
        assert!(request.body().starts_with(br#"{"data":[{"id":"id0","type":"profile"},"#));
        assert_eq!([0, 12, 13].map(|message| places.is_about("/data/12/id", message)), [false, true, false]);
    }
}
