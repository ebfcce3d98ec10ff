//! `klaviyo.identifier`: what SQL needs of how people are told apart.

use delivery::key;
use pgrx::IntoDatum;

use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_identifier, pg_finfo_klaviyo_identifier, identifier);

/// `klaviyo.identifier(name text, value text)`
fn identifier(arguments: &Arguments) -> Returned {
    let (name, value): (Option<&str>, Option<&str>) = (arguments.get(0), arguments.get(1));
    Ok(name.zip(value).and_then(|(name, value)| key::identifier(name, value).into_datum()))
}
