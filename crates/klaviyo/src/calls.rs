//! Every call of the API, with what Klaviyo allows of it: its own document's facts, in `calls.tsv`, a line each.
//!
//! With `KLAVIYO_OPENAPI` set a test compares the two; with `KLAVIYO_RENEW` set as well it writes the file anew.

use std::sync::LazyLock;

use crate::{ENDPOINTS, Endpoint, Limits, Method};

/// Method, path, name, calls a second, a minute and a day, scopes.
const TABLE: &str = include_str!("calls.tsv");

/// The largest body that any call may have (spec: that of events).
const MAX_BODY: usize = 5_000_000;

/// The call that takes files and no JSON.
const FILES: (Method, &str) = (Method::Post, "/api/image-upload");

static CALLS: LazyLock<Vec<Endpoint>> =
    LazyLock::new(|| TABLE.lines().map(|line| read(line).expect("calls.tsv has seven columns")).collect());

fn read(line: &'static str) -> Option<Endpoint> {
    let mut columns = line.split('\t');
    let method = Method::named(columns.next()?)?;
    let (path, name) = (columns.next()?, columns.next()?);
    let mut calls = || columns.next().map(|calls| calls.parse().ok());
    let (burst, steady, daily) = (calls()??, calls()??, calls()?);
    let scopes: Vec<&str> = columns.next()?.split_terminator(' ').collect();
    Some(Endpoint {
        name,
        method,
        path,
        scopes: scopes.leak(),
        limits: Limits { burst, steady, daily },
        max_body: if method == Method::Get { 0 } else { MAX_BODY },
        max_items: 1,
        optional: false,
    })
}

/// All of them, by their paths.
pub fn calls() -> &'static [Endpoint] {
    &CALLS
}

/// The call that is made with a method at a path, which has ids where the document has `{…}`, and no query. Of one that is
/// among [`ENDPOINTS`], that.
pub fn call(method: Method, path: &str) -> Option<&'static Endpoint> {
    let call = calls().iter().find(|call| call.method == method && is_at(call.path, path))?;
    let known = ENDPOINTS.into_iter().find(|known| known.method == method && known.path == call.path);
    Some(known.unwrap_or(call))
}

/// The call that has that name.
pub fn call_named(name: &str) -> Option<&'static Endpoint> {
    let known = ENDPOINTS.into_iter().find(|known| known.name == name);
    known.or_else(|| calls().iter().find(|call| call.name == name))
}

/// The methods of the calls that are made at a path.
pub fn methods_at(path: &str) -> impl Iterator<Item = Method> {
    calls().iter().filter(move |call| is_at(call.path, path)).map(|call| call.method)
}

/// Whether a call takes a body of JSON, or none.
pub fn takes_json(call: &Endpoint) -> bool {
    (call.method, call.path) != FILES
}

/// Whether a path is one of those that the document writes so.
fn is_at(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(id)) if part.starts_with('{') && !id.is_empty() => {}
            (Some(part), Some(same)) if part == same => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{GET_LISTS, UPDATE_LIST};

    /// What the file says by the document.
    fn table(document: &Value) -> String {
        let mut lines = Vec::new();
        let paths = document["paths"].as_object().expect("the document has paths");
        for (path, calls) in paths {
            for (method, call) in calls.as_object().expect("of a path there are calls") {
                let Some(method) = Method::named(&method.to_uppercase()) else { continue };
                let name = call["operationId"].as_str().expect("each has a name").replace('_', "-");
                let limit = &call["x-klaviyo-ratelimit"];
                let calls = |of: &str| {
                    let calls =
                        limit[of].as_str().map(|text| text.trim_end_matches(|c: char| !c.is_ascii_digit()));
                    calls.unwrap_or_default().to_owned()
                };
                let scopes = call["x-klaviyo-scopes"].as_array().into_iter().flatten();
                let scopes: Vec<&str> = scopes.filter_map(Value::as_str).collect();
                let [burst, steady, daily] = ["burst", "steady", "daily"].map(calls);
                let (method, scopes) = (method.name(), scopes.join(" "));
                let line = format!("{method}\t{path}\t{name}\t{burst}\t{steady}\t{daily}\t{scopes}\n");
                lines.push((path, method, line));
            }
        }
        lines.sort_unstable();
        lines.into_iter().map(|(.., line)| line).collect()
    }

    #[test]
    fn says_what_klaviyos_document_says() {
        let Some(path) = std::env::var_os("KLAVIYO_OPENAPI") else { return };
        let text = std::fs::read_to_string(&path).expect("KLAVIYO_OPENAPI names a readable file");
        let table = table(&serde_json::from_str(&text).expect("an OpenAPI document"));
        if std::env::var_os("KLAVIYO_RENEW").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/calls.tsv"), &table).expect("written");
            return;
        }
        for (ours, theirs) in TABLE.lines().zip(table.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(TABLE.lines().count(), table.lines().count());
        assert!(TABLE.lines().count() > 300, "it is all of the API");
    }

    #[test]
    fn a_call_is_found_by_its_path() {
        let name = |method, path: &str| call(method, path).map(|call| call.name);
        assert_eq!(name(Method::Get, "/api/campaigns/01ABC"), Some("get-campaign"));
        assert_eq!(name(Method::Get, "/api/campaigns"), Some("get-campaigns"));
        assert_eq!(name(Method::Delete, "/api/campaigns"), None);
        for no_such in ["/api/campaigns/", "/api/campaigns/a/b", "api/campaigns", "/api/nothing", ""] {
            assert_eq!(name(Method::Get, no_such), None, "{no_such}");
        }
        let methods: Vec<Method> = methods_at("/api/lists/Y6nRLr").collect();
        assert_eq!(methods, [Method::Delete, Method::Get, Method::Patch]);
        assert!(!takes_json(call(Method::Post, "/api/image-upload").expect("a call")));
    }

    #[test]
    fn what_is_in_use_is_the_same_call() {
        assert_eq!(call(Method::Get, "/api/lists"), Some(&GET_LISTS));
        assert_eq!(call(Method::Patch, "/api/lists/Y6nRLr"), Some(&UPDATE_LIST));
        for known in ENDPOINTS {
            let path = known.path.replace(['{', '}'], "");
            assert_eq!(call(known.method, &path), Some(known));
            let listed = calls().iter().find(|call| call.method == known.method && call.path == known.path);
            assert_eq!(listed.map(|call| (call.limits, call.scopes)), Some((known.limits, known.scopes)));
        }
    }

    #[test]
    fn no_two_lanes_have_one_name() {
        let mut names: Vec<&str> = ENDPOINTS.iter().map(|known| known.name).collect();
        let is_other = |call: &&Endpoint| {
            !ENDPOINTS.iter().any(|known| known.method == call.method && known.path == call.path)
        };
        names.extend(calls().iter().filter(is_other).map(|call| call.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), all), (calls().len(), calls().len()));
    }
}
