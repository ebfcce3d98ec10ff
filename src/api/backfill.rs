//! `klaviyo_backfill` and what is done with one that is under way.

use pgrx::IntoDatum;

use super::capture::counted;
use crate::capture::backfill::{self, Change, notes};
use crate::capture::table::Table;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_backfill, pg_finfo_klaviyo_backfill, start);
sql_function!(klaviyo_backfill_pause, pg_finfo_klaviyo_backfill_pause, pause);
sql_function!(klaviyo_backfill_resume, pg_finfo_klaviyo_backfill_resume, resume);
sql_function!(klaviyo_backfill_cancel, pg_finfo_klaviyo_backfill_cancel, cancel);
sql_function!(klaviyo_notes_keys, pg_finfo_klaviyo_notes_keys, notes_keys);
sql_function!(klaviyo_note_keys, pg_finfo_klaviyo_note_keys, note_keys);

/// `klaviyo_backfill(relation, "where", name, again)`
fn start(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    table.check()?;
    let again = arguments.get(3).unwrap_or_default();
    counted(backfill::start(&table, arguments.get(2), arguments.get(1), again)?)
}

/// `klaviyo_backfill_pause(relation, name)`
fn pause(arguments: &Arguments) -> Returned {
    change(arguments, Change::Pause)
}

/// `klaviyo_backfill_resume(relation, name)`
fn resume(arguments: &Arguments) -> Returned {
    change(arguments, Change::Resume)
}

/// `klaviyo_backfill_cancel(relation, name)`
fn cancel(arguments: &Arguments) -> Returned {
    change(arguments, Change::Cancel)
}

fn change(arguments: &Arguments, change: Change) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(backfill::change(&table, arguments.get(1), change)?)
}

/// `klaviyo.notes_keys(mapping)`
fn notes_keys(arguments: &Arguments) -> Returned {
    Ok(arguments.get(0).is_some_and(notes::are_taken).into_datum())
}

/// `klaviyo.note_keys(mapping, keys)`
fn note_keys(arguments: &Arguments) -> Returned {
    if let (Some(mapping), Some(keys)) = (arguments.get(0), arguments.get(1)) {
        notes::take(mapping, keys);
    }
    Ok(None)
}
