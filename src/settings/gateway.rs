//! Settings of the gateway.

use std::ffi::CString;
use std::time::Duration;

use gateway::Bounds;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Off: a listener is nothing that anybody gets without having asked for it.
static LISTEN: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

static DATABASE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Klaviyo sends a few at a time. Each may hold a body in memory.
static MAX_CONNECTIONS: GucSetting<i32> = GucSetting::<i32>::new(100);

/// Klaviyo waits about as long, and comes again.
static TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// What the gateway is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Address and port, or a port of 127.0.0.1.
    pub listen: String,
    /// The database it is of.
    pub database: String,
    pub bounds: Bounds,
}

pub(super) fn define() {
    GucRegistry::define_string_guc(
        c"klaviyo.gateway_listen",
        c"Address and port where the gateway listens for HTTP, or a port of 127.0.0.1; empty: it does not.",
        c"It speaks no TLS: what comes from outside comes by way of a proxy.",
        &LISTEN,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"klaviyo.gateway_database",
        c"The database that the gateway is of.",
        c"There is one gateway a server.",
        &DATABASE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"klaviyo.gateway_max_connections",
        c"Connections to the gateway at a time.",
        c"Others wait until one ends.",
        &MAX_CONNECTIONS,
        1,
        10_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"klaviyo.gateway_timeout",
        c"How long a request to the gateway may take to come, and then to be answered.",
        c"Whoever takes longer is cut off.",
        &TIMEOUT,
        100,
        600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

/// What the settings say of it now; none where there is to be none.
pub fn gateway() -> Option<Gateway> {
    let listen = LISTEN.get()?.to_str().ok()?.trim().to_owned();
    let database = DATABASE.get()?.to_str().ok()?.to_owned();
    (!listen.is_empty()).then(|| Gateway {
        listen,
        database,
        bounds: Bounds {
            connections: usize::try_from(MAX_CONNECTIONS.get()).unwrap_or(1),
            body: super::webhook_max_bytes(),
            time: Duration::from_millis(TIMEOUT.get().unsigned_abs().into()),
        },
    })
}
