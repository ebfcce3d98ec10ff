//! What is done with mappings there are, by people and by triggers.

use pgrx::{IntoDatum, JsonB};

use crate::api::messages::DEFAULT_ACCOUNT;
use crate::capture::attach;
use crate::capture::fault;
use crate::capture::follow;
use crate::capture::generate::Capture;
use crate::capture::plan::Plan;
use crate::capture::preview::{self, Page, Previewed};
use crate::capture::state;
use crate::capture::table::Table;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_sync_detach, pg_finfo_klaviyo_sync_detach, sync_detach);
sql_function!(klaviyo_sync_pause, pg_finfo_klaviyo_sync_pause, sync_pause);
sql_function!(klaviyo_sync_resume, pg_finfo_klaviyo_sync_resume, sync_resume);
sql_function!(klaviyo_is_capturing, pg_finfo_klaviyo_is_capturing, is_capturing);
sql_function!(klaviyo_fault_to_bury, pg_finfo_klaviyo_fault_to_bury, fault_to_bury);
sql_function!(klaviyo_adopt_mappings, pg_finfo_klaviyo_adopt_mappings, adopt_mappings);
sql_function!(klaviyo_follow_table, pg_finfo_klaviyo_follow_table, follow_table);
sql_function!(klaviyo_preview_rows, pg_finfo_klaviyo_preview_rows, preview_rows);
sql_function!(klaviyo_check_mapping, pg_finfo_klaviyo_check_mapping, check_mapping);

/// `klaviyo_sync_detach(relation, name)`
fn sync_detach(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(attach::detach(&table, arguments.get(1))?)
}

/// `klaviyo_sync_pause(relation, name)`
fn sync_pause(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(state::pause(&table, arguments.get(1), true)?)
}

/// `klaviyo_sync_resume(relation, name)`
fn sync_resume(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(state::pause(&table, arguments.get(1), false)?)
}

/// How many were changed.
pub(super) fn counted(number: usize) -> Returned {
    Ok(i32::try_from(number).unwrap_or(i32::MAX).into_datum())
}

/// `klaviyo.is_capturing(mapping, relation)`
fn is_capturing(arguments: &Arguments) -> Returned {
    let (Some(mapping), Some(relation)) = (arguments.get(0), arguments.get(1)) else { return Ok(None) };
    Ok(state::is_capturing(mapping, relation).into_datum())
}

/// `klaviyo.fault_to_bury(mapping)`
fn fault_to_bury(arguments: &Arguments) -> Returned {
    let fault = arguments.get(0).and_then(state::fault_to_bury);
    Ok(fault.and_then(IntoDatum::into_datum))
}

/// `klaviyo.adopt_mappings(account)`
fn adopt_mappings(arguments: &Arguments) -> Returned {
    state::adopt(arguments.get(0).unwrap_or(DEFAULT_ACCOUNT));
    Ok(None)
}

/// `klaviyo.follow_table(relation)`
fn follow_table(arguments: &Arguments) -> Returned {
    if let Some(relation) = arguments.get(0) {
        follow::follow(relation)?;
    }
    Ok(None)
}

/// `klaviyo.preview_rows(relation, name, limit, place, keys_only)`: a JSON array of what [`preview::preview`] finds.
fn preview_rows(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    let Some(name) = arguments.get(1) else { return Ok("[]".into_datum()) };
    let [limit, place] = [2, 3].map(|number| arguments.get::<i32>(number).unwrap_or(i32::MAX));
    let page =
        Page { limit: limit.into(), place: place.into(), keys_only: arguments.get(4).unwrap_or_default() };
    let rows = preview::preview(&table, name, &page)?;
    // What was checked is an object already, and numbers in it are kept to the letter.
    let row = |row: &Previewed| format!("{{\"key\":{},\"checked\":{}}}", row.key, row.checked);
    Ok(format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(",")).into_datum())
}

/// `klaviyo.check_mapping(relation, plan)`
fn check_mapping(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    table.check()?;
    if let Some(plan) = arguments.get(1).and_then(|JsonB(plan)| Plan::from_json(plan)) {
        fault::check(&Capture { table: &table, plan });
    }
    Ok(None)
}
