//! Calls of Klaviyo's API that no kind of their own makes: any there is, as somebody has written it.
//!
//! Payload: `{"method": …, "path": …, "body": …}`, the path with its query. A call that changes something is not made again
//! when its answer is lost: only a person can tell whether that does harm. Its answer is kept.

use std::collections::BTreeSet;

use klaviyo::{Endpoint, Method, Request, methods_at, takes_json};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Checked, Kind, Lost, Reading, Rides, push_raw, push_string};
use crate::identifiers::Identifiers;
use crate::invalid::{Fault, Invalid};
use crate::key;
use crate::message::Failure;

/// Bytes of a body (spec: the largest of any call, that of events).
pub const BODY: usize = 5_000_000;

/// Bytes of a path with its query, and without: the latter is what the message keeps its order by.
const LONGEST: usize = 8_000;
const LONGEST_PATH: usize = 1_000;

/// What `klaviyo_call` was given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draft<'a> {
    pub method: Option<&'a str>,
    pub path: Option<&'a str>,
    /// JSON.
    pub body: Option<&'a str>,
}

impl Draft<'_> {
    /// Checks whether there is such a call, and lays it down. What stands in its body is Klaviyo's to judge.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let method = check_method(self.method)?;
        let path = check_path(self.path)?;
        let endpoint = find(method, path)?;
        check_body(endpoint, self.body)?;
        let mut payload = String::from("{");
        push_string(&mut payload, "method", method.name());
        push_string(&mut payload, "path", path);
        if let Some(body) = self.body {
            push_raw(&mut payload, "body", body);
        }
        payload.push('}');
        Ok(Checked { key: key(path, self.body), payload })
    }
}

fn check_method(method: Option<&str>) -> Result<Method, Invalid> {
    let named = method.and_then(|method| Method::named(&method.to_ascii_uppercase()));
    named.ok_or_else(|| {
        refusal(
            "method",
            "It is none of GET, POST, PATCH and DELETE.",
            "Pass that of the call in Klaviyo's reference.",
        )
    })
}

fn check_path(path: Option<&str>) -> Result<&str, Invalid> {
    let path = path.unwrap_or_default();
    let refuse = |detail: &'static str| {
        Err(refusal(
            "path",
            detail,
            "Pass it as Klaviyo's reference has it, as in /api/campaigns/01J9ZK, and encode what it has no place for.",
        ))
    };
    let is_dots = |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    match path {
        _ if !path.starts_with('/') => refuse("It does not begin with a slash; the host is the account's."),
        _ if path.len() > LONGEST || without_query(path).len() > LONGEST_PATH => {
            refuse("It is longer than 8000 bytes, or than 1000 without its query.")
        }
        _ if path.contains(|c: char| c.is_control() || c == '#' || c == '\\') => {
            refuse("It has a control character, a backslash or a #.")
        }
        _ if without_query(path).contains(|c: char| c.is_whitespace() || c == '{') => {
            refuse("It has a space, or a brace where an id should stand.")
        }
        _ if without_query(path).split('/').any(is_dots) => refuse("A part of it is \".\" or \"..\"."),
        _ => Ok(path),
    }
}

fn find(method: Method, path: &str) -> Result<&'static Endpoint, Invalid> {
    let at = without_query(path);
    let Some(endpoint) = klaviyo::call(method, at) else {
        let methods: Vec<&str> = methods_at(at).map(Method::name).collect();
        let detail = match methods.as_slice() {
            [] => "Klaviyo's API has no such path.".to_owned(),
            methods => format!("Klaviyo's API has no {} of it, but {}.", method.name(), methods.join(", ")),
        };
        let argument = if methods.is_empty() { "path" } else { "method" };
        return Err(refusal(
            argument,
            detail,
            "See the calls of revision 2026-07-15 in Klaviyo's reference.",
        ));
    };
    if takes_json(endpoint) {
        return Ok(endpoint);
    }
    Err(refusal(
        "path",
        "It takes a file, and no JSON.",
        "Use POST /api/images, which takes the address of an image.",
    ))
}

fn check_body(endpoint: &Endpoint, body: Option<&str>) -> Result<(), Invalid> {
    let refuse = |detail: &str| {
        Err(refusal(
            "body",
            detail.to_owned(),
            "Pass the object that Klaviyo's reference has, or NULL for none.",
        ))
    };
    match (endpoint.method, body) {
        (Method::Get, Some(_)) => refuse("A GET has none."),
        (Method::Post | Method::Patch, None) => refuse("It is NULL, and the call takes one."),
        (_, Some(body)) if !body.starts_with('{') => refuse("It is no object."),
        (_, Some(body)) if serde_json::from_str::<Value>(body).is_err() => refuse(
            "It is nested deeper than 127 levels, or has a number that is larger than any JSON reader's.",
        ),
        _ => Ok(()),
    }
}

fn refusal(
    argument: &str,
    detail: impl Into<std::borrow::Cow<'static, str>>,
    hint: impl Into<std::borrow::Cow<'static, str>>,
) -> Invalid {
    Invalid::new(Fault::Call, format!("argument \"{argument}\" is of no call that can be made"), detail, hint)
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// One that names one person is in order with all else about that person; any other with those of the same path.
fn key(path: &str, body: Option<&str>) -> Vec<String> {
    let mut found: [BTreeSet<String>; 3] = Default::default();
    let mut left: Vec<Value> = body.and_then(|body| serde_json::from_str(body).ok()).into_iter().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::Array(values) => left.extend(values),
            Value::Object(values) => {
                for (name, value) in values {
                    let which =
                        ["email", "phone_number", "external_id"].iter().position(|known| *known == name);
                    match (which, value) {
                        (Some(which), Value::String(text)) => _ = found[which].insert(text),
                        (_, value) => left.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    let one = |of: &BTreeSet<String>| of.first().cloned();
    let [email, phone_number, external_id] = found.each_ref().map(one);
    let whom = Identifiers {
        email: email.as_deref(),
        phone_number: phone_number.as_deref(),
        external_id: external_id.as_deref(),
    };
    // What names nobody that can be is Klaviyo's to refuse.
    let is_one = whom.check().is_ok() && found.iter().all(|of| of.len() < 2);
    if is_one { whom.key() } else { vec![key::identifier("call", without_query(path))] }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    method: String,
    path: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl<'a> Payload<'a> {
    fn read(payload: &'a str) -> Result<(Self, &'static Endpoint), String> {
        let read: Self = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        let method = check_method(Some(&read.method)).map_err(|invalid| invalid.detail.into_owned())?;
        let path = check_path(Some(&read.path)).map_err(|invalid| invalid.detail.into_owned())?;
        let endpoint = find(method, path).map_err(|invalid| invalid.detail.into_owned())?;
        check_body(endpoint, read.body.map(RawValue::get)).map_err(|invalid| invalid.detail.into_owned())?;
        Ok((read, endpoint))
    }
}

/// The kind.
pub struct Call;

impl Kind for Call {
    fn name(&self) -> &'static str {
        "call"
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        None
    }

    fn endpoint_of(&self, payload: &str) -> Option<&'static Endpoint> {
        Payload::read(payload).ok().map(|(_, endpoint)| endpoint)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        Ok(self.request(payload)?.body().to_vec())
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let (Payload { path, body, .. }, endpoint) = Payload::read(payload)?;
        let body = body.map(|body| body.get().as_bytes().to_vec()).unwrap_or_default();
        Ok(Request::at(endpoint, &path, body))
    }

    fn lost(&self) -> Lost {
        Lost::RepeatedOrStopped
    }

    fn stops(&self, payload: &str) -> bool {
        !matches!(
            self.endpoint_of(payload).map(|endpoint| endpoint.method),
            Some(Method::Get | Method::Delete)
        )
    }

    /// What is to be deleted is gone when that is asked for again.
    fn says_done(&self, payload: &str, failure: &Failure, _: &[String]) -> bool {
        let method = self.endpoint_of(payload).map(|endpoint| endpoint.method);
        failure.status == Some(404) && method == Some(Method::Delete)
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Never, carries_state: false, backfill: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, body: Option<&str>) -> Result<Checked, Invalid> {
        Draft { method: Some(method), path: Some(path), body }.check()
    }

    #[test]
    fn it_goes_as_it_was_written() {
        let path = "/api/tags?filter=equals(name,\"a\")";
        let checked = check("get", path, None).expect("valid");
        let endpoint = klaviyo::call(Method::Get, "/api/tags").expect("a call");
        assert_eq!(Call.request(&checked.payload), Ok(Request::at(endpoint, path, Vec::new())));
        assert_eq!(checked.key, ["call:/api/tags"]);
        let body = r#"{"data": {"type":"tag","attributes":{"name":"é"}}}"#;
        let checked = check("POST", "/api/tags", Some(body)).expect("valid");
        assert_eq!(Call.body(&checked.payload).as_deref(), Ok(body.as_bytes()), "to the letter");
        assert!(Call.stops(&checked.payload));
    }

    #[test]
    fn what_changes_something_is_not_repeated() {
        for (method, body, stops) in
            [("GET", None, false), ("DELETE", None, false), ("PATCH", Some("{}"), true)]
        {
            let checked = check(method, "/api/tags/1", body).expect("valid");
            assert_eq!(Call.stops(&checked.payload), stops, "{method}");
        }
        assert!(Call.stops("nobody knows what"));
        let gone = Failure { status: Some(404), ..Failure::default() };
        let done = |method, body| {
            let checked = check(method, "/api/tags/1", body).expect("valid");
            Call.says_done(&checked.payload, &gone, &[])
        };
        assert!(done("DELETE", None) && !done("PATCH", Some("{}")) && !done("GET", None));
    }

    #[test]
    fn it_is_in_order_with_whom_it_is_about() {
        let key = |body| check("POST", "/api/profiles", Some(body)).expect("valid").key;
        assert_eq!(
            key(r#"{"data":{"attributes":{"email":"Ada@b.example","external_id":"1"}}}"#),
            ["email:ada@b.example", "external_id:1"]
        );
        for of_none_or_many in [
            "{}",
            r#"{"data":[{"email":"a@b.example"},{"email":"c@b.example"}]}"#,
            r#"{"email":null}"#,
            &format!(r#"{{"email":"{}@b.example"}}"#, "x".repeat(3_000)),
        ] {
            assert_eq!(key(of_none_or_many), ["call:/api/profiles"], "{of_none_or_many}");
        }
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for (method, path, body) in [
            ("PUT", "/api/tags", None),
            ("DELETE", "/api/tags", None),
            ("GET", "https://a.klaviyo.com/api/tags", None),
            ("GET", "api/tags", None),
            ("GET", "/api/tags/{id}", None),
            ("GET", "/api/tags/..", None),
            ("GET", "/api/tags/%2E%2e", None),
            ("GET", "/api/tags#a", None),
            ("GET", "/api/tags\\a", None),
            ("GET", "/api/tags/a b", None),
            ("GET", "/api/nothing", None),
            ("GET", "/api/tags", Some("{}")),
            ("POST", "/api/tags", None),
            ("POST", "/api/tags", Some("[]")),
            ("POST", "/api/image-upload", Some("{}")),
        ] {
            assert_eq!(check(method, path, body).expect_err(path).fault, Fault::Call, "{method} {path}");
        }
        assert!(check("GET", &format!("/api/tags?a={}", "a".repeat(LONGEST)), None).is_err());
        assert!(check("GET", &format!("/api/tags/{}", "a".repeat(LONGEST_PATH)), None).is_err());
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for body in [deep.as_str(), r#"{"a":1e400}"#] {
            assert!(check("POST", "/api/tags", Some(body)).is_err(), "{body}");
        }
        assert!(Draft::default().check().is_err());
        for payload in [
            "{}",
            r#"{"method":"GET","path":"/api/nothing"}"#,
            r#"{"method":"GET","path":"/api/tags","body":{}}"#,
        ] {
            assert!(Call.request(payload).is_err() && Call.endpoint_of(payload).is_none(), "{payload}");
        }
    }
}
