//! What happens to a row.

use super::refusal;
use crate::pg::function::Refusal;

/// A statement's way with a row, as triggers have it. A MERGE is each of them, and so is an INSERT … ON CONFLICT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

fn refused(text: &str) -> Refusal {
    refusal::argument(
        "argument \"on\" does not say what is to happen to a row",
        format!("It is \"{text}\"."),
        "Write one or more of insert, update and delete: \"on\" => 'insert or update'.",
    )
}
