//! Every setting: its type, default, unit, and why it is there.

use std::ffi::CString;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

mod environment;
mod gateway;
mod pulls;

pub use environment::{may_call_others, rate_share, segment_ttl};
pub use gateway::{Gateway, gateway};
pub use pulls::pull_overlap_us;

/// What happens to a message that Klaviyo would never take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum OnInvalid {
    #[name = c"error"]
    Error,
    #[name = c"dead_letter"]
    DeadLetter,
}

/// Off: the workers stay, nothing is sent, messages wait.
pub static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

/// What of a backlog goes in calls of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum Bulk {
    #[name = c"off"]
    Off,
    #[name = c"generated_ids"]
    GeneratedIds,
    #[name = c"on"]
    On,
}

/// Off is for who would rather wait than trust that Klaviyo tells what it refuses of a call that carries a thousand;
/// `generated_ids` for who is not the only one to send events under ids of his own.
static BULK: GucSetting<Bulk> = GucSetting::<Bulk>::new(Bulk::On);

/// A shop that would rather sell than track sets `dead_letter`: then no bad row fails a customer's order.
pub static ON_INVALID: GucSetting<OnInvalid> = GucSetting::<OnInvalid>::new(OnInvalid::Error);

/// The databases that can have a worker at a time. Each takes one of max_worker_processes.
pub static MAX_DATABASES: GucSetting<i32> = GucSetting::<i32>::new(8);

/// A name of this server that no copy of its data directory has. See `klaviyo_arm_account()`.
pub static INSTANCE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// A commit wakes the worker at once. This is the net under it: COMMIT PREPARED wakes nobody, a key file changes.
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(5_000);

/// Until a connection stands, TLS included. A host that drops packets must not hold a call for a whole request's time.
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);

/// From the start of a call to the last byte of its answer.
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);

/// Calls of one lane under way or not yet recorded. Also the most that a crash sends again, and what a fresh start
/// assumes to have been sent just before it: more is faster on a slow network, less is gentler after a crash.
static MAX_IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(64);

/// The bound of the wait after a first failure; it doubles from there.
static RETRY_MIN_DELAY: GucSetting<i32> = GucSetting::<i32>::new(500);

/// The longest wait between two attempts, and between two probes while Klaviyo is down.
static RETRY_MAX_DELAY: GucSetting<i32> = GucSetting::<i32>::new(60_000);

/// Failures of a message while others of its lane succeed, after which it is put aside. With the default delays some
/// ten minutes.
static MAX_STRIKES: GucSetting<i32> = GucSetting::<i32>::new(20);

/// How long the oldest message may wait before klaviyo_health() and the log warn.
static BACKLOG_AGE: GucSetting<i32> = GucSetting::<i32>::new(900);

/// How much disk what waits may take before they warn.
static BACKLOG_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1_024);

/// Deliveries are history: good for questions, not needed for sending.
static DELIVERY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * DAY);

/// A dead letter is somebody's order that did not arrive: by default only people decide that it may go.
static DEAD_LETTER_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(FOR_EVER);

/// The net under that: a mistake that kills every message must not fill the disk.
static DEAD_LETTER_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);

/// Klaviyo knows an id for ever: what is forgotten here and queued again takes a call of many with it.
static UNIQUE_ID_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(FOR_EVER);

/// A request for deletion is what a shop must be able to prove.
static DELETION_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(FOR_EVER);

/// A message may name a campaign for as long by the message that has made it.
static CAMPAIGN_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(400 * DAY);

/// What Klaviyo has told; whatever uses it has done so long before.
static WEBHOOK_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * DAY);

/// Klaviyo tries again what it could not deliver, maybe for hours. What comes twice does nothing, so a wide window costs little.
static WEBHOOK_TOLERANCE: GucSetting<i32> = GucSetting::<i32>::new(3_600);

/// A handler that hangs holds up others' for so long.
static WEBHOOK_HANDLER_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// With the default delays some quarter of an hour; what still fails then does not do so by chance.
static WEBHOOK_MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(20);

/// A bound of memory, in kilobytes: a body is held some times over.
static WEBHOOK_MAX_SIZE: GucSetting<i32> = GucSetting::<i32>::new(5 * 1_024);

/// What is queued about somebody soon after is a straggler of what was going on before: a late event, a row that is still
/// updated. Who is back after that is a customer.
static STRAGGLER_TIME: GucSetting<i32> = GucSetting::<i32>::new(30 * DAY);

/// Names of lists change rarely, and who changes one by us is not misled.
static LIST_TTL: GucSetting<i32> = GucSetting::<i32>::new(600);

const MS: GucFlags = GucFlags::UNIT_MS;

/// Minutes, the unit of the settings of retention.
const DAY: i32 = 24 * 60;

/// No retention, no limit.
const FOR_EVER: i32 = -1;

/// Defines all settings. Those of the postmaster can be defined only while it loads us.
pub fn define(preloading: bool) {
    GucRegistry::define_bool_guc(
        c"klaviyo.enabled",
        c"Whether messages are sent to Klaviyo.",
        c"Off: they wait in the outbox. The workers stay.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"klaviyo.bulk",
        c"What of a backlog is sent in calls that carry many messages.",
        c"on: what cannot have been sent before. generated_ids: of that no events with a unique_id of one's own, for where \
          other programs send events under the same ids. off: each message goes in a call of its own.",
        &BULK,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"klaviyo.on_invalid",
        c"What happens to a message that Klaviyo would never take.",
        c"error: the statement fails. dead_letter: it goes to klaviyo.dead_letter and the statement goes on.",
        &ON_INVALID,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"klaviyo.instance",
        c"A name of this server, kept outside of its data directory.",
        c"An account armed under one name does not send under another: a file-level copy of the server stays silent.",
        &INSTANCE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    if preloading {
        GucRegistry::define_int_guc(
            c"klaviyo.max_databases",
            c"Databases that can have a worker at a time.",
            c"Each takes one of max_worker_processes, one more while it has a backfill, and the launcher one.",
            &MAX_DATABASES,
            1,
            crate::worker::MAX_DATABASES as i32,
            GucContext::Postmaster,
            GucFlags::default(),
        );
    }
    define_delays();
    define_bounds();
    define_alarms();
    define_retention();
    define_deletion();
    define_campaigns();
    define_webhooks();
    pulls::define();
    environment::define();
    gateway::define();
    define_ids();
    define_lists();
    // SAFETY: takes a name and keeps a copy. From here on a misspelt setting of ours is an error, not a wish.
    unsafe {
        #[cfg(feature = "pg14")]
        pgrx::pg_sys::EmitWarningsOnPlaceholders(c"klaviyo".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pgrx::pg_sys::MarkGUCPrefixReserved(c"klaviyo".as_ptr());
    }
}

fn define_bounds() {
    GucRegistry::define_int_guc(
        c"klaviyo.max_in_flight",
        c"Calls of one account and endpoint that may be under way or not yet recorded.",
        c"Also the most that a crash makes the worker send again. Of calls that carry many messages there are four at the most, and of no endpoint more than Klaviyo allows in a second.",
        &MAX_IN_FLIGHT,
        1,
        1_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"klaviyo.max_strikes",
        c"Failures of a message, while others succeed, after which it becomes a dead letter.",
        c"Failures while much else fails too do not count: an outage makes no dead letters.",
        &MAX_STRIKES,
        1,
        1_000_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

fn define_alarms() {
    GucRegistry::define_int_guc(
        c"klaviyo.backlog_age",
        c"How long the oldest message may wait before klaviyo_health() and the log warn.",
        c"From ten times as long it is critical.",
        &BACKLOG_AGE,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.backlog_size",
        c"How much disk what waits may take before klaviyo_health() and the log warn.",
        c"From ten times as much it is critical.",
        &BACKLOG_SIZE,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
}

fn define_retention() {
    GucRegistry::define_int_guc(
        c"klaviyo.delivery_retention",
        c"How long klaviyo.delivery keeps what was delivered; -1: for ever.",
        c"It goes by whole days of UTC, once all of a day is older.",
        &DELIVERY_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.dead_letter_retention",
        c"How long dead letters are kept; -1: until somebody deals with them.",
        c"Older ones are dropped for good, and the log says how many.",
        &DEAD_LETTER_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.dead_letter_limit",
        c"How many dead letters a database keeps; -1: any number.",
        c"Looked at once an hour. Above it the oldest are dropped for good, and the log says how many.",
        &DEAD_LETTER_LIMIT,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

fn define_deletion() {
    GucRegistry::define_int_guc(
        c"klaviyo.deletion_retention",
        c"How long the record of a request for deletion is kept, by a digest of whom it was about; -1: for ever.",
        c"Counted from when all tables had been purged of the person. At least for as long as klaviyo.straggler_time.",
        &DELETION_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.straggler_time",
        c"For how long after a request for deletion what is queued about that person is discarded; -1: for ever.",
        c"It would bring the person back. klaviyo_readmit() ends it for one.",
        &STRAGGLER_TIME,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
}

fn define_campaigns() {
    GucRegistry::define_int_guc(
        c"klaviyo.campaign_retention",
        c"How long it is known of a campaign which message has made it, and how it stood; -1: for ever.",
        c"Counted from when that last changed. One that is being sent is kept until it has been.",
        &CAMPAIGN_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
}

fn define_webhooks() {
    GucRegistry::define_int_guc(
        c"klaviyo.webhook_retention",
        c"How long what webhooks have told is kept; -1: for ever.",
        c"What comes again after that counts as new.",
        &WEBHOOK_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.webhook_tolerance",
        c"How long ago, or ahead, a webhook's request may say that it was sent.",
        c"What comes twice does nothing in any case.",
        &WEBHOOK_TOLERANCE,
        1,
        7 * 24 * 60 * 60,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.webhook_handler_timeout",
        c"How long a function that is told what webhooks bring may take.",
        c"Then it is cancelled, and told again later.",
        &WEBHOOK_HANDLER_TIMEOUT,
        1,
        3_600_000,
        GucContext::Sighup,
        MS,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.webhook_max_attempts",
        c"How often a function is told of an event that fails at it, before that is put aside.",
        c"What is put aside stands in klaviyo.webhook_dead_letter.",
        &WEBHOOK_MAX_ATTEMPTS,
        1,
        1_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"klaviyo.webhook_max_size",
        c"How large a webhook's request may be.",
        c"A larger one is refused before anything of it is read.",
        &WEBHOOK_MAX_SIZE,
        1,
        100 * 1_024,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
}

fn define_ids() {
    GucRegistry::define_int_guc(
        c"klaviyo.unique_id_retention",
        c"How long it is remembered which ids of one's own events were sent under; -1: for ever.",
        c"An event that is queued with such an id again after that may ride in a call of many, which fails for it.",
        &UNIQUE_ID_RETENTION,
        FOR_EVER,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
}

fn define_lists() {
    GucRegistry::define_int_guc(
        c"klaviyo.list_ttl",
        c"How long it is known which list has a name; 0: it is asked each time.",
        c"A list that is renamed at Klaviyo, or deleted there, is taken for the one of that name for as long.",
        &LIST_TTL,
        0,
        7 * 24 * 60 * 60,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

fn define_delays() {
    GucRegistry::define_int_guc(
        c"klaviyo.poll_interval",
        c"How often the worker looks for what no commit told it of.",
        c"A commit wakes it at once; this is the net under that.",
        &POLL_INTERVAL,
        100,
        3_600_000,
        GucContext::Sighup,
        MS,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.connect_timeout",
        c"How long connecting to Klaviyo may take.",
        c"TLS included.",
        &CONNECT_TIMEOUT,
        10,
        600_000,
        GucContext::Sighup,
        MS,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.request_timeout",
        c"How long a call may take.",
        c"From its start to the last byte of the answer.",
        &REQUEST_TIMEOUT,
        10,
        600_000,
        GucContext::Sighup,
        MS,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.retry_min_delay",
        c"The bound of the random wait after a first failure.",
        c"It doubles with every further failure.",
        &RETRY_MIN_DELAY,
        1,
        3_600_000,
        GucContext::Sighup,
        MS,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.retry_max_delay",
        c"The longest wait between two attempts.",
        c"Also between two probes while Klaviyo is down.",
        &RETRY_MAX_DELAY,
        1,
        86_400_000,
        GucContext::Sighup,
        MS,
    );
}

/// `klaviyo.poll_interval`.
pub fn poll_interval() -> Duration {
    milliseconds(&POLL_INTERVAL)
}

/// How failures are answered, as the settings have it now.
pub fn policy() -> delivery::Policy {
    let min = milliseconds(&RETRY_MIN_DELAY);
    delivery::Policy {
        backoff: delivery::Backoff { min, max: milliseconds(&RETRY_MAX_DELAY).max(min) },
        max_strikes: MAX_STRIKES.get().unsigned_abs(),
        max_in_flight: max_in_flight(),
        bulk: BULK.get() != Bulk::Off,
        given_ids: BULK.get() == Bulk::On,
        request_timeout: client().request_timeout,
        list_ttl: Duration::from_secs(LIST_TTL.get().unsigned_abs().into()),
    }
}

/// What is kept, and for how many minutes; none: for ever, any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub delivery: Option<i32>,
    pub dead_letter: Option<i32>,
    pub dead_letters: Option<i32>,
    pub unique_id: Option<i32>,
    pub deletion: Option<i32>,
    pub campaign: Option<i32>,
    pub webhook: Option<i32>,
    pub event: Option<i32>,
}

/// How long and how much is kept, as the settings have it now.
pub fn retention() -> Retention {
    let deletion = bound(&DELETION_RETENTION).zip(straggler_minutes());
    Retention {
        delivery: bound(&DELIVERY_RETENTION),
        dead_letter: bound(&DEAD_LETTER_RETENTION),
        dead_letters: bound(&DEAD_LETTER_LIMIT),
        unique_id: bound(&UNIQUE_ID_RETENTION),
        deletion: deletion.map(|(kept, of_use)| kept.max(of_use)),
        campaign: bound(&CAMPAIGN_RETENTION),
        webhook: bound(&WEBHOOK_RETENTION),
        event: pulls::event_minutes(),
    }
}

/// `klaviyo.straggler_time`, in minutes; none: for ever.
pub fn straggler_minutes() -> Option<i32> {
    bound(&STRAGGLER_TIME)
}

fn bound(setting: &GucSetting<i32>) -> Option<i32> {
    Some(setting.get()).filter(|value| *value != FOR_EVER)
}

/// `klaviyo.webhook_handler_timeout`.
pub fn webhook_handler_timeout() -> Duration {
    milliseconds(&WEBHOOK_HANDLER_TIMEOUT)
}

/// `klaviyo.webhook_max_size`, in bytes.
fn webhook_max_bytes() -> usize {
    usize::try_from(WEBHOOK_MAX_SIZE.get()).unwrap_or(1) * 1_024
}

/// `klaviyo.webhook_max_attempts`.
pub fn webhook_max_attempts() -> i32 {
    WEBHOOK_MAX_ATTEMPTS.get()
}

/// `klaviyo.max_in_flight`.
pub fn max_in_flight() -> u32 {
    MAX_IN_FLIGHT.get().unsigned_abs()
}

/// Timeouts of a call, as the settings have them now.
pub fn client() -> delivery::klaviyo::ClientOptions {
    delivery::klaviyo::ClientOptions {
        connect_timeout: milliseconds(&CONNECT_TIMEOUT),
        read_timeout: milliseconds(&REQUEST_TIMEOUT),
        request_timeout: milliseconds(&REQUEST_TIMEOUT),
    }
}

fn milliseconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::from(setting.get().unsigned_abs()))
}
