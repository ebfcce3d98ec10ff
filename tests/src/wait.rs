//! Waiting for what another process does.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for what should take a second: a loaded machine is slow, and a test must not depend on speed.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until the condition holds, and panics when it does not in time.
pub fn eventually(what: &str, patience: Duration, condition: impl FnMut() -> bool) {
    assert!(becomes_true(patience, condition), "not within {patience:?}: {what}");
}

/// Waits until the condition holds; false when it does not in time.
pub(crate) fn becomes_true(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(5);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    true
}

/// Raises a flag when it goes: whatever fails meanwhile does not leave another thread waiting for ever.
#[derive(Debug)]
pub struct RaiseAtTheEnd<'a>(pub &'a AtomicBool);

impl Drop for RaiseAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
