//! Jobs that read what Klaviyo has: all of it comes, nothing twice, whatever ends or fails in between.

use std::time::Duration;

use harness::jobs::{await_end, counts, ended, run, run_anew, set};
use harness::{
    Cluster, EventSeed, Fault, PATIENCE, Process, Shop, Signal, count, kill, query, refused, runner, sql,
    wait_for_crash,
};
use postgres::Client;
use serde_json::json;

/// How long a hundred thousand profiles may take, on a machine that is busy.
const LONG: Duration = Duration::from_secs(300);

fn shop() -> Shop {
    Shop::builder().quick_retries().start()
}

/// How the job stands, as text.
fn state(db: &mut Client, job: &str) -> String {
    query(
        db,
        "SELECT state || ' ' || coalesce(last_outcome, 'never') FROM klaviyo.job WHERE job = $1",
        &[&job],
    )
}

/// Kills a process of the server, which ends all others, and waits until it is back.
fn crash(shop: &mut Shop, db: &mut Client, pid: i32) {
    kill(pid, Signal::SIGKILL);
    wait_for_crash(db);
    shop.cluster.wait_ready();
}

fn seed_events(shop: &Shop, metric: &str, count: u64, email: &str) {
    shop.sandbox.seed_events(&EventSeed {
        metric,
        email,
        count,
        start: Some("2026-06-01T00:00:00Z"),
        step_seconds: 1.0,
    });
}

fn names(db: &mut Client, what: &str) -> String {
    query(db, &format!("SELECT coalesce(string_agg(it, ' ' ORDER BY it), '') FROM ({what}) AS f (it)"), &[])
}

#[test]
fn profiles_are_read_and_kept_up() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 250);
    assert_eq!(set(&shop, &mut db, "profiles", ""), "complete");
    assert_eq!(counts(&mut db, "profiles"), (250, 250, 0));
    // One of them as it is, with all there is.
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('ada@shop.example', external_id => '7', first_name => 'Ada', last_name => 'L',
             organization => 'Shop', title => 'Dr', locale => 'de-AT', location => '{\"city\": \"Graz\"}', properties => '{\"plan\": \"gold\"}');
         SELECT klaviyo_subscribe('ada@shop.example')",
    );
    shop.drain_soon();
    assert_eq!(run(&shop, &mut db, "profiles"), "complete");
    let all = "SELECT concat_ws(' ', external_id, first_name, last_name, organization, title, locale, location->>'city',
                      properties->>'plan', email_consent, coalesce(sms_consent, '-'), created_at IS NOT NULL, updated_at IS NOT NULL)
               FROM klaviyo.profile WHERE email = 'ada@shop.example'";
    assert_eq!(
        query::<String>(&mut db, all, &[]),
        "7 Ada L Shop Dr de-AT Graz gold SUBSCRIBED NEVER_SUBSCRIBED t t"
    );
    // Somebody changes one in Klaviyo: that is written, and no other row.
    let id: String =
        query(&mut db, "SELECT profile_id FROM klaviyo.profile WHERE email = 'user-7@shop.example'", &[]);
    let written = "SELECT count(*) FROM klaviyo.profile WHERE pulled_at > (SELECT last_started_at FROM klaviyo.job WHERE job = 'profiles')";
    shop.sandbox.change_profile(&id, &json!({"first_name": "Seven", "email": "seven@shop.example"}));
    assert_eq!(run(&shop, &mut db, "profiles"), "complete");
    assert_eq!(count(&mut db, written), 1);
    assert_eq!(counts(&mut db, "profiles").1, 1);
    let first = "SELECT first_name FROM klaviyo.profile WHERE email = 'seven@shop.example'";
    assert_eq!(query::<String>(&mut db, first, &[]), "Seven");
    // Of those that have not changed only what lies in the overlap is read again.
    shop.cluster.set("klaviyo.pull_overlap", 0);
    shop.eventually("the setting is known", PATIENCE, || {
        assert_eq!(run(&shop, &mut db, "profiles"), "complete");
        counts(&mut db, "profiles").0 < 250
    });
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.profile"), 251);
    shop.assert_requests_conform();
}

/// Whoever is killed, and however often, all profiles come, and the run ends as complete once only.
#[test]
fn a_hundred_thousand_profiles_come_whoever_is_killed() {
    const PROFILES: i64 = 100_000;
    let mut shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", PROFILES as u64);
    sql(&mut db, "CREATE TABLE ended (at timestamptz);
                  CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ended VALUES (now()); RETURN NULL; END $$;
                  CREATE TRIGGER note AFTER UPDATE ON klaviyo.job_run FOR EACH ROW WHEN (NEW.last_outcome IS NOT NULL) EXECUTE FUNCTION note()");
    sql(&mut db, "SELECT klaviyo_set_job('profiles')");
    let mut random = fastrand::Rng::with_seed(3);
    for round in 1..=6 {
        // Somewhere within the next pages.
        let further = count(&mut db, "SELECT count(*) FROM klaviyo.profile") + random.i64(2_000..14_000);
        shop.eventually("it gets on", LONG, || {
            count(&mut db, "SELECT count(*) FROM klaviyo.profile") >= further.min(90_000)
        });
        assert_eq!(state(&mut db, "profiles"), "running never", "round {round}");
        match round % 3 {
            0 => {
                shop.cluster.kill9_postmaster();
                shop.cluster.start();
            }
            1 => shop.crash_worker(&mut db),
            _ => {
                let pid = runner(&mut db).expect("a runner");
                crash(&mut shop, &mut db, pid);
            }
        }
        db = shop.connect();
    }
    assert_eq!(await_end(&shop, &mut db, "profiles", 0, LONG), "complete");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.profile"), PROFILES);
    assert_eq!(count(&mut db, "SELECT count(DISTINCT email) FROM klaviyo.profile"), PROFILES);
    assert_eq!(count(&mut db, "SELECT count(*) FROM ended"), 1);
    // Each crash has cost a page or so, and no more.
    let asked = shop.sandbox.receipt_heads_after(0).len();
    assert!((1_000..1_000 + 60).contains(&asked), "{asked} calls");
    assert_eq!(counts(&mut db, "profiles").0, PROFILES);
}

#[test]
fn who_is_on_a_list_is_read_and_who_has_left_is_removed() {
    let shop = shop();
    let mut db = shop.connect();
    let [news, vip] = ["Newsletter", "VIP"].map(|name| shop.sandbox.make_list(name));
    for n in 0..12 {
        shop.sandbox.make_list(&format!("Other {n}"));
    }
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_upsert_profile(format('user-%s@shop.example', n), first_name => 'U' || n) FROM generate_series(1, 230) AS n;
             SELECT klaviyo_add_to_list('{news}', format('user-%s@shop.example', n)) FROM generate_series(1, 230) AS n;
             SELECT klaviyo_add_to_list('{vip}', format('user-%s@shop.example', n)) FROM generate_series(1, 3) AS n"
        ),
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!(set(&shop, &mut db, "lists", ", names => '{Newsletter}'"), "complete");
    let on = "SELECT count(*) FROM klaviyo.list_member AS m JOIN klaviyo.list AS l USING (account, list_id) WHERE l.name = ";
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.list"), 14);
    assert_eq!(count(&mut db, &format!("{on} 'Newsletter'")), 230);
    assert_eq!(count(&mut db, &format!("{on} 'VIP'")), 0);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.list WHERE members_pulled_at IS NOT NULL"), 1);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.list_member WHERE joined_at IS NOT NULL"), 230);
    // With those who are on it come their profiles.
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.profile WHERE first_name ~ '^U'"), 230);
    // All lists; some leave, some come, a list goes.
    sql(&mut db, "SELECT klaviyo_set_job('lists', names => '{*}')");
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_remove_from_list('{news}', format('user-%s@shop.example', n)) FROM generate_series(1, 100) AS n;
             SELECT klaviyo_add_to_list('{vip}', format('user-%s@shop.example', n)) FROM generate_series(4, 6) AS n;
             SELECT klaviyo_rename_list('{vip}', 'Gold')"
        ),
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!(run(&shop, &mut db, "lists"), "complete");
    assert_eq!(run(&shop, &mut db, "lists"), "complete");
    assert_eq!(count(&mut db, &format!("{on} 'Newsletter'")), 130);
    assert_eq!(count(&mut db, &format!("{on} 'Gold'")), 6);
    assert_eq!(counts(&mut db, "lists").1, 0, "nothing has changed since");
    sql(&mut db, &format!("SELECT klaviyo_delete_list('{news}')"));
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    assert_eq!(run(&shop, &mut db, "lists"), "complete");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.list"), 13);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.list_member"), 6);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.job_seen"), 0);
    // A name that no list has is told, and the others are read.
    sql(&mut db, "SELECT klaviyo_set_job('lists', names => '{Gold,Silver}')");
    let outcome = run(&shop, &mut db, "lists");
    assert_eq!(outcome, "failed: Klaviyo has no list of these names or ids: Silver; all else was read");
    let hint: String =
        query(&mut db, "SELECT hint FROM klaviyo_health() WHERE name = 'job' AND status = 'warning'", &[]);
    assert!(hint.contains("klaviyo_run_job('lists'"), "{hint}");
    shop.assert_requests_conform();
}

#[test]
fn who_is_in_a_segment_is_read() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 150);
    let vip = shop.sandbox.make_segment("VIP");
    let everybody: Vec<String> = (1..=150).map(|n| format!("user-{n}@shop.example")).collect();
    let everybody: Vec<&str> = everybody.iter().map(String::as_str).collect();
    shop.sandbox.set_segment_members(&vip, &everybody);
    assert_eq!(set(&shop, &mut db, "segments", ""), "complete");
    assert_eq!(
        count(
            &mut db,
            "SELECT count(*) FROM klaviyo.segment_member JOIN klaviyo.profile USING (account, profile_id)"
        ),
        150
    );
    shop.sandbox.set_segment_members(&vip, &everybody[..2]);
    assert_eq!(run(&shop, &mut db, "segments"), "complete");
    assert_eq!(
        names(
            &mut db,
            "SELECT email FROM klaviyo.segment_member JOIN klaviyo.profile USING (account, profile_id)"
        ),
        "user-1@shop.example user-2@shop.example"
    );
    assert_eq!(counts(&mut db, "segments").2, 148);
    shop.assert_requests_conform();
}

#[test]
fn events_of_some_metrics_are_read_once() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 1);
    seed_events(&shop, "Placed Order", 450, "user-1@shop.example");
    seed_events(&shop, "Opened Email", 30, "user-1@shop.example");
    assert_eq!(set(&shop, &mut db, "events", ", names => '{Placed Order}'"), "complete");
    let of = |name: &str| {
        format!(
            "SELECT count(*) FROM klaviyo.event JOIN klaviyo.metric USING (account, metric_id) WHERE name = '{name}'"
        )
    };
    assert_eq!((count(&mut db, &of("Placed Order")), count(&mut db, &of("Opened Email"))), (450, 0));
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.metric"), 2);
    // All of them, with what is new, and what was there is not written again.
    sql(
        &mut db,
        "SELECT klaviyo_track_event('Placed Order', 'user-1@shop.example', value => 12.5, properties => '{\"colour\": \"red\"}')",
    );
    shop.drain_soon();
    sql(&mut db, "SELECT klaviyo_set_job('events', names => '{*}')");
    assert_eq!(run(&shop, &mut db, "events"), "complete");
    assert_eq!(
        (count(&mut db, &of("Placed Order")), count(&mut db, "SELECT count(*) FROM klaviyo.event")),
        (451, 481)
    );
    let red = "SELECT value::text FROM klaviyo.event WHERE properties->>'colour' = 'red'";
    assert_eq!(query::<String>(&mut db, red, &[]), "12.5");
    assert_eq!(run(&shop, &mut db, "events"), "complete");
    assert_eq!(counts(&mut db, "events").1, 0);
    sql(&mut db, "SELECT klaviyo_set_job('events', names => '{Refunded Order}')");
    assert_eq!(
        run(&shop, &mut db, "events"),
        "failed: Klaviyo has no metric of these names or ids: Refunded Order; all else was read"
    );
    // What is older than they are kept is neither kept nor read.
    shop.cluster.set("klaviyo.event_retention", "1d");
    shop.eventually("old ones go", PATIENCE, || count(&mut db, "SELECT count(*) FROM klaviyo.event") <= 1);
    sql(&mut db, "SELECT klaviyo_set_job('events', names => '{*}')");
    assert_eq!(run_anew(&shop, &mut db, "events"), "complete");
    assert!(count(&mut db, "SELECT count(*) FROM klaviyo.event") <= 1);
    shop.assert_requests_conform();
}

#[test]
fn campaigns_flows_and_metrics_are_read() {
    let shop = shop();
    let mut db = shop.connect();
    let list = shop.sandbox.make_list("Newsletter");
    // The worker writes to that table: triggers of users' would be in its way, and are not called.
    sql(
        &mut db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON klaviyo.campaign FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_create_campaign('Spring', '{{{list}}}', content => '{{\"subject\": \"Hi\"}}');
             SELECT klaviyo_create_campaign('Summer', '{{{list}}}', channel => 'sms', content => '{{\"body\": \"Hi\"}}');
             SELECT klaviyo_track_event('Placed Order', 'ada@shop.example')"
        ),
    );
    assert_eq!(shop.drain(PATIENCE).dead, 0);
    let welcome = shop.sandbox.make_flow("Welcome", "live", "Metric");
    for job in ["campaigns", "flows", "metrics"] {
        assert_eq!(set(&shop, &mut db, job, ""), "complete");
    }
    let campaigns = "SELECT concat_ws('/', name, channel, status, pulled_at IS NOT NULL, made_by IS NOT NULL) FROM klaviyo.campaign";
    assert_eq!(names(&mut db, campaigns), "Spring/email/Draft/t/t Summer/sms/Draft/t/t");
    assert_eq!(
        names(&mut db, "SELECT concat_ws('/', flow_id, name, status, trigger_type) FROM klaviyo.flow"),
        format!("{welcome}/Welcome/live/Metric")
    );
    assert_eq!(names(&mut db, "SELECT name FROM klaviyo.metric"), "Placed Order");
    shop.assert_requests_conform();
}

/// A run goes on after whatever can be tried again, begins anew where Klaviyo knows its place no more, and never ends as
/// complete where it is not.
#[test]
fn what_fails_is_tried_again_or_told() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 450);
    shop.sandbox.set_faults(&[
        Fault::status(503).path("/api/profiles").skip(1).times(2),
        Fault::malformed().path("/api/profiles").skip(2).times(1),
        Fault::throttle(0).path("/api/profiles").skip(3).times(1),
        Fault::reset_after().path("/api/profiles").skip(3).times(1),
    ]);
    assert_eq!(set(&shop, &mut db, "profiles", ""), "complete");
    assert_eq!(counts(&mut db, "profiles").0, 450);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.profile"), 450);
    // Its third page is refused: from where it has come to it is read again.
    shop.sandbox.set_faults(&[Fault::status(400).path("/api/profiles").skip(2).times(1)]);
    assert_eq!(run_anew(&shop, &mut db, "profiles"), "complete");
    assert_eq!(count(&mut db, "SELECT sum(restarts) FROM klaviyo.job_run"), 1);
    // The key may not: that is told, and nothing is thought to be gone.
    shop.sandbox.make_list("Newsletter");
    assert_eq!(set(&shop, &mut db, "lists", ""), "complete");
    shop.sandbox.set_faults(&[Fault::status(403).path("/api/lists")]);
    let outcome = run(&shop, &mut db, "lists");
    assert!(outcome.starts_with("failed: ") && outcome.contains("lists:read"), "{outcome}");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.list"), 1);
    // Klaviyo is down: it waits, and says so.
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/lists")]);
    let before = ended(&mut db, "lists");
    sql(&mut db, "SELECT klaviyo_run_job('lists')");
    let failing = "SELECT count(*) FROM klaviyo_health() WHERE name = 'job' AND status = 'warning' AND value LIKE 'lists: %'";
    shop.eventually("that is told", PATIENCE, || count(&mut db, failing) == 1);
    assert_eq!(ended(&mut db, "lists"), before);
    shop.sandbox.set_faults(&[]);
    assert_eq!(await_end(&shop, &mut db, "lists", before, PATIENCE), "complete");
}

/// A trigger of a user's on a table of ours is in nobody's way but its own.
#[test]
fn a_trigger_that_hangs_is_not_in_the_way_of_delivery() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 10);
    sql(
        &mut db,
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$;
         CREATE TRIGGER hang AFTER INSERT ON klaviyo.profile FOR EACH STATEMENT EXECUTE FUNCTION hang();
         SELECT klaviyo_set_job('profiles')",
    );
    let hangs = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'klaviyo_sync runner' AND wait_event = 'PgSleep'";
    shop.eventually("it hangs", PATIENCE, || count(&mut db, hangs) == 1);
    sql(&mut db, "SELECT klaviyo_track_event('Placed Order', 'ada@shop.example')");
    assert_eq!(shop.drain(PATIENCE).waiting(), 0);
    // One that raises puts the page off, and is told.
    sql(
        &mut db,
        "CREATE OR REPLACE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$",
    );
    let pid = runner(&mut db).expect("a runner");
    Process::find(pid).expect("it runs").signal(Signal::SIGTERM);
    let told = "SELECT count(*) FROM klaviyo.job WHERE error = 'not today' AND failures > 1";
    shop.eventually("that is told", PATIENCE, || count(&mut db, told) == 1);
    sql(&mut db, "DROP TRIGGER hang ON klaviyo.profile");
    assert_eq!(await_end(&shop, &mut db, "profiles", 0, PATIENCE), "complete");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.profile"), 11);
}

#[test]
fn a_job_is_paused_resumed_and_removed_in_the_middle() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 3_000);
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(20)).path("/api/profiles")]);
    sql(&mut db, "SELECT klaviyo_set_job('profiles')");
    let there = "SELECT count(*) FROM klaviyo.profile";
    shop.eventually("it gets on", PATIENCE, || count(&mut db, there) >= 300);
    sql(&mut db, "SELECT klaviyo_pause_job('profiles')");
    shop.eventually("it stops", PATIENCE, || count(&mut db, "SELECT count(*) FROM klaviyo.read") == 0);
    let so_far = count(&mut db, there);
    assert!(so_far < 3_000, "it was paused in the middle");
    assert_eq!(state(&mut db, "profiles"), "paused never");
    sql(&mut db, "SELECT klaviyo_resume_job('profiles')");
    assert_eq!(await_end(&shop, &mut db, "profiles", 0, PATIENCE), "complete");
    assert_eq!((counts(&mut db, "profiles").0, count(&mut db, there)), (3_000, 3_000));
    sql(&mut db, "SELECT klaviyo_run_job('profiles', anew => true)");
    shop.eventually("it is asked for", PATIENCE, || count(&mut db, "SELECT count(*) FROM klaviyo.read") == 1);
    sql(&mut db, "SELECT klaviyo_remove_job('profiles')");
    shop.eventually("nothing is left of it", PATIENCE, || {
        let left = ["job_run", "job_mark", "job_seen", "read", "read_answer"];
        left.iter().all(|table| count(&mut db, &format!("SELECT count(*) FROM klaviyo.{table}")) == 0)
    });
    assert_eq!(count(&mut db, there), 3_000);
}

/// Who was to be deleted is purged of what was read, and not read again while Klaviyo still has them.
#[test]
fn who_was_to_be_deleted_is_purged_and_not_read_again() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 3);
    seed_events(&shop, "Placed Order", 5, "user-1@shop.example");
    let vip = shop.sandbox.make_segment("VIP");
    let all = ["user-1@shop.example", "user-2@shop.example", "user-3@shop.example"];
    shop.sandbox.set_segment_members(&vip, &all);
    for job in ["profiles", "events", "segments"] {
        assert_eq!(set(&shop, &mut db, job, ""), "complete");
    }
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.event"), 5);
    sql(&mut db, "SELECT klaviyo_request_deletion('user-1@shop.example')");
    shop.drain_soon();
    let purged = "SELECT count(*) FROM klaviyo.deletion WHERE purged_at IS NOT NULL";
    shop.eventually("it is purged", PATIENCE, || count(&mut db, purged) == 1);
    let left =
        "SELECT (SELECT count(*) FROM klaviyo.profile) * 100 + (SELECT count(*) FROM klaviyo.event) * 10
                       + (SELECT count(*) FROM klaviyo.segment_member)";
    assert_eq!(count(&mut db, left), 202);
    // Klaviyo has them still, or again.
    shop.sandbox.make_profiles(&[json!({"email": "user-1@shop.example"})]);
    shop.sandbox.seed_events(&EventSeed {
        metric: "Placed Order",
        email: "user-1@shop.example",
        count: 1,
        start: None,
        step_seconds: 1.0,
    });
    shop.sandbox.set_segment_members(&vip, &all);
    for job in ["profiles", "segments", "events"] {
        assert_eq!(run_anew(&shop, &mut db, job), "complete");
        assert_eq!(counts(&mut db, job).1, 0, "{job}");
    }
    assert_eq!(count(&mut db, left), 202);
    // Of somebody who comes back of himself one may know again.
    sql(&mut db, "SELECT klaviyo_readmit('user-1@shop.example')");
    for job in ["profiles", "segments"] {
        assert_eq!(run_anew(&shop, &mut db, job), "complete");
    }
    assert_eq!(run_anew(&shop, &mut db, "events"), "complete");
    assert_eq!(count(&mut db, left), 313);
}

/// A dump carries the plan, and nothing of how far it is: in the copy all is read anew.
#[test]
fn a_dump_carries_the_plan() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 5);
    assert_eq!(set(&shop, &mut db, "profiles", ", since => '2020-01-01', every => '1 hour'"), "complete");
    let dump = shop.cluster.dump("shop");
    let copy: &Cluster = &shop.cluster;
    copy.restore("copy", &dump);
    let mut other = copy.connect("copy");
    assert_eq!(count(&mut other, "SELECT count(*) FROM klaviyo.profile"), 0);
    let plan = "SELECT concat_ws(' ', job, state, every, since::date, last_outcome, next_run_at <= now()) FROM klaviyo.job";
    assert_eq!(query::<String>(&mut other, plan, &[]), "profiles waiting 01:00:00 2020-01-01 t");
}

/// A segment is read when somebody asks and what is known is too old; once, however often a statement asks.
#[test]
fn a_segment_is_read_when_it_is_asked_for() {
    let shop = shop();
    let mut db = shop.connect();
    shop.sandbox.seed_profiles("user", 250);
    let vip = shop.sandbox.make_segment("VIP");
    let everybody: Vec<String> = (1..=150).map(|n| format!("user-{n}@shop.example")).collect();
    let everybody: Vec<&str> = everybody.iter().map(String::as_str).collect();
    shop.sandbox.set_segment_members(&vip, &everybody);
    assert_eq!(set(&shop, &mut db, "segments", ", names => '{}'"), "complete");
    assert_eq!(set(&shop, &mut db, "profiles", ""), "complete");
    let asked = || {
        let calls = shop.sandbox.receipt_heads_after(0);
        calls.iter().filter(|call| call.path.ends_with(&format!("/api/segments/{vip}/profiles"))).count()
    };
    let is_in =
        |db: &mut Client, email: &str| query::<bool>(db, "SELECT klaviyo_in_segment('VIP', $1)", &[&email]);
    assert!(is_in(&mut db, "User-7@shop.example"));
    assert!(!is_in(&mut db, "user-200@shop.example"));
    let joined = "SELECT count(*) FROM klaviyo.profile AS p WHERE klaviyo_in_segment('VIP', p.email)";
    assert_eq!(count(&mut db, joined), 150);
    let members = "SELECT count(*) FROM klaviyo_segment_members('VIP') AS m JOIN klaviyo.profile AS p USING (account, profile_id)";
    assert_eq!(count(&mut db, members), 150);
    assert_eq!(asked(), 2, "two pages, once");
    // Others are in it now. What is known is good enough, until it is not; then it is read once a statement.
    shop.sandbox.set_segment_members(&vip, &everybody[..3]);
    assert_eq!(count(&mut db, joined), 150);
    sql(&mut db, "SET klaviyo.segment_ttl = 0");
    assert_eq!(count(&mut db, joined), 3);
    assert_eq!(asked(), 3);
    let two = format!(
        "SELECT count(*) FROM klaviyo_segment_members('{vip}') WHERE klaviyo_in_segment('VIP', email)"
    );
    assert_eq!(count(&mut db, &two), 3);
    assert_eq!(asked(), 4);
    // In development nothing is kept, and what the session says holds before that.
    sql(&mut db, "RESET klaviyo.segment_ttl");
    assert_eq!(count(&mut db, members), 3);
    assert_eq!(asked(), 4);
    shop.cluster.set("klaviyo.environment", "development");
    shop.eventually("it is asked for each time", PATIENCE, || {
        let before = asked();
        assert_eq!(count(&mut db, members), 3);
        asked() == before + 1
    });
    // What cannot be, each with its code.
    assert_eq!(refused(&mut db, "SELECT klaviyo_in_segment('Gold', 'ada@shop.example')"), "KS093");
    let mut other = shop.connect();
    sql(&mut other, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(refused(&mut other, "SELECT klaviyo_in_segment('VIP', 'ada@shop.example')"), "KS095");
    sql(&mut other, "ROLLBACK");
    for status in [403, 404] {
        shop.sandbox.set_faults(&[Fault::status(status).path("/api/segments")]);
        let error = db.simple_query("SELECT klaviyo_in_segment('VIP', 'ada@shop.example')").unwrap_err();
        let error = error.as_db_error().expect("an error of the server's");
        assert_eq!(error.code().code(), "KS095");
        assert!(!error.detail().unwrap_or_default().contains("klaviyo.pull_timeout"), "{error:?}");
    }
    shop.sandbox.set_faults(&[Fault::status(503).path("/api/segments")]);
    sql(&mut db, "SET klaviyo.pull_timeout = '300ms'");
    assert_eq!(refused(&mut db, "SELECT klaviyo_in_segment('VIP', 'ada@shop.example')"), "KS095");
    sql(&mut db, "SET klaviyo.pull_timeout = '10min'; SET statement_timeout = '300ms'");
    assert_eq!(refused(&mut db, "SELECT klaviyo_in_segment('VIP', 'ada@shop.example')"), "57014");
    sql(&mut db, "RESET statement_timeout");
    shop.sandbox.set_faults(&[]);
    assert!(is_in(&mut db, "user-1@shop.example"));
    // The job that has read it is nobody's plan, and is forgotten.
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.job"), 2);
    sql(
        &mut db,
        "UPDATE klaviyo.job_run SET last_ended_at = now() - interval '2 minutes' WHERE job LIKE 'segment:%'",
    );
    shop.eventually("it is forgotten", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.job_plan") == 2
    });
    shop.sandbox.make_segment("VIP");
    assert_eq!(run(&shop, &mut db, "segments"), "complete");
    assert_eq!(refused(&mut db, "SELECT klaviyo_in_segment('VIP', 'ada@shop.example')"), "KS094");
    shop.assert_requests_conform();
}

/// A developer's machine does not write to customers.
#[test]
fn in_development_calls_stay_on_this_machine() {
    let shop = Shop::builder().quick_retries().setting("klaviyo.environment", "development").start();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_track_event('Placed Order', 'ada@shop.example')");
    assert_eq!(shop.drain_soon().waiting(), 0, "the sandbox is on this machine");
    sql(&mut db, "SELECT klaviyo_set_account(base_url => 'https://klaviyo.invalid')");
    let reason = "SELECT count(*) FROM klaviyo.account_status WHERE stopped_reason LIKE 'klaviyo.environment is development, %klaviyo.invalid%'";
    shop.eventually("it is stopped", PATIENCE, || count(&mut db, reason) == 1);
    sql(&mut db, "SELECT klaviyo_track_event('Placed Order', 'ada@shop.example')");
    shop.cluster.set("klaviyo.development_remote", "on");
    let tried = "SELECT count(*) FROM klaviyo.retry WHERE attempts > 0";
    shop.eventually("it is tried", PATIENCE, || count(&mut db, tried) == 1);
}

/// Whoever tries things out leaves a part of the limits to those who do not.
#[test]
fn in_staging_half_of_the_limits_is_used() {
    let shop = Shop::builder().rate_share(1.0).setting("klaviyo.environment", "staging").start();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_track_event('Placed Order', 'ada@shop.example')");
    shop.drain_soon();
    let calls = "SELECT minute_calls FROM klaviyo.lane WHERE lane = 'events'";
    assert_eq!(count(&mut db, calls), 1_750);
    shop.cluster.set("klaviyo.rate_share", "1");
    shop.eventually("all is used", PATIENCE, || count(&mut db, calls) == 3_500);
}
