use serde_json::json;

use super::*;
use crate::bulk::{BulkSettings, Repeats};
use crate::check;
use crate::jobs::Status;

const SETTINGS: BulkSettings =
    BulkSettings { repeats: Repeats::AtOnce, queued_ms: 10, processing_ms: 100, original_payloads: true };

fn noon() -> Timestamp {
    "2026-07-15T12:00:00Z".parse().unwrap()
}

/// So many microseconds after noon, when the clock of jobs began.
fn at(now_us: u64) -> Timestamp {
    Timestamp::from_microsecond(noon().as_microsecond() + i64::try_from(now_us).unwrap()).unwrap()
}

/// A store with a list that somebody is on, and a campaign by SMS for it, by its id.
fn setup(strategy: &Value) -> (Store, Campaigns, String) {
    let (mut store, mut campaigns) = (Store::new(1), Campaigns::new(2));
    let list = json!({"data": {"type": "list", "attributes": {"name": "News"}}});
    let list = store.create_list(check::list(&(&list).into()).unwrap(), noon()).id.clone();
    let profile = json!({"data": {"type": "profile", "attributes": {"external_id": "a"}}});
    let profile = check::profile_import(&(&profile).into()).unwrap();
    let profile = store.import(profile, noon()).unwrap().profile.id.clone();
    store.add_to_list(&list, &[profile], noon()).unwrap();
    let definition = json!({"channel": "sms", "content": {"body": "Sale"}});
    let message = json!({"type": "campaign-message", "attributes": {"definition": definition}});
    let body = json!({"data": {"type": "campaign", "attributes": {
        "name": "Sale", "audiences": {"included": [list]}, "send_strategy": strategy,
        "campaign-messages": {"data": [message]},
    }}});
    let draft = check::campaign(&(&body).into()).unwrap();
    let id = campaigns.create(draft, &store, noon()).unwrap().id.clone();
    (store, campaigns, id)
}

/// The statuses of a campaign and of its send job, and how often it was sent, at these times.
fn seen(campaigns: &mut Campaigns, store: &Store, times_us: &[u64]) -> Vec<(&'static str, String, u64)> {
    let see = |now_us: &u64| {
        let campaign = &mut campaigns.campaigns[0];
        campaign.advance(&SETTINGS, store, *now_us, at(*now_us));
        let job = campaign.job(About::Send, "http://k").unwrap();
        let job = job["data"]["attributes"]["status"].as_str().unwrap().to_owned();
        (campaign.status(), job, campaign.sendings)
    };
    times_us.iter().map(see).collect()
}

fn row(status: &'static str, job: &str, sendings: u64) -> (&'static str, String, u64) {
    (status, job.to_owned(), sendings)
}

#[test]
fn sending_follows_the_job() {
    let (store, mut campaigns, id) = setup(&json!(null));
    campaigns.send(&id, 5_000, at(5_000)).unwrap();
    let times = [5_000, 14_999, 15_000, 114_999, 115_000, 214_999, 215_000];
    assert_eq!(
        seen(&mut campaigns, &store, &times),
        [
            row("Preparing to send", "queued", 0),
            row("Preparing to send", "queued", 0),
            row("Preparing to send", "processing", 0),
            row("Preparing to send", "processing", 0),
            row("Sending", "complete", 1),
            row("Sending", "complete", 1),
            row("Sent", "complete", 1),
        ]
    );
    let campaign = &campaigns.all()[0];
    assert_eq!((campaign.recipients, campaign.send_time), (1, Some(at(115_000))));
    assert_eq!(campaign.updated, at(215_000));
}

#[test]
fn nobody_sees_a_sending_late() {
    let (store, mut campaigns, id) = setup(&json!(null));
    campaigns.send(&id, 0, noon()).unwrap();
    assert_eq!(seen(&mut campaigns, &store, &[200_000, 210_000])[0], row("Sending", "complete", 1));
    let (store, mut campaigns, id) = setup(&json!(null));
    campaigns.send(&id, 0, noon()).unwrap();
    assert_eq!(seen(&mut campaigns, &store, &[210_000]), [row("Sent", "complete", 1)]);
}

#[test]
fn a_schedule_ends_with_the_sending() {
    let strategy = json!({"method": "static", "datetime": "2026-07-15T12:00:01Z"});
    let (store, mut campaigns, id) = setup(&strategy);
    campaigns.send(&id, 0, noon()).unwrap();
    let times = [0, 109_999, 110_000, 999_999, 1_000_000, 1_099_999, 1_100_000];
    assert_eq!(
        seen(&mut campaigns, &store, &times),
        [
            row("Preparing to schedule", "queued", 0),
            row("Preparing to schedule", "processing", 0),
            row("Scheduled", "complete", 0),
            row("Scheduled", "complete", 0),
            row("Sending", "complete", 1),
            row("Sending", "complete", 1),
            row("Sent", "complete", 1),
        ]
    );
    let campaign = &campaigns.all()[0];
    assert_eq!((campaign.scheduled, campaign.send_time), (Some(at(110_000)), Some(at(1_000_000))));
    let (store, mut campaigns, id) = setup(&strategy);
    campaigns.send(&id, 0, noon()).unwrap();
    assert_eq!(seen(&mut campaigns, &store, &[1_050_000])[0], row("Sending", "complete", 1));
}

#[test]
fn a_sending_that_has_begun_is_stopped_too() {
    for (action, status) in [(Action::Revert, "Draft"), (Action::Cancel, "Cancelled")] {
        let (store, mut campaigns, id) = setup(&json!(null));
        campaigns.send(&id, 0, noon()).unwrap();
        assert_eq!(seen(&mut campaigns, &store, &[110_000]), [row("Sending", "complete", 1)]);
        campaigns.stop(&id, action, at(110_000)).unwrap();
        assert_eq!(seen(&mut campaigns, &store, &[999_000]), [row(status, "cancelled", 1)]);
        let again = campaigns.send(&id, 999_000, at(999_000));
        assert_eq!(again.is_ok(), action == Action::Revert);
    }
}

#[test]
fn a_day_is_past_when_it_is_over() {
    for (strategy, is_past) in [
        (json!({"method": "smart_send_time", "date": "2026-07-14"}), true),
        (json!({"method": "smart_send_time", "date": "2026-07-15"}), false),
        (json!({"method": "static", "datetime": "2026-07-15T11:59:59Z"}), true),
        (json!({"method": "static", "datetime": "2026-07-15T12:00:00Z"}), false),
        (
            json!({"method": "throttled", "datetime": "2026-07-15T12:00:00+02:00", "throttle_percentage": 1}),
            true,
        ),
    ] {
        let (store, mut campaigns, id) = setup(&strategy);
        let sent = campaigns.send(&id, 0, noon()).map(|_| ()).map_err(|error| error.pointer);
        assert_eq!(sent, if is_past { Err("/id".to_owned()) } else { Ok(()) }, "{strategy}");
        if !is_past {
            assert_eq!(seen(&mut campaigns, &store, &[300_000]), [row("Sent", "complete", 1)], "{strategy}");
        }
    }
}

#[test]
fn an_estimation_under_way_goes_on_when_another_is_asked_for() {
    let (store, mut campaigns, id) = setup(&json!(null));
    let estimate = |campaigns: &mut Campaigns, now_us: u64| {
        campaigns.campaigns[0].advance(&SETTINGS, &store, now_us, at(now_us));
        let status = campaigns.campaigns[0].estimation_job.as_ref().map(|job| job.status);
        (status, campaigns.campaigns[0].estimate)
    };
    assert_eq!(estimate(&mut campaigns, 0), (None, None));
    campaigns.estimate(&id, 0).unwrap();
    assert_eq!(estimate(&mut campaigns, 60_000), (Some(Status::Processing), None));
    campaigns.estimate(&id, 60_000).unwrap();
    assert_eq!(estimate(&mut campaigns, 110_000), (Some(Status::Complete), Some(1)));
    campaigns.estimate(&id, 110_000).unwrap();
    assert_eq!(estimate(&mut campaigns, 110_000), (Some(Status::Queued), Some(1)), "the last one counts");
}
