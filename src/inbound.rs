//! What Klaviyo tells by itself: webhooks, checked and read. The tables and the way into them are in `sql/38_webhooks.sql`; in
//! here is what takes more than SQL. Not in here: what becomes of an event after that.

mod request;
pub mod retention;
