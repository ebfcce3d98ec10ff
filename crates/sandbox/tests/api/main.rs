//! The sandbox as its users meet it: the real binary, over real connections.

mod calls;
mod client;
mod control;
mod faults;
mod protocols;
