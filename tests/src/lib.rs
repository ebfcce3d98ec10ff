//! Harness of the end-to-end tests: real Postgres clusters, the sandbox that stands in for Klaviyo, and what it
//! takes to break them on purpose and to judge what arrived.
//!
//! A test begins with [`Shop::start`] and asks the rest of its fields. Everything here panics with an explanation
//! when it fails: a test has nothing better to do with an error. Whatever a test started ends with it, also when
//! the test process is killed: servers are children that die with their parent (see [`process`]).

mod accounts;
mod cluster;
mod cluster_builder;
mod control;
pub mod directory;
pub mod interrupt;
pub mod jobs;
mod ledger;
mod messages;
mod openapi;
mod pg_bin;
mod port;
pub mod process;
mod receipt;
pub mod reference;
mod sandbox;
mod server_user;
mod shop;
mod sql;
mod template;
mod wait;
mod workers;

pub use accounts::{stopped_reason, under_way};
pub use cluster::{Cluster, Stop, explain};
pub use cluster_builder::ClusterBuilder;
pub use control::{
    Bulk, ConsentChange, Control, EventSeed, Fault, ImportJob, Rates, ReportSeed, SeededEvents, Stats,
    StatsRow, StoredCampaign, StoredEvent, StoredProfile, StoredSegment, WebhookRequest,
};
pub use directory::Directory;
pub use ledger::Ledger;
pub use messages::{ORDER, hint, place, place_orders, place_orders_of, queued, status};
pub use nix::sys::signal::Signal;
pub use openapi::{
    BULK_CALLS, CALLS, CAMPAIGN_CALLS, CATALOG_CALLS, DELETION_CALL, OpenApi, PEOPLE_CALLS, PULL_CALLS,
    REPORT_CALLS, WEBHOOK_CALLS, is_at,
};
pub use pg_bin::PgBin;
pub use port::Port;
pub use process::{Process, kill};
pub use receipt::{BULK_EVENTS, BULK_PROFILES, Receipt, signed_with, value_at};
pub use sandbox::{Frozen, Sandbox, SandboxBuilder};
pub use server_user::ServerUser;
pub use shop::{Backlog, SANDBOX_KEY, Shop, ShopBuilder};
pub use sql::{count, query, refused, sql, wait_for_crash};
pub use wait::{PATIENCE, RaiseAtTheEnd, eventually};
pub use workers::{Worker, launcher, runner, wait_for_worker, waits_for_lock, workers};
