//! Klaviyo's OpenAPI document, as a judge of what is sent and of what the sandbox answers.
//!
//! The document is of version 3.0, whose schemas are not quite JSON Schema: `nullable` becomes a choice of null, also
//! beside a `$ref`, and references are followed here. It leaves every object open; a misspelt attribute would pass.
//! So objects whose properties it lists are closed, and those it says nothing about stay free.

use std::collections::BTreeMap;
use std::fs;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::receipt::Receipt;

/// Names the document; without it nothing is checked.
const DOCUMENT: &str = "KLAVIYO_OPENAPI";

/// The calls in use, each a POST.
pub const CALLS: [&str; 2] = ["/api/events", "/api/profile-import"];

/// The bulk calls that the sandbox answers besides, as the document writes them.
pub const BULK_CALLS: [(&str, &str); 5] = [
    ("post", "/api/event-bulk-create-jobs"),
    ("post", "/api/profile-bulk-import-jobs"),
    ("get", "/api/profile-bulk-import-jobs"),
    ("get", "/api/profile-bulk-import-jobs/{job_id}"),
    ("get", "/api/profile-bulk-import-jobs/{id}/import-errors"),
];

/// The call that asks for a person's data to be deleted; its answer has no body.
pub const DELETION_CALL: &str = "/api/data-privacy-deletion-jobs";

/// The calls about consent, lists and who is on them, and about who is who.
pub const PEOPLE_CALLS: [(&str, &str); 17] = [
    ("post", "/api/profile-subscription-bulk-create-jobs"),
    ("post", "/api/profile-subscription-bulk-delete-jobs"),
    ("post", "/api/profile-suppression-bulk-create-jobs"),
    ("post", "/api/profile-suppression-bulk-delete-jobs"),
    ("get", "/api/profile-suppression-bulk-create-jobs/{job_id}"),
    ("get", "/api/profile-suppression-bulk-delete-jobs/{job_id}"),
    ("get", "/api/lists"),
    ("post", "/api/lists"),
    ("get", "/api/lists/{id}"),
    ("patch", "/api/lists/{id}"),
    ("delete", "/api/lists/{id}"),
    ("get", "/api/lists/{id}/profiles"),
    ("post", "/api/lists/{id}/relationships/profiles"),
    ("delete", "/api/lists/{id}/relationships/profiles"),
    ("get", "/api/profiles"),
    ("get", "/api/profiles/{id}"),
    ("post", "/api/profile-merge"),
];

/// The calls about the catalog and coupons.
pub const CATALOG_CALLS: [(&str, &str); 50] = [
    ("post", "/api/catalog-items"),
    ("get", "/api/catalog-items"),
    ("get", "/api/catalog-items/{id}"),
    ("patch", "/api/catalog-items/{id}"),
    ("delete", "/api/catalog-items/{id}"),
    ("post", "/api/catalog-variants"),
    ("get", "/api/catalog-variants"),
    ("get", "/api/catalog-variants/{id}"),
    ("patch", "/api/catalog-variants/{id}"),
    ("delete", "/api/catalog-variants/{id}"),
    ("post", "/api/catalog-categories"),
    ("get", "/api/catalog-categories"),
    ("get", "/api/catalog-categories/{id}"),
    ("patch", "/api/catalog-categories/{id}"),
    ("delete", "/api/catalog-categories/{id}"),
    ("post", "/api/catalog-item-bulk-create-jobs"),
    ("get", "/api/catalog-item-bulk-create-jobs/{job_id}"),
    ("get", "/api/catalog-item-bulk-create-jobs"),
    ("post", "/api/catalog-item-bulk-update-jobs"),
    ("get", "/api/catalog-item-bulk-update-jobs/{job_id}"),
    ("get", "/api/catalog-item-bulk-update-jobs"),
    ("post", "/api/catalog-item-bulk-delete-jobs"),
    ("get", "/api/catalog-item-bulk-delete-jobs/{job_id}"),
    ("get", "/api/catalog-item-bulk-delete-jobs"),
    ("post", "/api/catalog-variant-bulk-create-jobs"),
    ("get", "/api/catalog-variant-bulk-create-jobs/{job_id}"),
    ("get", "/api/catalog-variant-bulk-create-jobs"),
    ("post", "/api/catalog-variant-bulk-update-jobs"),
    ("get", "/api/catalog-variant-bulk-update-jobs/{job_id}"),
    ("get", "/api/catalog-variant-bulk-update-jobs"),
    ("post", "/api/catalog-variant-bulk-delete-jobs"),
    ("get", "/api/catalog-variant-bulk-delete-jobs/{job_id}"),
    ("get", "/api/catalog-variant-bulk-delete-jobs"),
    ("post", "/api/catalog-category-bulk-create-jobs"),
    ("get", "/api/catalog-category-bulk-create-jobs/{job_id}"),
    ("get", "/api/catalog-category-bulk-create-jobs"),
    ("post", "/api/catalog-category-bulk-update-jobs"),
    ("get", "/api/catalog-category-bulk-update-jobs/{job_id}"),
    ("get", "/api/catalog-category-bulk-update-jobs"),
    ("post", "/api/catalog-category-bulk-delete-jobs"),
    ("get", "/api/catalog-category-bulk-delete-jobs/{job_id}"),
    ("get", "/api/catalog-category-bulk-delete-jobs"),
    ("post", "/api/coupons"),
    ("get", "/api/coupons/{id}"),
    ("get", "/api/coupons/{id}/coupon-codes"),
    ("post", "/api/coupon-codes"),
    ("get", "/api/coupon-codes/{id}"),
    ("post", "/api/coupon-code-bulk-create-jobs"),
    ("get", "/api/coupon-code-bulk-create-jobs/{job_id}"),
    ("get", "/api/coupon-code-bulk-create-jobs"),
];

/// The calls about campaigns.
pub const CAMPAIGN_CALLS: [(&str, &str); 14] = [
    ("post", "/api/campaigns"),
    ("get", "/api/campaigns"),
    ("get", "/api/campaigns/{id}"),
    ("delete", "/api/campaigns/{id}"),
    ("get", "/api/campaigns/{id}/campaign-messages"),
    ("post", "/api/campaign-message-assign-template"),
    ("post", "/api/campaign-send-jobs"),
    ("get", "/api/campaign-send-jobs/{id}"),
    ("patch", "/api/campaign-send-jobs/{id}"),
    ("post", "/api/campaign-recipient-estimation-jobs"),
    ("get", "/api/campaign-recipient-estimation-jobs/{id}"),
    ("get", "/api/campaign-recipient-estimations/{id}"),
    ("post", "/api/templates"),
    ("get", "/api/templates/{id}"),
];

/// The calls that pulls read with, but for those among the others.
pub const PULL_CALLS: [(&str, &str); 8] = [
    ("get", "/api/events"),
    ("get", "/api/metrics"),
    ("get", "/api/metrics/{id}"),
    ("get", "/api/segments"),
    ("get", "/api/segments/{id}"),
    ("get", "/api/segments/{id}/profiles"),
    ("get", "/api/flows"),
    ("get", "/api/flows/{id}"),
];

/// The calls that ask for numbers.
pub const REPORT_CALLS: [(&str, &str); 8] = [
    ("post", "/api/metric-aggregates"),
    ("post", "/api/campaign-values-reports"),
    ("post", "/api/flow-values-reports"),
    ("post", "/api/flow-series-reports"),
    ("post", "/api/form-values-reports"),
    ("post", "/api/form-series-reports"),
    ("post", "/api/segment-values-reports"),
    ("post", "/api/segment-series-reports"),
];

/// The calls about webhooks.
pub const WEBHOOK_CALLS: [(&str, &str); 7] = [
    ("get", "/api/webhooks"),
    ("post", "/api/webhooks"),
    ("get", "/api/webhooks/{id}"),
    ("patch", "/api/webhooks/{id}"),
    ("delete", "/api/webhooks/{id}"),
    ("get", "/api/webhook-topics"),
    ("get", "/api/webhook-topics/{id}"),
];

/// What JSON:API bodies are sent and answered as.
const MEDIA_TYPE: &str = "application/vnd.api+json";

/// What members of an error object may be besides those the document lists: Klaviyo's own answers carry them.
const ERROR_MEMBERS: [&str; 3] = ["status", "links", "meta"];

/// What the cursor is called of calls whose pages are not those of a list, and where a body has it.
const CURSOR: &str = "page_cursor";
const CURSOR_IN_BODY: &str = "/properties/data/properties/attributes/properties/page_cursor";

/// The parts in use of the document.
#[derive(Debug)]
pub struct OpenApi {
    revision: String,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    method: &'static str,
    path: &'static str,
    /// None of a call that has no body.
    request: Option<Validator>,
    /// By status or class of statuses, such as `4XX`; none where an answer has no body.
    answers: BTreeMap<String, Option<Validator>>,
}

impl OpenApi {
    /// The document that the environment variable `KLAVIYO_OPENAPI` names, if it is set.
    pub fn from_env() -> Option<Self> {
        let path = std::env::var(DOCUMENT).ok().filter(|path| !path.is_empty())?;
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{DOCUMENT}={path}: {error}"));
        Some(Self::new(&serde_json::from_str(&text).expect("the document is JSON")))
    }

    fn new(document: &Value) -> Self {
        let mut revision = None;
        let posts = CALLS.into_iter().chain([DELETION_CALL]).map(|path| ("post", path));
        let calls = posts.chain(BULK_CALLS).chain(PEOPLE_CALLS).chain(CATALOG_CALLS);
        let calls = calls.chain(CAMPAIGN_CALLS).chain(PULL_CALLS).chain(REPORT_CALLS).chain(WEBHOOK_CALLS);
        let calls = calls.map(|(method, path)| {
            let call = &document["paths"][path][method];
            let parameters = call["parameters"].as_array().expect("a call has parameters");
            let header = parameters.iter().find(|parameter| parameter["name"] == "revision");
            revision = header.and_then(|header| header["schema"]["default"].as_str()).map(str::to_owned);
            let request = &call["requestBody"]["content"][MEDIA_TYPE]["schema"];
            assert!(request.is_object() || method != "post", "{path} has a body in the document");
            let request = request.is_object().then(|| closed(document, request));
            let cursor = request.as_ref().and_then(|request| request.pointer(CURSOR_IN_BODY));
            let has_cursor =
                cursor.is_some() || parameters.iter().any(|parameter| parameter["name"] == CURSOR);
            let request = request.map(|request| compile(&request));
            let answers = call["responses"].as_object().expect("a call has answers").iter();
            let answers = answers.map(|(status, answer)| {
                let answer = follow(document, answer);
                let content = answer["content"].get(MEDIA_TYPE).map(|content| {
                    let mut schema = closed(document, &content["schema"]);
                    if status.ends_with("XX") {
                        admit_error_members(&mut schema);
                    } else if has_cursor {
                        admit_next(&mut schema);
                    }
                    compile(&schema)
                });
                (status.clone(), content)
            });
            Call { method, path, request, answers: answers.collect() }
        });
        let calls = calls.collect();
        Self { revision: revision.expect("the document has a revision"), calls }
    }

    /// What is wrong with a request's body, if anything is.
    pub fn fault_of_request(&self, method: &str, path: &str, body: &Value) -> Option<String> {
        let Some(call) = self.call(method, path) else {
            return Some(format!("there is no call {method} {path}"));
        };
        match &call.request {
            Some(request) => faults(request, body),
            None => (body.as_str() != Some("")).then(|| format!("{path} has a body")),
        }
    }

    fn call(&self, method: &str, path: &str) -> Option<&Call> {
        let mut calls = self.calls.iter().filter(|call| is_at(call.path, path));
        calls.find(|call| call.method.eq_ignore_ascii_case(method))
    }

    /// What is wrong with an answer, if anything is. A call that the document does not have is answered as any.
    pub fn fault_of_answer(&self, method: &str, path: &str, status: u16, body: &str) -> Option<String> {
        let call = self.call(method, path).unwrap_or(&self.calls[0]);
        let class = format!("{}XX", status / 100);
        let answer = call.answers.get(&status.to_string()).or_else(|| call.answers.get(&class));
        match answer {
            None => Some(format!("{path} is not answered {status}")),
            Some(None) => (!body.is_empty()).then(|| format!("{status} of {path} has a body")),
            Some(Some(validator)) => match serde_json::from_str(body) {
                Ok(body) => faults(validator, &body),
                Err(error) => Some(format!("it is not JSON: {error}")),
            },
        }
    }

    /// Panics unless all these requests are as the document has them. Returns how many there were of each call.
    pub fn assert_requests<'a>(
        &self,
        receipts: impl IntoIterator<Item = &'a Receipt>,
    ) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for receipt in receipts {
            let about = format!("request {} ({} {})", receipt.n, receipt.method, receipt.path);
            if receipt.method == "POST" {
                assert_eq!(receipt.content_type.as_deref(), Some(MEDIA_TYPE), "{about}");
            }
            assert_eq!(receipt.revision.as_deref(), Some(self.revision.as_str()), "{about}");
            let fault = self.fault_of_request(&receipt.method, &receipt.path, &receipt.body);
            assert!(fault.is_none(), "{about}: {}\n{:#}", fault.unwrap_or_default(), receipt.body);
            *counts.entry(receipt.path.clone()).or_default() += 1;
        }
        counts
    }
}

/// Whether a path, with or without a query, is one of a template with an id in it.
pub fn is_at(template: &str, path: &str) -> bool {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template
            .zip(path)
            .all(|(part, found)| part == found || (part.starts_with('{') && !found.is_empty()))
}

fn faults(validator: &Validator, instance: &Value) -> Option<String> {
    let faults: Vec<String> = validator
        .iter_errors(instance)
        .map(|error| format!("{error} (at {})", error.instance_path()))
        .collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn compile(schema: &Value) -> Validator {
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft4).should_validate_formats(true);
    options.build(schema).unwrap_or_else(|error| panic!("not a schema: {error}"))
}

fn follow<'a>(document: &'a Value, node: &'a Value) -> &'a Value {
    let Some(reference) = node["$ref"].as_str() else { return node };
    let pointer = reference.strip_prefix('#').expect("references stay within the document");
    follow(document, document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")))
}

/// A schema of the document as JSON Schema, without references, and closed where it lists properties.
fn closed(document: &Value, node: &Value) -> Value {
    let nullable = |node: &Value| node["nullable"] == json!(true);
    let target = follow(document, node);
    if let Some(parts) = target["allOf"].as_array() {
        let beside = target.as_object().into_iter().flat_map(Map::keys);
        assert!(beside.clone().all(|name| ["allOf", "nullable"].contains(&name.as_str())), "{target}");
        let all = parts.iter().fold(json!({}), |all, part| both(document, &all, part));
        let schema = closed(document, &all);
        let may_be_null = nullable(node) || nullable(target);
        return if may_be_null { json!({"anyOf": [schema, {"type": "null"}]}) } else { schema };
    }
    let mut schema = Map::new();
    for (keyword, value) in target.as_object().expect("a schema is an object") {
        let value = match keyword.as_str() {
            "properties" => {
                let properties = value.as_object().expect("properties are an object").iter();
                Value::Object(properties.map(|(name, of)| (name.clone(), closed(document, of))).collect())
            }
            "items" => closed(document, value),
            "oneOf" | "anyOf" => value
                .as_array()
                .expect("choices are an array")
                .iter()
                .map(|of| closed(document, of))
                .collect(),
            // Descriptions.
            "description" | "example" | "default" | "nullable" | "title" | "deprecated" | "readOnly"
            | "writeOnly" => {
                continue;
            }
            "type"
            | "required"
            | "enum"
            | "format"
            | "additionalProperties"
            | "minimum"
            | "maximum"
            | "minLength"
            | "maxLength"
            | "pattern"
            | "minItems"
            | "maxItems"
            | "minProperties"
            | "maxProperties" => value.clone(),
            other => panic!("a schema has the keyword {other}, of which nothing is known here"),
        };
        // Some of the document's choices are alike, such as EmailSendOptions and SMSSendOptions, and what is one is the
        // other, so that one of them alone, as the keyword has it, would never do.
        let keyword = if keyword == "oneOf" { "anyOf" } else { keyword };
        schema.insert(keyword.to_owned(), value);
    }
    if schema.contains_key("properties") {
        schema.entry("additionalProperties").or_insert(json!(false));
    }
    let schema = Value::Object(schema);
    if nullable(node) || nullable(target) { json!({"anyOf": [schema, {"type": "null"}]}) } else { schema }
}

/// The schema of what is of both of these: for objects that describe parts of one.
fn both(document: &Value, one: &Value, other: &Value) -> Value {
    let (one, other) = (follow(document, one), follow(document, other));
    let mut all = one.as_object().expect("a schema is an object").clone();
    for (keyword, value) in other.as_object().expect("a schema is an object") {
        let merged = match (keyword.as_str(), all.get(keyword)) {
            (_, None) => value.clone(),
            ("properties", Some(before)) => {
                let mut properties = before.as_object().expect("properties are an object").clone();
                for (name, of) in value.as_object().expect("properties are an object") {
                    let of =
                        properties.get(name).map_or_else(|| of.clone(), |before| both(document, before, of));
                    properties.insert(name.clone(), of);
                }
                properties.into()
            }
            ("required", Some(Value::Array(before))) => {
                before.iter().chain(value.as_array().into_iter().flatten()).cloned().collect()
            }
            (_, Some(before)) => {
                assert_eq!(before, value, "two schemas of one thing differ in {keyword}");
                continue;
            }
        };
        all.insert(keyword.clone(), merged);
    }
    all.into()
}

/// Lets an answer have a link to its next page. Of calls with such a cursor the document has none that would tell it.
fn admit_next(schema: &mut Value) {
    let links = schema.pointer_mut("/properties/links/properties").and_then(Value::as_object_mut);
    links
        .expect("the links are an object")
        .insert("next".to_owned(), json!({"type": "string", "format": "uri"}));
}

/// Lets error objects have the members that the document does not list.
fn admit_error_members(schema: &mut Value) {
    let members = schema.pointer_mut("/properties/errors/items/properties").and_then(Value::as_object_mut);
    let members = members.expect("the errors of an answer are objects");
    members.extend(ERROR_MEMBERS.map(|member| (member.to_owned(), json!({}))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(schema: Value, instance: Value) -> Option<String> {
        let document = json!({"components": {"schemas": {"Name": {
            "type": "object", "properties": {"first": {"type": "string", "nullable": true}}, "required": ["first"],
        }}}});
        faults(&compile(&closed(&document, &schema)), &instance)
    }

    #[test]
    fn null_is_for_the_nullable() {
        let name = json!({"$ref": "#/components/schemas/Name"});
        assert_eq!(fault(name.clone(), json!({"first": null})), None);
        assert!(fault(name.clone(), json!(null)).is_some());
        let nullable = json!({"$ref": "#/components/schemas/Name", "nullable": true});
        assert_eq!(fault(nullable.clone(), json!(null)), None);
        assert!(fault(nullable, json!({})).is_some());
    }

    #[test]
    fn objects_are_closed_unless_free() {
        let name = json!({"$ref": "#/components/schemas/Name"});
        assert!(fault(name, json!({"first": "Ada", "fisrt": "Ada"})).is_some());
        assert_eq!(fault(json!({"type": "object"}), json!({"anything": 1})), None);
    }

    #[test]
    fn parts_of_an_object_are_one() {
        let name = json!({"$ref": "#/components/schemas/Name"});
        let person = json!({"allOf": [
            {"properties": {"name": {"properties": {"last": {"type": "string"}}}}},
            {"type": "object", "properties": {"name": name, "born": {"type": "integer"}}, "required": ["name"]},
        ]});
        assert_eq!(fault(person.clone(), json!({"name": {"first": "Ada", "last": "L"}, "born": 1815})), None);
        for wrong in [json!({}), json!({"name": {"last": "L"}}), json!({"name": {"first": "Ada"}, "age": 1})]
        {
            assert!(fault(person.clone(), wrong.clone()).is_some(), "{wrong}");
        }
    }

    #[test]
    fn formats_count() {
        let time = json!({"type": "string", "format": "date-time"});
        assert_eq!(fault(time.clone(), json!("2026-07-15T12:00:00.123Z")), None);
        assert!(fault(time, json!("2026-07-15 12:00:00")).is_some());
    }
}
