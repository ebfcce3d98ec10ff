//! The calls in use and what Klaviyo allows of each.

use std::time::Duration;

/// How many calls of one endpoint an account may make: fixed windows, all kept at once.
/// Source: `x-klaviyo-ratelimit` in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls in one second.
    pub burst: u32,
    /// Calls in one minute.
    pub steady: u32,
    /// Calls in one day, for the few endpoints that count them.
    pub daily: Option<u32>,
}

impl Limits {
    /// The windows as (length, calls).
    pub fn windows(&self) -> impl Iterator<Item = (Duration, u32)> {
        [
            Some((Duration::from_secs(1), self.burst)),
            Some((Duration::from_secs(60), self.steady)),
            self.daily.map(|calls| (Duration::from_secs(24 * 60 * 60), calls)),
        ]
        .into_iter()
        .flatten()
    }
}

/// One call of Klaviyo's API.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Short name, the same in logs, views and settings.
    pub name: &'static str,
    /// Path below the base URL. Every call so far is a POST.
    pub path: &'static str,
    /// What the private key must be allowed to do (spec: `x-klaviyo-scopes`).
    pub scope: &'static str,
    /// What Klaviyo allows of it.
    pub limits: Limits,
    /// Largest request body in bytes (spec: the call's description).
    pub max_body: usize,
    /// How many events or profiles a call may carry (spec: the call's description).
    pub max_items: usize,
}

/// `create_event`: one event; makes or updates the profile it names.
pub const CREATE_EVENT: Endpoint = Endpoint {
    name: "events",
    path: "/api/events",
    scope: "events:write",
    limits: Limits { burst: 350, steady: 3_500, daily: None },
    max_body: 5_000_000,
    max_items: 1,
};

/// `create_or_update_profile`: the upsert of one profile.
pub const UPSERT_PROFILE: Endpoint = Endpoint {
    name: "profile-import",
    path: "/api/profile-import",
    scope: "profiles:write",
    limits: Limits { burst: 75, steady: 750, daily: None },
    max_body: 100_000,
    max_items: 1,
};

/// `bulk_create_events`: many events, all of them or none; makes or updates the profiles they name.
pub const BULK_CREATE_EVENTS: Endpoint = Endpoint {
    name: "event-bulk-create-jobs",
    path: "/api/event-bulk-create-jobs",
    scope: "events:write",
    limits: Limits { burst: 10, steady: 150, daily: None },
    max_body: 5_000_000,
    max_items: 1_000,
};

/// Every call in use.
pub const ENDPOINTS: [&Endpoint; 3] = [&CREATE_EVENT, &UPSERT_PROFILE, &BULK_CREATE_EVENTS];

#[cfg(test)]
mod tests {
    use super::*;

    /// With `KLAVIYO_OPENAPI` set, the limits and scopes written here are those of Klaviyo's own document.
    #[test]
    fn agrees_with_klaviyos_document() {
        let Some(path) = std::env::var_os("KLAVIYO_OPENAPI") else { return };
        let text = std::fs::read_to_string(&path).expect("KLAVIYO_OPENAPI names a readable file");
        let document: serde_json::Value = serde_json::from_str(&text).expect("an OpenAPI document");
        for endpoint in ENDPOINTS {
            let call = &document["paths"][endpoint.path]["post"];
            let limit = &call["x-klaviyo-ratelimit"];
            assert_eq!(limit["burst"], format!("{}/s", endpoint.limits.burst), "{}", endpoint.path);
            assert_eq!(limit["steady"], format!("{}/m", endpoint.limits.steady), "{}", endpoint.path);
            assert_eq!(call["x-klaviyo-scopes"][0], endpoint.scope, "{}", endpoint.path);
        }
    }
}
