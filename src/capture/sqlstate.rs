//! SQLSTATEs of mappings that are refused. Class `KS` is ours. (Also read by what makes the reference.)

pub const TABLE: &str = "KS050";
pub const EXPRESSION: &str = "KS051";
pub const DATA_TYPE: &str = "KS052";
pub const ARGUMENT: &str = "KS053";
pub const RIGHTS: &str = "KS054";

/// What each stands for.
#[allow(dead_code, reason = "for the reference only")]
pub const ALL: [(&str, &str); 5] = [
    (TABLE, "the table cannot be mapped, or is not"),
    (EXPRESSION, "an argument is no column and no expression over a row"),
    (DATA_TYPE, "an argument is of a type that cannot be sent so"),
    (ARGUMENT, "an argument is missing, or of no use"),
    (RIGHTS, "a right is missing"),
];
