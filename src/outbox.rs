//! The tables of messages: `outbox`, `retry`, `delivery`, `dead_letter`, `superseded`. Nobody else in Rust reads or
//! writes them.

pub mod claim;
pub mod enqueue;
pub mod retention;
pub mod settle;
