//! A call that carries many messages, while it is being filled.

use klaviyo::Request;

/// What became of a message that was offered to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    Taken,
    /// The batch is full; the message may go in the next.
    Full,
    /// It goes in another call than those that were taken, which others may still join.
    Elsewhere,
    /// It must go in a call of its own.
    Alone,
}

pub trait Batch {
    /// Adds a payload, which stands for so many messages.
    fn offer(&mut self, payload: &str, messages: usize) -> Offered;

    /// The call, and where what was taken stands in its body.
    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>);
}

/// Where the messages of a call stand in its body.
pub trait Places: Send {
    /// Whether what Klaviyo says by that JSON pointer is about the message that was taken as number `message`, from 0.
    fn is_about(&self, pointer: &str, message: usize) -> bool;

    /// Where in the body that message stands, where the body is a plain list.
    fn position(&self, message: usize) -> Option<usize>;
}
