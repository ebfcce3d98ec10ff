//! The sandbox as its users meet it: the real binary, over real connections.

mod bulk_faults;
mod calls;
mod campaigns;
mod catalog;
mod client;
mod consent;
mod control;
mod coupons;
mod event_bulk;
mod event_pulls;
mod faults;
mod import_jobs;
mod lists;
mod metric_aggregates;
mod pages;
mod protocols;
mod pulls;
mod reports;
mod segments;
mod suppressions;
mod webhooks;
