//! Accounts as the worker needs them: who may send, with which key, and why not.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use delivery::klaviyo::{ENDPOINTS, Session};
use delivery::{AccountOptions, AccountState, PastCalls, kind};
use pgrx::spi;

use crate::pg::spi::{arg, column, rows, run};

const ACCOUNTS: &str = "
    SELECT a.name, a.base_url, a.revision, a.private_key_file, a.private_key_env, k.private_key, a.rate_share,
           a.armed_system IS NOT NULL,
           a.armed_system = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)
               AND a.armed_name = pg_catalog.current_database()
               AND a.armed_database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                                       WHERE d.datname = pg_catalog.current_database())
               AND a.armed_instance = pg_catalog.current_setting('klaviyo.instance')
    FROM klaviyo.account AS a
    LEFT JOIN klaviyo.account_key AS k ON k.account = a.name";

const SET_STATUS: &str = "
    INSERT INTO klaviyo.account_status AS s (account, stopped_at, stopped_reason)
    VALUES ($1, CASE WHEN $2 IS NOT NULL THEN pg_catalog.clock_timestamp() END, $2)
    ON CONFLICT (account) DO UPDATE SET stopped_at = excluded.stopped_at, stopped_reason = excluded.stopped_reason
    WHERE s.stopped_reason IS DISTINCT FROM excluded.stopped_reason";

const INSTALLED: &str =
    "SELECT e.extname::text FROM pg_catalog.pg_extension AS e WHERE e.extname = 'klaviyo_sync'";

/// Calls of the last minute, by account and kind: when the last of them ended at the latest, and how many. Merged
/// calls count once a message; better too many than too few.
const PAST_CALLS: &str = "
    SELECT c.account, c.kind, extract(epoch FROM pg_catalog.now() - max(c.at))::float8, sum(c.attempts)::bigint
    FROM (
        SELECT d.account, d.kind, d.settled_at AS at, d.attempts FROM klaviyo.delivery AS d
        WHERE d.settled_at > pg_catalog.now() - interval '1 minute'
        UNION ALL
        SELECT r.account, r.kind, r.last_attempt_at, r.attempts FROM klaviyo.retry AS r
        WHERE r.last_attempt_at > pg_catalog.now() - interval '2 minutes'
        UNION ALL
        SELECT l.account, l.kind, l.died_at, l.attempts FROM klaviyo.dead_letter AS l
        WHERE l.died_at > pg_catalog.now() - interval '1 minute' AND l.attempts > 0
    ) AS c
    GROUP BY c.account, c.kind, pg_catalog.date_trunc('second', c.at)";

/// Keys that name several identifiers, the latest last.
const LINKED_KEYS: &str = "
    SELECT l.account, l.key
    FROM (
        SELECT d.account, d.key, d.settled_at FROM klaviyo.delivery AS d
        WHERE pg_catalog.cardinality(d.key) > 1
        ORDER BY d.settled_at DESC
        LIMIT 20000
    ) AS l
    ORDER BY l.settled_at";

/// The longest key file that is read: a key has some forty characters.
const KEY_FILE: u64 = 4_096;

/// What the worker knows of the accounts.
#[derive(Default)]
pub struct Accounts {
    /// What is wrong with an account as it is configured.
    unusable: HashMap<String, String>,
    /// What Klaviyo refuses of it.
    refused: HashMap<String, String>,
    /// What `klaviyo.account_status` says, so that it is written only when that changes.
    written: HashMap<String, Option<String>>,
}

/// Whether this database has the extension.
pub fn is_installed() -> Result<bool, spi::Error> {
    Ok(rows(INSTALLED, &[], |_| ())? > 0)
}

impl Accounts {
    /// Reads all accounts. Those that cannot send have no session, and `klaviyo.account_status` says why.
    pub fn load(&mut self) -> Result<Vec<AccountOptions>, spi::Error> {
        let mut accounts = Vec::new();
        let mut unusable = HashMap::new();
        rows(ACCOUNTS, &[], |row| {
            let name: String = column(row, 1);
            let text = |number| row.get::<String>(number).ok().flatten();
            let armed = (column::<bool>(row, 8), row.get::<bool>(9).ok().flatten().unwrap_or_default());
            let session = check_armed(armed, &name)
                .and_then(|()| private_key(text(4), text(5), text(6)))
                .and_then(|key| {
                    Session::new(&column::<String>(row, 2), &column::<String>(row, 3), &key)
                        .map_err(|error| format!("{error}: change it with klaviyo_set_account()."))
                });
            let session = session.map_err(|reason| unusable.insert(name.clone(), reason)).ok();
            accounts.push(AccountOptions { name: name.into(), session, rate_share: column(row, 7) });
        })?;
        self.unusable = unusable;
        let names: HashSet<&str> = accounts.iter().map(|account| account.name.as_ref()).collect();
        self.refused.retain(|name, _| names.contains(name.as_str()));
        for account in &accounts {
            self.write_status(&account.name)?;
        }
        Ok(accounts)
    }

    /// Klaviyo refuses an account, or takes it again.
    pub fn note(&mut self, account: &str, state: &AccountState) -> Result<(), spi::Error> {
        match state {
            AccountState::Stopped { reason } => {
                pgrx::warning!("Klaviyo refuses account \"{account}\": {reason}. Its messages wait.");
                self.refused.insert(account.to_owned(), reason.clone());
            }
            AccountState::Running => {
                pgrx::log!("Klaviyo takes account \"{account}\" again");
                self.refused.remove(account);
            }
        }
        self.write_status(account)
    }

    fn write_status(&mut self, account: &str) -> Result<(), spi::Error> {
        let reason = self.unusable.get(account).or_else(|| self.refused.get(account)).cloned();
        if self.written.get(account) == Some(&reason) {
            return Ok(());
        }
        run(SET_STATUS, &[arg(account), arg(reason.clone())])?;
        self.written.insert(account.to_owned(), reason);
        Ok(())
    }
}

fn check_armed((ever, here): (bool, bool), name: &str) -> Result<(), String> {
    match (ever, here) {
        (_, true) => Ok(()),
        (true, false) => Err(format!(
            "The account was armed for another cluster, database or klaviyo.instance: this may be a copy. If it is to send, SELECT klaviyo_arm_account('{name}')."
        )),
        (false, false) => Err(format!("The account is not armed: SELECT klaviyo_arm_account('{name}').")),
    }
}

/// The private key. The reasons name its source, never the key.
fn private_key(
    file: Option<String>,
    variable: Option<String>,
    stored: Option<String>,
) -> Result<String, String> {
    if let Some(file) = file {
        let mut key = String::new();
        return std::fs::File::open(&file)
            .and_then(|open| open.take(KEY_FILE).read_to_string(&mut key))
            .map(|_| key)
            .map_err(|error| {
                format!("The private key cannot be read from file \"{file}\": {error}. The server's user must be able to read it.")
            });
    }
    if let Some(variable) = variable {
        return std::env::var(&variable).map_err(|_| {
            format!("The server has no environment variable \"{variable}\" with a private key: set it and restart the server.")
        });
    }
    stored.ok_or_else(|| "The account has no private key: give it one with klaviyo_set_account().".to_owned())
}

/// What the past teaches a fresh worker, by account: keys that belong together, and calls that still count.
pub type Past = HashMap<Arc<str>, (Vec<Vec<String>>, Vec<PastCalls>)>;

/// Reads it. `unknown` is how many calls of each lane may have been made without leaving a trace.
pub fn past(accounts: &[AccountOptions], unknown: u32) -> Result<Past, spi::Error> {
    let mut past: Past = accounts
        .iter()
        .map(|account| {
            let calls = ENDPOINTS.iter().map(|endpoint| PastCalls {
                lane: endpoint.name,
                age: Duration::ZERO,
                count: u64::from(unknown),
            });
            (account.name.clone(), (Vec::new(), calls.collect()))
        })
        .collect();
    rows(PAST_CALLS, &[], |row| {
        let known = past.get_mut(column::<String>(row, 1).as_str());
        let kind = kind::find(&column::<String>(row, 2));
        if let (Some((_, calls)), Some(kind)) = (known, kind) {
            calls.push(PastCalls {
                lane: kind.endpoint().name,
                age: Duration::try_from_secs_f64(column(row, 3)).unwrap_or_default(),
                count: column::<i64>(row, 4).unsigned_abs(),
            });
        }
    })?;
    rows(LINKED_KEYS, &[], |row| {
        if let Some((keys, _)) = past.get_mut(column::<String>(row, 1).as_str()) {
            keys.push(column(row, 2));
        }
    })?;
    Ok(past)
}
