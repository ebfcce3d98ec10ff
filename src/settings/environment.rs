//! Which environment a server is of, and what follows from that where nothing else is said.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum Environment {
    #[name = c"development"]
    Development,
    #[name = c"staging"]
    Staging,
    #[name = c"production"]
    Production,
}

/// Whoever says nothing has customers.
static ENVIRONMENT: GucSetting<Environment> = GucSetting::<Environment>::new(Environment::Production);

/// A developer's machine has a copy of the shop's data, and no business with its customers.
static DEVELOPMENT_REMOTE: GucSetting<bool> = GucSetting::<bool>::new(false);

/// By the environment, unless it is said: whoever tries things out leaves most of a budget to those who do not.
static RATE_SHARE: GucSetting<f64> = GucSetting::<f64>::new(-1.0);

/// By the environment, unless it is said.
static SEGMENT_TTL: GucSetting<i32> = GucSetting::<i32>::new(-1);

/// A page takes some hundred milliseconds, so this is enough for some thousand members where nobody else reads.
static PULL_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);

pub(super) fn define() {
    GucRegistry::define_enum_guc(
        c"klaviyo.environment",
        c"What this server is for: development, staging or production.",
        c"In development calls go to this machine only, as to klaviyo-sandbox. See also klaviyo.rate_share and klaviyo.segment_ttl.",
        &ENVIRONMENT,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"klaviyo.development_remote",
        c"Whether calls go to other machines in development, too.",
        c"Klaviyo is one.",
        &DEVELOPMENT_REMOTE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"klaviyo.rate_share",
        c"The part of each account's rate_share that this server uses; -1: by the environment.",
        c"That is 0.1 in development, 0.5 in staging, 1 in production. Less than 0.01 counts as that.",
        &RATE_SHARE,
        -1.0,
        1.0,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"klaviyo.segment_ttl",
        c"How old what is known of a segment's members may be for klaviyo_in_segment() and klaviyo_segment_members(); -1: by the environment.",
        c"That is 0 in development, so that each statement asks Klaviyo, 60 s in staging, 300 s in production.",
        &SEGMENT_TTL,
        -1,
        7 * 24 * 60 * 60,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"klaviyo.pull_timeout",
        c"How long a statement waits until a segment's members, or a profile, were read.",
        c"Then it fails.",
        &PULL_TIMEOUT,
        1,
        600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
}

/// Whether calls may go to another machine.
pub fn may_call_others() -> bool {
    ENVIRONMENT.get() != Environment::Development || DEVELOPMENT_REMOTE.get()
}

/// The least part that is used: a limit of 0 would send nothing, for which there is `klaviyo.enabled`.
const LEAST_SHARE: f64 = 0.01;

/// `klaviyo.rate_share`.
pub fn rate_share() -> f64 {
    match (RATE_SHARE.get(), ENVIRONMENT.get()) {
        (share, _) if share >= 0.0 => share.max(LEAST_SHARE),
        (_, Environment::Development) => 0.1,
        (_, Environment::Staging) => 0.5,
        (_, Environment::Production) => 1.0,
    }
}

/// `klaviyo.segment_ttl`, in seconds.
pub fn segment_ttl() -> i32 {
    match (SEGMENT_TTL.get(), ENVIRONMENT.get()) {
        (-1, Environment::Development) => 0,
        (-1, Environment::Staging) => 60,
        (-1, Environment::Production) => 300,
        (seconds, _) => seconds,
    }
}
