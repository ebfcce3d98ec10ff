//! Lists themselves: a new one, another name for one, and the end of one.
//!
//! Payload: `{"new_list": …}`, the name; `{"list" | "list_name": …, "name": …}`, the new name; `{"list" | "list_name": …}`.
//! Klaviyo may have several lists of a name, and makes another one of whoever asks twice, so it is asked first.

use klaviyo::{CREATE_LIST, DELETE_LIST, Endpoint, Request, UPDATE_LIST, list_body, list_name_body};
use serde::Deserialize;

use super::{Checked, Kind, Lost, Reading, Rides, push_string};
use crate::invalid::{Fault, Invalid};
use crate::list::{LONGEST, List};
use crate::message::Failure;
use crate::question::{ListNames, NO_SUCH_LIST, Question};

/// Lays down a new list.
pub fn create(name: Option<&str>) -> Result<Checked, Invalid> {
    let name = check_name("name", name)?;
    let mut payload = String::from("{");
    push_string(&mut payload, "new_list", name);
    payload.push('}');
    Ok(Checked { key: vec![List::Name(name).key()], payload })
}

/// Lays down another name for a list.
pub fn rename(list: Option<&str>, name: Option<&str>) -> Result<Checked, Invalid> {
    let (list, name) = (List::required(list)?, check_name("name", name)?);
    let mut payload = String::from("{");
    list.push(&mut payload);
    push_string(&mut payload, "name", name);
    payload.push('}');
    // A list that is made by that name, or taken for it, comes after.
    Ok(Checked { key: vec![list.key(), List::Name(name).key()], payload })
}

/// Lays down the end of a list.
pub fn delete(list: Option<&str>) -> Result<Checked, Invalid> {
    let list = List::required(list)?;
    let mut payload = String::from("{");
    list.push(&mut payload);
    payload.push('}');
    Ok(Checked { key: vec![list.key()], payload })
}

fn check_name<'a>(argument: &str, name: Option<&'a str>) -> Result<&'a str, Invalid> {
    let is_name = |name: &&str| !name.trim().is_empty() && name.len() <= LONGEST;
    name.filter(is_name).ok_or_else(|| {
        Invalid::new(
            Fault::List,
            format!("argument \"{argument}\" is no name for a list"),
            "It is NULL, blank, or longer than 1000 bytes.",
            "Pass the name that people are to see at Klaviyo.",
        )
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    new_list: Option<String>,
    list: Option<String>,
    list_name: Option<String>,
    name: Option<String>,
}

/// The name of a list that is to be made.
pub fn new_name(payload: &str) -> Option<String> {
    serde_json::from_str::<Payload>(payload).ok()?.new_list
}

/// The list that is to have another name, and that.
pub fn renamed(payload: &str) -> Option<(String, String)> {
    let Payload { list, name, .. } = serde_json::from_str(payload).ok()?;
    list.zip(name)
}

/// A kind of these.
pub struct Change {
    name: &'static str,
    endpoint: &'static Endpoint,
    lost: Lost,
}

/// A new list.
pub const CREATE: Change = Change { name: "list_create", endpoint: &CREATE_LIST, lost: Lost::ReadBack };

/// Another name.
pub const RENAME: Change = Change { name: "list_rename", endpoint: &UPDATE_LIST, lost: Lost::Repeated };

/// The end of a list. If it is gone when it is asked for again, it was done.
pub const DELETE: Change = Change { name: "list_delete", endpoint: &DELETE_LIST, lost: Lost::Repeated };

impl Kind for Change {
    fn name(&self) -> &'static str {
        self.name
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(self.endpoint)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        Ok(self.request(payload)?.body().to_vec())
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let payload: Payload = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        match payload {
            Payload { new_list: Some(name), list: None, list_name: None, name: None }
                if *self.endpoint == CREATE_LIST =>
            {
                Ok(Request::post(self.endpoint, list_body(&name)))
            }
            Payload { new_list: None, list: Some(list), name: Some(name), .. }
                if *self.endpoint == UPDATE_LIST =>
            {
                Ok(Request::to(self.endpoint, &list, list_name_body(&list, &name)))
            }
            Payload { new_list: None, list: Some(list), name: None, .. } if *self.endpoint == DELETE_LIST => {
                Ok(Request::to(self.endpoint, &list, Vec::new()))
            }
            _ => Err("it does not say what is to become of which list".to_owned()),
        }
    }

    fn lost(&self) -> Lost {
        self.lost
    }

    fn says_done(&self, _: &str, failure: &Failure, _: &[String]) -> bool {
        let is_gone = failure.status == Some(404) || failure.code == NO_SUCH_LIST;
        *self.endpoint == DELETE_LIST && is_gone
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Never, carries_state: false, backfill: false }
    }

    fn questions(&self) -> &'static [&'static dyn Question] {
        &[&ListNames]
    }

    fn renames(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_is_to_become_of_which_list() {
        let made = create(Some("VIP")).expect("valid");
        assert_eq!(made.key, ["list_name:VIP"]);
        assert_eq!(CREATE.request(&made.payload), Ok(Request::post(&CREATE_LIST, list_body("VIP"))));
        let renamed = rename(Some("Y6nRLr"), Some("VIP")).expect("valid");
        assert_eq!(renamed.key, ["list:Y6nRLr", "list_name:VIP"]);
        let body = list_name_body("Y6nRLr", "VIP");
        assert_eq!(RENAME.request(&renamed.payload), Ok(Request::to(&UPDATE_LIST, "Y6nRLr", body)));
        let gone = delete(Some("Y6nRLr")).expect("valid");
        assert_eq!(DELETE.request(&gone.payload), Ok(Request::to(&DELETE_LIST, "Y6nRLr", Vec::new())));
        assert!(DELETE.request(&renamed.payload).is_err() && CREATE.request(&gone.payload).is_err());
        let by_name = delete(Some("VIP")).expect("valid");
        assert!(DELETE.request(&by_name.payload).is_err(), "nobody has said yet which it is");
        for bad in [create(None), create(Some(" ")), rename(None, Some("VIP")), delete(Some(""))] {
            assert_eq!(bad.expect_err("invalid").fault, Fault::List);
        }
    }
}
