//! What Klaviyo tells by itself: webhooks, checked and read. The tables and the way into them are in `sql/38_webhooks.sql`; in
//! here is what takes more than SQL, and how users' functions are told of an event.

pub mod handlers;
mod request;
pub mod retention;
mod sqlstate;
