//! Who is who, who is on a list, and what lists are called.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{GET_LIST_PROFILES, GET_LISTS, GET_PROFILES, Request};

/// A profile, as far as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// Klaviyo's.
    pub id: String,
    /// Its identifiers, by name.
    pub identifiers: Vec<(&'static str, String)>,
}

/// Asks which of some are on a list: those with these values of `identifier`, `email` or `phone_number`.
pub fn ask_list_members(list: &str, identifier: &str, values: &[String]) -> Request {
    asked(Request::get(&GET_LIST_PROFILES, list), "email,phone_number", identifier, values)
}

/// Asks who has these values of `identifier`, `email`, `phone_number` or `external_id`.
pub fn ask_profiles(identifier: &str, values: &[String]) -> Request {
    asked(Request::get(&GET_PROFILES, ""), "email,phone_number,external_id", identifier, values)
}

/// Of each value there is one profile at the most, so a page has them all.
fn asked(request: Request, fields: &str, identifier: &str, values: &[String]) -> Request {
    let values = serde_json::Value::from(values);
    request
        .with("filter", format!("any({identifier},{values})"))
        .with("fields[profile]", fields)
        .with("page[size]", GET_PROFILES.max_items.to_string())
}

/// Who they are, by an answer to one of these.
pub fn people_of(body: &[u8]) -> Option<Vec<Person>> {
    #[derive(Deserialize)]
    struct Attributes {
        email: Option<String>,
        phone_number: Option<String>,
        external_id: Option<String>,
    }
    let person = |Resource { id, attributes }| {
        let Attributes { email, phone_number, external_id } = attributes;
        let all = [("email", email), ("phone_number", phone_number), ("external_id", external_id)];
        Person { id, identifiers: all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect() }
    };
    Some(resources(body)?.into_iter().map(person).collect())
}

/// What an answer lists.
#[derive(Deserialize)]
struct Resource<A> {
    id: String,
    attributes: A,
}

fn resources<A: DeserializeOwned>(body: &[u8]) -> Option<Vec<Resource<A>>> {
    #[derive(Deserialize)]
    struct Body<A> {
        data: Vec<Resource<A>>,
    }
    Some(serde_json::from_slice::<Body<A>>(body).ok()?.data)
}

/// Body of `add_profiles_to_list` and `remove_profiles_from_list`: profiles, by their ids.
pub fn list_members_body(ids: &[String]) -> Vec<u8> {
    let profiles = ids.iter().map(|id| json!({"type": "profile", "id": id}));
    json!({"data": profiles.collect::<Vec<_>>()}).to_string().into_bytes()
}

/// A list, as far as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Klaviyo's.
    pub id: String,
    /// What it is called.
    pub name: String,
}

/// Asks which lists have a name.
pub fn ask_lists(name: &str) -> Request {
    let names = serde_json::Value::from(vec![name]);
    Request::get(&GET_LISTS, "").with("filter", format!("any(name,{names})"))
}

/// Which they are, by the answer: ten at the most.
pub fn lists_of(body: &[u8]) -> Option<Vec<List>> {
    #[derive(Deserialize)]
    struct Attributes {
        name: Option<String>,
    }
    let list =
        |Resource::<Attributes> { id, attributes }| List { id, name: attributes.name.unwrap_or_default() };
    Some(resources(body)?.into_iter().map(list).collect())
}

/// Body of `create_list`.
pub fn list_body(name: &str) -> Vec<u8> {
    json!({"data": {"type": "list", "attributes": {"name": name}}}).to_string().into_bytes()
}

/// Body of `update_list`.
pub fn list_name_body(id: &str, name: &str) -> Vec<u8> {
    json!({"data": {"type": "list", "id": id, "attributes": {"name": name}}}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{REVISION, Session};

    #[test]
    fn people_are_asked_for_by_name_and_read() {
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
        assert_eq!(ask_profiles("external_id", &["7".to_owned()]).url(&session).path(), "/api/profiles");
        let body = br#"{"data":[{"type":"profile","id":"01","attributes":{"email":"a@b.example","phone_number":null}}]}"#;
        let person = Person { id: "01".to_owned(), identifiers: vec![("email", "a@b.example".to_owned())] };
        assert_eq!(people_of(body), Some(vec![person]));
        assert_eq!(people_of(b"{}"), None);
    }

    #[test]
    fn lists_are_asked_for_by_name() {
        let session = Session::new("http://127.0.0.1:1", REVISION, "pk_test").expect("a session");
        let url = ask_lists("VIP \"gold\"").url(&session);
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        assert_eq!(query, [("filter".to_owned(), r#"any(name,["VIP \"gold\""])"#.to_owned())]);
        let body = br#"{"data":[{"type":"list","id":"Y6nRLr","attributes":{"name":"VIP"}}]}"#;
        assert_eq!(lists_of(body), Some(vec![List { id: "Y6nRLr".to_owned(), name: "VIP".to_owned() }]));
        assert_eq!(lists_of(b"[]"), None);
        let body = list_name_body("Y6nRLr", "VIP");
        let expected = r#"{"data":{"attributes":{"name":"VIP"},"id":"Y6nRLr","type":"list"}}"#;
        assert_eq!(String::from_utf8_lossy(&body), expected);
    }

    #[test]
    fn members_are_named_by_their_ids() {
        let body = list_members_body(&["01".to_owned(), "02".to_owned()]);
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"data":[{"id":"01","type":"profile"},{"id":"02","type":"profile"}]}"#
        );
    }
}
