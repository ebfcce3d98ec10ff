//! What is being written back just now, for the triggers that this calls: it is not told to Klaviyo again.

use std::cell::RefCell;

use pgrx::{IntoDatum, JsonB};

use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_told, pg_finfo_klaviyo_told, told);

thread_local! {
    static TOLD: RefCell<Option<serde_json::Value>> = const { RefCell::new(None) };
}

/// `klaviyo.told()`
fn told(_: &Arguments) -> Returned {
    Ok(TOLD.with_borrow(Clone::clone).map(JsonB).into_datum())
}

/// Runs something while that is being written back.
pub fn while_telling<R>(what: serde_json::Value, run: impl FnOnce() -> R) -> R {
    /// Also where it ends by an error.
    struct Telling;
    impl Drop for Telling {
        fn drop(&mut self) {
            TOLD.set(None);
        }
    }
    TOLD.set(Some(what));
    let _telling = Telling;
    run()
}
