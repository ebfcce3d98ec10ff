//! Pointing at tables: triggers written from a description of what the columns mean.
//!
//! - [`table`]: what there is to know of a table before it can be mapped.
//! - [`reader`]: what a person says of its columns, understood and checked.
//! - [`template`]: metrics that every shop has.
//! - [`operation`]: what happens to rows.
//! - [`query`]: what is done for them then.
//! - [`plan`]: that, kept.
//! - [`boundary`]: where history ends.
//! - [`generate`]: the triggers and the function that do it.
//! - [`attach`]: makes it so, and undoes it.
//! - [`attached`]: what there is of it then.
//! - [`follow`]: keeps it right while its table is changed.
//! - [`backfill`]: what was there before it.
//! - [`state`]: whether it captures: paused, or come in a dump.
//! - [`partitions`]: where else its triggers stand.
//! - [`statements`]: with whose rights that is done.
//! - [`write_back`]: what Klaviyo changes, written into the table.
//! - [`preview`]: what would be sent of the rows there are.
//! - [`fault`]: what has become wrong with it since.

pub mod attach;
mod attached;
pub mod backfill;
mod boundary;
pub mod fault;
pub mod follow;
pub mod generate;
pub mod operation;
mod partitions;
pub mod plan;
pub mod preview;
pub mod query;
pub mod reader;
pub mod refusal;
mod sqlstate;
pub mod state;
mod statements;
pub mod table;
pub mod template;
pub mod write_back;
