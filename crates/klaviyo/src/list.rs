//! Lists: who is on one.

use serde::Deserialize;

use crate::{GET_LIST_PROFILES, Request};

/// A profile on a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    pub email: Option<String>,
    pub phone_number: Option<String>,
}

/// Asks which of some are on a list: those with these values of `identifier`, `email` or `phone_number`. Of each value there
/// is one profile at the most, so a page has them all.
pub fn ask_list_members(list: &str, identifier: &str, values: &[String]) -> Request {
    let values = serde_json::Value::from(values);
    Request::get(&GET_LIST_PROFILES, list)
        .with("filter", format!("any({identifier},{values})"))
        .with("fields[profile]", "email,phone_number")
        .with("page[size]", GET_LIST_PROFILES.max_items.to_string())
}

/// Who is, by an answer to that.
pub fn list_members_of(body: &[u8]) -> Option<Vec<Member>> {
    #[derive(Deserialize)]
    struct Body {
        data: Vec<Resource>,
    }
    #[derive(Deserialize)]
    struct Resource {
        attributes: Member,
    }
    let Body { data } = serde_json::from_slice(body).ok()?;
    Some(data.into_iter().map(|resource| resource.attributes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{REVISION, Session};

    #[test]
    fn members_are_asked_for_by_name_and_read() {
        let request =
            ask_list_members("Y6nRLr", "email", &["a@b.example".to_owned(), "c\"d@e.example".to_owned()]);
        let session = Session::new("http://127.0.0.1:1", REVISION, "pk_test").expect("a session");
        let url = request.url(&session);
        assert_eq!(url.path(), "/api/lists/Y6nRLr/profiles");
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        assert_eq!(
            query[0],
            ("filter".to_owned(), r#"any(email,["a@b.example","c\"d@e.example"])"#.to_owned())
        );
        let body = br#"{"data":[{"type":"profile","id":"01","attributes":{"email":"a@b.example","phone_number":null}}]}"#;
        let member = Member { email: Some("a@b.example".to_owned()), phone_number: None };
        assert_eq!(list_members_of(body), Some(vec![member]));
        assert_eq!(list_members_of(b"{}"), None);
    }
}
