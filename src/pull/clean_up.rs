//! Clean-ups: whom a rule is true of, and having them suppressed. A rule is a user's, and runs in the runner, with the rights of
//! whoever has written it.

use std::time::Duration;

use delivery::invalid;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{pg_sys, spi};

use super::sqlstate;
use crate::pg::expression::{self, Fault as Unread};
use crate::pg::function::{Arguments, Refusal, Returned, sql_function};
use crate::pg::scoped::{with_restricted_rights_of, with_settings_of_sessions, with_statement_timeout};
use crate::pg::spi::{arg, column, rows, run, value};
use crate::pg::table::{Table, as_owner};

sql_function!(klaviyo_set_clean_up, pg_finfo_klaviyo_set_clean_up, set);

/// Profiles of which a rule may be true if nobody says how many.
const CAP: i32 = 1_000;

/// Bytes of a name.
const LONGEST: usize = 128;

/// How long it may take to find out whom a rule is true of: the runner does nothing else meanwhile.
pub const TIMEOUT: Duration = Duration::from_secs(60);

const CALLER: &str = "SELECT current_user::text";
const HAS_ACCOUNT: &str = "SELECT EXISTS (SELECT FROM klaviyo.account AS a WHERE a.name = $1)";
const IS_OUT_OF_BOUNDS: &str =
    "SELECT $1 NOT BETWEEN interval '1 hour' AND interval '1000 years' AND $1 <> interval '0'";

/// An interval of 0 is none.
const STORE: &str = "
    INSERT INTO klaviyo.clean_up AS c (account, name, rule, owner, cap, dry_run, every)
    VALUES ($1, $2, $3, $4, coalesce($5, $6), coalesce($7, true), nullif($8, interval '0'))
    ON CONFLICT ON CONSTRAINT clean_up_pkey DO UPDATE
    SET rule = excluded.rule, owner = excluded.owner, cap = coalesce($5, c.cap), dry_run = coalesce($7, c.dry_run),
        every = CASE WHEN $8 IS NULL THEN c.every ELSE excluded.every END, changed_at = now()";

/// Of one that is there, and keeps its rule.
const CHANGE: &str = "
    UPDATE klaviyo.clean_up AS c
    SET cap = coalesce($3, c.cap), dry_run = coalesce($4, c.dry_run),
        every = CASE WHEN $5 IS NULL THEN c.every ELSE nullif($5, interval '0') END, changed_at = now()
    WHERE c.account = $1 AND c.name = $2";

const SCHEDULE: &str = "
    INSERT INTO klaviyo.clean_up_run (account, name, dry_run)
    SELECT c.account, c.name, c.dry_run
    FROM klaviyo.clean_up AS c
    WHERE coalesce((SELECT max(r.requested_at) FROM klaviyo.clean_up_run AS r WHERE r.account = c.account AND r.name = c.name),
                   c.created_at) + c.every <= pg_catalog.now()
    ON CONFLICT DO NOTHING";

const ANY: &str = "
    SELECT EXISTS (SELECT FROM klaviyo.clean_up_run AS r WHERE r.ended_at IS NULL)
           OR EXISTS (
               SELECT FROM klaviyo.clean_up AS c
               WHERE coalesce((SELECT max(r.requested_at) FROM klaviyo.clean_up_run AS r
                               WHERE r.account = c.account AND r.name = c.name), c.created_at) + c.every <= pg_catalog.now()
           )";

const NEXT: &str = "
    SELECT r.run_id, r.started_at IS NOT NULL
    FROM klaviyo.clean_up_run AS r
    WHERE r.ended_at IS NULL
    ORDER BY r.run_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED";

const BEGIN: &str =
    "UPDATE klaviyo.clean_up_run AS r SET started_at = pg_catalog.clock_timestamp() WHERE r.run_id = $1";

const END: &str = "
    UPDATE klaviyo.clean_up_run AS r
    SET ended_at = pg_catalog.clock_timestamp(), outcome = $2, found = $3, error = $4
    WHERE r.run_id = $1";

const OPEN: &str = "
    SELECT c.account, c.rule, c.cap, o.oid, r.dry_run
    FROM klaviyo.clean_up_run AS r
    JOIN klaviyo.clean_up AS c USING (account, name)
    LEFT JOIN pg_catalog.pg_roles AS o ON o.rolname = c.owner
    WHERE r.run_id = $1";

const FOUND: &str = "
    INSERT INTO klaviyo.clean_up_profile (run_id, profile_id)
    SELECT $1, f.profile_id FROM unnest($2::text[]) AS f (profile_id)";

/// An address that Klaviyo would not take is in nobody else's way.
const ON_INVALID: &str = "SET LOCAL klaviyo.on_invalid = 'dead_letter'";

/// By the function's own schema, whatever that is.
const SUPPRESS: &str = "
    SELECT format('UPDATE klaviyo.clean_up_profile AS c SET message_id = %I.klaviyo_suppress(p.email, p.account)
                   FROM klaviyo.profile AS p WHERE c.run_id = %s AND p.account = %L AND p.profile_id = c.profile_id',
                  e.extnamespace::regnamespace::text, $1, $2)
    FROM pg_catalog.pg_extension AS e
    WHERE e.extname = 'klaviyo_sync'";

/// But the last of each clean-up there is: by that its next is found.
const DELETE_OLD: &str = "
    DELETE FROM klaviyo.clean_up_run AS r
    WHERE r.run_id = ANY (ARRAY(
        SELECT o.run_id FROM klaviyo.clean_up_run AS o
        WHERE o.ended_at < pg_catalog.now() - $1 * interval '1 minute'
          AND (NOT EXISTS (SELECT FROM klaviyo.clean_up AS c WHERE c.account = o.account AND c.name = o.name)
               OR EXISTS (SELECT FROM klaviyo.clean_up_run AS l
                          WHERE l.account = o.account AND l.name = o.name AND l.run_id > o.run_id))
        ORDER BY o.ended_at
        LIMIT 100
    ))";

/// Bytes of an error that are kept.
const KEPT: usize = 2_000;

/// `klaviyo_set_clean_up(name, rule, every, cap, dry_run, account)`
fn set(arguments: &Arguments) -> Returned {
    let text = |number| arguments.get::<String>(number);
    let (name, account) = (text(0).unwrap_or_default(), text(5).unwrap_or_else(|| "default".to_owned()));
    let (every, cap, dry_run) =
        (arguments.get::<Interval>(2), arguments.get::<i32>(3), arguments.get::<bool>(4));
    if !(1..=LONGEST).contains(&name.len()) {
        let detail = format!("It must have 1 to {LONGEST} bytes.");
        return Err(refused("argument \"name\" is no name of a clean-up", detail, ""));
    }
    if cap.is_some_and(|cap| cap < 1) {
        return Err(refused(
            "argument \"cap\" is no number of profiles",
            "It must be 1 at least.".to_owned(),
            "",
        ));
    }
    if done(value::<bool>(IS_OUT_OF_BOUNDS, &[arg(every)])).unwrap_or_default() {
        let detail = "Between two runs there must be an hour at least, and 1000 years at the most; 0 is for none but those that are asked for.";
        return Err(refused("argument \"every\" is out of bounds", detail.to_owned(), ""));
    }
    let rule = text(1).map(|rule| understand(&rule)).transpose()?;
    let owner = done(value::<String>(CALLER, &[])).unwrap_or_default();
    let plans = Table::open(c"klaviyo", c"clean_up", pg_sys::AccessShareLock);
    let written = as_owner(plans.as_ref(), || {
        let (account, name) = (account.as_str(), name.as_str());
        if !value::<bool>(HAS_ACCOUNT, &[arg(account)])?.unwrap_or_default() {
            return Ok(None);
        }
        let written = match rule {
            Some(rule) => {
                let args = [
                    arg(account),
                    arg(name),
                    arg(rule),
                    arg(owner),
                    arg(cap),
                    arg(CAP),
                    arg(dry_run),
                    arg(every),
                ];
                run(STORE, &args)
            }
            None => run(CHANGE, &[arg(account), arg(name), arg(cap), arg(dry_run), arg(every)]),
        };
        written.map(Some)
    });
    match done(written) {
        None => Err(Refusal {
            sqlstate: invalid::Fault::UnknownAccount.sqlstate(),
            message: format!("account \"{account}\" does not exist"),
            detail: "Nothing was changed.".to_owned(),
            hint: "Add it with klaviyo_set_account().".to_owned(),
        }),
        Some(0) => {
            Err(refused("a clean-up needs a rule", format!("There is no clean-up \"{name}\" yet."), RULE))
        }
        Some(_) => Ok(None),
    }
}

fn refused(message: &str, detail: String, hint: &str) -> Refusal {
    Refusal { sqlstate: sqlstate::CLEAN_UP, message: message.to_owned(), detail, hint: hint.to_owned() }
}

const RULE: &str = "Pass a condition over a row of klaviyo.profile, such as row.last_event_at < now() - interval '180 days'.";

/// A rule as it is written down: it means the same in every session.
fn understand(rule: &str) -> Result<String, Refusal> {
    let refused =
        |message: &str, detail: String| refused(&format!("argument \"rule\" {message}"), detail, RULE);
    let Some(profiles) = Table::open(c"klaviyo", c"profile", pg_sys::AccessShareLock) else {
        error!("there is no table klaviyo.profile");
    };
    match expression::understand(profiles.oid(), "klaviyo.profile", rule) {
        Ok(read) if read.type_oid == pg_sys::BOOLOID => Ok(read.sql),
        Ok(_) => Err(refused("is no condition", "It must be of type boolean.".to_owned())),
        Err(Unread::Refused { message, .. }) => Err(refused("is not understood", format!("{message}."))),
        Err(Unread::NotSingle) => Err(refused("is not a single condition", rule.to_owned())),
        Err(Unread::NotOfOneRow) => Err(refused(
            "is not about one profile",
            "It has an aggregate, a window function, or a function that returns many rows.".to_owned(),
        )),
        Err(Unread::Temporary) => {
            Err(refused("uses a temporary table", "Only this session sees it.".to_owned()))
        }
    }
}

fn done<T>(result: Result<T, spi::Error>) -> T {
    result.unwrap_or_else(|error| error!("{error}"))
}

/// Whether there is anything to do.
pub fn is_any() -> Result<bool, spi::Error> {
    Ok(value::<bool>(ANY, &[])?.unwrap_or_default())
}

/// Has those run whose time has come.
pub fn schedule() -> Result<(), spi::Error> {
    run(SCHEDULE, &[]).map(drop)
}

/// The next run, which begins now: written down before it does, so that one that ends its process is not begun for ever.
pub fn begin() -> Result<Option<i64>, spi::Error> {
    let mut next: Option<(i64, bool)> = None;
    rows(NEXT, &[], |row| next = Some((column(row, 1), column(row, 2))))?;
    match next {
        Some((id, true)) => {
            end(id, "failed", None, Some("the process that did it has ended"))?;
            Ok(None)
        }
        Some((id, false)) => run(BEGIN, &[arg(id)]).map(|_| Some(id)),
        None => Ok(None),
    }
}

/// Finds out whom the rule is true of, and has them suppressed if that is what it is for.
pub fn clean_up(id: i64) -> Result<(), spi::Error> {
    let mut open: Option<(String, String, i32, Option<pg_sys::Oid>, bool)> = None;
    rows(OPEN, &[arg(id)], |row| {
        open =
            Some((column(row, 1), column(row, 2), column(row, 3), row.get(4).ok().flatten(), column(row, 5)));
    })?;
    let Some((account, rule, cap, owner, dry_run)) = open else {
        return end(id, "failed", None, Some("it was removed"));
    };
    let Some(owner) = owner else {
        return end(id, "failed", None, Some("whose rule it is, is gone"));
    };
    // Whoever is suppressed already need not be.
    let query = format!(
        "SELECT \"row\".profile_id
         FROM klaviyo.profile AS \"row\"
         WHERE \"row\".account = $1 AND \"row\".email IS NOT NULL
           AND coalesce(jsonb_array_length(nullif(\"row\".subscriptions #> '{{email,marketing,suppression}}', 'null')), 0) = 0
           AND ({rule}\n)
         ORDER BY \"row\".profile_id
         LIMIT {}",
        i64::from(cap) + 1
    );
    let found: Vec<String> = with_statement_timeout(TIMEOUT, || {
        with_restricted_rights_of(owner, || {
            with_settings_of_sessions(|| {
                Spi::connect(|client| {
                    let found = client.select(&query, None, &[arg(account.as_str())])?;
                    found
                        .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
                        .collect::<Result<_, spi::Error>>()
                })
            })
        })
    })?;
    let count = i32::try_from(found.len()).unwrap_or(i32::MAX);
    run(FOUND, &[arg(id), arg(found)])?;
    if count > cap {
        return end(id, "capped", Some(count), None);
    }
    if dry_run {
        return end(id, "shown", Some(count), None);
    }
    Spi::run(ON_INVALID)?;
    if let Some(suppress) = value::<String>(SUPPRESS, &[arg(id), arg(account)])? {
        Spi::run(&suppress)?;
    }
    end(id, "suppressed", Some(count), None)
}

/// Writes down that a run has failed.
pub fn failed(id: i64, error: &str) -> Result<(), spi::Error> {
    end(id, "failed", None, Some(&error[..error.floor_char_boundary(KEPT)]))
}

fn end(id: i64, outcome: &str, found: Option<i32>, error: Option<&str>) -> Result<(), spi::Error> {
    run(END, &[arg(id), arg(outcome), arg(found), arg(error)]).map(drop)
}

/// Deletes runs that ended longer ago than so many minutes.
pub fn delete_old(minutes: i32) -> Result<usize, spi::Error> {
    run(DELETE_OLD, &[arg(minutes)])
}
