//! Jobs that import profiles: when they are made, that they are followed to their end whatever ends the worker, that a
//! bad profile is found, and that no older state is left standing above a newer one.

use std::thread;
use std::time::Duration;

use harness::{BULK_PROFILES, Bulk, Fault, Ledger, ORDER, PATIENCE, Shop, count, query, sql};
use postgres::Client;

/// More than single calls may carry in a second, several times.
const PEOPLE: i64 = 3_000;

fn shop(queued_ms: u64) -> Shop {
    let shop = Shop::builder().setting("klaviyo.retry_min_delay", "10ms").start();
    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(queued_ms), processing_ms: Some(0), ..Bulk::default() });
    shop
}

/// States of people `first` to `last`, the same of each.
fn upsert(db: &mut Client, first: i64, last: i64, title: &str) {
    let queue = "SELECT count(klaviyo_upsert_profile(external_id => n::text, title => $3)) FROM generate_series($1::bigint, $2::bigint) AS n";
    assert_eq!(query::<i64>(db, queue, &[&first, &last, &title]), last - first + 1);
}

/// How many people have this title.
fn titled(shop: &Shop, title: &str) -> usize {
    shop.sandbox.profiles().iter().filter(|profile| profile.attributes["title"] == title).count()
}

fn jobs(shop: &Shop) -> usize {
    shop.sandbox.receipts().iter().filter(|call| call.path == BULK_PROFILES && call.method == "POST").count()
}

fn wait_for_job(shop: &Shop, status: &str) {
    let query = "SELECT count(*) FROM klaviyo.bulk_job WHERE status = $1";
    let mut db = shop.connect();
    shop.eventually(status, PATIENCE, || harness::query::<i64>(&mut db, query, &[&status]) > 0);
}

#[test]
fn a_backlog_of_profiles_goes_by_jobs() {
    let shop = shop(0);
    let mut db = shop.connect();
    upsert(&mut db, 1, 20, "first");
    shop.drain_soon();
    assert_eq!(jobs(&shop), 0, "there was no backlog");
    upsert(&mut db, 1, PEOPLE, "second");
    shop.drain(PATIENCE * 2);
    assert_eq!(titled(&shop, "second"), 3_000);
    let rode = count(&mut db, "SELECT count(*) FROM klaviyo.delivery WHERE bulk AND kind = 'profile'");
    assert!(rode > 2_000, "{rode} went by jobs");
    let told = count(&mut db, "SELECT sum(profiles)::bigint FROM klaviyo.bulk_job WHERE status = 'complete'");
    assert_eq!(told, rode);
    shop.assert_requests_conform();
    shop.cluster.set("klaviyo.bulk", "off");
    let made = jobs(&shop);
    upsert(&mut db, 1, PEOPLE, "third");
    shop.drain(PATIENCE * 2);
    assert_eq!((titled(&shop, "third"), jobs(&shop)), (3_000, made));
}

#[test]
fn a_bad_profile_is_found_and_the_others_are_imported() {
    for original_payloads in [true, false] {
        let shop = shop(0);
        shop.sandbox.set_bulk(&Bulk { original_payloads: Some(original_payloads), ..Bulk::default() });
        shop.sandbox.set_faults(&[Fault::refuse("\"external_id\":\"2345\"")]);
        let mut db = shop.connect();
        upsert(&mut db, 1, PEOPLE, "here");
        let backlog = shop.drain(PATIENCE * 2);
        assert_eq!((backlog.dead, titled(&shop, "here")), (1, 2_999));
        let dead: String = query(&mut db, "SELECT key[1] FROM klaviyo.dead_letter", &[]);
        assert_eq!(dead, "external_id:2345");
        let failed = count(&mut db, "SELECT coalesce(sum(failed), 0)::bigint FROM klaviyo.bulk_job");
        assert_eq!(failed, 1, "it rode");
    }
}

/// A job of before is followed by the next worker, and what came later waits for it.
#[test]
fn a_job_is_followed_across_ends_of_the_worker() {
    let mut shop = shop(3_600_000);
    let mut db = shop.connect();
    upsert(&mut db, 1, PEOPLE, "old");
    wait_for_job(&shop, "made");
    let made = jobs(&shop);
    shop.crash_worker(&mut db);
    upsert(&mut shop.connect(), 1, PEOPLE, "new");
    shop.cluster.kill9_postmaster();
    shop.cluster.start();
    db = shop.connect();
    // Who is in no job is not held up.
    upsert(&mut db, PEOPLE + 1, PEOPLE + 1, "new");
    shop.eventually("somebody else's state arrives", PATIENCE, || titled(&shop, "new") > 0);
    let in_job = count(&mut db, "SELECT sum(profiles)::bigint FROM klaviyo.bulk_job WHERE status = 'made'");
    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(0), ..Bulk::default() });
    shop.drain(PATIENCE * 2);
    assert_eq!((titled(&shop, "old"), titled(&shop, "new")), (0, 3_001));
    let complete = "SELECT count(*) FROM klaviyo.bulk_job WHERE status <> 'complete'";
    assert_eq!(count(&mut db, complete), 0);
    assert!(in_job > 0 && jobs(&shop) > made, "{in_job} rode before, {made} jobs");
}

/// However long a job takes and however much waits for it, nobody else waits; nor after a crash, when nobody knows any
/// more which of it has not been sent.
#[test]
fn what_waits_for_a_job_holds_nobody_up() {
    const WAITING: i64 = 30_000;
    let mut shop = shop(3_600_000);
    let mut db = shop.connect();
    upsert(&mut db, 1, PEOPLE, "old");
    wait_for_job(&shop, "made");
    let in_jobs = "SELECT count(*) FROM klaviyo.bulk_job AS j, unnest(j.seqs) AS seq WHERE j.status = 'made'";
    let left = "SELECT count(*) FROM klaviyo.outbox";
    shop.eventually("the others have gone by themselves", PATIENCE, || {
        count(&mut db, left) == count(&mut db, in_jobs)
    });
    let in_jobs = count(&mut db, in_jobs);
    // Of each who is in a job some events, one after the other, then a state; then events of others.
    sql(
        &mut db,
        "CREATE TABLE waiting AS SELECT replace(key[1], 'external_id:', '') AS id FROM klaviyo.outbox",
    );
    let queue = |db: &mut Client, people: &str, first: i64, last: i64| {
        let queue = format!(
            "WITH people AS MATERIALIZED (SELECT array_agg(id) AS ids FROM ({people}) AS p (id))
             SELECT count(klaviyo_track_event('Placed Order', external_id => ids[1 + n % cardinality(ids)],
                                              properties => jsonb_build_object('order_id', n)))
             FROM people, generate_series($1::bigint, $2::bigint) AS n"
        );
        assert_eq!(query::<i64>(db, &queue, &[&first, &last]), last - first + 1);
    };
    let others = "SELECT 'other-' || n FROM generate_series(1, 5000) AS n";
    queue(&mut db, "SELECT id FROM waiting", 1, WAITING);
    upsert(&mut db, 1, PEOPLE, "new");
    queue(&mut db, others, WAITING + 1, WAITING + 5_000);
    let arrived = "SELECT count(*) FROM klaviyo.delivery WHERE kind = 'event'";
    shop.eventually("those of others arrive", PATIENCE, || count(&mut db, arrived) == 5_000);
    assert_eq!(i64::try_from(titled(&shop, "new")).expect("few"), PEOPLE - in_jobs);
    assert_eq!(count(&mut db, left), 2 * in_jobs + WAITING, "those of the waiting wait");

    shop.crash_worker(&mut db);
    db = shop.connect();
    queue(&mut db, others, WAITING + 5_001, WAITING + 10_000);
    shop.eventually("those of others arrive", PATIENCE, || count(&mut db, arrived) == 10_000);
    assert_eq!(count(&mut db, left), 2 * in_jobs + WAITING);

    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(0), ..Bulk::default() });
    shop.drain(PATIENCE * 3);
    assert_eq!((titled(&shop, "old"), titled(&shop, "new")), (0, 3_000));
    let messages = shop.sandbox.messages();
    Ledger::new(&messages, ORDER).assert_accepted_exactly(1..=WAITING + 10_000);
    Ledger::new(&messages, "data.attributes.profile.data.attributes.external_id").assert_ascending(ORDER);
    assert_eq!(shop.sandbox.stats().bulk_repeats, 0);
}

/// Nobody knows whether the call has made a job: as long as it may be under way its messages wait, and go again then.
#[test]
fn a_job_that_nobody_knows_of_is_waited_for() {
    for fault in
        [Fault::reset_after(), Fault::hang_after().lasting(Duration::from_millis(200)), Fault::status(503)]
    {
        let mut shop = shop(5_000);
        // What is not answered for so long is not on its way any more.
        shop.cluster.set("klaviyo.request_timeout", "2s");
        let mut db = shop.connect();
        shop.sandbox.set_faults(&[fault.path(BULK_PROFILES).method("POST").times(1)]);
        upsert(&mut db, 1, PEOPLE, "old");
        shop.eventually("the call has been made", PATIENCE, || jobs(&shop) > 0);
        upsert(&mut db, 1, PEOPLE, "new");
        shop.crash_worker(&mut db);
        shop.drain(PATIENCE * 3);
        assert_eq!((titled(&shop, "old"), titled(&shop, "new")), (0, 3_000));
        let lost = "SELECT count(*) FROM klaviyo.bulk_job WHERE status = 'lost'";
        assert!(count(&mut shop.connect(), lost) > 0);
    }
}

/// Calls of one do as well where the key may not ask about jobs.
#[test]
fn a_key_without_the_scopes_goes_on_by_calls_of_one() {
    for method in ["GET", "POST"] {
        let shop = shop(0);
        let mut db = shop.connect();
        let denied = Fault::status(403).error("permission_denied", "no such scope");
        shop.sandbox.set_faults(&[denied.path(BULK_PROFILES).method(method)]);
        upsert(&mut db, 1, PEOPLE, "here");
        shop.drain(PATIENCE);
        assert_eq!(titled(&shop, "here"), 3_000);
        // As many as may be under way, and not again and again.
        assert!(jobs(&shop) <= if method == "POST" { 4 } else { 0 }, "{} calls", jobs(&shop));
        assert!(shop.sandbox.jobs().is_empty());
        let stopped = "SELECT count(*) FROM klaviyo.account_status WHERE stopped_reason IS NOT NULL";
        assert_eq!(count(&mut db, stopped), 0, "nothing is held up");
    }
}

#[test]
fn jobs_of_a_removed_account_are_forgotten() {
    let shop = shop(3_600_000);
    let mut db = shop.connect();
    upsert(&mut db, 1, PEOPLE, "old");
    wait_for_job(&shop, "made");
    sql(&mut db, "SELECT klaviyo_remove_account('default', bury_waiting => true)");
    shop.eventually("its messages are put aside", PATIENCE, || shop.backlog().waiting() == 0);
    let open = "SELECT count(*) FROM klaviyo.bulk_job WHERE ended_at IS NULL";
    shop.eventually("its jobs are", PATIENCE, || count(&mut db, open) == 0);
}

/// Whenever the worker or the server is killed, no job's older state is left standing above a newer one.
#[test]
fn no_kill_leaves_an_old_state() {
    let mut shop = shop(1_500);
    shop.cluster.set("klaviyo.request_timeout", "1s");
    let late = Fault::latency(Duration::from_millis(400)).path(BULK_PROFILES).method("POST");
    shop.sandbox.set_faults(&[late.probability(0.5)]);
    for round in 0..12 {
        let mut db = shop.connect();
        let [old, new] = ["old", "new"].map(|state| format!("{state} {round}"));
        let before = shop.sandbox.stats().requests;
        upsert(&mut db, 1, PEOPLE, &old);
        shop.eventually("calls are made", PATIENCE, || shop.sandbox.stats().requests > before);
        thread::sleep(Duration::from_millis(fastrand::u64(0..400)));
        if round % 2 == 0 {
            shop.cluster.kill9_postmaster();
            shop.cluster.start();
        } else {
            shop.crash_worker(&mut db);
        }
        // By itself the newer state would be there long before a job is at its end.
        shop.cluster.set("klaviyo.bulk", "off");
        upsert(&mut shop.connect(), 1, PEOPLE, &new);
        shop.drain(PATIENCE * 2);
        shop.eventually("all jobs are at their end", PATIENCE, || {
            shop.sandbox.jobs().iter().all(|job| job.status == "complete")
        });
        assert_eq!(titled(&shop, &new), 3_000, "round {round}");
        shop.cluster.set("klaviyo.bulk", "on");
        let mut db = shop.connect();
        let told = "SELECT string_agg(format('%s %s', count, status), ', ') FROM
                    (SELECT status, count(*) FROM klaviyo.bulk_job GROUP BY status ORDER BY status) AS j";
        println!("after round {round}: {}", query::<String>(&mut db, told, &[]));
    }
    let ended = "SELECT count(*) FROM klaviyo.bulk_job WHERE status IN ('complete', 'lost')";
    assert!(count(&mut shop.connect(), ended) >= 12, "there was a job in each round");
}
