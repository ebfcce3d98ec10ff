//! Whether a mapping captures.

use pgrx::pg_sys;

use super::attach::synced;
use super::statements::{done, of_ours};
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::{self, drop_with_table};
use crate::settings::{ON_INVALID, OnInvalid};

/// Of one that is not paused, in all cases. A partition's rows are its table's. In a copy that was restored from a dump the table has another number. What a
/// subscription copies when it begins was written long ago; a worker of its own does that, until the state says so.
const IS_CAPTURING: &str = "
    SELECT $1 = coalesce(pg_partition_root($2), $2)
       AND (current_setting('session_replication_role') <> 'replica' OR NOT EXISTS (
               SELECT FROM pg_stat_subscription AS w
               JOIN pg_subscription_rel AS r ON r.srsubid = w.subid AND r.srrelid = w.relid
               WHERE w.pid = pg_backend_pid() AND r.srsubstate IN ('i', 'd')
           ))";

const FAULT: &str = "
    SELECT klaviyo.mapping_fault(m.relation, m.plan)
    FROM klaviyo.mapping AS m
    WHERE m.id = $1";

const PAUSE: &str = "
    UPDATE klaviyo.mapping AS m
    SET paused_at = CASE WHEN $2 THEN coalesce(m.paused_at, now()) END
    WHERE m.id = $1";

/// Only those of the tables that the mappings were of: of others anybody could have a trigger that is called so.
const COPIED: &str = "
    SELECT s.id, s.relation::oid, s.function::oid
    FROM klaviyo.sync AS s
    JOIN klaviyo.mapping AS m ON m.id = s.id
    JOIN pg_class AS c ON c.oid = s.relation
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_proc AS p ON p.oid = s.function
    WHERE s.account = $1 AND s.state = 'copied' AND m.table_name = format('%I.%I', n.nspname, c.relname)
      AND p.proname = 'klaviyo_sync_' || s.id AND p.proowner = c.relowner";

const ADOPT: &str = "UPDATE klaviyo.mapping AS m SET relation = $2 WHERE m.id = $1";

/// Where the original has come to since, nobody knows here.
const PAUSE_BACKFILLS: &str = "
    UPDATE klaviyo.backfill_run AS r
    SET state = 'paused',
        error = 'it has come in a dump: what the original has sent since would be sent again. klaviyo_backfill_resume() has it go on'
    WHERE r.mapping = $1 AND r.state = 'running'";

/// Whether what is written to a table is captured.
pub fn is_capturing(mapping: i32, relation: pg_sys::Oid) -> bool {
    // SAFETY: a plain variable, the session's setting.
    let replicates =
        unsafe { pg_sys::SessionReplicationRole } == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
    // Every statement of the shop asks: what is so in most cases is found out without a query.
    let mappings = table::Table::open(c"klaviyo", c"mapping", pg_sys::AccessShareLock);
    let noted = match mappings.and_then(|mappings| mappings.read(mapping, [c"relation", c"paused_at"])) {
        Some([Some(noted), None]) => pg_sys::Oid::from(noted.value() as u32),
        _ => return false,
    };
    if noted == relation && !replicates {
        return true;
    }
    of_ours(|| done(value(IS_CAPTURING, &[arg(noted), arg(relation)]))).unwrap_or_default()
}

/// What has become wrong with a mapping, if that is to be looked for: if rows it cannot read are to become dead letters.
pub fn fault_to_bury(mapping: i32) -> Option<String> {
    if ON_INVALID.get() != OnInvalid::DeadLetter {
        return None;
    }
    of_ours(|| done(value(FAULT, &[arg(mapping)])))
}

/// Has the table's mapping of that name, or all, capture nothing from now on, or capture again. Returns how many.
pub fn pause(table: &Table, name: Option<&str>, paused: bool) -> Result<usize, Refusal> {
    let ids = synced(table, name)?;
    of_ours(|| {
        for id in &ids {
            done(run(PAUSE, &[arg(*id), arg(paused)]));
        }
    });
    Ok(ids.len())
}

/// Has an account's mappings that came in a dump capture what is written to their tables here.
pub fn adopt(account: &str) {
    let mut copied: Vec<(i32, pg_sys::Oid, pg_sys::Oid)> = Vec::new();
    of_ours(|| {
        done(rows(COPIED, &[arg(account)], |row| {
            copied.push((column(row, 1), column(row, 2), column(row, 3)))
        }));
        for (id, relation, function) in copied {
            done(run(ADOPT, &[arg(id), arg(relation)]));
            done(run(PAUSE_BACKFILLS, &[arg(id)]));
            // No dump carries that.
            drop_with_table(function, relation);
        }
    });
}
