//! Programs that are told to end stop and remove, in order, what they have started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Set by a signal. Nothing ends abruptly; whoever takes long asks now and then.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on signals end this process only where it asks.
pub fn catch() {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).expect("these signals can be handled");
    }
}

/// Fails once somebody wants this process to end.
pub fn check() -> Result<(), String> {
    let interrupted = INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed));
    if interrupted { Err("interrupted".to_owned()) } else { Ok(()) }
}
