//! What was passed over in the outbox.

use std::collections::HashSet;
use std::time::Instant;

use super::Class;
use crate::key::Identifier;

/// Identifiers of an account's messages that may be passed over, at once and after a while without catching up. What
/// lies beyond is not read. A lane that is fast catches up often, and each time all this is read again; one that is
/// slow can hold up the other for hours, and there is time to look far.
const PASSED_OVER: usize = 2_000;
pub const PASSED_OVER_A_SECOND: usize = 20_000;
const PASSED_OVER_AT_MOST: usize = 200_000;

/// What of an account's messages in the outbox was passed over.
#[derive(Debug)]
pub struct Behind {
    /// The first of them.
    pub from: i64,
    /// When reading began there.
    pub since: Instant,
    /// Whether anything was passed over, and not only left unseen.
    pub passed: bool,
    /// From here on nothing has been looked at; none when all that was read of the outbox has been.
    pub unseen: Option<i64>,
    /// What it is known by: identifiers, and ids of the user's own.
    pub keys: HashSet<Identifier>,
    /// Classes that found no room.
    pub waiting: HashSet<Class>,
    /// Passed over because the account could not send.
    pub closed: bool,
    /// Passed over because as much was parked as may be.
    pub unparked: bool,
    /// A message with whose id one was passed over has left.
    pub released: bool,
}

impl Behind {
    pub fn new(from: i64) -> Self {
        Self {
            from,
            since: Instant::now(),
            passed: false,
            unseen: None,
            keys: HashSet::new(),
            waiting: HashSet::new(),
            closed: false,
            unparked: false,
            released: false,
        }
    }

    /// Whether what was passed over shares any of these.
    pub fn has_any(&self, known_by: &[Identifier]) -> bool {
        known_by.iter().any(|by| self.keys.contains(by))
    }

    /// Whether as much was passed over as may be by now.
    pub fn is_far(&self) -> bool {
        let while_waiting = self.since.elapsed().as_millis() as usize * PASSED_OVER_A_SECOND / 1_000;
        self.keys.len() > (PASSED_OVER + while_waiting).min(PASSED_OVER_AT_MOST)
    }
}
