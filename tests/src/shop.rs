//! The usual test bed: a cluster with the extension in database `shop`, delivering to a sandbox.

use std::fs;
use std::path::Path;
use std::time::Duration;

use postgres::Client;

use crate::cluster::{Cluster, explain};
use crate::cluster_builder::ClusterBuilder;
use crate::ledger::Ledger;
use crate::messages::{ORDER, status};
use crate::openapi::OpenApi;
use crate::sandbox::{Sandbox, SandboxBuilder};
use crate::server_user::ServerUser;
use crate::wait::{PATIENCE, becomes_true};
use crate::{Signal, kill, wait_for_crash, wait_for_worker};

/// The key of the account; any that starts with `pk_` does.
pub const SANDBOX_KEY: &str = "pk_sandbox_0123456789abcdef";

/// The rate share that switches the extension's own limiter off, for a sandbox only.
const UNLIMITED: f64 = 1e6;

/// What a new shop is to be like.
#[derive(Debug)]
pub struct ShopBuilder {
    cluster: ClusterBuilder,
    sandbox: SandboxBuilder,
    rate_share: f64,
    database: String,
}

impl Default for ShopBuilder {
    fn default() -> Self {
        Self {
            cluster: Cluster::builder(),
            sandbox: Sandbox::builder(),
            rate_share: UNLIMITED,
            database: "shop".to_owned(),
        }
    }
}

impl ShopBuilder {
    /// Enforces Klaviyo's rate limits on both sides, of which the extension may use this share. Without this call
    /// neither side limits anything.
    #[must_use]
    pub fn rate_share(mut self, share: f64) -> Self {
        self.rate_share = share;
        self
    }

    /// Adds a line to postgresql.conf.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.cluster = self.cluster.setting(name, value);
        self
    }

    /// Sends each event in a call of its own, however many wait: for who counts calls.
    #[must_use]
    pub fn single_calls(self) -> Self {
        self.setting("klaviyo.bulk", "off")
    }

    /// Tries again soon: for who waits for what has failed.
    #[must_use]
    pub fn quick_retries(self) -> Self {
        self.setting("klaviyo.retry_min_delay", "10ms").setting("klaviyo.retry_max_delay", "500ms")
    }

    /// Changes the cluster otherwise.
    #[must_use]
    pub fn cluster(mut self, change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        self.cluster = change(self.cluster);
        self
    }

    /// Adds command line arguments of the sandbox.
    #[must_use]
    pub fn sandbox<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.sandbox = self.sandbox.arguments(arguments);
        self
    }

    /// Has the sandbox keep the memory that it no longer needs.
    #[must_use]
    pub fn sandbox_memory_kept(mut self) -> Self {
        self.sandbox = self.sandbox.memory_kept();
        self
    }

    /// Puts everything into this directory, which stays, and lets it outlive this process (see [`Shop::leave_running`]).
    #[must_use]
    pub fn lasting(mut self, directory: &Path) -> Self {
        self.cluster = self.cluster.lasting(directory);
        self.sandbox = self.sandbox.lasting();
        self
    }

    /// Starts the cluster and the sandbox, and sets up and arms the account `default`.
    pub fn start(self) -> Shop {
        let limited = self.rate_share < UNLIMITED;
        let cluster = self.cluster.start();
        let sandbox = self.sandbox.arguments(["--rates", if limited { "on" } else { "off" }]);
        let sandbox = sandbox.start(cluster.directory());
        let mut shop = Shop { cluster, sandbox, rate_share: self.rate_share, database: self.database };
        shop.add_database(&shop.database.clone());
        shop
    }
}

/// A cluster and a sandbox that are stopped and removed with this value.
#[derive(Debug)]
pub struct Shop {
    /// The cluster. It is dropped first, so that no worker ever misses the sandbox in its last moments.
    pub cluster: Cluster,
    /// The stand-in for Klaviyo.
    pub sandbox: Sandbox,
    rate_share: f64,
    database: String,
}

impl Shop {
    /// Describes a new shop.
    pub fn builder() -> ShopBuilder {
        ShopBuilder::default()
    }

    /// Starts a shop without rate limits.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Makes a further database and sets it up.
    pub fn add_database(&mut self, name: &str) {
        self.cluster.create_database(name);
        self.set_up(name);
    }

    /// Gives a database the extension and an armed account `default` for the sandbox.
    pub fn set_up(&self, database: &str) {
        let key_file = self.cluster.directory().join("klaviyo.key");
        fs::write(&key_file, SANDBOX_KEY).expect("the key file can be written");
        ServerUser::current().give(&key_file);
        let mut client = self.cluster.connect(database);
        client.batch_execute("CREATE EXTENSION klaviyo_sync").unwrap_or_else(|error| {
            panic!("cannot create the extension; is it installed? {}", explain(&error))
        });
        // At once, so that no worker finds an account that is not armed, and says so.
        client
            .execute(
                "SELECT klaviyo_set_account(base_url => $1, private_key_file => $2, rate_share => $3),
                        klaviyo_arm_account()",
                &[&self.sandbox.api(), &key_file.to_str(), &self.rate_share],
            )
            .unwrap_or_else(|error| panic!("cannot set up the account: {}", explain(&error)));
    }

    /// The part of Klaviyo's limits that its accounts may use.
    pub(crate) fn rate_share(&self) -> f64 {
        self.rate_share
    }

    /// Connects to the shop's database.
    pub fn connect(&self) -> Client {
        self.cluster.connect(&self.database)
    }

    /// Kills the worker of a session's database, and waits until the server has recovered from that. The session is gone.
    pub fn crash_worker(&mut self, session: &mut Client) {
        kill(wait_for_worker(session), Signal::SIGKILL);
        wait_for_crash(session);
        self.cluster.wait_ready();
    }

    /// How many messages of the shop's database wait, are being retried, and are dead.
    pub fn backlog(&self) -> Backlog {
        Backlog::read(&mut self.connect())
    }

    /// Waits until the condition holds. When it does not in time, the panic tells the state of everything.
    pub fn eventually(&self, what: &str, patience: Duration, condition: impl FnMut() -> bool) {
        if !becomes_true(patience, condition) {
            panic!("not within {patience:?}: {what}\n{}", self.report());
        }
    }

    /// Waits until every message committed so far has been delivered or died, and tells what is left.
    pub fn drain(&self, patience: Duration) -> Backlog {
        let mut client = self.connect();
        self.eventually("the outbox is empty", patience, || Backlog::read(&mut client).waiting() == 0);
        Backlog::read(&mut client)
    }

    /// Waits like [`Shop::drain`], with patience for a few hundred messages.
    pub fn drain_soon(&self) -> Backlog {
        self.drain(PATIENCE)
    }

    /// Panics unless the orders from `first` to `last`, and no others, were accepted.
    pub fn assert_arrived(&self, first: i64, last: i64) {
        Ledger::new(&self.sandbox.messages(), ORDER).assert_accepted_exactly(first..=last);
    }

    /// Waits until [`status`] says so of a message.
    pub fn wait_for_status(&self, message_id: &str, expected: &str) {
        let mut db = self.connect();
        self.eventually(&format!("{message_id} is {expected}"), PATIENCE, || {
            status(&mut db, message_id) == expected
        });
    }

    /// Checks every request so far against Klaviyo's OpenAPI document, when there is one (see [`OpenApi::from_env`]).
    pub fn assert_requests_conform(&self) {
        if let Some(document) = OpenApi::from_env() {
            document.assert_requests(&self.sandbox.receipts());
        }
    }

    /// Lets go of a lasting shop: dropping it no longer stops anything.
    pub fn leave_running(&mut self) {
        self.cluster.leave_running();
        self.sandbox.leave_running();
    }

    /// The state of everything, for a person who must find out what went wrong.
    fn report(&self) -> String {
        let state = match self.cluster.try_connect(&self.database) {
            Err(error) => format!("the server cannot be reached: {}", explain(&error)),
            Ok(mut client) => REPORT
                .iter()
                .map(|(what, query)| format!("{what}: {}\n", as_json(&mut client, query)))
                .collect(),
        };
        format!("{state}sandbox: {:?}\nserver log:\n{}", self.sandbox.try_stats(), self.cluster.log_tail(40))
    }
}

/// What a report tells, each as a query whose rows it shows as JSON.
const REPORT: [(&str, &str); 5] = [
    (
        "messages",
        "SELECT (SELECT count(*) FROM klaviyo.outbox) AS outbox, (SELECT count(*) FROM klaviyo.retry) AS retry,
                (SELECT count(*) FROM klaviyo.delivery) AS delivery,
                (SELECT count(*) FROM klaviyo.dead_letter) AS dead_letter",
    ),
    (
        "retries",
        "SELECT count(*), attempts, last_status, last_code, left(last_error, 120) AS last_error, min(not_before)
           FROM klaviyo.retry GROUP BY 2, 3, 4, 5 ORDER BY 1 DESC LIMIT 5",
    ),
    (
        "dead",
        "SELECT count(*), code, left(reason, 200) AS reason FROM klaviyo.dead_letter
          GROUP BY 2, 3 ORDER BY 1 DESC LIMIT 5",
    ),
    ("stopped", "SELECT account, stopped_at, stopped_reason FROM klaviyo.account_status WHERE stopped_at IS NOT NULL"),
    (
        "processes",
        "SELECT pid, datname, backend_type, state, wait_event, left(query, 80) AS query FROM pg_stat_activity
          WHERE backend_type LIKE 'klaviyo_sync%' OR backend_type = 'client backend' LIMIT 20",
    ),
];

fn as_json(client: &mut Client, query: &str) -> String {
    let rows = client.query_one(&format!("SELECT coalesce(json_agg(r), '[]')::text FROM ({query}) r"), &[]);
    rows.map_or_else(|error| format!("cannot be read: {}", explain(&error)), |row| row.get(0))
}

/// Messages that are not delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// Rows in `klaviyo.outbox`.
    pub outbox: i64,
    /// Rows in `klaviyo.retry`.
    pub retry: i64,
    /// Rows in `klaviyo.dead_letter`.
    pub dead: i64,
}

impl Backlog {
    /// The backlog of the client's database.
    pub fn read(client: &mut Client) -> Self {
        let query = "SELECT (SELECT count(*) FROM klaviyo.outbox), (SELECT count(*) FROM klaviyo.retry),
                            (SELECT count(*) FROM klaviyo.dead_letter)";
        let row = client
            .query_one(query, &[])
            .unwrap_or_else(|error| panic!("cannot count messages: {}", explain(&error)));
        Self { outbox: row.get(0), retry: row.get(1), dead: row.get(2) }
    }

    /// Messages that will still be sent.
    pub fn waiting(&self) -> i64 {
        self.outbox + self.retry
    }
}
