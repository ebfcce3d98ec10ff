//! Whether messages still wait.

use pgrx::spi;

use crate::pg::spi::{arg, value};

const WAIT: &str = "
    SELECT EXISTS (SELECT FROM klaviyo.outbox AS o WHERE o.seq = ANY ($1))
        OR EXISTS (SELECT FROM klaviyo.retry AS r WHERE r.seq = ANY ($1))";

/// Whether any of the messages with these numbers does.
pub fn any_of(seqs: &[i64]) -> Result<bool, spi::Error> {
    Ok(value::<bool>(WAIT, &[arg(seqs.to_vec())])?.unwrap_or_default())
}
