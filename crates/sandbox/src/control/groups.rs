//! Segments and flows, which Klaviyo's API has no calls to make here.

use axum::extract::{Path, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Control, Refused, answer, bad, parse, yes};
use crate::error::ApiError;
use crate::flows::FlowDraft;
use crate::time::now;

/// A segment to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSegment {
    name: String,
    #[serde(default = "yes")]
    is_active: bool,
}

/// Who is to be in a segment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMembers {
    emails: Vec<String>,
}

pub async fn segments(State(control): State<Control>) -> Answer {
    answer(&json!({"segments": control.sandbox.state().store.segment_views()}))
}

/// Makes a segment, and says its id.
pub async fn make_segment(State(control): State<Control>, body: Bytes) -> Answer {
    let NewSegment { name, is_active } = parse(&body)?;
    let mut state = control.sandbox.state();
    let segment = state.store.create_segment(name, is_active, now());
    answer(&json!({"ok": true, "id": segment.id}))
}

pub async fn fill_segment(State(control): State<Control>, Path(id): Path<String>, body: Bytes) -> Answer {
    let NewMembers { emails } = parse(&body)?;
    control.sandbox.state().store.fill_segment(&id, &emails, now()).map_err(refused)?;
    answer(&json!({"ok": true}))
}

pub async fn delete_segment(State(control): State<Control>, Path(id): Path<String>) -> Answer {
    control.sandbox.state().store.delete_segment(&id).map_err(refused)?;
    answer(&json!({"ok": true}))
}

/// Makes a flow, and says its id.
pub async fn make_flow(State(control): State<Control>, body: Bytes) -> Answer {
    let draft: FlowDraft = parse(&body)?;
    let mut state = control.sandbox.state();
    let flow = state.flows.create(draft, now()).map_err(bad)?;
    answer(&json!({"ok": true, "id": flow.id}))
}

fn refused(error: ApiError) -> Refused {
    Refused(error.status, error.detail)
}
