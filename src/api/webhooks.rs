//! `klaviyo_on_webhook`, `klaviyo_off_webhook`: which functions are told of what webhooks bring.

use pgrx::{IntoDatum, pg_sys};

use crate::inbound::handlers;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_on_webhook, pg_finfo_klaviyo_on_webhook, on_webhook);
sql_function!(klaviyo_off_webhook, pg_finfo_klaviyo_off_webhook, off_webhook);

/// `klaviyo_on_webhook(pattern, function)`
fn on_webhook(arguments: &Arguments) -> Returned {
    // regprocedure is passed as the OID it is.
    let function = arguments.datum(1).map(|oid| pg_sys::Oid::from(oid.value() as u32));
    Ok(handlers::register(arguments.get(0), function)?.into_datum())
}

/// `klaviyo_off_webhook(pattern, function)`
fn off_webhook(arguments: &Arguments) -> Returned {
    Ok(handlers::forget(arguments.get(0), arguments.get(1))?.into_datum())
}
