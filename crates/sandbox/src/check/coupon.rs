//! Coupons and their codes.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value};

use super::event::rfc3339;
use super::fields::{Findings, Object};

const COUPON: &str = "coupon";
const CODE: &str = "coupon-code";

/// A checked new coupon.
#[derive(Debug)]
pub struct CouponDraft {
    pub external_id: String,
    pub description: Option<String>,
    pub monitor_configuration: Option<Map<String, Value>>,
}

/// A checked new code.
#[derive(Debug)]
pub struct CodeDraft {
    /// The id of the coupon that it is of.
    pub coupon: String,
    pub unique_code: String,
    pub expires: Timestamp,
}

/// Checks a `CouponCreateQuery`.
pub fn check_coupon(findings: &mut Findings, root: Object<'_, '_>) -> Option<CouponDraft> {
    root.only(findings, COUPON, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, COUPON);
    data.only(findings, COUPON, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, COUPON, &["external_id", "description", "monitor_configuration"]);
    let description = attributes.text(findings, "description").map(str::to_owned);
    let monitor_configuration = attributes.optional_object(findings, "monitor_configuration");
    let monitor_configuration = monitor_configuration.map(|object| object.map.into());
    let external_id = attributes.filled_text(findings, "external_id")?.to_owned();
    Some(CouponDraft { external_id, description, monitor_configuration })
}

/// Checks a `CouponCodeCreateQuery`.
pub fn check_one_code(findings: &mut Findings, root: Object<'_, '_>, now: Timestamp) -> Option<CodeDraft> {
    root.only(findings, CODE, &["data"]);
    let data = root.object(findings, "data")?;
    check_code(findings, data, now)
}

/// Checks a `CouponCodeCreateQueryResourceObject`, alone or one of many.
pub fn check_code(findings: &mut Findings, data: Object<'_, '_>, now: Timestamp) -> Option<CodeDraft> {
    data.resource_type(findings, CODE);
    data.only(findings, CODE, &["type", "attributes", "relationships"]);
    let coupon = data.related(findings, "coupon", COUPON);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, CODE, &["unique_code", "expires_at"]);
    let expires = match attributes.text(findings, "expires_at") {
        Some(text) => rfc3339(text).or_else(|| {
            let detail = "This must be a date and time in RFC 3339 form.";
            findings.add(attributes.at.key("expires_at"), detail);
            None
        }),
        None => Some(year_after(now)),
    };
    let unique_code = attributes.filled_text(findings, "unique_code")?.to_owned();
    Some(CodeDraft { coupon: coupon?.to_owned(), unique_code, expires: expires? })
}

/// When a code expires that does not say. Source: `expires_at` in Klaviyo's OpenAPI document.
fn year_after(now: Timestamp) -> Timestamp {
    // Beyond the type's range after some eight thousand years.
    now.to_zoned(TimeZone::UTC).checked_add(1.year()).map_or(now, |zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check;
    use crate::error::ApiError;

    fn pointers(errors: Vec<ApiError>) -> Vec<String> {
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn a_coupon_has_an_id_of_the_shops() {
        let checked = |attributes: Value| {
            let body = json!({"data": {"type": "coupon", "attributes": attributes}});
            check::coupon(&(&body).into()).map_err(pointers)
        };
        let attributes = json!({"external_id": "10OFF", "description": null,
            "monitor_configuration": {"low_balance_threshold": 500}});
        let draft = checked(attributes).unwrap();
        assert_eq!((draft.external_id.as_str(), draft.description), ("10OFF", None));
        assert_eq!(json!(draft.monitor_configuration), json!({"low_balance_threshold": 500}));
        for (attributes, pointer) in [
            (json!({}), "external_id"),
            (json!({"external_id": null}), "external_id"),
            (json!({"external_id": " "}), "external_id"),
            (json!({"external_id": 10}), "external_id"),
            (json!({"external_id": "10OFF", "description": 7}), "description"),
            (json!({"external_id": "10OFF", "monitor_configuration": 500}), "monitor_configuration"),
            (json!({"external_id": "10OFF", "name": "x"}), "name"),
        ] {
            assert_eq!(checked(attributes).unwrap_err(), [format!("/data/attributes/{pointer}")]);
        }
        let body = json!({"data": {"type": "code", "id": "10OFF", "attributes": {"external_id": "10OFF"}}});
        assert_eq!(check::coupon(&(&body).into()).map_err(pointers).unwrap_err(), ["/data/type", "/data/id"]);
    }

    #[test]
    fn a_code_is_of_a_coupon_and_expires() {
        let now: Timestamp = "2026-07-15T10:00:00Z".parse().unwrap();
        let checked = |change: fn(&mut Value)| {
            let mut body = json!({"data": {"type": "coupon-code", "attributes": {"unique_code": "A1"},
                "relationships": {"coupon": {"data": {"type": "coupon", "id": "10OFF"}}}}});
            change(&mut body["data"]);
            check::coupon_code(&(&body).into(), now).map_err(pointers)
        };
        let draft = checked(|_| {}).unwrap();
        assert_eq!((draft.coupon.as_str(), draft.unique_code.as_str()), ("10OFF", "A1"));
        assert_eq!(draft.expires, "2027-07-15T10:00:00Z".parse().unwrap());
        let draft =
            checked(|data| data["attributes"]["expires_at"] = json!("2026-08-01T00:00:00+02:00")).unwrap();
        assert_eq!(draft.expires, "2026-07-31T22:00:00Z".parse().unwrap());
        type Change = fn(&mut Value);
        let changes: [(Change, &str); 12] = [
            (|data| data["attributes"] = json!({}), "attributes/unique_code"),
            (|data| data["attributes"]["unique_code"] = json!(""), "attributes/unique_code"),
            (|data| data["attributes"]["unique_code"] = json!(7), "attributes/unique_code"),
            (|data| data["attributes"]["expires_at"] = json!("2026-08-01"), "attributes/expires_at"),
            (|data| data["attributes"]["status"] = json!("USED"), "attributes/status"),
            (|data| data["relationships"] = Value::Null, "relationships"),
            (|data| data["relationships"] = json!({}), "relationships/coupon"),
            (|data| data["relationships"]["coupon"] = json!({}), "relationships/coupon/data"),
            (|data| data["relationships"]["profile"] = json!({}), "relationships/profile"),
            (
                |data| data["relationships"]["coupon"]["data"]["type"] = json!("code"),
                "relationships/coupon/data/type",
            ),
            (|data| data["relationships"]["coupon"]["data"]["id"] = json!(7), "relationships/coupon/data/id"),
            (|data| data["id"] = json!("10OFF-A1"), "id"),
        ];
        for (change, pointer) in changes {
            assert_eq!(checked(change).unwrap_err(), [format!("/data/{pointer}")]);
        }
    }
}
