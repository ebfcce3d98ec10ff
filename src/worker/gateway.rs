//! The gateway of a database: the process that listens for HTTP, if it is to. Its main thread does what Postgres is needed for,
//! with the rights of the role klaviyo_gateway and no other; its second thread speaks HTTP, and knows of no Postgres
//! (crates/gateway). The worker starts it and, should it end, starts it again.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use gateway::{Gateway, Reply, Wants};
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, pg_sys, spi};
use serde_json::{Map, Value};

use super::process::{self, attempt, transaction};
use super::slots::{Slot, shared};
use super::version::Extension;
use crate::pg;
use crate::pg::scoped::{with_restricted_rights_of, with_statement_timeout};
use crate::pg::spi::{arg, value};
use crate::settings;

const ROLE: &str = "SELECT r.oid FROM pg_roles AS r WHERE r.rolname = 'klaviyo_gateway'";

/// One request is answered after the other: one that would wait for somebody's lock is in the way of all others.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '500ms'";

const WEBHOOK: &str = "SELECT klaviyo.gateway_webhook($1, $2::jsonb, $3)";
const HEALTH: &str = "SELECT klaviyo.gateway_health()::text";
const METRICS: &str = "SELECT klaviyo.gateway_metrics()";

/// Before it tries again to listen where it could not.
const AGAIN: Duration = Duration::from_secs(5);

/// How often it looks whether the extension is still there, which nobody tells it.
const LOOK: Duration = Duration::from_secs(60);

/// The content type that Prometheus asks for (its text format, version 0.0.4).
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The process.
///
/// # Safety
/// Called by the postmaster with the number of a slot.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn klaviyo_gateway_main(argument: pg_sys::Datum) {
    process::handle_signals();
    process::give_memory_back();
    // SAFETY: the worker passes an int4.
    let number = unsafe { i32::from_datum(argument, false) }.unwrap_or_default();
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    let Ok(number) = usize::try_from(number) else { return };
    let Some(slot) = slots.get(number) else { return };
    if slot.is_free() || !slot.enter_gateway(process::pid()) {
        return;
    }
    // SAFETY: the callback finds the slot by the number, in memory that outlives the process.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), argument) };
    // Whoever holds workers off says so before he looks for one.
    if shared().is_some_and(|shared| shared.holds.contain(slot.database())) {
        process::end(0);
    }
    process::connect(Some(slot.database()));
    let extension = transaction(c"looking for the extension", Extension::find);
    let extension = extension.filter(Extension::is_ours);
    let role = transaction(c"looking for the role", || value::<pg_sys::Oid>(ROLE, &[]));
    let wanted = settings::gateway();
    if let (Some(extension), Some(role), Some(wanted)) = (extension, role, &wanted)
        && let Some(listener) = listen(wanted)
        && let Err(error) = serve(listener, wanted, role, extension)
    {
        log!("klaviyo_sync: the gateway has ended: {error}");
    }
    if settings::gateway() != wanted {
        // There may be to be another, now.
        slot.leave_gateway(process::pid());
        slot.tell(true);
    }
    process::end(0);
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, argument: pg_sys::Datum) {
    let slots = shared().map(|shared| shared.slots()).unwrap_or_default();
    if let Some(slot) = slots.get(argument.value()) {
        slot.leave_gateway(process::pid());
    }
}

/// Starts one for a slot. False where no background worker is free.
pub fn start(number: usize) -> bool {
    BackgroundWorkerBuilder::new("klaviyo_sync gateway")
        .set_type("klaviyo_sync gateway")
        .set_library("klaviyo_sync")
        .set_function("klaviyo_gateway_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        // The worker starts another while there is to be one.
        .set_restart_time(None)
        .set_argument(i32::try_from(number).ok().into_datum())
        .load_dynamic()
        .is_ok()
}

/// Whether a slot, of a database of that name, needs one that it has not.
pub fn is_missing(slot: &Slot, database: &str) -> bool {
    slot.gateway().is_none() && settings::gateway().is_some_and(|wanted| wanted.database == database)
}

/// The address and port that the setting says.
fn address(listen: &str) -> Option<SocketAddr> {
    let port = || listen.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    listen.parse().ok().or_else(port)
}

/// Listens as soon as that is possible; none where it is to end, or to listen elsewhere.
fn listen(wanted: &settings::Gateway) -> Option<TcpListener> {
    let mut told = false;
    while !process::is_terminating() {
        let listener = match address(&wanted.listen) {
            Some(address) => TcpListener::bind(address).map_err(|error| error.to_string()),
            None => Err("that is no address with a port".to_owned()),
        };
        match listener {
            Ok(listener) => return Some(listener),
            Err(error) if !told => {
                pg::warn(
                    PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                    format!("klaviyo_sync: the gateway cannot listen on \"{}\": {error}", wanted.listen),
                    "Change klaviyo.gateway_listen, such as 127.0.0.1:8089. It is tried again every few seconds.",
                );
                told = true;
            }
            Err(_) => {}
        }
        if process::wait(AGAIN, None) && settings::gateway().as_ref() != Some(wanted) {
            return None;
        }
    }
    None
}

fn serve(
    listener: TcpListener,
    wanted: &settings::Gateway,
    role: pg_sys::Oid,
    extension: Extension,
) -> Result<(), String> {
    let (mut bell, ringer) = UnixStream::pair().map_err(|error| error.to_string())?;
    for end in [&bell, &ringer] {
        end.set_nonblocking(true).map_err(|error| error.to_string())?;
    }
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let started = delivery::with_signals_blocked(|| Gateway::start(listener, wanted.bounds, ringer))?;
    let gateway = started.map_err(|error| error.to_string())?;
    log!("klaviyo_sync: the gateway listens on {address}");
    let mut look_at = Instant::now() + LOOK;
    while !process::is_terminating() {
        let wait = look_at.saturating_duration_since(Instant::now());
        let reloaded = process::wait(wait, Some(bell.as_raw_fd()));
        if Instant::now() >= look_at {
            if transaction(c"looking for the extension", Extension::find).as_ref() != Some(&extension) {
                return Ok(());
            }
            look_at = Instant::now() + LOOK;
        }
        // Nothing to read, or all of it read: either ends it.
        let mut bytes = [0; 256];
        while bell.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
        if reloaded && settings::gateway().as_ref() != Some(wanted) {
            return Ok(());
        }
        if gateway.has_ended() {
            return Err("its HTTP thread is gone".to_owned());
        }
        for incoming in gateway.requests() {
            if process::is_terminating() {
                break;
            }
            // Nobody waits for it any more.
            if !incoming.reply.is_closed() {
                let _ = incoming.reply.send(answer(incoming.wants, role, wanted.bounds.time));
            }
        }
    }
    Ok(())
}

/// What is answered. Whatever says yes is committed by then.
fn answer(wants: Wants, role: pg_sys::Oid, time: Duration) -> Reply {
    let answered = match wants {
        Wants::Webhook { account, headers, body } => {
            // Of several of a name the first counts.
            let mut named = Map::new();
            for (name, text) in headers {
                named.entry(name).or_insert(text.into());
            }
            let args = [arg(account), arg(Value::Object(named).to_string()), arg(body.to_vec())];
            asked(role, time, || value::<i32>(WEBHOOK, &args)).map(|status| match status {
                Some(200) => Reply::text(200, "taken"),
                Some(status) => Reply::text(status.try_into().unwrap_or(500), "not taken"),
                None => Reply::text(500, "not taken"),
            })
        }
        Wants::Health => asked(role, time, || value::<String>(HEALTH, &[])).map(|health| {
            let body = health.unwrap_or_default();
            let critical =
                serde_json::from_str::<Value>(&body).is_ok_and(|health| health["status"] == "critical");
            let status = if critical { 503 } else { 200 };
            Reply { status, content_type: "application/json", body }
        }),
        Wants::Metrics => asked(role, time, || value::<String>(METRICS, &[])).map(|metrics| Reply {
            status: 200,
            content_type: PROMETHEUS,
            body: metrics.unwrap_or_default(),
        }),
    };
    answered.unwrap_or_else(|error| {
        log!("klaviyo_sync: the gateway cannot answer: {error}");
        Reply::text(503, "not now")
    })
}

/// Asks the database, with the rights of that role and for so long.
fn asked<T>(
    role: pg_sys::Oid,
    time: Duration,
    ask: impl FnOnce() -> Result<T, spi::Error>,
) -> Result<T, String> {
    attempt(
        c"gateway",
        |_| true,
        || {
            Spi::run(LOCK_TIMEOUT)?;
            with_statement_timeout(time, || with_restricted_rights_of(role, ask))
        },
    )
}
