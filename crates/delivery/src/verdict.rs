//! What an answer means, by its status and Klaviyo's code.

use std::time::Duration;

use klaviyo::{
    ASSIGN_TEMPLATE, Answer, CREATE_CAMPAIGN, ESTIMATE_RECIPIENTS, Endpoint, MAX_ANSWER, MERGE_PROFILES,
    Method, RESOURCE_CALLS, SEND_CAMPAIGN, SUBSCRIBE, TransportError, UNSUBSCRIBE, errors_of, resource_id,
};

use serde::de::IgnoredAny;

use crate::campaign::is_id;
use crate::message::{Failure, KeptAnswer};

/// Calls whose bodies name what may not be there, a profile, a list or a campaign, at a path that is.
const NAMING: [&Endpoint; 7] = [
    &MERGE_PROFILES,
    &SUBSCRIBE,
    &UNSUBSCRIBE,
    &CREATE_CAMPAIGN,
    &ASSIGN_TEMPLATE,
    &SEND_CAMPAIGN,
    &ESTIMATE_RECIPIENTS,
];

/// What to do after a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted {
        status: u16,
        resource_id: Option<String>,
        /// What Klaviyo says, where that is kept: of a direct call.
        answer: Option<KeptAnswer>,
    },
    /// A limit was hit. Says nothing about the message or Klaviyo's health.
    Throttled { retry_after: Option<Duration>, failure: Failure },
    /// No answer, one that says that Klaviyo or the way to it is in trouble, or one that is not Klaviyo's.
    Trouble {
        retry_after: Option<Duration>,
        failure: Failure,
        /// Whether Klaviyo may have done what it was asked.
        ambiguous: bool,
    },
    /// No such call of this account gets through until someone changes something.
    Stopped { scope: Scope, failure: Failure },
    /// Klaviyo will never take this message.
    Refused {
        failure: Failure,
        /// What is wrong, as JSON pointers into the body, as far as it says.
        pointers: Vec<String>,
        /// Whether it is about what all of a call have in common.
        of_all: bool,
    },
}

/// How much of an account is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Account,
    Lane,
}

/// What is kept of an answer that says that all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// What it says, if it says anything.
    Text,
    /// What it says, for that is all there is to it.
    Answer,
}

/// Reads an answer, or the lack of one. Of a call of which something is kept, since a message has asked for it itself, or a read
/// has, what Klaviyo refuses is about that, for its path is one that Klaviyo has.
pub fn of(endpoint: &'static Endpoint, result: Result<Answer, TransportError>, keep: Keep) -> Verdict {
    let direct = keep != Keep::Nothing;
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => {
            let code = match &error {
                TransportError::Connect(_) => "connect",
                TransportError::Timeout => "timeout",
                TransportError::Lost(_) => "connection_lost",
            };
            let failure = Failure { code: code.to_owned(), reason: error.to_string(), ..Failure::default() };
            let ambiguous = !matches!(error, TransportError::Connect(_));
            return Verdict::Trouble { retry_after: None, failure, ambiguous };
        }
    };
    let errors = errors_of(&answer.body);
    let failure = failure(answer.status, &errors);
    let about_revision = failure.code.contains("revision")
        || errors.iter().any(|error| error.source.parameter.as_deref() == Some("revision"));
    match answer.status {
        200..=299 if direct => kept_answer(endpoint, answer, keep),
        // It is done, but what is to be done with it needs the id.
        200..=299
            if *endpoint == CREATE_CAMPAIGN && !resource_id(&answer.body).is_some_and(|id| is_id(&id)) =>
        {
            Verdict::Trouble { retry_after: None, failure: unreadable_answer(), ambiguous: true }
        }
        200..=299 => {
            Verdict::Accepted { status: answer.status, resource_id: resource_id(&answer.body), answer: None }
        }
        429 => Verdict::Throttled { retry_after: answer.retry_after, failure },
        401 => stopped(Scope::Account, failure, "Klaviyo does not accept the private key"),
        413 => refused(failure, errors),
        408 | 425 | 500..=599 => {
            Verdict::Trouble { retry_after: answer.retry_after, failure, ambiguous: true }
        }
        // Without Klaviyo's error body it is the answer of a firewall in between, which may dislike this one message,
        // or of somebody else at a wrong address.
        status if errors.is_empty() => {
            let reason = format!("answer {status} is not one of Klaviyo's API; is the base URL right?");
            let failure = Failure { reason, ..failure };
            Verdict::Trouble { retry_after: answer.retry_after, failure, ambiguous: true }
        }
        400 | 404 | 410 if about_revision => {
            stopped(Scope::Account, failure, "Klaviyo does not accept the revision")
        }
        400 | 409 | 422 => refused(failure, errors),
        404 | 405 | 406 | 410 | 415 if direct => refused(failure, errors),
        403 if direct => {
            let reason = why(&missing_scope(endpoint), &failure);
            refused(Failure { reason, ..failure }, errors)
        }
        // What was asked for, or what the body names, is not there; the path is.
        404 if endpoint.path.contains('{') && !errors.iter().any(is_about_a_part) => {
            Verdict::Refused { failure, pointers: Vec::new(), of_all: true }
        }
        404 if endpoint.method == Method::Get
            || NAMING.contains(&endpoint)
            || RESOURCE_CALLS.iter().any(|calls| calls.one.name == endpoint.name)
            || errors.iter().any(is_about_a_part) =>
        {
            refused(failure, errors)
        }
        403 => stopped(Scope::Lane, failure, &missing_scope(endpoint)),
        // 404, 405, 410, 415 and the like: a retired path. True of every message that takes it.
        status => {
            let why = format!("unexpected answer {status} of {}; is the base URL right?", endpoint.path);
            stopped(Scope::Lane, failure, &why)
        }
    }
}

/// An answer that says that all is well, with what it says.
fn kept_answer(endpoint: &'static Endpoint, answer: Answer, keep: Keep) -> Verdict {
    let (status, resource_id) = (answer.status, resource_id(&answer.body));
    let is_cut = answer.body.len() >= MAX_ANSWER;
    let text = String::from_utf8(answer.body).ok();
    let json = text.filter(|text| is_flat(text) && serde_json::from_str::<IgnoredAny>(text).is_ok());
    let only_asks = keep == Keep::Answer || endpoint.method == Method::Get;
    match json {
        None if only_asks && is_cut => {
            let reason =
                format!("Klaviyo's answer has {MAX_ANSWER} bytes or more; ask for less, as by page[size]");
            let failure = Failure {
                status: Some(status),
                code: "answer_too_long".to_owned(),
                reason,
                ..Failure::default()
            };
            Verdict::Refused { failure, pointers: Vec::new(), of_all: false }
        }
        None if only_asks => unreadable(),
        body => {
            let answer = Some(KeptAnswer { lane: endpoint.name, body });
            Verdict::Accepted { status, resource_id, answer }
        }
    }
}

/// Levels of an answer that is kept: whoever reads it goes down them one by one, and no answer of Klaviyo's has so many.
const DEPTH: usize = 100;

/// Whether a text that may be JSON has no more levels than that. Brackets in its strings, which people write, are none.
fn is_flat(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string && depth == DEPTH => return false,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// An answer that says that all is well, and cannot be read.
pub fn unreadable() -> Verdict {
    Verdict::Trouble { retry_after: None, failure: unreadable_answer(), ambiguous: false }
}

fn unreadable_answer() -> Failure {
    let reason = "Klaviyo's answer cannot be read".to_owned();
    Failure { code: "unreadable_answer".to_owned(), reason, ..Failure::default() }
}

/// Whether an error is about a part of the body.
fn is_about_a_part(error: &klaviyo::ApiError) -> bool {
    error.source.pointer.as_ref().is_some_and(|pointer| pointer.starts_with("/data/"))
}

fn refused(failure: Failure, errors: Vec<klaviyo::ApiError>) -> Verdict {
    let pointers = errors.into_iter().filter_map(|error| error.source.pointer).collect();
    Verdict::Refused { failure, pointers, of_all: false }
}

fn stopped(scope: Scope, failure: Failure, why: &str) -> Verdict {
    Verdict::Stopped { scope, failure: Failure { reason: self::why(why, &failure), ..failure } }
}

/// Our words, with Klaviyo's.
fn why(why: &str, failure: &Failure) -> String {
    if failure.reason.is_empty() { why.to_owned() } else { format!("{why} ({})", failure.reason) }
}

fn missing_scope(endpoint: &Endpoint) -> String {
    let Endpoint { path, scopes, .. } = endpoint;
    format!("the private key may not call {path}; it needs {}", scopes.join(" and "))
}

/// Bytes of a text of Klaviyo's that are kept. What says more than that in an error says it to nobody.
const KEPT: usize = 2_000;

pub fn kept(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(KEPT));
    text
}

fn failure(status: u16, errors: &[klaviyo::ApiError]) -> Failure {
    let first = errors.first();
    Failure {
        status: Some(status),
        code: first
            .map(|error| kept(error.code.clone()))
            .filter(|code| !code.is_empty())
            .unwrap_or_else(|| format!("http_{status}")),
        reason: kept(errors.iter().map(klaviyo::ApiError::reason).collect::<Vec<_>>().join("; ")),
        error_id: first.map(|error| kept(error.id.clone())).filter(|id| !id.is_empty()),
        duplicate_profile_id: errors
            .iter()
            .find_map(|error| error.meta.duplicate_profile_id.clone())
            .map(kept),
    }
}

#[cfg(test)]
mod tests {
    use klaviyo::CREATE_EVENT;

    use super::*;

    fn verdict(status: u16, body: &str) -> Verdict {
        let answer = Answer { status, rate: None, retry_after: None, body: body.as_bytes().to_vec() };
        of(&CREATE_EVENT, Ok(answer), Keep::Nothing)
    }

    fn error(code: &str, source: &str) -> String {
        format!(r#"{{"errors":[{{"id":"e1","code":"{code}","title":"T","detail":"D","source":{source}}}]}}"#)
    }

    #[test]
    fn status_and_code_decide() {
        let invalid = error("invalid", "{}");
        assert!(matches!(
            verdict(202, ""),
            Verdict::Accepted { status: 202, resource_id: None, answer: None }
        ));
        assert!(matches!(
            verdict(201, r#"{"data":{"id":"P"}}"#),
            Verdict::Accepted { resource_id: Some(_), .. }
        ));
        assert!(matches!(verdict(429, ""), Verdict::Throttled { .. }));
        for status in [403, 404, 405, 410, 415] {
            assert!(
                matches!(verdict(status, &invalid), Verdict::Stopped { scope: Scope::Lane, .. }),
                "{status}"
            );
        }
        for status in [400, 409, 413, 422] {
            assert!(matches!(verdict(status, &invalid), Verdict::Refused { .. }), "{status}");
        }
        let part = error("not_found", r#"{"pointer":"/data/relationships/list/data/id"}"#);
        assert!(matches!(verdict(404, &part), Verdict::Refused { .. }), "the list is not there");
        let not_there = Answer { status: 404, rate: None, retry_after: None, body: invalid.clone().into() };
        assert!(matches!(
            of(&MERGE_PROFILES, Ok(not_there), Keep::Nothing),
            Verdict::Refused { of_all: false, .. }
        ));
        for status in [408, 500, 502, 503, 504, 524] {
            assert!(matches!(verdict(status, ""), Verdict::Trouble { .. }), "{status}");
        }
        for all in [
            verdict(401, &invalid),
            verdict(401, ""),
            verdict(400, &error("revision_retired", "{}")),
            verdict(410, &error("invalid", r#"{"parameter":"revision"}"#)),
        ] {
            assert!(matches!(all, Verdict::Stopped { scope: Scope::Account, .. }), "{all:?}");
        }
    }

    #[test]
    fn a_refusal_names_klaviyos_error() {
        let Verdict::Refused { failure, pointers, .. } =
            verdict(400, &error("invalid", r#"{"pointer":"/data"}"#))
        else {
            panic!("refused");
        };
        assert_eq!(pointers, ["/data"]);
        assert_eq!(failure.error_id.as_deref(), Some("e1"));
        assert_eq!((failure.code.as_str(), failure.reason.as_str()), ("invalid", "T. D (at /data)"));
        let Verdict::Stopped { failure, .. } = verdict(403, &error("permission_denied", "{}")) else {
            panic!("stopped");
        };
        for name in ["/api/events", "events:write"] {
            assert!(failure.reason.contains(name), "{}", failure.reason);
        }
    }

    #[test]
    fn of_a_direct_call_the_answer_is_kept() {
        let verdict = |method, status, body: &[u8]| {
            let answer = Answer { status, rate: None, retry_after: None, body: body.to_vec() };
            of(klaviyo::call(method, "/api/lists/Y6nRLr").expect("a call"), Ok(answer), Keep::Text)
        };
        let accepted = |lane, id: Option<&str>, body: Option<&str>| Verdict::Accepted {
            status: 200,
            resource_id: id.map(str::to_owned),
            answer: Some(KeptAnswer { lane, body: body.map(str::to_owned) }),
        };
        let json = r#"{"data":{"id":"Y6nRLr"}}"#;
        for (method, lane) in [(Method::Get, "get-list"), (Method::Patch, "patch-list")] {
            assert_eq!(verdict(method, 200, json.as_bytes()), accepted(lane, Some("Y6nRLr"), Some(json)));
        }
        let deep = ["[".repeat(30_000), "]".repeat(30_000)].concat();
        for unreadable in [&b""[..], b"{", b"\"\xff\"", b"<html>", deep.as_bytes()] {
            assert!(matches!(
                verdict(Method::Get, 200, unreadable),
                Verdict::Trouble { ambiguous: false, .. }
            ));
            assert_eq!(
                verdict(Method::Patch, 200, unreadable),
                accepted("patch-list", None, None),
                "it is done"
            );
        }
        let long = vec![b' '; MAX_ANSWER];
        assert!(matches!(verdict(Method::Get, 200, &long), Verdict::Refused { .. }));
        assert_eq!(verdict(Method::Patch, 200, &long), accepted("patch-list", None, None));
        let invalid = error("invalid", "{}");
        for status in [400, 403, 404, 405, 409, 410, 415, 422] {
            assert!(
                matches!(verdict(Method::Get, status, invalid.as_bytes()), Verdict::Refused { .. }),
                "{status}"
            );
        }
        let Verdict::Refused { failure, .. } = verdict(Method::Patch, 403, invalid.as_bytes()) else {
            panic!("refused");
        };
        assert!(failure.reason.contains("it needs lists:write"), "{}", failure.reason);
    }

    #[test]
    fn what_is_not_klaviyos_answer_stops_nothing() {
        for status in [301, 302, 400, 402, 403, 404, 405, 407, 409, 410, 415, 422, 451] {
            let Verdict::Trouble { failure, .. } = verdict(status, "<html>Forbidden</html>") else {
                panic!("{status}");
            };
            assert_eq!(failure.status, Some(status));
            assert!(failure.reason.contains("is the base URL right?"), "{}", failure.reason);
        }
    }
}
