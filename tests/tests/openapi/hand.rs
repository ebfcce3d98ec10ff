//! Requests by hand.

use std::collections::BTreeMap;

use harness::{OpenApi, Sandbox};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;

/// A request made by hand, which can be wrong in every way.
pub struct Hand<'a> {
    agent: Agent,
    sandbox: &'a Sandbox,
    document: &'a OpenApi,
    counts: BTreeMap<(String, u16), u64>,
}

impl<'a> Hand<'a> {
    pub fn new(sandbox: &'a Sandbox, document: &'a OpenApi) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Self { agent, sandbox, document, counts: BTreeMap::new() }
    }

    /// Makes a request, judges the answer, counts it and returns it.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        expected: &[u16],
    ) -> Value {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.sandbox.api()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).expect("it can be made");
        let mut answer = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().expect("the answer is text");
        assert!(expected.contains(&status), "{method} {path}: {status} {text}");
        let fault = self.document.fault_of_answer(method, path, status, &text);
        assert!(fault.is_none(), "{method} {path}, {status}: {}\n{text}", fault.unwrap_or_default());
        *self.counts.entry((path.to_owned(), status)).or_default() += 1;
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn post(&mut self, path: &str, body: &str, expected: u16) {
        self.send("POST", path, &HEADERS, body, &[expected]);
    }

    pub fn count(&self, path: &str, status: u16) -> u64 {
        self.counts.get(&(path.to_owned(), status)).copied().unwrap_or_default()
    }
}

pub const KEY: (&str, &str) = ("Authorization", "Klaviyo-API-Key pk_of_a_test");
pub const REVISION: (&str, &str) = ("revision", "2026-07-15");
pub const MEDIA_TYPE: (&str, &str) = ("Content-Type", "application/vnd.api+json");
pub const HEADERS: [(&str, &str); 3] = [KEY, REVISION, MEDIA_TYPE];
