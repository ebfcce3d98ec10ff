//! Which list a message means: by Klaviyo's id, or by its name, which Klaviyo is asked about.
//!
//! In a payload it is `"list": …`, the id, or `"list_name": …`, beside which the id stands once Klaviyo has said it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::invalid::{Fault, Invalid};
use crate::kind::push_string;

/// Characters of Klaviyo's ids of lists.
const ID: usize = 6;

/// Bytes of an id or a name, as far as Klaviyo may ever make them.
pub const LONGEST: usize = 1_000;

/// A list, as an argument says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List<'a> {
    Id(&'a str),
    Name(&'a str),
}

impl<'a> List<'a> {
    /// What the argument `list` means: six letters and digits are an id, all else is a name, unless it begins with `id:` or
    /// `name:`.
    pub fn read(argument: &'a str) -> Result<Self, Invalid> {
        let is_id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let list = match (argument.strip_prefix("id:"), argument.strip_prefix("name:")) {
            (Some(id), _) if is_id(id) => Self::Id(id),
            (Some(_), _) => {
                return Err(refusal("Behind id: stands no id: these are of letters and digits."));
            }
            (_, Some(name)) => Self::Name(name),
            _ if argument.len() == ID && is_id(argument) => Self::Id(argument),
            _ => Self::Name(argument),
        };
        let (Self::Id(text) | Self::Name(text)) = list;
        if text.trim().is_empty() {
            return Err(refusal("It is blank."));
        }
        if text.len() > LONGEST {
            return Err(refusal("It is longer than 1000 bytes."));
        }
        Ok(list)
    }

    /// What must be said.
    pub fn required(argument: Option<&'a str>) -> Result<Self, Invalid> {
        argument.map_or_else(|| Err(refusal("It is NULL.")), Self::read)
    }

    /// Writes it into a payload.
    pub fn push(self, payload: &mut String) {
        match self {
            Self::Id(id) => push_string(payload, "list", id),
            Self::Name(name) => push_string(payload, "list_name", name),
        }
    }

    /// The identifier by which messages about the list itself keep their order.
    pub fn key(self) -> String {
        match self {
            Self::Id(id) => format!("list:{id}"),
            Self::Name(name) => format!("list_name:{name}"),
        }
    }
}

fn refusal(detail: &'static str) -> Invalid {
    Invalid::new(
        Fault::List,
        "argument \"list\" names no list",
        detail,
        "Pass its name, or the id that stands in its address at Klaviyo, such as Y6nRLr. name: in front of a name of six letters tells it from an id.",
    )
}

/// The name of a list that a payload means by it, if nobody has said yet which that is.
pub fn name_in(payload: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        list_name: Option<String>,
        list: Option<String>,
    }
    if !may_name(payload) {
        return None;
    }
    serde_json::from_str::<Named>(payload).ok().filter(|named| named.list.is_none())?.list_name
}

/// Most payloads name none, and need not be parsed to see that.
fn may_name(payload: &str) -> bool {
    payload.contains("\"list_name\"")
}

/// The payload, with the list's id beside its name.
pub fn with_id(payload: &str, id: &str) -> Option<String> {
    let mut parts: BTreeMap<&str, &RawValue> = serde_json::from_str(payload).ok()?;
    let id = serde_json::value::to_raw_value(id).ok()?;
    parts.insert("list", &id);
    serde_json::to_string(&parts).ok()
}

/// The payload, where it has a list's id beside its name, without that.
pub fn without_id(payload: &str) -> Option<String> {
    if !may_name(payload) {
        return None;
    }
    let mut parts: BTreeMap<&str, &RawValue> = serde_json::from_str(payload).ok()?;
    parts.remove("list").filter(|_| parts.contains_key("list_name"))?;
    serde_json::to_string(&parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_letters_and_digits_are_an_id() {
        for (argument, list) in [
            ("Y6nRLr", List::Id("Y6nRLr")),
            ("id:ABCDEFGH", List::Id("ABCDEFGH")),
            ("Newsletter", List::Name("Newsletter")),
            ("Fünf6", List::Name("Fünf6")),
            ("name:Summer", List::Name("Summer")),
            ("VIP gold", List::Name("VIP gold")),
        ] {
            assert_eq!(List::read(argument), Ok(list));
        }
        for bad in ["", " ", "name:", "id:", "id:a b", &"x".repeat(1_001)] {
            assert_eq!(List::read(bad).expect_err(bad).fault, Fault::List);
        }
        assert!(List::required(None).is_err());
    }

    #[test]
    fn an_id_stands_beside_a_name() {
        let payload = r#"{"list_name":"VIP \"gold\"","profile":{"email":"a@b.example","n":1.50}}"#;
        assert_eq!(name_in(payload).as_deref(), Some("VIP \"gold\""));
        let told = with_id(payload, "Y6nRLr").expect("a payload");
        let expected =
            r#"{"list":"Y6nRLr","list_name":"VIP \"gold\"","profile":{"email":"a@b.example","n":1.50}}"#;
        assert_eq!((told.as_str(), name_in(&told)), (expected, None));
        assert_eq!(without_id(&told).as_deref(), Some(payload));
        assert_eq!((without_id(payload), without_id(r#"{"list":"Y6nRLr"}"#)), (None, None));
    }
}
