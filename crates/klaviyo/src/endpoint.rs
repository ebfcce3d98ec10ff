//! The calls in use and what Klaviyo allows of each.

use std::time::Duration;

use crate::campaigns::{
    ASSIGN_TEMPLATE, CANCEL_SEND, CREATE_CAMPAIGN, ESTIMATE_RECIPIENTS, GET_CAMPAIGN, GET_CAMPAIGNS,
    GET_ESTIMATION, GET_ESTIMATION_JOB, GET_SEND_JOB, SEND_CAMPAIGN,
};
use crate::resources::{
    CREATE_CATEGORIES, CREATE_COUPON_CODES, CREATE_ITEMS, CREATE_VARIANTS, DELETE_CATEGORIES, DELETE_ITEMS,
    DELETE_VARIANTS, UPDATE_CATEGORIES, UPDATE_ITEMS, UPDATE_VARIANTS,
};

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

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// It only asks.
    Get,
    /// It brings something.
    Post,
    /// It changes something.
    Patch,
    /// It takes something away.
    Delete,
}

impl Method {
    /// As HTTP has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// That of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Patch, Self::Delete].into_iter().find(|method| method.name() == name)
    }
}

/// One call of Klaviyo's API.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Short name, the same in logs, views and settings.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Path below the base URL, `{…}` standing for the id that is asked for.
    pub path: &'static str,
    /// What the private key must be allowed to do (spec: `x-klaviyo-scopes`).
    pub scopes: &'static [&'static str],
    /// What Klaviyo allows of it.
    pub limits: Limits,
    /// Largest request body in bytes (spec: the call's description); none where there is no body.
    pub max_body: usize,
    /// How many events or profiles a call may carry, or ask about (spec: the call's description).
    pub max_items: usize,
    /// Whether what it does can be done without it, only slower: a key that may not make it stops nothing.
    pub optional: bool,
}

/// `create_event`: one event; makes or updates the profile it names.
pub const CREATE_EVENT: Endpoint = Endpoint {
    name: "events",
    method: Method::Post,
    path: "/api/events",
    scopes: &["events:write"],
    limits: Limits { burst: 350, steady: 3_500, daily: None },
    max_body: 5_000_000,
    max_items: 1,
    optional: false,
};

/// `create_or_update_profile`: the upsert of one profile.
pub const UPSERT_PROFILE: Endpoint = Endpoint {
    name: "profile-import",
    method: Method::Post,
    path: "/api/profile-import",
    scopes: &["profiles:write"],
    limits: Limits { burst: 75, steady: 750, daily: None },
    max_body: 100_000,
    max_items: 1,
    optional: false,
};

/// `bulk_create_events`: many events, all of them or none; makes or updates the profiles they name.
pub const BULK_CREATE_EVENTS: Endpoint = Endpoint {
    name: "event-bulk-create-jobs",
    method: Method::Post,
    path: "/api/event-bulk-create-jobs",
    scopes: &["events:write"],
    limits: Limits { burst: 10, steady: 150, daily: None },
    max_body: 5_000_000,
    max_items: 1_000,
    optional: false,
};

/// `bulk_import_profiles`: a job that makes or updates many profiles, each by itself.
pub const BULK_IMPORT_PROFILES: Endpoint = Endpoint {
    name: "profile-bulk-import-jobs",
    method: Method::Post,
    path: "/api/profile-bulk-import-jobs",
    scopes: &["lists:write", "profiles:write"],
    limits: JOB_LIMITS,
    max_body: 5_000_000,
    max_items: 10_000,
    optional: true,
};

/// `request_profile_deletion`: has the profiles be deleted that an address or a number matches, and their data.
pub const REQUEST_DELETION: Endpoint = Endpoint {
    name: "data-privacy-deletion-jobs",
    method: Method::Post,
    path: "/api/data-privacy-deletion-jobs",
    scopes: &["data-privacy:write"],
    limits: Limits { burst: 3, steady: 60, daily: None },
    max_body: 100_000,
    max_items: 1,
    optional: false,
};

/// `bulk_subscribe_profiles`: consent of many to be written to.
pub const SUBSCRIBE: Endpoint = consent(
    "profile-subscription-bulk-create-jobs",
    "/api/profile-subscription-bulk-create-jobs",
    &["lists:write", "profiles:write", "subscriptions:write"],
    1_000,
);

/// `bulk_unsubscribe_profiles`: many take it back. With a list, who is not on it is unsubscribed from everything.
pub const UNSUBSCRIBE: Endpoint = consent(
    "profile-subscription-bulk-delete-jobs",
    "/api/profile-subscription-bulk-delete-jobs",
    &["lists:write", "profiles:write", "subscriptions:write"],
    100,
);

/// `bulk_suppress_profiles`: a job after which no e-mails go to many, whatever their consent.
pub const SUPPRESS: Endpoint = consent(
    "profile-suppression-bulk-create-jobs",
    "/api/profile-suppression-bulk-create-jobs",
    &["profiles:write", "subscriptions:write"],
    100,
);

/// `bulk_unsuppress_profiles`: a job that takes that back.
pub const UNSUPPRESS: Endpoint = consent(
    "profile-suppression-bulk-delete-jobs",
    "/api/profile-suppression-bulk-delete-jobs",
    &["subscriptions:write"],
    100,
);

/// `get_profiles_for_list`: who is on a list.
pub const GET_LIST_PROFILES: Endpoint = Endpoint {
    limits: CONSENT_LIMITS,
    max_items: 100,
    optional: false,
    ..question("get-list-profiles", "/api/lists/{id}/profiles", &["lists:read", "profiles:read"])
};

/// `get_profiles`: who has these identifiers.
pub const GET_PROFILES: Endpoint = Endpoint {
    limits: CONSENT_LIMITS,
    max_items: 100,
    optional: false,
    ..question("get-profiles", "/api/profiles", &["profiles:read"])
};

/// `add_profiles_to_list`: puts many on a list, whatever they have agreed to.
pub const ADD_TO_LIST: Endpoint = list_members("list-members", Method::Post);

/// `remove_profiles_from_list`: takes many off it.
pub const REMOVE_FROM_LIST: Endpoint = list_members("delete-list-members", Method::Delete);

const fn list_members(name: &'static str, method: Method) -> Endpoint {
    Endpoint {
        name,
        method,
        path: "/api/lists/{id}/relationships/profiles",
        scopes: &["lists:write", "profiles:write"],
        limits: JOB_LIMITS,
        max_body: 5_000_000,
        max_items: 1_000,
        optional: false,
    }
}

/// `get_bulk_suppress_profiles_job`: how such a job stands.
pub const GET_SUPPRESS_JOB: Endpoint = Endpoint {
    limits: CONSENT_LIMITS,
    ..question(
        "get-profile-suppression-bulk-create-job",
        "/api/profile-suppression-bulk-create-jobs/{job_id}",
        &["subscriptions:read"],
    )
};

/// `get_bulk_unsuppress_profiles_job`: how such a job stands.
pub const GET_UNSUPPRESS_JOB: Endpoint = Endpoint {
    limits: CONSENT_LIMITS,
    ..question(
        "get-profile-suppression-bulk-delete-job",
        "/api/profile-suppression-bulk-delete-jobs/{job_id}",
        &["subscriptions:read"],
    )
};

const CONSENT_LIMITS: Limits = Limits { burst: 75, steady: 750, daily: None };

/// A call about what many have agreed to.
const fn consent(
    name: &'static str,
    path: &'static str,
    scopes: &'static [&'static str],
    max_items: usize,
) -> Endpoint {
    Endpoint {
        name,
        method: Method::Post,
        path,
        scopes,
        limits: CONSENT_LIMITS,
        // The document names none; this is that of the other calls of many.
        max_body: 5_000_000,
        max_items,
        optional: false,
    }
}

/// `get_lists`: which lists have a name.
pub const GET_LISTS: Endpoint = Endpoint {
    limits: Limits { burst: 75, steady: 750, daily: None },
    max_items: 10,
    optional: false,
    ..question("get-lists", "/api/lists", &["lists:read"])
};

/// `create_list`: a new list; there may be others of its name.
pub const CREATE_LIST: Endpoint = Endpoint {
    limits: Limits { daily: Some(150), ..JOB_LIMITS },
    ..of_lists("lists", Method::Post, "/api/lists")
};

/// `update_list`: gives it another name.
pub const UPDATE_LIST: Endpoint = of_lists("patch-list", Method::Patch, "/api/lists/{id}");

/// `delete_list`: for good; its members stay.
pub const DELETE_LIST: Endpoint = of_lists("delete-list", Method::Delete, "/api/lists/{id}");

const fn of_lists(name: &'static str, method: Method, path: &'static str) -> Endpoint {
    Endpoint {
        name,
        method,
        path,
        scopes: &["lists:write"],
        limits: JOB_LIMITS,
        max_body: 100_000,
        max_items: 1,
        optional: false,
    }
}

/// `merge_profiles`: makes one of two profiles, later; that which is merged into the other is deleted.
pub const MERGE_PROFILES: Endpoint = Endpoint {
    name: "profile-merge",
    method: Method::Post,
    path: "/api/profile-merge",
    scopes: &["profiles:write"],
    limits: JOB_LIMITS,
    max_body: 100_000,
    max_items: 1,
    optional: false,
};

/// `get_bulk_import_profiles_jobs`: which jobs there are.
pub const GET_IMPORT_JOBS: Endpoint = question(
    "get-profile-bulk-import-jobs",
    "/api/profile-bulk-import-jobs",
    &["lists:read", "profiles:read"],
);

/// `get_bulk_import_profiles_job`: how a job stands.
pub const GET_IMPORT_JOB: Endpoint = question(
    "get-profile-bulk-import-job",
    "/api/profile-bulk-import-jobs/{job_id}",
    &["lists:read", "profiles:read"],
);

/// `get_errors_for_bulk_import_profiles_job`: what a job could not import.
pub const GET_IMPORT_ERRORS: Endpoint =
    question("get-import-errors", "/api/profile-bulk-import-jobs/{id}/import-errors", &["profiles:read"]);

pub(crate) const JOB_LIMITS: Limits = Limits { burst: 10, steady: 150, daily: None };

/// A call that only asks, as of jobs.
pub(crate) const fn question(
    name: &'static str,
    path: &'static str,
    scopes: &'static [&'static str],
) -> Endpoint {
    Endpoint {
        name,
        method: Method::Get,
        path,
        scopes,
        limits: JOB_LIMITS,
        max_body: 0,
        max_items: 0,
        optional: true,
    }
}

/// Every call in use.
pub const ENDPOINTS: [&Endpoint; 73] = [
    &CREATE_EVENT,
    &UPSERT_PROFILE,
    &BULK_CREATE_EVENTS,
    &BULK_IMPORT_PROFILES,
    &GET_IMPORT_JOBS,
    &GET_IMPORT_JOB,
    &GET_IMPORT_ERRORS,
    &REQUEST_DELETION,
    &SUBSCRIBE,
    &UNSUBSCRIBE,
    &SUPPRESS,
    &UNSUPPRESS,
    &GET_LIST_PROFILES,
    &GET_SUPPRESS_JOB,
    &GET_UNSUPPRESS_JOB,
    &MERGE_PROFILES,
    &GET_PROFILES,
    &ADD_TO_LIST,
    &REMOVE_FROM_LIST,
    &GET_LISTS,
    &CREATE_LIST,
    &UPDATE_LIST,
    &DELETE_LIST,
    &CREATE_ITEMS.one,
    &CREATE_ITEMS.many,
    &CREATE_ITEMS.asks,
    &CREATE_ITEMS.lists,
    &UPDATE_ITEMS.one,
    &UPDATE_ITEMS.many,
    &UPDATE_ITEMS.asks,
    &UPDATE_ITEMS.lists,
    &DELETE_ITEMS.one,
    &DELETE_ITEMS.many,
    &DELETE_ITEMS.asks,
    &DELETE_ITEMS.lists,
    &CREATE_VARIANTS.one,
    &CREATE_VARIANTS.many,
    &CREATE_VARIANTS.asks,
    &CREATE_VARIANTS.lists,
    &UPDATE_VARIANTS.one,
    &UPDATE_VARIANTS.many,
    &UPDATE_VARIANTS.asks,
    &UPDATE_VARIANTS.lists,
    &DELETE_VARIANTS.one,
    &DELETE_VARIANTS.many,
    &DELETE_VARIANTS.asks,
    &DELETE_VARIANTS.lists,
    &CREATE_CATEGORIES.one,
    &CREATE_CATEGORIES.many,
    &CREATE_CATEGORIES.asks,
    &CREATE_CATEGORIES.lists,
    &UPDATE_CATEGORIES.one,
    &UPDATE_CATEGORIES.many,
    &UPDATE_CATEGORIES.asks,
    &UPDATE_CATEGORIES.lists,
    &DELETE_CATEGORIES.one,
    &DELETE_CATEGORIES.many,
    &DELETE_CATEGORIES.asks,
    &DELETE_CATEGORIES.lists,
    &CREATE_COUPON_CODES.one,
    &CREATE_COUPON_CODES.many,
    &CREATE_COUPON_CODES.asks,
    &CREATE_COUPON_CODES.lists,
    &CREATE_CAMPAIGN,
    &ASSIGN_TEMPLATE,
    &SEND_CAMPAIGN,
    &CANCEL_SEND,
    &ESTIMATE_RECIPIENTS,
    &GET_CAMPAIGNS,
    &GET_CAMPAIGN,
    &GET_SEND_JOB,
    &GET_ESTIMATION_JOB,
    &GET_ESTIMATION,
];
