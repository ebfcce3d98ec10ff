//! The numbers of reports, which Klaviyo counts, and of which nothing is counted here.

use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Control, answer, bad, parse};
use crate::reports::DayDraft;

/// Days to keep the numbers of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDays {
    days: Vec<DayDraft>,
}

/// How reports are answered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportChange {
    page_size: usize,
}

/// Keeps the numbers of days, in the place of those that there were of the same.
pub async fn keep_days(State(control): State<Control>, body: Bytes) -> Answer {
    let NewDays { days } = parse(&body)?;
    control.sandbox.state().reports.keep(days).map_err(bad)?;
    answer(&json!({"ok": true}))
}

pub async fn set_reports(State(control): State<Control>, body: Bytes) -> Answer {
    let ReportChange { page_size } = parse(&body)?;
    if page_size == 0 {
        return Err(bad("a page has at least one row"));
    }
    control.sandbox.state().reports.page_size = page_size;
    answer(&json!({"ok": true}))
}
