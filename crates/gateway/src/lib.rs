//! The gateway: a small HTTP server that takes webhooks' requests and answers monitors.
//!
//! In here: connections, their bounds, and which path is what. Not in here: Postgres, or what a request means. Whoever owns the
//! database is handed each request ([`Incoming`]) and says what to answer ([`Reply`]).

mod connection;
mod route;
mod server;

pub use route::{Incoming, Reply, Wants};
pub use server::{Bounds, Gateway};
