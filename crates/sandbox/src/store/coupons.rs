//! Coupons, and the codes that each has.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::rfc3339;
use crate::call::Call;
use crate::check::{CodeDraft, CouponDraft};
use crate::error::ApiError;
use crate::uri::encoded;

/// One coupon. Its id is what the shop calls it.
pub struct Coupon {
    id: String,
    description: Option<String>,
    monitor_configuration: Option<Map<String, Value>>,
    /// In the order of their creation.
    pub codes: Vec<Code>,
}

/// One code of a coupon.
pub struct Code {
    id: String,
    coupon: String,
    unique_code: String,
    expires: Timestamp,
}

/// All coupons.
#[derive(Default)]
pub struct Coupons {
    /// In the order of their creation.
    coupons: Vec<Coupon>,
    by_id: HashMap<String, usize>,
    /// The places of a code's coupon, and of the code in it.
    codes: HashMap<String, (usize, usize)>,
}

impl Coupons {
    /// The pointer of an error begins in the coupon's resource.
    pub fn create(&mut self, draft: CouponDraft) -> Result<&Coupon, ApiError> {
        let CouponDraft { external_id: id, description, monitor_configuration } = draft;
        if self.by_id.contains_key(&id) {
            let detail = "A coupon with this external_id already exists.";
            return Err(ApiError::duplicate(detail).at("/attributes/external_id"));
        }
        self.by_id.insert(id.clone(), self.coupons.len());
        self.coupons.push(Coupon { id, description, monitor_configuration, codes: Vec::new() });
        Ok(&self.coupons[self.coupons.len() - 1])
    }

    pub fn get(&self, id: &str) -> Option<&Coupon> {
        self.by_id.get(id).map(|&index| &self.coupons[index])
    }

    /// The same of the code's.
    pub fn create_code(&mut self, draft: CodeDraft) -> Result<&Code, ApiError> {
        let CodeDraft { coupon, unique_code, expires } = draft;
        let Some(&place) = self.by_id.get(&coupon) else {
            let detail = "A coupon with this id does not exist.";
            return Err(ApiError::not_found(detail).at("/relationships/coupon/data/id"));
        };
        let id = format!("{coupon}-{unique_code}");
        let codes = &mut self.coupons[place].codes;
        if self.codes.contains_key(&id) {
            let detail = "A coupon code with this unique_code already exists for this coupon.";
            return Err(ApiError::duplicate(detail).at("/attributes/unique_code"));
        }
        self.codes.insert(id.clone(), (place, codes.len()));
        codes.push(Code { id, coupon, unique_code, expires });
        Ok(&codes[codes.len() - 1])
    }

    pub fn code(&self, id: &str) -> Option<&Code> {
        self.codes.get(id).map(|&(coupon, code)| &self.coupons[coupon].codes[code])
    }

    /// The coupons as the control path shows them.
    pub fn views(&self) -> Value {
        let view = |coupon: &Coupon| {
            let codes: Vec<Value> = coupon.codes.iter().map(Code::view).collect();
            json!({"id": coupon.id, "attributes": coupon.attributes(), "codes": codes})
        };
        self.coupons.iter().map(view).collect()
    }
}

impl Coupon {
    fn attributes(&self) -> Value {
        json!({
            "external_id": self.id,
            "description": self.description,
            "monitor_configuration": self.monitor_configuration,
        })
    }

    /// The answer about the one coupon (`PostCouponResponse`, `GetCouponResponse`).
    pub fn document(&self, api_url: &str) -> Value {
        let links = json!({"self": url(api_url, Call::CreateCoupon, &self.id)});
        let data = json!({"type": "coupon", "id": self.id, "attributes": self.attributes(), "links": links});
        json!({"data": data, "links": links})
    }
}

impl Code {
    fn attributes(&self) -> Value {
        // Nothing here assigns a code to anybody.
        json!({"unique_code": self.unique_code, "expires_at": rfc3339(self.expires), "status": "UNASSIGNED"})
    }

    fn view(&self) -> Value {
        let mut view = self.attributes();
        view["id"] = json!(self.id);
        view
    }

    /// The code as answers have it (`CouponCodeResponseObjectResource`).
    pub fn resource(&self, api_url: &str) -> Value {
        let url = url(api_url, Call::CreateCode, &self.id);
        json!({
            "type": "coupon-code",
            "id": self.id,
            "attributes": self.attributes(),
            "relationships": {"coupon": {
                "data": {"type": "coupon", "id": self.coupon},
                "links": {"self": format!("{url}relationships/coupon/"), "related": format!("{url}coupon/")},
            }},
            "links": {"self": url},
        })
    }

    /// The answer about the one code (`PostCouponCodeResponse`, `GetCouponCodeResponseCompoundDocument`).
    pub fn document(&self, api_url: &str) -> Value {
        let resource = self.resource(api_url);
        json!({"links": resource["links"], "data": resource})
    }
}

fn url(api_url: &str, call: Call, id: &str) -> String {
    format!("{api_url}{}/{}/", call.path(), encoded(id))
}
