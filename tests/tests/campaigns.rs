//! Campaigns: made, given a template, counted, sent once and followed, or cancelled.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use harness::{Bulk, Fault, PATIENCE, Shop, StoredCampaign, count, hint, query, queued, sql, status};
use postgres::Client;
use serde_json::Value;

const SEND_JOBS: &str = "/api/campaign-send-jobs";

/// For how long it may still show that a call did what it was to do: this, and ten seconds.
const TIMEOUT: &str = "2s";

fn shop() -> Shop {
    let shop = Shop::builder().quick_retries().setting("klaviyo.request_timeout", TIMEOUT).start();
    work(&shop, 0);
    shop
}

/// How long whatever is done in a job takes from now on.
fn work(shop: &Shop, milliseconds: u64) {
    let processing_ms = Some(milliseconds);
    shop.sandbox.set_bulk(&Bulk { queued_ms: Some(0), processing_ms, ..Bulk::default() });
}

/// A list with so many people on it.
fn list(shop: &Shop, people: u32) -> String {
    let list = shop.sandbox.make_list("Newsletter");
    let mut db = shop.connect();
    let subscribed = format!(
        "SELECT klaviyo_subscribe(format('{list}-%s@shop.example', n), list => '{list}') FROM generate_series(1, {people}) AS n"
    );
    sql(&mut db, &subscribed);
    assert_eq!(shop.drain_soon().dead, 0);
    list
}

fn create(name: &str, list: &str) -> String {
    format!(
        "klaviyo_create_campaign('{name}', '{{{list}}}', content => '{{\"subject\": \"Sale\", \"from_email\": \"shop@shop.example\", \"from_label\": \"Shop\"}}')"
    )
}

/// A draft to which nothing is lacking, by its message.
fn draft(shop: &Shop, db: &mut Client, name: &str, list: &str) -> String {
    let campaign = queued(db, &create(name, list));
    let template = shop.sandbox.make_template("Sale");
    let assigned = queued(db, &format!("klaviyo_assign_template('{campaign}', '{template}')"));
    shop.wait_for_status(&assigned, "accepted");
    campaign
}

fn code(db: &mut Client, message: &str) -> String {
    query(db, "SELECT code FROM klaviyo_result($1::text::uuid)", &[&message])
}

/// What is known of a campaign, by the message that made it: a column as a text.
fn known(db: &mut Client, made_by: &str, column: &str) -> Option<String> {
    query(
        db,
        &format!("SELECT max({column}::text) FROM klaviyo.campaign WHERE made_by = $1::text::uuid"),
        &[&made_by],
    )
}

fn becomes(shop: &Shop, made_by: &str, expected: &str) {
    let mut db = shop.connect();
    shop.eventually(&format!("{made_by} is {expected}"), PATIENCE, || {
        known(&mut db, made_by, "status").as_deref() == Some(expected)
    });
}

fn only(shop: &Shop) -> StoredCampaign {
    let campaigns = shop.sandbox.campaigns();
    let [campaign] = campaigns.as_slice() else { panic!("one campaign: {campaigns:?}") };
    campaign.clone()
}

/// Calls that have arrived.
fn calls(shop: &Shop, method: &str, path: &str) -> usize {
    let calls = shop.sandbox.receipts();
    calls.iter().filter(|call| call.method == method && call.path == path).count()
}

/// How often it was asked for that each campaign be sent, by their ids.
fn posts_of_sending(shop: &Shop) -> BTreeMap<String, usize> {
    let mut posts = BTreeMap::new();
    for receipt in shop.sandbox.receipts() {
        if receipt.method == "POST" && receipt.path == SEND_JOBS {
            let id = receipt.at("data.id").and_then(Value::as_str).expect("a campaign").to_owned();
            *posts.entry(id).or_default() += 1;
        }
    }
    posts
}

/// All of it in one transaction, before there is any such campaign.
#[test]
fn one_is_made_counted_and_sent_by_one_transaction() {
    let shop = shop();
    let (all, none) = (list(&shop, 7), list(&shop, 0));
    let template = shop.sandbox.make_template("Sale");
    let mut db = shop.connect();
    sql(&mut db, "BEGIN");
    let campaign = queued(
        &mut db,
        &format!(
            "klaviyo_create_campaign('Sale', '{{{all}}}', '{{{none}}}', smart_sending => false,
                                     tracking_options => '{{\"is_tracking_opens\": true}}',
                                     content => '{{\"subject\": \"Now\", \"from_email\": \"shop@shop.example\"}}')"
        ),
    );
    let assigned = queued(&mut db, &format!("klaviyo_assign_template('{campaign}', '{template}')"));
    let counted = queued(&mut db, &format!("klaviyo_estimate_campaign('{campaign}')"));
    let sent = queued(&mut db, &format!("klaviyo_send_campaign('{campaign}')"));
    // What is committed later goes by, and nothing of this.
    let other = queued(&mut shop.connect(), "klaviyo_track_event('Placed Order', 'ada@shop.example')");
    shop.wait_for_status(&other, "accepted");
    assert_eq!(shop.sandbox.campaigns().len(), 0, "nothing is sent of what is not committed");
    sql(&mut db, "COMMIT");
    shop.wait_for_status(&sent, "accepted");
    becomes(&shop, &campaign, "Sent");
    let stored = only(&shop);
    assert_eq!((stored.send_jobs, stored.sendings, stored.recipients), (1, 1, 7));
    assert!(stored.messages[0]["template"].is_string());
    for message in [&campaign, &assigned, &counted, &sent] {
        assert_eq!(status(&mut db, message), "accepted");
    }
    let answer =
        "SELECT answer #>> '{data,attributes,estimated_recipient_count}' FROM klaviyo_await($1::text::uuid)";
    assert_eq!(query::<String>(&mut db, answer, &[&counted]), "7");
    for (column, expected) in [
        ("campaign_id", stored.id.as_str()),
        ("name", "Sale"),
        ("send_job", "complete"),
        ("estimated_recipients", "7"),
        ("sent_by", &sent),
        ("followed", "false"),
    ] {
        assert_eq!(known(&mut db, &campaign, column).as_deref(), Some(expected), "{column}");
    }
    assert!(known(&mut db, &campaign, "send_time").is_some());
    // It is none to be sent again, by whatever name.
    for name in [&campaign, &stored.id] {
        let again = queued(&mut db, &format!("klaviyo_send_campaign('{name}')"));
        shop.wait_for_status(&again, "dead");
        assert_eq!(code(&mut db, &again), "not_a_draft");
    }
    assert_eq!(only(&shop).send_jobs, 1);
    shop.assert_requests_conform();
}

#[test]
fn one_is_scheduled_and_cancelled_or_a_draft_again() {
    let shop = shop();
    let list = list(&shop, 1);
    let mut db = shop.connect();
    for (when, revert, ends) in [
        ("send_at => now() + interval '1 day'", false, "Cancelled"),
        ("send_at => now() + interval '1 day', throttle_percentage => 25", true, "Draft"),
        ("smart_send_on => (now() + interval '2 days')::date", false, "Cancelled"),
    ] {
        let content = r#"{"body": "Sale!"}"#;
        let campaign = queued(
            &mut db,
            &format!(
                "klaviyo_create_campaign('Later', '{{{list}}}', channel => 'sms', content => '{content}', {when})"
            ),
        );
        let sent = queued(&mut db, &format!("klaviyo_send_campaign('{campaign}')"));
        shop.wait_for_status(&sent, "accepted");
        becomes(&shop, &campaign, "Scheduled");
        let cancelled =
            queued(&mut db, &format!("klaviyo_cancel_campaign('{campaign}', revert => {revert})"));
        shop.wait_for_status(&cancelled, "accepted");
        becomes(&shop, &campaign, ends);
        shop.eventually("it is followed no more", PATIENCE, || {
            known(&mut db, &campaign, "followed").as_deref() == Some("false")
        });
        assert_eq!(known(&mut db, &campaign, "send_job").as_deref(), Some("cancelled"));
        assert_eq!(shop.sandbox.campaigns().pop().map(|stored| stored.status).as_deref(), Some(ends));
    }
    shop.assert_requests_conform();
}

/// What waits is not sent first and then cancelled.
#[test]
fn what_is_cancelled_while_it_waits_is_never_sent() {
    let shop = shop();
    let list = list(&shop, 1);
    let mut db = shop.connect();
    let campaign = draft(&shop, &mut db, "Sale", &list);
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let sent = queued(&mut db, &format!("klaviyo_send_campaign('{campaign}')"));
    let cancelled = queued(&mut db, &format!("klaviyo_cancel_campaign('{campaign}')"));
    sql(&mut db, "SELECT klaviyo_resume_account()");
    shop.wait_for_status(&cancelled, "accepted");
    assert_eq!((status(&mut db, &sent).as_str(), code(&mut db, &sent).as_str()), ("discarded", "cancelled"));
    assert_eq!((only(&shop).send_jobs, only(&shop).status.as_str()), (0, "Draft"));
    assert_eq!(calls(&shop, "POST", SEND_JOBS), 0);
    assert_eq!(shop.backlog().dead, 0);
}

#[test]
fn what_was_not_made_is_not_sent_and_can_be_later() {
    let shop = shop();
    let list = list(&shop, 1);
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::status(400).method("POST").path("/api/campaigns").times(1)]);
    let campaign = queued(&mut db, &create("Sale", &list));
    let counted = queued(&mut db, &format!("klaviyo_estimate_campaign('{campaign}')"));
    shop.wait_for_status(&counted, "dead");
    assert_eq!(
        (code(&mut db, &campaign).as_str(), code(&mut db, &counted).as_str()),
        ("invalid", "no_such_campaign")
    );
    sql(&mut db, &format!("SELECT klaviyo_redrive('{campaign}')"));
    shop.wait_for_status(&campaign, "accepted");
    sql(&mut db, &format!("SELECT klaviyo_redrive('{counted}')"));
    shop.wait_for_status(&counted, "accepted");
    assert_eq!(known(&mut db, &campaign, "estimated_recipients").as_deref(), Some("1"));
}

/// Names are not unique: it is found by its name and audiences, among what was made since.
#[test]
fn one_is_made_once_though_its_answer_or_the_worker_is_lost() {
    let mut shop = shop();
    let list = list(&shop, 1);
    let mut db = shop.connect();
    shop.sandbox.set_faults(&[Fault::reset_after().method("POST").path("/api/campaigns").times(1)]);
    let lost = queued(&mut db, &create("Lost", &list));
    shop.wait_for_status(&lost, "accepted");
    // It says that it was made, and not under which id. There is another of that name.
    shop.sandbox.set_faults(&[Fault::half().method("POST").path("/api/campaigns").times(1)]);
    let cut = queued(&mut db, &create("Lost", &list));
    shop.wait_for_status(&cut, "accepted");
    shop.sandbox.set_faults(&[Fault::hang_after().method("POST").path("/api/campaigns")]);
    let crashed = queued(&mut db, &create("Crashed", &list));
    let counted = queued(&mut db, &format!("klaviyo_estimate_campaign('{crashed}')"));
    shop.eventually("it is under way", PATIENCE, || calls(&shop, "POST", "/api/campaigns") == 3);
    shop.crash_worker(&mut db);
    shop.sandbox.clear_faults();
    shop.wait_for_status(&counted, "accepted");
    let mut db = shop.connect();
    let campaigns = shop.sandbox.campaigns();
    assert_eq!(campaigns.len(), 3, "{campaigns:?}");
    for (made_by, stored) in [&lost, &cut, &crashed].into_iter().zip(&campaigns) {
        assert_eq!(known(&mut db, made_by, "campaign_id").as_ref(), Some(&stored.id));
    }
    // One that is not there is made, once it must have shown.
    shop.sandbox.set_faults(&[Fault::status(500).method("POST").path("/api/campaigns").times(1)]);
    let failed = queued(&mut db, &create("Failed", &list));
    shop.wait_for_status(&failed, "accepted");
    assert_eq!(shop.sandbox.campaigns().len(), 4);
    shop.assert_requests_conform();
}

/// Whatever is lost: the answer, or the worker, before or after Klaviyo has done what it was asked.
#[test]
fn one_is_sent_once_or_somebody_decides() {
    let mut shop = shop();
    let list = list(&shop, 3);
    let of_sending = |fault: Fault| fault.method("POST").path(SEND_JOBS);
    let of = |shop: &Shop, name: &str| {
        let mut campaigns = shop.sandbox.campaigns().into_iter().filter(|campaign| campaign.name == name);
        campaigns.next().expect("it was made")
    };
    for (name, fault, is_sent) in [
        ("reset after", Fault::reset_after(), true),
        ("timeout after", Fault::hang_after(), true),
        ("failure", Fault::status(500), false),
        ("timeout", Fault::hang(), false),
    ] {
        for crash in [false, true] {
            let name = format!("{name}, crash: {crash}");
            let mut db = shop.connect();
            let campaign = draft(&shop, &mut db, &name, &list);
            shop.sandbox.set_faults(&[of_sending(fault.clone())]);
            let before = calls(&shop, "POST", SEND_JOBS);
            let sent = queued(&mut db, &format!("klaviyo_send_campaign('{campaign}')"));
            shop.eventually("it was asked for", PATIENCE, || calls(&shop, "POST", SEND_JOBS) > before);
            if crash {
                shop.crash_worker(&mut db);
                db = shop.connect();
            }
            shop.sandbox.clear_faults();
            shop.wait_for_status(&sent, if is_sent { "accepted" } else { "dead" });
            if !is_sent {
                assert_eq!(code(&mut db, &sent), "ambiguous", "{name}");
                let hint = hint(&mut db, &sent).unwrap_or_default();
                assert!(hint.contains("klaviyo_redrive()") && hint.contains("klaviyo.campaign"), "{hint}");
                assert_eq!(
                    (of(&shop, &name).send_jobs, known(&mut db, &campaign, "status").as_deref()),
                    (0, Some("Draft"))
                );
                // Somebody has decided.
                sql(&mut db, &format!("SELECT klaviyo_redrive('{sent}')"));
                shop.wait_for_status(&sent, "accepted");
            }
            becomes(&shop, &campaign, "Sent");
            let stored = of(&shop, &name);
            assert_eq!((stored.send_jobs, stored.sendings, stored.recipients), (1, 1, 3), "{name}");
            let expected = if is_sent { 1 } else { 2 };
            assert_eq!(posts_of_sending(&shop)[&stored.id], expected, "{name}");
        }
    }
}

/// The sandbox is the judge: no campaign is sent twice, and what is told to be sent was.
#[test]
fn one_is_sent_once_whenever_the_worker_is_killed() {
    let mut shop = shop();
    let list = list(&shop, 1);
    let mut db = shop.connect();
    // So that kills find calls under way.
    shop.sandbox.set_faults(&[Fault::latency(Duration::from_millis(60)).path("/api/campaign")]);
    let template = shop.sandbox.make_template("Sale");
    let mut sent = Vec::new();
    for round in 0..6 {
        for number in 0..4 {
            sql(&mut db, "BEGIN");
            let campaign = queued(&mut db, &create(&format!("{round}-{number}"), &list));
            sql(&mut db, &format!("SELECT klaviyo_assign_template('{campaign}', '{template}')"));
            sent.push((queued(&mut db, &format!("klaviyo_send_campaign('{campaign}')")), campaign));
            sql(&mut db, "COMMIT");
        }
        thread::sleep(Duration::from_millis(fastrand::u64(0..700)));
        shop.crash_worker(&mut db);
        db = shop.connect();
    }
    shop.drain(2 * PATIENCE);
    let campaigns = shop.sandbox.campaigns();
    let mut ambiguous = 0;
    for (message, campaign) in &sent {
        let id = known(&mut db, campaign, "campaign_id");
        let Some(stored) = campaigns.iter().find(|stored| Some(&stored.id) == id.as_ref()) else {
            panic!("{campaign} was not made: {}", code(&mut db, campaign));
        };
        let jobs = stored.send_jobs;
        match status(&mut db, message).as_str() {
            "accepted" => assert_eq!(jobs, 1, "{}", stored.name),
            "dead" => {
                assert_eq!(code(&mut db, message), "ambiguous");
                assert_eq!(jobs, 0, "{}", stored.name);
                ambiguous += 1;
            }
            other => panic!("{message} is {other}"),
        }
    }
    println!("{} campaigns, {} of them left to a person", sent.len(), ambiguous);
    assert!(ambiguous < sent.len(), "some were sent");
    // Klaviyo was asked to at most once, whatever it would have made of a second time.
    let posts = posts_of_sending(&shop);
    assert!(posts.values().all(|posts| *posts == 1), "{posts:?}");
    assert_eq!(campaigns.len(), sent.len(), "each was made once");
}

#[test]
fn what_is_being_sent_is_followed_by_the_next_worker() {
    let mut shop = shop();
    let list = list(&shop, 1);
    let mut db = shop.connect();
    let campaign = draft(&shop, &mut db, "Sale", &list);
    work(&shop, 3_600_000);
    let sent = queued(&mut db, &format!("klaviyo_send_campaign('{campaign}')"));
    shop.wait_for_status(&sent, "accepted");
    shop.eventually("it is followed", PATIENCE, || {
        known(&mut db, &campaign, "send_job").as_deref() == Some("processing")
    });
    shop.crash_worker(&mut db);
    work(&shop, 0);
    becomes(&shop, &campaign, "Sent");
    // What is known of it goes when it is old, but not of one that is followed.
    let mut db = shop.connect();
    sql(
        &mut db,
        "INSERT INTO klaviyo.campaign (account, campaign_id, followed, changed_at)
         SELECT 'gone', n::text, n = 1, now() - interval '1 day' FROM generate_series(1, 3) AS n",
    );
    shop.cluster.set("klaviyo.campaign_retention", "1h");
    shop.eventually("the old ones are gone", PATIENCE, || {
        count(&mut db, "SELECT count(*) FROM klaviyo.campaign WHERE account = 'gone'") == 1
    });
    assert_eq!(known(&mut db, &campaign, "status").as_deref(), Some("Sent"));
}

/// A dump has which campaign a message has made, for those that wait and name it so.
#[test]
fn a_restored_database_knows_which_campaign_was_made() {
    let shop = shop();
    let list = list(&shop, 2);
    let mut db = shop.connect();
    let campaign = draft(&shop, &mut db, "Sale", &list);
    sql(&mut db, "SELECT klaviyo_pause_account()");
    let counted = queued(&mut db, &format!("klaviyo_estimate_campaign('{campaign}')"));
    let dump = shop.cluster.dump("shop");
    shop.cluster.restore("copy", &dump);
    let mut copy = shop.cluster.connect("copy");
    sql(
        &mut copy,
        "SELECT klaviyo_set_account(private_key => 'pk_test'), klaviyo_arm_account(), klaviyo_resume_account()",
    );
    let told = "SELECT status FROM klaviyo_await($1::text::uuid, '1 minute')";
    assert_eq!(query::<String>(&mut copy, told, &[&counted]), "accepted");
    assert_eq!(known(&mut copy, &campaign, "estimated_recipients").as_deref(), Some("2"));
}
