//! What control paths do in the place of people who work in Klaviyo's own pages, and of a long time.

use axum::extract::{Path, State};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Control, Refused, answer, bad, parse};
use crate::check::{self, ProfileDraft, Whose, rfc3339};
use crate::error::ApiError;
use crate::store::Refusal;
use crate::time::now;

/// The most that one request makes of a pattern. It takes some seconds, in which nobody else is served.
const MOST: usize = 1_000_000;

/// Profiles to make: those that are written out, and then as many as `count` says, `prefix-1@shop.example` and so on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProfiles {
    /// The attributes of each.
    #[serde(default)]
    profiles: Vec<Map<String, Value>>,
    #[serde(default)]
    count: usize,
    #[serde(default = "prefix")]
    prefix: String,
    start: Option<String>,
    /// A microsecond, the least that tells two times apart.
    #[serde(default = "microsecond")]
    step_seconds: f64,
}

fn prefix() -> String {
    "seed".to_owned()
}

fn microsecond() -> f64 {
    0.000_001
}

/// Events to make, of one profile and metric.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvents {
    metric: String,
    email: String,
    count: usize,
    start: Option<String>,
    #[serde(default = "second")]
    step_seconds: f64,
    #[serde(default)]
    properties: Map<String, Value>,
    value: Option<f64>,
}

fn second() -> f64 {
    1.0
}

/// How a profile is to be changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileChange {
    attributes: Map<String, Value>,
}

/// Makes profiles, and says their ids.
pub async fn make_profiles(State(control): State<Control>, body: Bytes) -> Answer {
    let NewProfiles { profiles, count, prefix, start, step_seconds } = parse(&body)?;
    let emails = (1..=count).map(|n| {
        let email = Value::from(format!("{prefix}-{n}@shop.example"));
        Map::from_iter([("email".to_owned(), email)])
    });
    let times = times(start.as_deref(), step_seconds, profiles.len().saturating_add(count))?;
    let drafts: Vec<ProfileDraft> = profiles
        .into_iter()
        .chain(emails)
        .map(|attributes| draft(None, attributes))
        .collect::<Result<_, _>>()?;
    let mut state = control.sandbox.state();
    let mut ids = Vec::with_capacity(drafts.len());
    for (draft, time) in drafts.into_iter().zip(times) {
        ids.push(state.store.seed(draft, time).map_err(in_words)?.id.clone());
    }
    answer(&json!({"ok": true, "ids": ids}))
}

/// Changes a profile, whatever the rate windows and faults of Klaviyo's own call are.
pub async fn change_profile(State(control): State<Control>, Path(id): Path<String>, body: Bytes) -> Answer {
    let ProfileChange { attributes } = parse(&body)?;
    let draft = draft(Some(&id), attributes)?;
    control.sandbox.state().store.change(draft, now()).map_err(in_words)?;
    answer(&json!({"ok": true}))
}

pub async fn delete_profile(State(control): State<Control>, Path(id): Path<String>) -> Answer {
    let mut state = control.sandbox.state();
    if state.store.profile(&id).is_none() {
        return Err(in_words(Refusal::UnknownProfile));
    }
    state.store.delete(&Whose::Id(id));
    answer(&json!({"ok": true}))
}

/// Makes events, and says whose and of which metric they are.
pub async fn make_events(State(control): State<Control>, body: Bytes) -> Answer {
    let NewEvents { metric, email, count, start, step_seconds, properties, value } = parse(&body)?;
    if count == 0 {
        return Err(bad("there is no metric without an event"));
    }
    let times: Vec<Timestamp> = times(start.as_deref(), step_seconds, count)?.collect();
    let now = now();
    let ends = [times.first(), times.last()].map(|time| time.map(Timestamp::to_string));
    let [first, last] = ends.map(|time| {
        json!({"data": {"type": "event", "attributes": {
            "properties": properties,
            "value": value,
            "time": time,
            "metric": {"data": {"type": "metric", "attributes": {"name": metric}}},
            "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
        }}})
    });
    check::event(&(&last).into(), now).map_err(found)?;
    let first = (&first).into();
    let (profile, event) = check::event(&first, now).map_err(found)?;
    let mut state = control.sandbox.state();
    let seeded = state.store.seed_events(profile, &event, times.into_iter(), now);
    let [profile_id, metric_id] = seeded.map_err(in_words)?;
    answer(&json!({"ok": true, "profile_id": profile_id, "metric_id": metric_id}))
}

/// So many times, one step after the other, from the start on. Without one they end now, so that none is yet to come.
fn times(
    start: Option<&str>,
    step_seconds: f64,
    count: usize,
) -> Result<impl Iterator<Item = Timestamp>, Refused> {
    if count > MOST {
        return Err(bad(format!("no more than {MOST} can be made at once")));
    }
    let step = SignedDuration::try_from_secs_f64(step_seconds).map_err(|error| bad(error.to_string()))?;
    // No more than `MOST`.
    let steps = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    let whole = step.checked_mul(steps).ok_or_else(|| bad("the times are too far apart"))?;
    let begin = match start {
        Some(start) => rfc3339(start).ok_or_else(|| bad("'start' must be a time in RFC 3339 form"))?,
        None => now().checked_sub(whole).map_err(|error| bad(error.to_string()))?,
    };
    begin.checked_add(whole).map_err(|error| bad(error.to_string()))?;
    // None is beyond the last, which there is.
    Ok((0..=steps).take(count).map(move |n| begin.saturating_add(step * n).unwrap_or(begin)))
}

/// The draft of a profile with these attributes, as a body of `profile-import` would have them.
fn draft(id: Option<&str>, attributes: Map<String, Value>) -> Result<ProfileDraft, Refused> {
    let mut body = json!({"data": {"type": "profile", "attributes": attributes}});
    if let Some(id) = id {
        body["data"]["id"] = id.into();
    }
    check::profile_import(&(&body).into()).map_err(found)
}

/// What checks of a body found.
fn found(errors: Vec<ApiError>) -> Refused {
    let error = |error: &ApiError| format!("{}: {}", error.pointer, error.detail);
    bad(errors.iter().map(error).collect::<Vec<_>>().join(" "))
}

fn in_words(refusal: Refusal) -> Refused {
    let error = refusal.to_error("");
    Refused(error.status, error.detail)
}
