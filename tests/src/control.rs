//! The sandbox's control paths: what it saw, what it keeps, and how it is told to misbehave.

mod seeds;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::Agent;

use crate::receipt::Receipt;
use crate::wait::PATIENCE;
pub use seeds::{EventSeed, ReportSeed, SeededEvents, StoredSegment};

/// Receipts fetched in one go; each may be as large as a request.
const PAGE: usize = 2000;

/// A client for the control paths of one sandbox.
#[derive(Clone, Debug)]
pub struct Control {
    url: String,
    agent: Agent,
}

/// What the sandbox counts.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    /// Requests that were read to their end.
    pub requests: u64,
    /// Connections taken.
    pub connections: u64,
    /// Requests by path, status and fault.
    pub by: Vec<StatsRow>,
    /// Events kept.
    pub events: u64,
    /// Profiles kept.
    pub profiles: u64,
    /// Events that came again under the same unique_id.
    pub event_repeats: u64,
    /// Bulk calls of events that failed for one that came before.
    pub bulk_repeats: u64,
    /// Requests answered 429.
    pub throttled: u64,
}

/// How many requests ended in one way.
#[derive(Clone, Debug, Deserialize)]
pub struct StatsRow {
    /// The request's path.
    pub path: String,
    /// The status sent, if any was.
    pub status: Option<u16>,
    /// The fault that decided, if one did.
    pub fault: Option<String>,
    /// The number of requests.
    pub count: u64,
}

/// A request as Klaviyo sends it to a webhook.
#[derive(Clone, Debug, Deserialize)]
pub struct WebhookRequest {
    /// By their names.
    pub headers: Value,
    /// What is signed.
    pub body: String,
}

impl Stats {
    /// How many requests met a fault, by its kind; made-up statuses each by their number.
    pub fn troubles(&self) -> BTreeMap<String, u64> {
        let mut troubles = BTreeMap::new();
        for row in &self.by {
            let Some(fault) = &row.fault else { continue };
            let name = match (fault.as_str(), row.status) {
                ("status", Some(status)) => status.to_string(),
                _ => fault.clone(),
            };
            *troubles.entry(name).or_default() += row.count;
        }
        troubles
    }

    /// How many requests were answered with a status.
    pub fn answered(&self, status: u16) -> u64 {
        self.by.iter().filter(|row| row.status == Some(status)).map(|row| row.count).sum()
    }
}

/// An event that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredEvent {
    /// Its id in the sandbox.
    pub id: String,
    /// The metric's name.
    pub metric: String,
    /// The id under which it was sent.
    pub unique_id: Option<String>,
    /// The profile it belongs to.
    pub profile_id: String,
    /// When it happened, as sent.
    pub time: Value,
    /// Its value.
    pub value: Value,
    /// Its value's currency.
    pub value_currency: Option<String>,
    /// Its properties.
    pub properties: Value,
    /// How often it came in, repeats included.
    pub received: u64,
    /// The receipt that made it.
    pub n: u64,
}

/// A profile that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredProfile {
    /// Its id in the sandbox.
    pub id: String,
    /// Its attributes.
    pub attributes: Value,
    /// How often it was written.
    pub updates: u64,
    /// Its consent, by channel: `SUBSCRIBED`, `UNSUBSCRIBED`, `NEVER_SUBSCRIBED`.
    pub subscriptions: BTreeMap<String, String>,
    /// Why no e-mails go to it.
    pub suppressions: Vec<String>,
    /// The lists it is on.
    pub lists: Vec<String>,
}

/// A change of somebody's consent.
#[derive(Clone, Debug, Deserialize)]
pub struct ConsentChange {
    /// The receipt that brought it.
    pub n: u64,
    /// Whose it is.
    pub profile_id: String,
    /// The address it is of, as long as Klaviyo keeps it.
    pub email: Option<String>,
    /// What it is: `subscribed`, `unsubscribed`, `unsubscribed_everywhere`, `suppressed`, `unsuppressed`.
    pub change: String,
    /// Of which channels.
    pub channels: Vec<String>,
    /// Of which list.
    pub list: Option<String>,
}

/// A job that imports profiles.
#[derive(Clone, Debug, Deserialize)]
pub struct ImportJob {
    /// Its id.
    pub id: String,
    /// `queued`, `processing` or `complete`.
    pub status: String,
    /// Profiles it was given.
    pub total_count: u64,
    /// Profiles imported so far.
    pub completed_count: u64,
    /// Profiles that could not be imported so far.
    pub failed_count: u64,
    /// The receipt that made it.
    pub n: u64,
}

/// One way to misbehave, for the requests it matches. The first in the list that matches and whose dice say yes fires.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Fault {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    body_contains: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    probability: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// How often it fired; only in what the sandbox tells.
    #[serde(default, skip_serializing)]
    pub fired: u64,
}

impl Fault {
    fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            method: None,
            path: None,
            body_contains: None,
            status: None,
            code: None,
            detail: None,
            pointer: None,
            retry_after: None,
            ms: None,
            probability: 1.0,
            skip: None,
            times: None,
            fired: 0,
        }
    }

    /// Answers with this status; nothing is stored.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::new("status") }
    }

    /// Answers 429 with this `Retry-After`; nothing is stored.
    pub fn throttle(retry_after: u64) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new("throttle") }
    }

    /// Reads the request and resets the connection; nothing is stored.
    pub fn reset_before() -> Self {
        Self::new("reset_before")
    }

    /// Stores and resets the connection.
    pub fn reset_after() -> Self {
        Self::new("reset_after")
    }

    /// Reads the request and never answers; nothing is stored.
    pub fn hang() -> Self {
        Self::new("hang")
    }

    /// Stores and never answers.
    pub fn hang_after() -> Self {
        Self::new("hang_after")
    }

    /// Stores and sends half an answer.
    pub fn half() -> Self {
        Self::new("half")
    }

    /// Answers 500 with something that is not JSON; nothing is stored.
    pub fn malformed() -> Self {
        Self::foreign(500)
    }

    /// Answers with this status and something that is not JSON, as a firewall in between; nothing is stored.
    pub fn foreign(status: u16) -> Self {
        Self { status: Some(status), ..Self::new("malformed") }
    }

    /// Answers late.
    pub fn latency(by: Duration) -> Self {
        Self::new("latency").lasting(by)
    }

    /// Refuses each event or profile with this text, alone or among many; in an import job it becomes an import error.
    /// A pointer goes on from the event or profile.
    pub fn refuse(text: &str) -> Self {
        Self::new("refuse").matching(text)
    }

    /// Ends a hang after this time.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.ms = Some(time.as_millis().try_into().expect("a time in milliseconds fits"));
        self
    }

    /// The error's code and detail, of a status.
    #[must_use]
    pub fn error(mut self, code: &str, detail: &str) -> Self {
        (self.code, self.detail) = (Some(code.to_owned()), Some(detail.to_owned()));
        self
    }

    /// The error's pointer into the request, of a status.
    #[must_use]
    pub fn pointer(mut self, pointer: &str) -> Self {
        self.pointer = Some(pointer.to_owned());
        self
    }

    /// Only for requests with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only for paths that begin with this.
    #[must_use]
    pub fn path(mut self, prefix: &str) -> Self {
        self.path = Some(prefix.to_owned());
        self
    }

    /// Only for bodies that contain this.
    #[must_use]
    pub fn matching(mut self, text: &str) -> Self {
        self.body_contains = Some(text.to_owned());
        self
    }

    /// How likely it fires when it matches.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// How many of the requests that match pass first.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = Some(requests);
        self
    }

    /// How often it fires at most.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// The kind's name, as receipts and statistics show it.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

/// A change of the rate windows; what is absent stays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rates {
    /// Whether they are enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What multiplies the number of requests a window allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count_scale: Option<f64>,
    /// What multiplies a window's length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_scale: Option<f64>,
}

/// A change of how bulk calls behave; what is absent stays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bulk {
    /// When a repeated `unique_id` fails a call of events: `at_once` or `after` its 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<&'static str>,
    /// How long an import job is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
    /// How long it then takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processing_ms: Option<u64>,
    /// Whether import errors name the profile as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_payloads: Option<bool>,
}

impl Control {
    /// A client for the sandbox at this URL.
    pub fn new(url: &str) -> Self {
        // Nothing of an environment's HTTP proxy: the sandbox is on this machine.
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None);
        Self { url: url.to_owned(), agent: config.build().into() }
    }

    /// The URL under which the control paths lie.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ureq::Error> {
        let mut answer = self.agent.get(format!("{}/_sandbox/{path}", self.url)).call()?;
        // Pages of receipts with large bodies exceed the default limit of 10 MB.
        answer.body_mut().with_config().limit(u64::MAX).read_json()
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.try_get(path).unwrap_or_else(|error| panic!("GET /_sandbox/{path}: {error}"))
    }

    fn post(&self, path: &str, body: &Value) {
        self.posted::<Value>(path, body);
    }

    fn posted<T: DeserializeOwned>(&self, path: &str, body: &Value) -> T {
        let answer = self.agent.post(format!("{}/_sandbox/{path}", self.url)).send_json(body);
        let mut answer = answer.unwrap_or_else(|error| panic!("POST /_sandbox/{path}: {error}"));
        answer.body_mut().read_json().unwrap_or_else(|error| panic!("POST /_sandbox/{path}: {error}"))
    }

    fn put(&self, path: &str, body: &Value) {
        let answer = self.agent.put(format!("{}/_sandbox/{path}", self.url)).send_json(body);
        answer.unwrap_or_else(|error| panic!("PUT /_sandbox/{path}: {error}"));
    }

    fn delete(&self, path: &str) {
        let answer = self.agent.delete(format!("{}/_sandbox/{path}", self.url)).call();
        answer.unwrap_or_else(|error| panic!("DELETE /_sandbox/{path}: {error}"));
    }

    /// Whether the API listens at the moment.
    pub fn is_up(&self) -> bool {
        #[derive(Deserialize)]
        struct Health {
            api: String,
        }
        self.get::<Health>("health").api == "up"
    }

    /// Every request so far, in order of arrival.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.receipts_after(0)
    }

    /// Every message that came so far, each as if it had come in a call of its own, in order of arrival.
    pub fn messages(&self) -> Vec<Receipt> {
        self.receipts().iter().flat_map(Receipt::messages).collect()
    }

    /// The requests after the one with this number.
    pub fn receipts_after(&self, n: u64) -> Vec<Receipt> {
        self.pages(n, true)
    }

    /// The same without bodies, which of bulk calls are up to 5 MB each.
    pub fn receipt_heads_after(&self, n: u64) -> Vec<Receipt> {
        self.pages(n, false)
    }

    fn pages(&self, mut n: u64, bodies: bool) -> Vec<Receipt> {
        #[derive(Deserialize)]
        struct Page {
            receipts: Vec<Receipt>,
        }
        let mut all = Vec::new();
        loop {
            let page: Page = self.get(&format!("receipts?after={n}&limit={PAGE}&bodies={bodies}"));
            let Some(last) = page.receipts.last() else { return all };
            n = last.n;
            all.extend(page.receipts);
        }
    }

    /// What it has counted.
    pub fn stats(&self) -> Stats {
        self.get("stats")
    }

    /// The same, for a report in which the sandbox may be what went wrong.
    pub fn try_stats(&self) -> Result<Stats, ureq::Error> {
        self.try_get("stats")
    }

    /// Every event kept.
    pub fn events(&self) -> Vec<StoredEvent> {
        #[derive(Deserialize)]
        struct Answer {
            events: Vec<StoredEvent>,
        }
        self.get::<Answer>("events").events
    }

    /// Every profile kept.
    pub fn profiles(&self) -> Vec<StoredProfile> {
        #[derive(Deserialize)]
        struct Answer {
            profiles: Vec<StoredProfile>,
        }
        self.get::<Answer>("profiles").profiles
    }

    /// Every change of consent, in the order in which they took effect.
    pub fn consents(&self) -> Vec<ConsentChange> {
        #[derive(Deserialize)]
        struct Answer {
            consents: Vec<ConsentChange>,
        }
        self.get::<Answer>("consents").consents
    }

    /// Every import job, in the order of creation.
    pub fn jobs(&self) -> Vec<ImportJob> {
        #[derive(Deserialize)]
        struct Answer {
            jobs: Vec<ImportJob>,
        }
        self.get::<Answer>("jobs").jobs
    }

    /// Replaces the list of faults.
    pub fn set_faults(&self, faults: &[Fault]) {
        self.put("faults", &json!({ "faults": faults }));
    }

    /// The faults in force, with how often each fired.
    pub fn faults(&self) -> Vec<Fault> {
        #[derive(Deserialize)]
        struct Answer {
            faults: Vec<Fault>,
        }
        self.get::<Answer>("faults").faults
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.set_faults(&[]);
    }

    /// Changes the rate windows and begins them anew.
    pub fn set_rates(&self, rates: &Rates) {
        self.put("rates", &json!(rates));
    }

    /// Changes how bulk calls behave.
    pub fn set_bulk(&self, bulk: &Bulk) {
        self.put("bulk", &json!(bulk));
    }

    /// Goes down: refuses connections and breaks those it has.
    pub fn down(&self) {
        self.post("down", &json!({}));
    }

    /// Comes back, on the same port.
    pub fn up(&self) {
        self.post("up", &json!({}));
    }

    /// Forgets all it has seen, keeps and was told.
    pub fn reset(&self) {
        self.post("reset", &json!({}));
    }
}

/// An item of the catalog that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredItem {
    /// Its id: `$custom:::$default:::` and the shop's.
    pub id: String,
    /// Its attributes.
    pub attributes: Value,
    /// How often it was written.
    pub writes: u64,
    /// The ids of its variants, the oldest first.
    pub variants: Vec<String>,
    /// The ids of the categories that it is in, the oldest first.
    pub categories: Vec<String>,
}

/// A variant of an item that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredVariant {
    /// Its id: `$custom:::$default:::` and the shop's.
    pub id: String,
    /// Its attributes.
    pub attributes: Value,
    /// How often it was written.
    pub writes: u64,
    /// The id of its item.
    pub item: String,
}

/// A category of items that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredCategory {
    /// Its id: `$custom:::$default:::` and the shop's.
    pub id: String,
    /// Its attributes.
    pub attributes: Value,
    /// How often it was written.
    pub writes: u64,
    /// The ids of its items, the oldest first.
    pub items: Vec<String>,
}

/// The catalog that the sandbox keeps, of each kind the oldest first.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredCatalog {
    /// Its items.
    pub items: Vec<StoredItem>,
    /// Their variants.
    pub variants: Vec<StoredVariant>,
    /// The categories that they are in.
    pub categories: Vec<StoredCategory>,
}

/// A coupon that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredCoupon {
    /// Its id, which is the shop's.
    pub id: String,
    /// Its attributes.
    pub attributes: Value,
    /// Its codes, in the order in which they came.
    pub codes: Vec<StoredCode>,
}

/// A code of a coupon that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredCode {
    /// Its id: the coupon's, `-` and the code.
    pub id: String,
    /// The code.
    pub unique_code: String,
    /// Until when it counts, in RFC 3339.
    pub expires_at: String,
    /// Whether somebody has it: `UNASSIGNED`.
    pub status: String,
}

/// A campaign that the sandbox keeps.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredCampaign {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// How it stands.
    pub status: String,
    /// Its messages, each with the id of its template if it has one.
    pub messages: Vec<Value>,
    /// How many jobs to send it were accepted.
    pub send_jobs: u64,
    /// How often a sending began.
    pub sendings: u64,
    /// To how many profiles it went.
    pub recipients: u64,
}

impl Control {
    /// Every campaign kept, in the order of creation.
    pub fn campaigns(&self) -> Vec<StoredCampaign> {
        #[derive(Deserialize)]
        struct Answer {
            campaigns: Vec<StoredCampaign>,
        }
        self.get::<Answer>("campaigns").campaigns
    }

    /// Makes a template and says its id. It is no request to the API either.
    pub fn make_template(&self, name: &str) -> String {
        #[derive(Deserialize)]
        struct Made {
            id: String,
        }
        self.posted::<Made>("templates", &json!({ "name": name })).id
    }

    /// The catalog kept.
    pub fn catalog(&self) -> StoredCatalog {
        self.get("catalog")
    }

    /// Every coupon kept, in the order of creation.
    pub fn coupons(&self) -> Vec<StoredCoupon> {
        #[derive(Deserialize)]
        struct Answer {
            coupons: Vec<StoredCoupon>,
        }
        self.get::<Answer>("coupons").coupons
    }

    /// The requests that Klaviyo would send to webhooks about these events, of topic, profile and properties.
    pub fn webhook_requests(&self, events: &Value) -> Vec<WebhookRequest> {
        #[derive(Deserialize)]
        struct Signed {
            requests: Vec<WebhookRequest>,
        }
        self.posted::<Signed>("webhooks", &json!({ "events": events })).requests
    }

    /// Makes a coupon, whose id is the external id. It is no request to the API: no receipt, no rate window.
    pub fn make_coupon(&self, external_id: &str) {
        self.post("coupons", &json!({ "external_id": external_id }));
    }
}
