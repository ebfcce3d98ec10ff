//! What happens to a row, and when it is looked at.

use serde::{Deserialize, Serialize};

use super::refusal;
use crate::pg::function::Refusal;

/// A statement's way with a row, as triggers have it. A MERGE is each of them, and so is an INSERT … ON CONFLICT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    pub const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    /// As SQL has it, and `TG_OP`.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// Understands a list of them, written as in CREATE TRIGGER.
    pub fn list(text: &str) -> Result<Vec<Self>, Refusal> {
        let mut named = Vec::new();
        for word in text.split([' ', ',']).filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("or"))
        {
            let Some(operation) = Self::ALL.into_iter().find(|it| it.sql().eq_ignore_ascii_case(word)) else {
                return Err(refused(text));
            };
            named.push(operation);
        }
        named.sort();
        named.dedup();
        if named.is_empty() { Err(refused(text)) } else { Ok(named) }
    }
}

/// When what is to be done for a row is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// With the end of the statement that writes it.
    Statement,
    /// With the end of the transaction, for the row as it is then.
    Commit,
}

impl At {
    /// Understands its name.
    pub fn named(text: &str) -> Result<Self, Refusal> {
        match text {
            _ if text.eq_ignore_ascii_case("statement") => Ok(Self::Statement),
            _ if text.eq_ignore_ascii_case("commit") => Ok(Self::Commit),
            _ => Err(refusal::argument(
                "argument \"at\" does not say when a row is looked at",
                format!("It is \"{text}\"."),
                "Write statement, or commit: with the end of the transaction, when what belongs to the row is there too.",
            )),
        }
    }
}

fn refused(text: &str) -> Refusal {
    refusal::argument(
        "argument \"on\" does not say what is to happen to a row",
        format!("It is \"{text}\"."),
        "Write one or more of insert, update and delete: \"on\" => 'insert or update'.",
    )
}
