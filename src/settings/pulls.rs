//! Settings of what is read of Klaviyo.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::{DAY, FOR_EVER, bound};

/// Two years of events: what a marketer compares with the year before.
static EVENT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(730 * DAY);

/// When Klaviyo says that something has happened or was changed is not when one can read it: minutes lie between, at worst.
static PULL_OVERLAP: GucSetting<i32> = GucSetting::<i32>::new(600);

pub(super) fn define() {
    GucRegistry::define_int_guc(
        c"klaviyo.event_retention",
        c"How long events that were read of Klaviyo are kept, since they happened; -1: for ever.",
        c"Older ones are not read.",
        &EVENT_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.pull_overlap",
        c"How far before the end of the last run the next one of profiles or events begins.",
        c"What Klaviyo shows later than that is not read, but when klaviyo_run_job() reads all anew.",
        &PULL_OVERLAP,
        0,
        7 * 24 * 60 * 60,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

/// `klaviyo.event_retention`, in minutes; none: for ever.
pub fn event_minutes() -> Option<i32> {
    bound(&EVENT_RETENTION)
}

/// `klaviyo.pull_overlap`, in microseconds.
pub fn pull_overlap_us() -> i64 {
    i64::from(PULL_OVERLAP.get()) * 1_000_000
}
