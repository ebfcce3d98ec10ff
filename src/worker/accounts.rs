//! Accounts as the worker needs them: who may send, with which key, and why not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use delivery::klaviyo::{ENDPOINTS, Session, is_loopback};
use delivery::{
    AccountOptions, AccountState, Finding, Past, PastCalls, Stale, StaleAction, kind, most_in_flight,
};
use pgrx::prelude::*;
use pgrx::spi::{self, SpiTupleTable};

use super::direct_calls::{self, DirectCalls};
use super::process::transaction;
use super::{board, daily};
use crate::pg;
use crate::pg::spi::{arg, column, rows, run};
use crate::settings;

const ACCOUNTS: &str = "
    SELECT a.name, a.base_url, a.revision, a.private_key_file, a.private_key_env, k.private_key, a.rate_share,
           a.armed_system IS NOT NULL,
           klaviyo.is_armed(a),
           a.paused_at IS NOT NULL, a.paused_reason,
           least(extract(epoch FROM a.stale_after), 1e9)::float8, a.stale_action = 'dead_letter',
           a.fresh_from
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.account_key AS k ON k.account = a.name";

const SET_STATUS: &str = "
    INSERT INTO klaviyo.account_status AS s (account, stopped_at, stopped_reason)
    VALUES ($1, CASE WHEN $2 IS NOT NULL THEN pg_catalog.clock_timestamp() END, $2)
    ON CONFLICT (account) DO UPDATE SET stopped_at = excluded.stopped_at, stopped_reason = excluded.stopped_reason
    WHERE s.stopped_reason IS DISTINCT FROM excluded.stopped_reason";

const SET_CHECK: &str = "
    INSERT INTO klaviyo.account_check (account, path, scope, status, http_status, detail, checked_at, method)
    VALUES ($1, $2, $3, $4, $5, $6, pg_catalog.clock_timestamp(), $7)
    ON CONFLICT (account, path, method) DO UPDATE
    SET scope = excluded.scope, status = excluded.status, http_status = excluded.http_status,
        detail = excluded.detail, checked_at = excluded.checked_at";

/// Calls of the last minute, by account, kind and whether they carried many: when the last of them ended at the latest,
/// and how many. Of a call of many the messages share the time at which it was sent; merged ones count once a message:
/// better too many than too few.
const PAST_CALLS: &str = "
    SELECT c.account, c.kind, c.bulk, extract(epoch FROM pg_catalog.now() - max(c.at))::float8, sum(c.calls)::bigint
    FROM (
        SELECT m.account, m.kind, m.bulk, max(m.at) AS at,
               CASE WHEN m.bulk THEN max(m.attempts) ELSE sum(m.attempts) END AS calls
        FROM (
            SELECT d.account, d.kind, d.bulk, d.settled_at AS at, d.sent_at, d.attempts FROM klaviyo.delivery AS d
            WHERE d.settled_at > pg_catalog.now() - interval '1 minute'
            UNION ALL
            -- What is known is when the call was sent; it may have ended as late as its timeout.
            SELECT r.account, r.kind, r.last_bulk, least(r.last_attempt_at + $1 * interval '1 second', pg_catalog.now()),
                   r.last_attempt_at, r.attempts
            FROM klaviyo.retry AS r
            WHERE r.last_attempt_at > pg_catalog.now() - interval '1 minute' - $1 * interval '1 second'
            UNION ALL
            -- Nothing dies of a call of many.
            SELECT l.account, l.kind, false, l.died_at, l.died_at, l.attempts FROM klaviyo.dead_letter AS l
            WHERE l.died_at > pg_catalog.now() - interval '1 minute' AND l.attempts > 0
        ) AS m
        GROUP BY m.account, m.kind, m.bulk, m.sent_at
    ) AS c
    GROUP BY c.account, c.kind, c.bulk, pg_catalog.date_trunc('second', c.at)";

/// `Retry-After` of a 429 is the lane's to keep, and longer than a worker may live.
const HOLDS: &str = "
    SELECT r.account, r.kind, r.last_bulk, extract(epoch FROM max(r.not_before) - pg_catalog.now())::float8
    FROM klaviyo.retry AS r
    WHERE r.last_status = 429 AND r.redriven_at IS NULL AND r.not_before > pg_catalog.now()
    GROUP BY r.account, r.kind, r.last_bulk";

/// Keys among the last deliveries that name several identifiers, the latest last.
const LINKED_KEYS: &str = "
    SELECT l.account, l.key
    FROM (
        SELECT d.account, d.key, d.settled_at, d.seq FROM klaviyo.delivery AS d
        ORDER BY d.settled_at DESC
        LIMIT 20000
    ) AS l
    WHERE pg_catalog.cardinality(l.key) > 1
    ORDER BY l.settled_at, l.seq";

/// The longest key file that is read: a key has some forty characters.
const KEY_FILE: u64 = 4_096;

/// What the worker knows of the accounts.
#[derive(Default)]
pub struct Accounts {
    /// What is wrong with an account as it is configured.
    unusable: HashMap<String, String>,
    /// What Klaviyo refuses of it.
    refused: HashMap<String, String>,
    /// Numbers from which on messages of an account are this database's own.
    fresh_from: HashMap<String, i64>,
    /// What `klaviyo.account_status` says, so that it is written only when that changes.
    written: HashMap<String, Option<String>>,
}

/// A row of `klaviyo.account`, with the key where it is stored.
struct Row {
    name: String,
    base_url: String,
    revision: String,
    key_file: Option<String>,
    key_variable: Option<String>,
    key: Option<String>,
    rate_share: f64,
    armed_ever: bool,
    armed_here: bool,
    paused: bool,
    paused_reason: Option<String>,
    stale: Option<Stale>,
    fresh_from: i64,
}

impl Row {
    fn session(&self) -> Result<Session, String> {
        check_armed(self)?;
        check_running(self)?;
        check_environment(self)?;
        let key = private_key(self)?;
        Session::new(&self.base_url, &self.revision, &key)
            .map_err(|error| format!("{error}: change it with klaviyo_set_account()."))
    }
}

/// A developer's machine is to have no business with customers.
fn check_environment(account: &Row) -> Result<(), String> {
    if settings::may_call_others() || is_loopback(&account.base_url) {
        return Ok(());
    }
    Err(format!(
        "klaviyo.environment is development, and {} is another machine: see klaviyo.development_remote, or give the account a klaviyo-sandbox on this one.",
        account.base_url
    ))
}

fn read() -> Result<Vec<Row>, spi::Error> {
    let mut accounts = Vec::new();
    rows(ACCOUNTS, &[], |row| {
        let text = |number| row.get::<String>(number).ok().flatten();
        accounts.push(Row {
            name: column(row, 1),
            base_url: column(row, 2),
            revision: column(row, 3),
            key_file: text(4),
            key_variable: text(5),
            key: text(6),
            rate_share: column(row, 7),
            armed_ever: column(row, 8),
            armed_here: column(row, 9),
            paused: column(row, 10),
            paused_reason: text(11),
            stale: row.get::<f64>(12).ok().flatten().map(|seconds| Stale {
                after: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
                action: if column(row, 13) { StaleAction::DeadLetter } else { StaleAction::Backfill },
            }),
            fresh_from: column(row, 14),
        });
    })?;
    Ok(accounts)
}

impl Accounts {
    /// Reads all accounts. Those that cannot send have no session, and `klaviyo.account_status` says why. Files are
    /// read in no transaction: a file system may hang.
    pub fn load(&mut self, slot: usize) -> Vec<AccountOptions> {
        let accounts = transaction(c"reading accounts", read);
        let names: HashSet<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        self.unusable.clear();
        let fresh_from = accounts.iter().map(|account| (account.name.clone(), account.fresh_from));
        self.fresh_from = fresh_from.collect();
        let mut options = Vec::new();
        for account in &accounts {
            let session = account.session();
            if let Err(reason) = &session {
                self.unusable.insert(account.name.clone(), reason.clone());
            }
            options.push(AccountOptions {
                name: account.name.as_str().into(),
                session: session.ok(),
                rate_share: account.rate_share * settings::rate_share(),
                place: board::place(slot, &account.name, &names),
                stale: account.stale,
            });
        }
        self.refused.retain(|name, _| names.contains(name.as_str()));
        self.written.retain(|name, _| names.contains(name.as_str()));
        let changed: Vec<&str> = names.into_iter().filter(|name| self.is_news(name)).collect();
        for name in &changed {
            if let Some(reason) = self.unusable.get(*name) {
                warn(name, reason);
            }
        }
        if !changed.is_empty() {
            transaction(c"writing the status of accounts", || {
                changed.iter().try_for_each(|name| self.write_status(name))
            });
        }
        options
    }

    /// Numbers from which on messages of an account are this database's own, and not those of one that it is a copy of.
    pub fn fresh_from(&self) -> HashMap<String, i64> {
        self.fresh_from.clone()
    }

    /// Klaviyo refuses calls of an account, all or those of a lane, or takes them all again.
    pub fn note(&mut self, account: &str, state: &AccountState) -> Result<(), spi::Error> {
        match state {
            AccountState::Stopped { reason } => {
                // Klaviyo's words may quote a customer; they stand in klaviyo.account_status, not in the log.
                pg::warn(
                    PgSqlErrorCode::ERRCODE_WARNING,
                    format!("Klaviyo refuses calls of account \"{account}\": what needs them waits"),
                    "klaviyo.account_status.stopped_reason says why, klaviyo_check_account() what the key may do.",
                );
                self.refused.insert(account.to_owned(), reason.clone());
            }
            AccountState::Running => {
                pgrx::log!("Klaviyo takes all calls of account \"{account}\" again");
                self.refused.remove(account);
            }
        }
        self.write_status(account)
    }

    /// Writes down what a preflight has found.
    pub fn found(&self, account: &str, findings: &[Finding]) -> Result<(), spi::Error> {
        for Finding { endpoint, allowed, failure } in findings {
            let status = failure.as_ref().and_then(|failure| failure.status).map(i32::from);
            let detail = failure.as_ref().map(|failure| failure.reason.as_str());
            run(
                SET_CHECK,
                &[
                    arg(account),
                    arg(endpoint.path),
                    arg(endpoint.scopes.join(", ")),
                    arg(allowed.name()),
                    arg(status),
                    arg(detail),
                    arg(endpoint.method.name()),
                ],
            )?;
        }
        Ok(())
    }

    fn write_status(&mut self, account: &str) -> Result<(), spi::Error> {
        let reason = self.reason(account);
        run(SET_STATUS, &[arg(account), arg(reason.clone())])?;
        self.written.insert(account.to_owned(), reason);
        Ok(())
    }

    fn reason(&self, account: &str) -> Option<String> {
        self.unusable.get(account).or_else(|| self.refused.get(account)).cloned()
    }

    fn is_news(&self, account: &str) -> bool {
        self.written.get(account) != Some(&self.reason(account))
    }
}

fn warn(account: &str, reason: &str) {
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("nothing is sent for account \"{account}\", its messages wait"),
        reason.to_owned()
    );
}

fn check_armed(account: &Row) -> Result<(), String> {
    let how = format!("SELECT klaviyo_arm_account('{}').", account.name);
    if account.armed_here {
        Ok(())
    } else if account.armed_ever {
        Err(format!(
            "The account was armed for another cluster, database or klaviyo.instance: this may be a copy. If it is to send, {how}"
        ))
    } else {
        Err(format!("The account is not armed: {how}"))
    }
}

fn check_running(account: &Row) -> Result<(), String> {
    if !account.paused {
        return Ok(());
    }
    let why = account.paused_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    Err(format!("The account is paused{why}: SELECT klaviyo_resume_account('{}').", account.name))
}

/// The private key. The reasons name its source, never the key.
fn private_key(account: &Row) -> Result<String, String> {
    if let Some(file) = &account.key_file {
        return pg::server::file(file, KEY_FILE).map_err(|error| {
            format!("The private key cannot be read from file \"{file}\": {error}. The server's user must be able to read it.")
        });
    }
    if let Some(variable) = &account.key_variable {
        return std::env::var(variable).map_err(|_| {
            format!("The server has no environment variable \"{variable}\" with a private key: set it and restart the server.")
        });
    }
    let key = account.key.clone();
    key.ok_or_else(|| "The account has no private key: give it one with klaviyo_set_account().".to_owned())
}

/// Reads what a fresh worker must know of the past. Of each lane as many calls may have been made without leaving a trace
/// as may be in flight.
pub fn past(accounts: &[AccountOptions], max_in_flight: u32) -> Result<HashMap<Arc<str>, Past>, spi::Error> {
    let nothing_known = || Past {
        calls: ENDPOINTS
            .iter()
            .map(|endpoint| PastCalls {
                lane: endpoint.name,
                age: Duration::ZERO,
                count: u64::from(most_in_flight(endpoint, max_in_flight)),
            })
            .collect(),
        ..Past::default()
    };
    let mut past: HashMap<Arc<str>, Past> =
        accounts.iter().map(|account| (account.name.clone(), nothing_known())).collect();
    let lane = |row: &SpiTupleTable| {
        let kind = kind::find(&column::<String>(row, 2))?;
        let endpoint = if column(row, 3) { kind.bulk()? } else { kind.endpoint()? };
        Some(endpoint.name)
    };
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let timeout = crate::settings::client().request_timeout.as_secs_f64();
    rows(PAST_CALLS, &[arg(timeout)], |row| {
        let known = past.get_mut(column::<String>(row, 1).as_str());
        if let (Some(past), Some(lane)) = (known, lane(row)) {
            let count = column::<i64>(row, 5).unsigned_abs();
            past.calls.push(PastCalls { lane, age: seconds(column(row, 4)), count });
        }
    })?;
    daily::past(|account, lane, age| {
        if let Some(past) = past.get_mut(account) {
            past.calls.push(PastCalls { lane, age: seconds(age), count: 1 });
        }
    })?;
    direct_calls::past(timeout, |account, calls| {
        let Some(past) = past.get_mut(account) else { return };
        let DirectCalls { lane, count, age, hold } = calls;
        past.calls.push(PastCalls { lane, age: seconds(age), count });
        past.holds.extend(hold.map(|hold| (lane, seconds(hold))));
    })?;
    rows(HOLDS, &[], |row| {
        let known = past.get_mut(column::<String>(row, 1).as_str());
        if let (Some(past), Some(lane)) = (known, lane(row)) {
            past.holds.push((lane, seconds(column(row, 4))));
        }
    })?;
    rows(LINKED_KEYS, &[], |row| {
        if let Some(past) = past.get_mut(column::<String>(row, 1).as_str()) {
            past.keys.push(column(row, 2));
        }
    })?;
    Ok(past)
}
