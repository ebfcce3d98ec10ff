//! Klaviyo's API: how to reach it, what its calls are, what it allows and how it says no.
//!
//! In here: the wire. Not in here: Postgres, queues, retries, pacing. What is a fact of the API stands beside
//! its source, `spec` being Klaviyo's OpenAPI document of revision [`REVISION`].

mod body;
mod bulk;
mod calls;
mod campaigns;
mod client;
mod endpoint;
mod error;
mod import;
mod json_text;
mod list;
mod profiles;
pub mod pull;
mod request;
mod resources;
mod session;
mod types;
pub mod webhook;

pub use body::ListBody;
pub use bulk::{EventsBody, Place, event_at};
pub use calls::{call, call_named, calls, methods_at, takes_json};
pub use campaigns::{
    ASSIGN_TEMPLATE, Audiences, CANCEL_SEND, CREATE_CAMPAIGN, Campaign, ESTIMATE_RECIPIENTS, GET_CAMPAIGN,
    GET_CAMPAIGNS, GET_ESTIMATION, GET_ESTIMATION_JOB, GET_SEND_JOB, SEND_CAMPAIGN, ask_campaign,
    ask_campaigns, campaign_body, campaign_of, campaigns_of, cancel_body, estimation_body, recipients_of,
    send_body, template_body,
};
pub use client::{Answer, Client, ClientOptions, MAX_ANSWER, RateHeaders, TransportError};
pub use endpoint::{
    ADD_TO_LIST, BULK_CREATE_EVENTS, BULK_IMPORT_PROFILES, CREATE_EVENT, CREATE_LIST, DELETE_LIST, ENDPOINTS,
    Endpoint, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS, GET_LIST_PROFILES, GET_LISTS, GET_PROFILES,
    GET_SUPPRESS_JOB, GET_UNSUPPRESS_JOB, Limits, MERGE_PROFILES, Method, REMOVE_FROM_LIST, REQUEST_DELETION,
    SUBSCRIBE, SUPPRESS, UNSUBSCRIBE, UNSUPPRESS, UPDATE_LIST, UPSERT_PROFILE,
};
pub use error::{ApiError, errors_of};
pub use import::{
    ImportError, ImportJob, JobStatus, Page, ask_import_errors, ask_import_job, ask_latest_import_jobs,
    ask_open_import_jobs, import_errors_of, import_job_of, import_jobs_of,
};
pub use json_text::mended;
pub use list::{
    List, Person, ask_list_members, ask_lists, ask_profiles, list_body, list_members_body, list_name_body,
    lists_of, people_of,
};
pub use profiles::{Job, ProfilesBody, profile_at};
pub use request::Request;
pub use resources::{
    CREATE_CATEGORIES, CREATE_COUPON_CODES, CREATE_ITEMS, CREATE_VARIANTS, DELETE_CATEGORIES, DELETE_ITEMS,
    DELETE_VARIANTS, RESOURCE_CALLS, ResourceCalls, ResourceJob, UPDATE_CATEGORIES, UPDATE_ITEMS,
    UPDATE_VARIANTS, catalog_id, job_ids_of, resource_job_of,
};
pub use session::{Session, SessionError, is_loopback};
pub use types::{deletion_body, event_body, merge_body, profile_body, resource_id};

/// The API revision this code was written against, sent in every request unless an account says otherwise.
pub const REVISION: &str = "2026-07-15";

/// Where Klaviyo answers (spec: `servers`).
pub const BASE_URL: &str = "https://a.klaviyo.com";
