//! Misbehaviour on demand: rules that say which requests go wrong, how, and how often.

use std::time::Duration;

use hyper::{Method, StatusCode};
use memchr::memmem;
use serde::{Deserialize, Serialize};

/// The ways to go wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers with the rule's status and an error body; nothing is stored.
    Status,
    /// Answers 429 with Retry-After; nothing is stored.
    Throttle,
    /// Reads the request, then resets the connection; nothing is stored.
    ResetBefore,
    /// Stores, then resets the connection.
    ResetAfter,
    /// Reads the request and does not answer; nothing is stored.
    Hang,
    /// Stores and does not answer.
    HangAfter,
    /// Stores, then breaks off half-way through the answer.
    Half,
    /// Answers with the rule's status and something that is not JSON, as what is in between may; nothing is stored.
    Malformed,
    /// Waits, then goes on; later rules still apply.
    Latency,
    /// Each event, profile, coupon, code, template, campaign, call about one or thing of the catalog that contains the rule's
    /// text is one that Klaviyo would not take: alone or among many events or consents the call is refused, in an import job the profile becomes an import
    /// error, in a job of codes or of the catalog it becomes an error of the job. Later rules still apply.
    Refuse,
}

impl Kind {
    /// The name in rules, receipts and statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Throttle => "throttle",
            Self::ResetBefore => "reset_before",
            Self::ResetAfter => "reset_after",
            Self::Hang => "hang",
            Self::HangAfter => "hang_after",
            Self::Half => "half",
            Self::Malformed => "malformed",
            Self::Latency => "latency",
            Self::Refuse => "refuse",
        }
    }
}

/// One rule, as the control path takes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub kind: Kind,
    /// Only requests with this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only requests whose path begins with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only requests whose raw body contains this.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// The status of a rule: when absent 503 of `status`, 500 of `malformed`, 400 of `refuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error's code, detail and pointer; made up when absent. Of `refuse` the pointer goes on from the event,
    /// profile or whatever it is: `/attributes/email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Retry-After, in seconds: of `throttle` (1 when absent), and of `status` when given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Milliseconds that `latency` adds, or after which a hanging connection ends; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// How likely the rule fires when it matches, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How many of the requests that match are let pass first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<u64>,
    /// How often the rule fires at most; without limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

fn always() -> f64 {
    1.0
}

impl Rule {
    /// The reason why the rule makes no sense, if it does not.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(format!("probability {} is not between 0 and 1", self.probability));
        }
        if self.kind == Kind::Latency && self.ms.is_none() {
            return Err("latency needs ms".to_owned());
        }
        if self.kind == Kind::Refuse && self.body_contains.is_none() {
            return Err("refuse needs match".to_owned());
        }
        match self.status {
            Some(status) if !(400..=599).contains(&status) => {
                Err(format!("status {status} is not an error (400 to 599)"))
            }
            _ => Ok(()),
        }
    }

    pub fn status(&self) -> StatusCode {
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        status.unwrap_or(match self.kind {
            Kind::Malformed => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Refuse => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        })
    }

    pub fn duration(&self) -> Option<Duration> {
        self.ms.map(Duration::from_millis)
    }

    fn matches(&self, method: &Method, path: &str, body: &[u8]) -> bool {
        self.method.as_deref().is_none_or(|wanted| method.as_str() == wanted)
            && self.path.as_deref().is_none_or(|prefix| path.starts_with(prefix))
            && self.body_contains.as_deref().is_none_or(|part| memmem::find(body, part.as_bytes()).is_some())
    }
}

/// A rule with the number of times it fired.
#[derive(Serialize)]
pub struct Armed {
    #[serde(flatten)]
    rule: Rule,
    #[serde(skip)]
    skipped: u64,
    fired: u64,
}

/// What happens to one request.
pub struct Plan {
    /// All the latency that fired before the fault.
    pub delay: Duration,
    /// All the rules for parts of the body that fired before the fault.
    pub refuse: Vec<Rule>,
    pub fault: Option<Rule>,
}

/// The rules in force.
pub struct Faults {
    armed: Vec<Armed>,
    random: fastrand::Rng,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { armed: Vec::new(), random: fastrand::Rng::with_seed(seed) }
    }

    pub fn replace(&mut self, rules: Vec<Rule>) {
        self.armed = rules.into_iter().map(|rule| Armed { rule, skipped: 0, fired: 0 }).collect();
    }

    pub fn armed(&self) -> &[Armed] {
        &self.armed
    }

    /// Throws the dice for a request: the first rule that matches and fires decides, latency adds up on the way.
    pub fn pick(&mut self, method: &Method, path: &str, body: &[u8]) -> Plan {
        let mut plan = Plan { delay: Duration::ZERO, refuse: Vec::new(), fault: None };
        for armed in &mut self.armed {
            let spent = armed.rule.times.is_some_and(|times| armed.fired >= times);
            if spent || !armed.rule.matches(method, path, body) {
                continue;
            }
            if armed.rule.skip.is_some_and(|skip| armed.skipped < skip) {
                armed.skipped += 1;
                continue;
            }
            if self.random.f64() >= armed.rule.probability {
                continue;
            }
            armed.fired += 1;
            match armed.rule.kind {
                Kind::Latency => plan.delay += armed.rule.duration().unwrap_or_default(),
                Kind::Refuse => plan.refuse.push(armed.rule.clone()),
                _ => {
                    plan.fault = Some(armed.rule.clone());
                    break;
                }
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(rules: Value) -> Faults {
        let mut faults = Faults::new(42);
        faults.replace(serde_json::from_value(rules).unwrap());
        faults
    }

    fn fires(faults: &mut Faults, path: &str, body: &str) -> Option<Kind> {
        faults.pick(&Method::POST, path, body.as_bytes()).fault.map(|rule| rule.kind)
    }

    #[test]
    fn first_matching_rule_decides() {
        let mut faults = faults(json!([
            {"kind": "hang", "path": "/api/profile"},
            {"kind": "half", "match": "needle"},
            {"kind": "malformed"},
        ]));
        assert_eq!(fires(&mut faults, "/api/profile-import", "needle"), Some(Kind::Hang));
        assert_eq!(fires(&mut faults, "/api/events", "a needle here"), Some(Kind::Half));
        assert_eq!(fires(&mut faults, "/api/events", "hay"), Some(Kind::Malformed));
    }

    #[test]
    fn a_rule_may_be_for_one_method() {
        let mut faults = faults(json!([{"kind": "hang", "method": "POST"}]));
        assert!(faults.pick(&Method::GET, "/", b"").fault.is_none());
        assert!(faults.pick(&Method::POST, "/", b"").fault.is_some());
    }

    #[test]
    fn times_is_a_ceiling_and_fired_is_counted() {
        let mut faults = faults(json!([{"kind": "reset_after", "times": 2}]));
        let fired: Vec<_> = (0..4).map(|_| fires(&mut faults, "/", "").is_some()).collect();
        assert_eq!(fired, [true, true, false, false]);
        let armed = serde_json::to_value(faults.armed()).unwrap();
        assert_eq!(armed, json!([{"kind": "reset_after", "times": 2, "probability": 1.0, "fired": 2}]));
    }

    #[test]
    fn the_first_may_be_let_pass() {
        let mut faults = faults(json!([{"kind": "reset_after", "path": "/a", "skip": 2, "times": 1}]));
        let fired: Vec<_> = (0..4).map(|_| fires(&mut faults, "/a", "").is_some()).collect();
        assert_eq!(fired, [false, false, true, false]);
    }

    #[test]
    fn dice_keep_to_their_probability_and_their_seed() {
        let run = || {
            let mut faults = faults(json!([{"kind": "status", "probability": 0.25}]));
            (0..10_000).map(|_| fires(&mut faults, "/", "").is_some()).collect::<Vec<_>>()
        };
        let fired = run().iter().filter(|fired| **fired).count();
        assert!((2_300..2_700).contains(&fired), "{fired} of 10000");
        assert_eq!(run(), run());
        let mut never = faults(json!([{"kind": "status", "probability": 0}]));
        assert!((0..1_000).all(|_| fires(&mut never, "/", "").is_none()));
    }

    #[test]
    fn latency_and_refusals_add_up_and_let_later_rules_apply() {
        let mut faults = faults(json!([
            {"kind": "latency", "ms": 20}, {"kind": "refuse", "match": "x"}, {"kind": "latency", "ms": 5},
            {"kind": "refuse", "match": "y"}, {"kind": "status"}, {"kind": "latency", "ms": 9},
        ]));
        let plan = faults.pick(&Method::POST, "/", b"x");
        assert_eq!(plan.delay, Duration::from_millis(25));
        assert_eq!(plan.refuse.len(), 1);
        assert_eq!(plan.fault.unwrap().kind, Kind::Status);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for rule in [
            json!({"kind": "latency"}),
            json!({"kind": "refuse"}),
            json!({"kind": "status", "probability": 1.5}),
            json!({"kind": "status", "status": 200}),
        ] {
            assert!(serde_json::from_value::<Rule>(rule.clone()).unwrap().check().is_err(), "{rule}");
        }
        assert!(serde_json::from_value::<Rule>(json!({"kind": "explode"})).is_err());
        assert!(serde_json::from_value::<Rule>(json!({"kind": "hang", "time": 1})).is_err());
    }
}
