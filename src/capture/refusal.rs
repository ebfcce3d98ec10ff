//! Why something cannot be captured.

use super::sqlstate;
use crate::pg::function::Refusal;

/// Makes a function for each SQLSTATE: message, detail, hint.
macro_rules! refusals {
    ($($name:ident $sqlstate:ident,)+) => {
        $(pub fn $name(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Refusal {
            Refusal { sqlstate: sqlstate::$sqlstate, message: message.into(), detail: detail.into(), hint: hint.into() }
        })+
    };
}

refusals! {
    table TABLE,
    expression EXPRESSION,
    data_type DATA_TYPE,
    argument ARGUMENT,
    rights RIGHTS,
}
