//! The control paths: looking inside the sandbox, and telling it to misbehave.

mod groups;
mod reports;
mod seeds;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, OriginalUri, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use crate::bulk::BulkChange;
use crate::check::{CouponDraft, TemplateDraft};
use crate::faults::Rule;
use crate::rates::RateChange;
use crate::receipts::ReceiptView;
use crate::reply::Reply;
use crate::sandbox::Sandbox;
use crate::server::Command;
use crate::store::{ConsentView, EventView};
use crate::time::now;
use crate::webhooks::Occurrence;

/// What all control paths begin with.
const PREFIX: &str = "/_sandbox";

const JSON: &str = "application/json";

/// The largest body of a control request, in bytes: a generous list of faults.
const MAX_BODY: usize = 1024 * 1024;

/// How long the answer to `down` has to leave, when it came over a connection that `down` ends.
const ANSWER_LEAVES: Duration = Duration::from_millis(100);

/// The listener that a control request came to.
#[derive(Clone, Copy, PartialEq)]
pub enum Via {
    Api,
    Control,
}

/// What every control path knows.
#[derive(Clone)]
struct Control {
    sandbox: Arc<Sandbox>,
    via: Via,
}

/// An answer, or a status and what went wrong; both leave as JSON.
type Answer = Result<Reply, Refused>;

struct Refused(StatusCode, String);

/// The lists that grow long are written straight to text, which json! does not do.
#[derive(Serialize)]
struct Receipts<'a> {
    receipts: Vec<ReceiptView<'a>>,
}

#[derive(Serialize)]
struct Events<'a> {
    events: Vec<EventView<'a>>,
}

#[derive(Serialize)]
struct Consents<'a> {
    consents: Vec<ConsentView<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultList {
    faults: Vec<Rule>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    after: usize,
    limit: Option<usize>,
    #[serde(default = "yes")]
    bodies: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct EventFilter {
    metric: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCoupon {
    external_id: String,
}

/// A template to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTemplate {
    name: String,
}

/// What webhooks are to be told of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Occurrences {
    events: Vec<Occurrence>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    seconds: Option<f64>,
}

/// The control paths, for one of the listeners.
pub fn routes(sandbox: &Arc<Sandbox>, via: Via) -> Router {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/receipts", get(receipts))
        .route("/stats", get(stats))
        .route("/events", get(events).post(seeds::make_events))
        .route("/profiles", get(profiles).post(seeds::make_profiles))
        .route("/profiles/{id}", put(seeds::change_profile).delete(seeds::delete_profile))
        .route("/jobs", get(jobs))
        .route("/consents", get(consents))
        .route("/lists", get(lists))
        .route("/segments", get(groups::segments).post(groups::make_segment))
        .route("/segments/{id}", delete(groups::delete_segment))
        .route("/segments/{id}/members", put(groups::fill_segment))
        .route("/flows", post(groups::make_flow))
        .route("/reports", post(reports::keep_days).put(reports::set_reports))
        .route("/catalog", get(catalog))
        .route("/coupons", get(coupons).post(make_coupon))
        .route("/campaigns", get(campaigns))
        .route("/templates", post(make_template))
        .route("/webhooks", post(sign_webhooks))
        .route("/faults", get(faults).put(set_faults).delete(clear_faults))
        .route("/rates", put(set_rates))
        .route("/bulk", put(set_bulk))
        .route("/down", post(down))
        .route("/up", post(up))
        .route("/reset", post(reset))
        .fallback(unknown)
        .method_not_allowed_fallback(not_taken)
        .layer(DefaultBodyLimit::max(MAX_BODY));
    Router::new().nest(PREFIX, routes).with_state(Control { sandbox: Arc::clone(sandbox), via })
}

async fn health(State(control): State<Control>) -> Answer {
    let api = if control.sandbox.is_up() { "up" } else { "down" };
    answer(&json!({"ok": true, "api": api}))
}

async fn receipts(State(control): State<Control>, page: Result<Query<Page>, QueryRejection>) -> Answer {
    let Query(Page { after, limit, bodies }) = page?;
    let state = control.sandbox.state();
    answer(&Receipts { receipts: state.receipts.after(after, limit.unwrap_or(usize::MAX), bodies) })
}

async fn stats(State(control): State<Control>) -> Answer {
    let state = control.sandbox.state();
    answer(&json!({
        "requests": state.receipts.len(),
        "connections": control.sandbox.connections(),
        "by": state.receipts.counts(),
        "events": state.store.event_count(),
        "profiles": state.store.profile_count(),
        "event_repeats": state.store.repeats(),
        "bulk_repeats": state.store.bulk_repeats(),
        "throttled": state.receipts.throttled(),
    }))
}

async fn events(
    State(control): State<Control>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Answer {
    let Query(EventFilter { metric }) = filter?;
    answer(&Events { events: control.sandbox.state().store.events(metric.as_deref()) })
}

async fn profiles(State(control): State<Control>) -> Answer {
    answer(&json!({"profiles": control.sandbox.state().store.profiles()}))
}

async fn jobs(State(control): State<Control>) -> Answer {
    answer(&json!({"jobs": control.sandbox.state().jobs.views()}))
}

async fn consents(State(control): State<Control>) -> Answer {
    answer(&Consents { consents: control.sandbox.state().store.consents() })
}

async fn lists(State(control): State<Control>) -> Answer {
    answer(&json!({"lists": control.sandbox.state().store.list_views()}))
}

async fn catalog(State(control): State<Control>) -> Answer {
    answer(&control.sandbox.state().store.catalog.views())
}

async fn coupons(State(control): State<Control>) -> Answer {
    answer(&json!({"coupons": control.sandbox.state().store.coupons.views()}))
}

/// Makes a coupon, whatever the rate windows and faults of Klaviyo's own call are.
async fn make_coupon(State(control): State<Control>, body: Bytes) -> Answer {
    let NewCoupon { external_id } = parse(&body)?;
    let draft = CouponDraft { external_id, description: None, monitor_configuration: None };
    let mut state = control.sandbox.state();
    let made = state.store.coupons.create(draft);
    made.map_err(|error| Refused(StatusCode::CONFLICT, error.detail))?;
    answer(&json!({"ok": true}))
}

async fn campaigns(State(control): State<Control>) -> Answer {
    answer(&json!({"campaigns": control.sandbox.state().campaigns.views()}))
}

/// Makes a template in the same way, and says its id.
async fn make_template(State(control): State<Control>, body: Bytes) -> Answer {
    let NewTemplate { name } = parse(&body)?;
    let mut state = control.sandbox.state();
    let made = state.store.create_template(TemplateDraft::named(name), now());
    let template = made.map_err(|error| Refused(StatusCode::CONFLICT, error.detail))?;
    answer(&json!({"ok": true, "id": template.id}))
}

/// The requests that Klaviyo would send to webhooks about these events.
async fn sign_webhooks(State(control): State<Control>, body: Bytes) -> Answer {
    let Occurrences { events } = parse(&body)?;
    let api_url = &control.sandbox.settings.api_url;
    let requests = control.sandbox.state().webhooks.requests(&events, api_url, now());
    answer(&json!({"requests": requests}))
}

async fn faults(State(control): State<Control>) -> Answer {
    armed(&control)
}

async fn set_faults(State(control): State<Control>, body: Bytes) -> Answer {
    let FaultList { faults: rules } = parse(&body)?;
    rules.iter().try_for_each(Rule::check).map_err(bad)?;
    control.sandbox.state().faults.replace(rules);
    armed(&control)
}

async fn clear_faults(State(control): State<Control>) -> Answer {
    control.sandbox.state().faults.replace(Vec::new());
    armed(&control)
}

fn armed(control: &Control) -> Answer {
    answer(&json!({"faults": control.sandbox.state().faults.armed()}))
}

async fn set_rates(State(control): State<Control>, body: Bytes) -> Answer {
    let change: RateChange = parse(&body)?;
    answer(&control.sandbox.state().rates.change(change).map_err(bad)?)
}

async fn set_bulk(State(control): State<Control>, body: Bytes) -> Answer {
    let change: BulkChange = parse(&body)?;
    let mut state = control.sandbox.state();
    state.bulk = state.bulk.changed(&change);
    answer(&state.bulk)
}

async fn down(State(Control { sandbox, via }): State<Control>, body: Bytes) -> Answer {
    let Down { seconds } = if body.is_empty() { Down::default() } else { parse(&body)? };
    let back_after =
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(|error| bad(error.to_string()))?;
    let (done, is_done) = oneshot::channel();
    let command = Command::Down { back_after, done };
    let door = sandbox.door.clone();
    if via == Via::Api {
        // This very connection is about to end.
        tokio::spawn(async move {
            tokio::time::sleep(ANSWER_LEAVES).await;
            // Fails only when the sandbox is ending anyway.
            let _ = door.send(command).await;
        });
    } else {
        door.send(command).await.map_err(|_| ending())?;
        is_done.await.map_err(|_| ending())?;
    }
    answer(&json!({"ok": true, "api": "down"}))
}

async fn up(State(Control { sandbox, .. }): State<Control>) -> Answer {
    let (done, is_done) = oneshot::channel();
    sandbox.door.send(Command::Up { done }).await.map_err(|_| ending())?;
    let outcome = is_done.await.map_err(|_| ending())?;
    outcome.map_err(|error| Refused(StatusCode::CONFLICT, format!("cannot listen: {error}")))?;
    answer(&json!({"ok": true, "api": "up"}))
}

async fn reset(State(control): State<Control>) -> Answer {
    control.sandbox.reset();
    answer(&json!({"ok": true}))
}

/// Answers what is no control path.
pub async fn unknown(OriginalUri(uri): OriginalUri) -> Response {
    Refused(StatusCode::NOT_FOUND, format!("there is no {}", uri.path())).into_response()
}

async fn not_taken(method: Method, OriginalUri(uri): OriginalUri) -> Refused {
    Refused(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, reason) = self;
        Reply::with_body(status, JSON, json!({"error": reason}).to_string()).into_response()
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        bad(rejection.body_text())
    }
}

fn ending() -> Refused {
    Refused(StatusCode::CONFLICT, "the sandbox is ending".to_owned())
}

fn bad(reason: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason.into())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}

fn answer(value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => Ok(Reply::with_body(StatusCode::OK, JSON, text)),
        Err(error) => Err(Refused(StatusCode::CONFLICT, error.to_string())),
    }
}
