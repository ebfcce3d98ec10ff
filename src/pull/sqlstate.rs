//! SQLSTATEs of clean-ups that are refused. Class `KS` is ours. (Also read by what makes the reference.)

pub const CLEAN_UP: &str = "KS096";

/// What each stands for.
#[allow(dead_code, reason = "for the reference only")]
pub const ALL: [(&str, &str); 1] = [(CLEAN_UP, "a clean-up, or its rule, cannot be so")];
