//! Small questions to, and nudges of, the server.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{IntoDatum, pg_sys};

use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};
use crate::pg::transaction::{AtCommit, at_commit, is_current};
use crate::worker::Wish;

sql_function!(klaviyo_wake_worker, pg_finfo_klaviyo_wake_worker, wake_worker);
sql_function!(klaviyo_wake_runner, pg_finfo_klaviyo_wake_runner, wake_runner);
sql_function!(klaviyo_segment_ttl, pg_finfo_klaviyo_segment_ttl, segment_ttl);
sql_function!(klaviyo_wish, pg_finfo_klaviyo_wish, wish);
sql_function!(klaviyo_announce_database, pg_finfo_klaviyo_announce_database, announce_database);
sql_function!(klaviyo_ask_for_check, pg_finfo_klaviyo_ask_for_check, ask_for_check);
sql_function!(klaviyo_library_version, pg_finfo_klaviyo_library_version, library_version);
sql_function!(klaviyo_low_water, pg_finfo_klaviyo_low_water, low_water);
sql_function!(klaviyo_worker_pid, pg_finfo_klaviyo_worker_pid, worker_pid);
sql_function!(klaviyo_is_own_transaction, pg_finfo_klaviyo_is_own_transaction, is_own_transaction);

/// `klaviyo.wake_worker(configuration boolean)`
fn wake_worker(arguments: &Arguments) -> Returned {
    let configuration = arguments.get::<bool>(0).unwrap_or_default();
    at_commit(AtCommit { wake: true, configuration, ..AtCommit::default() });
    Ok(None)
}

/// `klaviyo.wake_runner()`
fn wake_runner(_: &Arguments) -> Returned {
    at_commit(AtCommit { runner: true, ..AtCommit::default() });
    Ok(None)
}

/// `klaviyo.segment_ttl()`
fn segment_ttl(_: &Arguments) -> Returned {
    Ok(crate::settings::segment_ttl().into_datum())
}

/// `klaviyo.wish(account, job, oldest)`
fn wish(arguments: &Arguments) -> Returned {
    let text = |number| arguments.get::<String>(number).unwrap_or_default();
    let oldest = arguments.get::<TimestampWithTimeZone>(2).map(|time| pg::micros(i64::from(time)));
    let wish = Wish { account: text(0), job: text(1), oldest: oldest.unwrap_or_default() };
    crate::worker::wish(&wish);
    Ok(None)
}

/// `klaviyo.announce_database()`
fn announce_database(_: &Arguments) -> Returned {
    at_commit(AtCommit { announce: true, ..AtCommit::default() });
    Ok(None)
}

/// `klaviyo.ask_for_check(account text)`
fn ask_for_check(arguments: &Arguments) -> Returned {
    let account = arguments.get::<String>(0).unwrap_or_default();
    Ok(crate::worker::ask_for_check(&account).into_datum())
}

/// `klaviyo.library_version()`
fn library_version(_: &Arguments) -> Returned {
    Ok(env!("CARGO_PKG_VERSION").into_datum())
}

/// `klaviyo.low_water()`
fn low_water(_: &Arguments) -> Returned {
    Ok(crate::worker::low_water().into_datum())
}

/// `klaviyo.worker_pid()`
fn worker_pid(_: &Arguments) -> Returned {
    Ok(crate::worker::pid().into_datum())
}

/// `klaviyo.is_own_transaction(xid)`
fn is_own_transaction(arguments: &Arguments) -> Returned {
    // Read as it is passed: pgrx has no type for a bare xid in every major.
    let xid = arguments.datum(0).map(|datum| pg_sys::TransactionId::from(datum.value() as u32));
    Ok(xid.is_some_and(is_current).into_datum())
}
