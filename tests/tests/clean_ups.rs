//! Clean-ups: whoever has not been heard of is found by a rule, shown first, and suppressed if they are not too many.

use harness::{PATIENCE, Shop, Signal, count, kill, query, refused, runner, sql, wait_for_crash};
use postgres::Client;

const RULE: &str = "NOT EXISTS (SELECT FROM klaviyo.event AS e WHERE e.account = row.account AND e.profile_id = row.profile_id
                                AND e.happened_at > now() - interval ''180 days'')";

/// A shop with twenty profiles that it has read, of whom three have done something lately.
fn shop() -> (Shop, Client) {
    let shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 20);
    sql(
        &mut db,
        "SELECT klaviyo_track_event('Opened Email', format('user-%s@shop.example', n)) FROM generate_series(1, 3) AS n",
    );
    shop.drain_soon();
    read(&shop, &mut db, "events");
    read(&shop, &mut db, "profiles");
    (shop, db)
}

fn read(shop: &Shop, db: &mut Client, job: &str) {
    let ended = format!(
        "SELECT count(*) FROM klaviyo.job WHERE job = '{job}' AND last_outcome = 'complete' AND last_started_at > "
    );
    let now: String = query(db, "SELECT quote_literal(clock_timestamp())", &[]);
    db.execute("SELECT klaviyo_set_job($1), klaviyo_run_job($1, anew => true)", &[&job]).expect("it is read");
    shop.eventually("it is read", PATIENCE, || count(db, &format!("{ended}{now}")) == 1);
}

/// Runs it and says what came of it.
fn run(shop: &Shop, db: &mut Client, name: &str) -> String {
    let id: i64 = query(db, "SELECT klaviyo_run_clean_up($1)", &[&name]);
    outcome(shop, db, id)
}

fn outcome(shop: &Shop, db: &mut Client, id: i64) -> String {
    let ended =
        format!("SELECT count(*) FROM klaviyo.clean_up_run WHERE run_id = {id} AND ended_at IS NOT NULL");
    shop.eventually("it ends", PATIENCE, || count(db, &ended) == 1);
    query(
        db,
        "SELECT concat_ws(' ', outcome, found, error) FROM klaviyo.clean_up_run WHERE run_id = $1",
        &[&id],
    )
}

fn suppressed(shop: &Shop) -> usize {
    shop.sandbox.profiles().iter().filter(|profile| !profile.suppressions.is_empty()).count()
}

#[test]
fn who_was_not_heard_of_is_shown_and_then_suppressed() {
    let (shop, mut db) = shop();
    sql(&mut db, &format!("SELECT klaviyo_set_clean_up('quiet', '{RULE}', cap => 10)"));
    // First it is shown.
    assert_eq!(run(&shop, &mut db, "quiet"), "capped 11");
    sql(&mut db, "SELECT klaviyo_set_clean_up('quiet', cap => 100)");
    assert_eq!(run(&shop, &mut db, "quiet"), "shown 17");
    let of = "SELECT count(*) FROM klaviyo.clean_up_profile JOIN klaviyo.profile USING (profile_id) WHERE message_id IS NULL AND run_id = 2";
    assert_eq!(count(&mut db, of), 17);
    assert_eq!((shop.drain_soon().waiting(), suppressed(&shop)), (0, 0));
    // What is above the cap suppresses nobody, though it is meant.
    sql(&mut db, "SELECT klaviyo_set_clean_up('quiet', dry_run => false, cap => 16)");
    assert_eq!(run(&shop, &mut db, "quiet"), "capped 17");
    assert_eq!((shop.drain_soon().waiting(), suppressed(&shop)), (0, 0));
    sql(&mut db, "SELECT klaviyo_set_clean_up('quiet', cap => 17)");
    assert_eq!(run(&shop, &mut db, "quiet"), "suppressed 17");
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!(suppressed(&shop), 17);
    let sent = "SELECT count(*) FROM klaviyo.clean_up_profile AS c JOIN klaviyo.delivery AS d USING (message_id) WHERE d.kind = 'suppress'";
    assert_eq!(count(&mut db, sent), 17);
    // Whoever is suppressed already is not found again.
    read(&shop, &mut db, "profiles");
    assert_eq!(run(&shop, &mut db, "quiet"), "suppressed 0");
    sql(&mut db, "SELECT klaviyo_remove_clean_up('quiet')");
    assert_eq!(refused(&mut db, "SELECT klaviyo_run_clean_up('quiet')"), "KS097");
    shop.assert_requests_conform();
}

#[test]
fn a_rule_has_its_writers_rights_and_its_time() {
    let (shop, mut db) = shop();
    sql(
        &mut db,
        "CREATE ROLE marketer LOGIN; GRANT klaviyo_admin TO marketer; CREATE TABLE secret AS SELECT 1 AS one;
         GRANT ALL ON SCHEMA public TO marketer; SET ROLE marketer;
         SELECT klaviyo_set_clean_up('curious', 'EXISTS (SELECT FROM public.secret)')",
    );
    assert_eq!(run(&shop, &mut db, "curious"), "failed permission denied for table secret");
    // Nor can it get at others' by what it calls.
    sql(
        &mut db,
        "CREATE FUNCTION climb() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN SET ROLE postgres; RETURN true; END $$;
         SELECT klaviyo_set_clean_up('climber', 'climb()')",
    );
    assert!(run(&shop, &mut db, "climber").starts_with("failed cannot set parameter \"role\""));
    sql(&mut db, "RESET ROLE");
    // One that hangs is in the way of nothing that is delivered; one that ends its process is not run for ever.
    sql(&mut db, "SELECT klaviyo_set_clean_up('slow', 'pg_sleep(3600) IS NOT NULL')");
    let id: i64 = query(&mut db, "SELECT klaviyo_run_clean_up('slow')", &[]);
    let hangs = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'klaviyo_sync runner' AND wait_event = 'PgSleep'";
    shop.eventually("it hangs", PATIENCE, || count(&mut db, hangs) == 1);
    sql(&mut db, "SELECT klaviyo_track_event('Placed Order', 'ada@shop.example')");
    assert_eq!(shop.drain(PATIENCE).waiting(), 0);
    assert_eq!(refused(&mut db, "SELECT klaviyo_run_clean_up('slow')"), "KS098");
    kill(runner(&mut db).expect("a runner"), Signal::SIGKILL);
    wait_for_crash(&mut db);
    let mut shop = shop;
    shop.cluster.wait_ready();
    db = shop.connect();
    assert_eq!(outcome(&shop, &mut db, id), "failed the process that did it has ended");
    // When its time has come it runs by itself.
    sql(&mut db, "SELECT klaviyo_set_clean_up('hourly', 'row.email LIKE ''user-1%''', every => '1 hour')");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.clean_up_run WHERE name = 'hourly'"), 0);
    sql(&mut db, "UPDATE klaviyo.clean_up SET created_at = now() - interval '2 hours' WHERE name = 'hourly'");
    let ran = "SELECT count(*) FROM klaviyo.clean_up_run WHERE name = 'hourly' AND outcome = 'shown' AND found = 11";
    shop.eventually("it runs", PATIENCE, || count(&mut db, ran) == 1);
}
