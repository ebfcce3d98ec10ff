//! Jobs that read what Klaviyo has counted: aggregates of metrics, and reports.

use std::time::Duration;

use harness::jobs::{await_end, counts, run, set};
use harness::{
    EventSeed, Fault, PATIENCE, Receipt, ReportSeed, Shop, Signal, count, kill, query, runner, sql,
    wait_for_crash,
};
use postgres::Client;
use serde_json::{Value, json};

const AGGREGATES: &str = "/api/metric-aggregates";
const CAMPAIGNS: &str = "/api/campaign-values-reports";
const FLOWS: &str = "/api/flow-series-reports";

fn shop() -> Shop {
    Shop::builder().quick_retries().start()
}

/// Events of Placed Order, one an hour, each worth 2.5.
fn orders(shop: &Shop, email: &str, flow: &str, start: &str, hours: u64) -> String {
    let seed =
        EventSeed { metric: "Placed Order", email, count: hours, start: Some(start), step_seconds: 3600.0 };
    let more = json!({"value": 2.5, "properties": {"$flow": flow}});
    shop.sandbox.seed_events_with(&seed, &more).profile_id
}

/// Rows of a query of one text, in a line.
fn lines(db: &mut Client, query_of_text: &str) -> String {
    query(db, &format!("SELECT coalesce(string_agg(it, '; '), '') FROM ({query_of_text}) AS f (it)"), &[])
}

fn receipts(shop: &Shop, path: &str) -> Vec<Receipt> {
    shop.sandbox.receipts().into_iter().filter(|receipt| receipt.path.starts_with(path)).collect()
}

const DAYS: &str = "
    SELECT concat_ws(' ', local_start::date, count, sum_value, unique_profiles) FROM klaviyo.metric_aggregate
    WHERE dimension = '' ORDER BY starts_at";

#[test]
fn events_are_counted_by_the_days_of_a_clock() {
    let shop = shop();
    let mut db = shop.connect();
    let ada = orders(&shop, "ada@shop.example", "WELCOME", "2026-10-24T00:00:00Z", 72);
    orders(&shop, "bob@shop.example", "", "2026-10-26T12:00:00Z", 1);
    shop.sandbox.seed_events(&EventSeed {
        metric: "Opened Email",
        email: "ada@shop.example",
        count: 3,
        start: None,
        step_seconds: 1.0,
    });
    let options = r#"{"time_zone": "Europe/Vienna", "by": ["$flow"]}"#;
    let more = format!(", names => '{{Placed Order}}', since => '2026-10-24 00:00Z', options => '{options}'");
    assert_eq!(set(&shop, &mut db, "aggregates", &more), "complete");
    // The clocks go back on the 25th, which is so an hour longer.
    let days = "2026-10-24 22 55.0 1; 2026-10-25 25 62.5 1; 2026-10-26 25 62.5 2; 2026-10-27 1 2.5 1";
    assert_eq!(lines(&mut db, DAYS), days);
    let flows = "SELECT concat_ws(' ', dimension_value, sum(count), count(*), bool_and(interval = 'day' AND time_zone = 'Europe/Vienna'))
                 FROM klaviyo.metric_aggregate WHERE dimension = '$flow' GROUP BY dimension_value ORDER BY 1";
    assert_eq!(lines(&mut db, flows), " 1 1 t; WELCOME 72 4 t");
    assert_eq!(counts(&mut db, "aggregates"), (11, 11, 0), "two metrics, four days, five of a flow");

    // What comes late is counted where it happened, and nothing else is written.
    orders(&shop, "eve@shop.example", "WELCOME", "2026-10-25T12:00:00Z", 2);
    // As if it had last been read in that month: what is older than 30 days by then is taken as it was.
    let read_in_november = "UPDATE klaviyo.job_mark SET read_until = '2026-11-10' WHERE job = 'aggregates'";
    sql(&mut db, read_in_november);
    assert_eq!(run(&shop, &mut db, "aggregates"), "complete");
    let days = days.replace("25 25 62.5 1", "25 27 67.5 2");
    assert_eq!(lines(&mut db, DAYS), days);
    assert_eq!(counts(&mut db, "aggregates").1, 2);
    // What is no more goes.
    shop.sandbox.delete_profile(&ada);
    assert_eq!(run(&shop, &mut db, "aggregates"), "complete");
    assert_eq!(lines(&mut db, DAYS), days);
    sql(&mut db, read_in_november);
    assert_eq!(run(&shop, &mut db, "aggregates"), "complete");
    assert_eq!(lines(&mut db, DAYS), "2026-10-25 2 5.0 1; 2026-10-26 1 2.5 1");
    assert_eq!(counts(&mut db, "aggregates").2, 5);

    // Others take their place, they do not stand beside them.
    sql(&mut db, r#"SELECT klaviyo_set_job('aggregates', options => '{"interval": "month"}')"#);
    let month = "SELECT concat_ws(' ', interval, time_zone, dimension, local_start::date, count) FROM klaviyo.metric_aggregate";
    shop.eventually("months are counted", PATIENCE, || lines(&mut db, month) == "month UTC  2026-10-01 3");
    shop.assert_requests_conform();
}

/// A year a call at the most, and from then on the last month.
#[test]
fn stretches_of_time_follow_each_other() {
    let shop = shop();
    let mut db = shop.connect();
    orders(&shop, "ada@shop.example", "", "2023-05-01T00:30:00Z", 2);
    orders(&shop, "ada@shop.example", "", "2024-04-30T23:30:00Z", 2);
    orders(&shop, "ada@shop.example", "", "2026-01-01T00:00:00Z", 2);
    let more =
        r#", names => '{Placed Order}', since => '2023-05-01 00:00Z', options => '{"interval": "week"}'"#;
    assert_eq!(set(&shop, &mut db, "aggregates", more), "complete");
    let all =
        "SELECT concat_ws(' ', local_start::date, count) FROM klaviyo.metric_aggregate ORDER BY starts_at";
    assert_eq!(lines(&mut db, all), "2023-05-01 2; 2024-04-29 2; 2025-12-29 2");
    let asked = receipts(&shop, AGGREGATES);
    let spans: Vec<(String, String)> = asked
        .iter()
        .map(|receipt| {
            let filter = &receipt.body["data"]["attributes"]["filter"];
            let time = |at: usize, before: &str| {
                filter[at].as_str().expect("a filter").replace(before, "").replace(')', "")
            };
            (time(0, "greater-or-equal(datetime,"), time(1, "less-than(datetime,"))
        })
        .collect();
    assert!(spans.len() >= 4, "{spans:?}");
    assert_eq!(spans[0].0, "2023-05-01T00:00:00Z");
    assert!(spans.windows(2).all(|pair| pair[1].0 < pair[0].1 && pair[0].1 < pair[1].1), "no gap: {spans:?}");
    let until: String =
        query(&mut db, "SELECT to_char(date_trunc('week', now(), 'UTC') + '1 week', 'YYYY-MM-DD')", &[]);
    assert!(spans.last().expect("the last").1.starts_with(&until), "{spans:?}");
    assert_eq!(run(&shop, &mut db, "aggregates"), "complete");
    assert_eq!(receipts(&shop, AGGREGATES).len(), asked.len() + 1);
    assert_eq!(lines(&mut db, all), "2023-05-01 2; 2024-04-29 2; 2025-12-29 2");
}

#[test]
fn a_crash_in_the_middle_leaves_nothing_out() {
    let mut shop = Shop::builder().quick_retries().setting("restart_after_crash", "on").start();
    let mut db = shop.connect();
    orders(&shop, "ada@shop.example", "WELCOME", "2026-01-01T00:00:00Z", 24 * 200);
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(150)).path(AGGREGATES)]);
    let options = r#"{"interval": "hour", "by": ["$flow"]}"#;
    let more = format!(", names => '{{Placed Order}}', since => '2026-01-01Z', options => '{options}'");
    sql(&mut db, &format!("SELECT klaviyo_set_job('aggregates'{more})"));
    for least in [1_000, 5_000] {
        let there = "SELECT count(*) FROM klaviyo.metric_aggregate";
        shop.eventually("it gets on", PATIENCE, || count(&mut db, there) >= least);
        let pid = runner(&mut db).expect("a runner");
        kill(pid, Signal::SIGKILL);
        wait_for_crash(&mut db);
        shop.cluster.wait_ready();
        db = shop.connect();
    }
    shop.sandbox.clear_faults();
    assert_eq!(await_end(&shop, &mut db, "aggregates", 0, PATIENCE), "complete");
    let sums = "SELECT concat_ws(' ', dimension_value, count(*), sum(count), sum(sum_value)) FROM klaviyo.metric_aggregate
                GROUP BY dimension_value ORDER BY 1";
    assert_eq!(lines(&mut db, sums), " 4800 4800 12000.0; WELCOME 4800 4800 12000.0");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.job_seen"), 0);
    shop.assert_requests_conform();
}

/// A page that Klaviyo does not know any more has the stretch of time be read anew; what is gone is passed over.
#[test]
fn a_lost_page_and_a_lost_metric_are_coped_with() {
    let shop = shop();
    let mut db = shop.connect();
    // More than a page has room for.
    for n in 0..70 {
        orders(&shop, "ada@shop.example", &format!("FLOW-{n}"), "2026-01-10T00:00:00Z", 1);
    }
    let opened = EventSeed {
        metric: "Opened Email",
        email: "ada@shop.example",
        count: 3,
        start: Some("2026-02-01T00:00:00Z"),
        step_seconds: 1.0,
    };
    let opened = shop.sandbox.seed_events(&opened).metric_id;
    shop.sandbox.set_faults(&[
        Fault::status(400).path(AGGREGATES).matching("page_cursor").times(1),
        Fault::status(404).path(AGGREGATES).matching(&opened),
    ]);
    let told =
        set(&shop, &mut db, "aggregates", r#", since => '2026-01-01Z', options => '{"by": ["$flow"]}'"#);
    assert!(
        told.starts_with(&format!("failed: {opened}: ")) && told.ends_with("; what was not refused was read"),
        "{told}"
    );
    let all = "SELECT concat_ws(' ', dimension, count(*), sum(count)) FROM klaviyo.metric_aggregate GROUP BY dimension ORDER BY 1";
    assert_eq!(lines(&mut db, all), " 1 70; $flow 70 70");
    // Of what was not there nothing counts as read.
    shop.sandbox.clear_faults();
    assert_eq!(run(&shop, &mut db, "aggregates"), "complete");
    assert_eq!(lines(&mut db, all), " 2 73; $flow 71 73");
    shop.assert_requests_conform();
}

/// By the clock of the sandbox, so many days ago.
fn day(db: &mut Client, ago: i32) -> String {
    query(db, "SELECT to_char((now() AT TIME ZONE 'UTC')::date - $1::integer, 'YYYY-MM-DD')", &[&ago])
}

fn campaign(shop: &Shop, id: &str, day: &str, statistics: &Value) {
    let of = json!({"campaign_id": id, "campaign_message_id": format!("M{id}"), "send_channel": "email"});
    shop.sandbox.seed_report("campaign", &of, day, statistics);
}

#[test]
fn campaigns_come_with_their_rates_and_revenue() {
    let shop = shop();
    let mut db = shop.connect();
    orders(&shop, "ada@shop.example", "", "2026-10-24T00:00:00Z", 1);
    let [yesterday, before] = [1, 40].map(|ago| day(&mut db, ago));
    let sent = json!({"recipients": 100, "delivered": 80, "opens_unique": 40, "opens": 55, "clicks_unique": 10,
                      "conversions": 4, "conversion_value": 120.5, "bounced": 20});
    campaign(&shop, "ONE", &before, &sent);
    campaign(&shop, "ONE", &yesterday, &json!({"conversions": 1, "conversion_value": 9.5}));
    campaign(&shop, "TWO", &before, &json!({"recipients": 7}));
    campaign(&shop, "LATE", &before, &json!({"opens_unique": 2}));
    campaign(&shop, "OLD", &before, &json!({"recipients": 1}));
    sql(
        &mut db,
        "INSERT INTO klaviyo.campaign (account, campaign_id, name, status, send_time, channel, followed, changed_at)
         VALUES ('default', 'ONE', 'Black Friday', 'Sent', now() - interval '40 days', 'email', false, now()),
                ('default', 'OLD', 'Old', 'Sent', now() - interval '400 days', 'email', false, now())",
    );
    shop.sandbox.set_report_page(2);
    assert_eq!(set(&shop, &mut db, "campaign_reports", ""), "complete");
    let asked = receipts(&shop, CAMPAIGNS);
    assert_eq!(asked.len(), 2, "page by page");
    let performance = "SELECT concat_ws(' ', campaign_id, name, send_channel, recipients, delivered, open_rate, click_rate, bounce_rate,
                                  orders, revenue, revenue_per_recipient, average_order_value)
                       FROM klaviyo.campaign_performance ORDER BY campaign_id";
    assert_eq!(
        lines(&mut db, performance),
        "ONE Black Friday email 100 80 0.5 0.125 0.2 5 130 1.3 26; TWO email 7 0 0 0 0 0 0 0 0",
        "of the old ones only a part is told"
    );
    // Klaviyo's limit of a day is to last: a run of three pages is followed by the next 27 minutes later at the earliest.
    sql(&mut db, "SELECT klaviyo_set_job('campaign_reports', every => '1 minute')");
    let pause = "SELECT (extract(epoch FROM next_run_at - last_started_at) / 60)::text FROM klaviyo.job WHERE job = 'campaign_reports'";
    assert!(query::<String>(&mut db, pause, &[]).starts_with("27.0"));
    sql(
        &mut db,
        "UPDATE klaviyo.job_run SET last_started_at = last_started_at - interval '26 minutes' WHERE job = 'campaign_reports'",
    );
    assert_eq!(set(&shop, &mut db, "metrics", ""), "complete");
    assert_eq!(receipts(&shop, CAMPAIGNS).len(), 2);
    sql(
        &mut db,
        "UPDATE klaviyo.job_run SET last_started_at = last_started_at - interval '1 minute' WHERE job = 'campaign_reports'",
    );
    assert_eq!(run(&shop, &mut db, "metrics"), "complete");
    let begun = "SELECT count(*) FROM klaviyo.job_run
                 WHERE job = 'campaign_reports' AND coalesce(started_at, last_started_at) > now() - interval '15 minutes'";
    shop.eventually("the next begins", PATIENCE, || count(&mut db, begun) == 1);
    shop.assert_requests_conform();
}

#[test]
fn flows_forms_and_segments_are_told_by_the_day() {
    let shop = shop();
    let mut db = shop.connect();
    orders(&shop, "ada@shop.example", "", "2026-10-24T00:00:00Z", 1);
    let flow = shop.sandbox.make_flow("Welcome", "live", "Added to List");
    let segment = shop.sandbox.make_segment("VIP");
    let [yesterday, before] = [1, 20].map(|ago| day(&mut db, ago));
    let of_flow =
        |message: &str| json!({"flow_id": flow, "flow_message_id": message, "send_channel": "email"});
    let (one, two) = (of_flow("01A"), of_flow("01B"));
    let form = json!({"form_id": "FORM", "form_version_id": "1"});
    let of_segment = json!({ "segment_id": segment });
    let seed = |report: &str, of: &Value, day: &str, statistics: Value| {
        shop.sandbox.seed_report(report, of, day, &statistics);
    };
    let sent = json!({"recipients": 10, "delivered": 8, "opens_unique": 4, "conversion_value": 12.5, "conversions": 1});
    seed("flow", &one, &before, sent.clone());
    seed("flow", &one, &yesterday, sent);
    seed("flow", &two, &yesterday, json!({"recipients": 30, "delivered": 24}));
    seed("form", &form, &before, json!({"viewed_form": 50, "submits": 5}));
    seed("segment", &of_segment, &before, json!({"total_members": 7, "members_added": 2}));
    seed("segment", &of_segment, &yesterday, json!({"total_members": 6, "members_removed": 1}));
    shop.sandbox.set_report_page(1);
    let since = ", since => now() - interval '40 days'";
    for job in ["flow_reports", "form_reports", "segment_reports"] {
        assert_eq!(set(&shop, &mut db, job, since), "complete", "{job}");
    }
    for job in ["flows", "segments"] {
        assert_eq!(set(&shop, &mut db, job, ""), "complete", "{job}");
    }
    assert_eq!(receipts(&shop, FLOWS).len(), 2, "page by page");
    let flows = "SELECT concat_ws(' ', flow_message_id, day, recipients, conversion_value) FROM klaviyo.flow_report ORDER BY 1";
    assert_eq!(
        lines(&mut db, flows),
        format!("01A {before} 10 12.5; 01A {yesterday} 10 12.5; 01B {yesterday} 30 0")
    );
    let months = "SELECT concat_ws(' ', name, send_channel, sum(recipients), sum(revenue)) FROM klaviyo.flow_performance GROUP BY name, send_channel";
    assert_eq!(lines(&mut db, months), "Welcome email 50 25.0");
    let forms =
        "SELECT concat_ws(' ', form_id, day, viewed_form, submits, closed_form) FROM klaviyo.form_report";
    assert_eq!(lines(&mut db, forms), format!("FORM {before} 50 5 0"));
    let growth =
        "SELECT concat_ws(' ', name, members, joined, departed, net_change) FROM klaviyo.segment_growth
                  WHERE joined + departed > 0 ORDER BY day";
    assert_eq!(lines(&mut db, growth), "VIP 7 2 0 2; VIP 6 0 1 -1");
    assert_eq!(
        count(&mut db, "SELECT count(*) FROM klaviyo.segment_report"),
        21,
        "a row for each day that has members"
    );

    // A day that is told otherwise is so here, and one of which nothing is told any more is not here any more.
    seed("flow", &one, &yesterday, json!({}));
    seed("flow", &two, &yesterday, json!({"recipients": 31, "delivered": 24}));
    assert_eq!(run(&shop, &mut db, "flow_reports"), "complete");
    assert_eq!(lines(&mut db, flows), format!("01A {before} 10 12.5; 01B {yesterday} 31 0"));
    assert_eq!((counts(&mut db, "flow_reports").1, counts(&mut db, "flow_reports").2), (1, 1));
    shop.assert_requests_conform();
}

/// Klaviyo knows nothing of segments before June 2023, and refuses to be asked.
#[test]
fn segments_are_asked_for_from_when_on_they_were_counted() {
    let shop = shop();
    let mut db = shop.connect();
    sql(&mut db, "SELECT klaviyo_set_job('segment_reports', since => '2020-01-01')");
    let path = "/api/segment-series-reports";
    shop.eventually("it is asked for", PATIENCE, || !receipts(&shop, path).is_empty());
    let first = &receipts(&shop, path)[0].body["data"]["attributes"]["timeframe"];
    assert_eq!(first, &json!({"start": "2023-06-01T00:00:00Z", "end": "2023-07-30T23:59:59Z"}));
}

/// What is too much for an answer is asked for in halves.
#[test]
fn a_report_that_is_too_long_is_read_by_fewer_days() {
    let shop = shop();
    let mut db = shop.connect();
    let before = day(&mut db, 58);
    let segments: Vec<Value> = (0..6_000).map(|n| json!({"segment_id": format!("S{n:05}")})).collect();
    let members = json!({"total_members": 123_456});
    let seeds = segments.iter().map(|groupings| ReportSeed {
        report: "segment",
        groupings,
        date: &before,
        statistics: &members,
    });
    seeds.collect::<Vec<_>>().chunks(2_000).for_each(|seeds| shop.sandbox.seed_reports(seeds));
    sql(&mut db, "SELECT klaviyo_set_job('segment_reports', since => now() - interval '58 days')");
    let there = "SELECT count(DISTINCT day) FROM klaviyo.segment_report WHERE total_members = 123456";
    shop.eventually("the first half is read", PATIENCE, || count(&mut db, there) == 30);
    let asked = receipts(&shop, "/api/segment-series-reports");
    let times = |at: usize| {
        let timeframe = &asked[at].body["data"]["attributes"]["timeframe"];
        (timeframe["start"].clone(), timeframe["end"].clone())
    };
    let half: String =
        query(&mut db, "SELECT to_char($1::text::date + 29, 'YYYY-MM-DD\"T23:59:59Z\"')", &[&before]);
    assert_eq!((times(1).0, times(1).1), (times(0).0, json!(half)));
}

#[test]
fn what_conversions_are_must_be_known() {
    let shop = shop();
    let mut db = shop.connect();
    let told = set(&shop, &mut db, "campaign_reports", "");
    let unknown = "Klaviyo has no metric of this name or id, whose events would be conversions: ";
    assert_eq!(told, format!("failed: {unknown}Placed Order"));
    assert_eq!(receipts(&shop, CAMPAIGNS).len(), 0);
    let told = set(&shop, &mut db, "aggregates", ", names => '{Placed Order}'");
    assert_eq!(told, "failed: Klaviyo has no metric of these names or ids: Placed Order; all else was read");
    shop.sandbox.seed_events(&EventSeed {
        metric: "Bought",
        email: "ada@shop.example",
        count: 1,
        start: None,
        step_seconds: 1.0,
    });
    sql(
        &mut db,
        r#"SELECT klaviyo_set_job('campaign_reports', options => '{"conversion_metric": "Bought"}')"#,
    );
    let outcome =
        "SELECT count(*) FROM klaviyo.job WHERE job = 'campaign_reports' AND last_outcome = 'complete'";
    shop.eventually("it is read", PATIENCE, || count(&mut db, outcome) == 1);
}

/// How many are on a list, each day as it was last read.
#[test]
fn lists_grow_by_the_day() {
    let shop = shop();
    let mut db = shop.connect();
    let list = shop.sandbox.make_list("Newsletter");
    let people = ["ada", "bob"].map(|name| json!({"email": format!("{name}@shop.example")}));
    shop.sandbox.make_profiles(&people);
    sql(
        &mut db,
        &format!(
            "SELECT klaviyo_add_to_list('{list}', 'ada@shop.example'), klaviyo_add_to_list('{list}', 'bob@shop.example')"
        ),
    );
    shop.drain_soon();
    assert_eq!(set(&shop, &mut db, "lists", ""), "complete");
    let growth = "SELECT concat_ws(' ', name, (now() AT TIME ZONE 'UTC')::date - day, members, coalesce(net_change::text, '-'))
                  FROM klaviyo.list_growth ORDER BY day";
    assert_eq!(lines(&mut db, growth), "Newsletter 0 2 -");
    sql(&mut db, "UPDATE klaviyo.list_day SET day = day - 1");
    sql(&mut db, &format!("SELECT klaviyo_remove_from_list('{list}', 'ada@shop.example')"));
    shop.drain_soon();
    assert_eq!(run(&shop, &mut db, "lists"), "complete");
    assert_eq!(lines(&mut db, growth), "Newsletter 1 2 -; Newsletter 0 1 -1");
}
