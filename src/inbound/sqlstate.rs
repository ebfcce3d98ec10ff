//! SQLSTATEs of handlers that are refused. Class `KS` is ours. (Also read by what makes the reference.)

pub const PATTERN: &str = "KS087";
pub const FUNCTION: &str = "KS088";
pub const OWNER: &str = "KS089";

/// What each stands for.
#[allow(dead_code, reason = "for the reference only")]
pub const ALL: [(&str, &str); 3] = [
    (PATTERN, "a pattern matches no topic"),
    (FUNCTION, "a function cannot be called with an event"),
    (OWNER, "a function is somebody else's"),
];
