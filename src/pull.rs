//! What Klaviyo has, read now and then into tables of ours. `sql/39_pulls.sql` has the tables and says what is to be read,
//! `sql/46_numbers.sql` has those of what Klaviyo has counted; what [`clean_up`] makes of it stands in `sql/41_clean_ups.sql`.
//!
//! The runner does it, for triggers of users may stand on these tables. It writes down which page it wants ([`read`]); the worker
//! asks Klaviyo for it, in what its limits leave, and writes down the answer; the runner takes that, and how far the run is
//! stands in the same transaction. So whatever ends in between, nothing is taken twice and nothing left out.

pub mod clean_up;
pub mod due;
mod mirror;
mod numbers;
mod plan;
pub mod purge;
pub mod read;
pub mod retention;
pub mod run;
mod sqlstate;
mod window;
pub mod wish;
