//! Codes of coupons, for one of them to be given to each customer.
//!
//! Payload: `{"coupon": …, "code": …, "expires_at": …}`. A code that is there already is as good as one that was made.

use klaviyo::CREATE_COUPON_CODES;
use serde::Deserialize;
use serde_json::json;

use super::event::rfc3339;
use super::resource::{Act, Entry, Resource};
use super::{Checked, push_string};
use crate::invalid::{Fault, Invalid};
use crate::key;

/// Bytes of a coupon's id, and of a code. Klaviyo names no bound; this keeps what is no code out of every table.
const LONGEST: usize = 256;

/// The end of the year 9999, in microseconds since 1970.
const LAST: i64 = 253_402_300_800_000_000;

/// What `klaviyo_create_coupon_code` was given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draft<'a> {
    pub coupon: Option<&'a str>,
    pub code: Option<&'a str>,
    /// Microseconds since 1970.
    pub expires_at: Option<i64>,
}

impl Draft<'_> {
    /// Checks it, and lays it down.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let (coupon, code) = (check("coupon", self.coupon)?, check("code", self.code)?);
        let mut payload = String::from("{");
        push_string(&mut payload, "coupon", coupon);
        push_string(&mut payload, "code", code);
        if let Some(expires_at) = self.expires_at {
            if !(0..LAST).contains(&expires_at) {
                return Err(Invalid::new(
                    Fault::Coupon,
                    "argument \"expires_at\" is out of range",
                    "It is before 1970, after 9999, or infinite.",
                    "Pass the time at which the code is to expire, or NULL for a year from now.",
                ));
            }
            push_string(&mut payload, "expires_at", &rfc3339(expires_at));
        }
        payload.push('}');
        Ok(Checked { key: vec![key::identifier("coupon_code", &format!("{coupon}-{code}"))], payload })
    }
}

fn check<'a>(argument: &str, value: Option<&'a str>) -> Result<&'a str, Invalid> {
    let is_one = |value: &&str| !value.trim().is_empty() && value.len() <= LONGEST;
    value.filter(is_one).ok_or_else(|| {
        Invalid::new(
            Fault::Coupon,
            format!("argument \"{argument}\" is NULL, blank or too long"),
            format!("It must have 1 to {LONGEST} bytes."),
            "Pass the coupon's id as Klaviyo has it, and the code that a customer is to type.",
        )
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    coupon: String,
    code: String,
    expires_at: Option<String>,
}

fn entry(_: Act, payload: &str) -> Result<Entry, String> {
    let Payload { coupon, code, expires_at } =
        serde_json::from_str(payload).map_err(|error| error.to_string())?;
    let mut attributes = json!({"unique_code": code});
    if let Some(expires_at) = expires_at {
        attributes["expires_at"] = expires_at.into();
    }
    let relationships = json!({"coupon": {"data": {"type": "coupon", "id": coupon}}});
    let json = json!({"type": "coupon-code", "attributes": attributes, "relationships": relationships});
    Ok(Entry { id: String::new(), json: json.to_string() })
}

/// The kind.
pub const COUPON_CODE: Resource = Resource {
    name: "coupon_code",
    calls: CREATE_COUPON_CODES,
    act: Act::Create,
    instead: None,
    needs: |_| Vec::new(),
    entry,
};

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::kind::{Kind, Otherwise};
    use crate::message::Failure;

    #[test]
    fn it_is_made_or_there() {
        let draft =
            Draft { coupon: Some("SUMMER"), code: Some("A-1"), expires_at: Some(1_798_675_200_000_000) };
        let checked = draft.check().expect("valid");
        assert_eq!(checked.key, ["coupon_code:SUMMER-A-1"]);
        let body: Value =
            serde_json::from_slice(&COUPON_CODE.body(&checked.payload).expect("a body")).expect("JSON");
        assert_eq!(
            body,
            json!({"data": {"type": "coupon-code",
                "attributes": {"unique_code": "A-1", "expires_at": "2026-12-31T00:00:00Z"},
                "relationships": {"coupon": {"data": {"type": "coupon", "id": "SUMMER"}}}}})
        );
        let refused = |status| Failure { status: Some(status), ..Failure::default() };
        let otherwise = |status| COUPON_CODE.otherwise(&checked.payload, &refused(status), &[]);
        assert!(matches!(otherwise(409), Some(Otherwise::Done)));
        assert!(otherwise(400).is_none() && otherwise(404).is_none(), "there is no such coupon");
        let long = "x".repeat(LONGEST + 1);
        for bad in [
            Draft { coupon: None, ..draft },
            Draft { code: Some(" "), ..draft },
            Draft { code: Some(&long), ..draft },
            Draft { expires_at: Some(i64::MAX), ..draft },
            Draft { expires_at: Some(-1), ..draft },
        ] {
            assert_eq!(bad.check().expect_err("invalid").fault, Fault::Coupon);
        }
        assert!(COUPON_CODE.body("{}").is_err());
    }
}
