//! What a mapping comes to, with every name resolved: kept with it, so that its function can be written anew where its table
//! changes.

use serde::{Deserialize, Serialize};

use super::boundary::Boundary;
use super::operation::{At, Operation};
use super::query::Action;
use super::write_back::WriteBack;

/// What is to be done for rows of a table, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub operations: Vec<Operation>,
    pub at: At,
    /// Whether rows that logical replication applies are looked at, too.
    pub replicated: bool,
    pub action: Action,
    /// Whether it prints what is printed as settings of the session say.
    pub prints_by_settings: bool,
    /// None where the table had no primary key to tell it by.
    pub boundary: Option<Boundary>,
    /// None where what Klaviyo changes is not written back.
    pub write_back: Option<WriteBack>,
}

impl Plan {
    /// As `klaviyo.mapping` keeps it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// None of what nobody but us may have written.
    pub fn from_json(plan: serde_json::Value) -> Option<Self> {
        serde_json::from_value(plan).ok()
    }
}
