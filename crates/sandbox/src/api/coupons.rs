//! The calls about coupons and their codes, but for jobs.

use hyper::StatusCode;
use serde_json::json;
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, none, not_found, refused};
use super::{query, refuse};
use crate::check;
use crate::error::{ApiError, WHOLE_BODY};
use crate::reply::Reply;
use crate::sandbox::State;
use crate::store::Coupon;
use crate::time::now;

impl Received<'_> {
    pub(super) fn create_coupon(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::coupon(body).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let coupon = state.store.coupons.create(draft).map_err(in_body)?;
        Ok(document(StatusCode::CREATED, &coupon.document(self.api_url())))
    }

    pub(super) fn coupon(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        Ok(document(StatusCode::OK, &find(state, id)?.document(self.api_url())))
    }

    pub(super) fn codes_of_coupon(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let asked = query::codes(&self.head.uri).map_err(refused)?;
        let codes = &find(state, id)?.codes;
        let (range, links) = asked.page.of(codes.len(), &asked.url(self.api_url()));
        let data: Vec<_> = codes[range].iter().map(|code| code.resource(self.api_url())).collect();
        Ok(document(StatusCode::OK, &json!({"data": data, "links": links})))
    }

    /// The answer is a 200: the document has no 201 of this call.
    pub(super) fn create_code(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let draft = check::coupon_code(body, now()).map_err(|errors| Reply::errors(&errors))?;
        none(refuse::find(&self.refuse, refuse::whole, body))?;
        let code = state.store.coupons.create_code(draft).map_err(in_body)?;
        Ok(document(StatusCode::OK, &code.document(self.api_url())))
    }

    pub(super) fn code(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        query::none(&self.head.uri).map_err(refused)?;
        let code = state.store.coupons.code(id);
        let code = code.ok_or_else(|| not_found("A coupon code with this id does not exist."))?;
        Ok(document(StatusCode::OK, &code.document(self.api_url())))
    }
}

/// The refusal of the one resource that a body has.
pub(super) fn in_body(error: ApiError) -> Reply {
    refused(error.under(WHOLE_BODY))
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a Coupon, Reply> {
    state.store.coupons.get(id).ok_or_else(|| not_found("A coupon with this id does not exist."))
}
