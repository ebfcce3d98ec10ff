//! What SQL sees, an area a file. Their declarations, with defaults, comments and rights, are in `sql/`.

mod backfill;
mod call;
mod campaigns;
mod capture;
mod catalog;
mod consent;
mod gauges;
mod given;
mod identifier;
mod lists;
mod mapping;
mod messages;
mod server;
mod webhooks;
