//! Campaigns: made once, sent once or not at all, and followed.

use std::time::{Duration, Instant};

use klaviyo::{
    ASSIGN_TEMPLATE, Answer, CANCEL_SEND, CREATE_CAMPAIGN, ESTIMATE_RECIPIENTS, Endpoint, GET_CAMPAIGN,
    GET_CAMPAIGNS, GET_ESTIMATION, GET_ESTIMATION_JOB, GET_SEND_JOB, JobStatus, SEND_CAMPAIGN,
    TransportError,
};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::call::tests::{POLICY, account, add, answer, awaited, endings, lane, message, next, settled};
use crate::campaign::{CampaignFact, CampaignNews};
use crate::kind::{self, Checked, campaign, campaign_step};
use crate::queue::AMBIGUOUS;
use crate::stale::{Stale, StaleAction};

type Result = std::result::Result<Answer, TransportError>;

fn of(seq: i64, kind: &str, Checked { key, payload }: Checked) -> Message {
    let kind = kind::find(kind).expect("a kind");
    Message { kind, key, payload, rides: false, carries_state: false, ..message(seq, "event", "nobody") }
}

/// The message that makes a campaign, which is the first.
fn create() -> Message {
    let draft = campaign::Draft {
        name: Some("Sale"),
        included: vec!["Y6nRLr".to_owned()],
        channel: Some("email"),
        ..campaign::Draft::default()
    };
    of(1, "campaign_create", draft.check(&Uuid::from_u128(1), 1_796_000_000_000_000).expect("valid"))
}

fn made_by_first() -> String {
    Uuid::from_u128(1).to_string()
}

fn send(seq: i64, campaign: &str) -> Message {
    of(seq, "campaign_send", campaign_step::plain(Some(campaign)).expect("valid"))
}

fn cancel(seq: i64, campaign: &str) -> Message {
    of(seq, "campaign_cancel", campaign_step::cancel(Some(campaign), false).expect("valid"))
}

fn estimate(seq: i64, campaign: &str) -> Message {
    of(seq, "campaign_estimate", campaign_step::plain(Some(campaign)).expect("valid"))
}

fn resource(id: &str, status: &str) -> serde_json::Value {
    json!({"type": "campaign", "id": id,
        "attributes": {"name": "Sale", "status": status, "audiences": {"included": ["Y6nRLr"]}},
        "relationships": {"campaign-messages": {"data": [{"type": "campaign-message", "id": "M"}]}}})
}

fn campaign(status: &str) -> Result {
    answer(200, &json!({"data": resource("C", status)}).to_string())
}

fn made() -> Result {
    answer(201, &json!({"data": resource("C", "Draft")}).to_string())
}

fn campaigns(ids: &[&str]) -> Result {
    let all: Vec<_> = ids.iter().map(|id| resource(id, "Draft")).collect();
    answer(200, &json!({"data": all}).to_string())
}

fn job(status: &str) -> Result {
    answer(202, &json!({"data": {"id": "C", "attributes": {"status": status}}}).to_string())
}

/// Ends the next call, which must be of that lane.
fn ends(account: &mut Account, now: &mut Instant, of: &Endpoint, result: Result) -> Report {
    let call = awaited(account, now);
    assert_eq!(lane(&call).name, of.name);
    settled(account, call, result, *now)
}

fn code(report: Report, seq: i64) -> String {
    match endings(report).remove(&seq) {
        Some(Ending::Dead { failure, .. } | Ending::Retry { failure, .. }) => failure.code,
        other => panic!("{other:?}"),
    }
}

fn facts(report: &Report) -> Vec<&CampaignFact> {
    report.campaigns.iter().map(|CampaignNews { fact, .. }| fact).collect()
}

fn body(call: &Call) -> serde_json::Value {
    serde_json::from_slice(call.request.as_ref().expect("a request").body()).expect("JSON")
}

#[test]
fn one_is_made_given_a_template_and_sent_all_in_one_transaction() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, create(), now);
    let template = campaign_step::with_template(Some(&made_by_first()), Some("T")).expect("valid");
    add(&mut account, of(2, "campaign_template", template), now);
    add(&mut account, send(3, &made_by_first()), now);
    let report = ends(&mut account, &mut now, &CREATE_CAMPAIGN, made());
    assert!(matches!(facts(&report)[..], [CampaignFact::Made { .. }]));
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    let call = awaited(&mut account, &mut now);
    assert_eq!((lane(&call), &body(&call)["data"]["id"]), (&ASSIGN_TEMPLATE, &json!("M")));
    settled(&mut account, call, answer(200, ""), now);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    let call = awaited(&mut account, &mut now);
    assert_eq!((lane(&call), &body(&call)["data"]["id"]), (&SEND_CAMPAIGN, &json!("C")));
    assert!(call.announcement().is_some(), "it is written down before");
    let report = settled(&mut account, call, job("queued"), now);
    assert!(matches!(facts(&report)[..], [CampaignFact::Sent { .. }]));
    assert!(matches!(endings(report)[&3], Ending::Accepted { .. }));
    // What it comes to is followed, without a message.
    let report = ends(&mut account, &mut now, &GET_SEND_JOB, job("processing"));
    assert_eq!(facts(&report), [&CampaignFact::Job(JobStatus::Processing)]);
    let report = ends(&mut account, &mut now, &GET_SEND_JOB, job("complete"));
    assert_eq!(facts(&report), [&CampaignFact::Job(JobStatus::Complete)]);
    for (status, followed) in [("Sending", true), ("Sent", false)] {
        let report = ends(&mut account, &mut now, &GET_CAMPAIGN, campaign(status));
        let [CampaignFact::Read { campaign, followed: told }] = facts(&report)[..] else { panic!("read") };
        assert_eq!((campaign.status.as_str(), *told), (status, Some(followed)));
    }
    assert_eq!(account.wakes_at(now, &POLICY), None, "that is all");
}

#[test]
fn what_is_about_one_that_was_not_made_is_told() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, create(), now);
    add(&mut account, send(2, &made_by_first()), now);
    let refused = answer(400, r#"{"errors":[{"code":"invalid"}]}"#);
    assert_eq!(code(ends(&mut account, &mut now, &CREATE_CAMPAIGN, refused), 1), "invalid");
    let mut reports = Vec::new();
    assert!(account.next_call(now, &POLICY, &mut reports).is_none());
    assert_eq!(code(reports.remove(0), 2), "no_such_campaign");
    // Who comes later may name it all the same, once it was made.
    add(&mut account, Message { redriven: true, ..create() }, now);
    ends(&mut account, &mut now, &CREATE_CAMPAIGN, made());
    add(&mut account, send(3, &made_by_first()), now);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    assert_eq!(lane(&awaited(&mut account, &mut now)), &SEND_CAMPAIGN);
}

#[test]
fn one_is_made_once_whatever_becomes_of_the_answer() {
    for (found, again) in [(&["C"][..], false), (&[], true)] {
        let mut now = Instant::now();
        let mut account = account(now);
        add(&mut account, create(), now);
        ends(&mut account, &mut now, &CREATE_CAMPAIGN, Err(TransportError::Timeout));
        let lost_at = now;
        let report = loop {
            let call = awaited(&mut account, &mut now);
            if lane(&call) != &GET_CAMPAIGNS {
                assert!(
                    again && now > lost_at + POLICY.request_timeout + Duration::from_secs(9),
                    "it may still be made"
                );
                break settled(&mut account, call, made(), now);
            }
            let report = settled(&mut account, call, campaigns(found), now);
            if !report.outcomes.is_empty() {
                assert!(!again);
                break report;
            }
        };
        let Ending::Accepted { resource_id, .. } = &endings(report)[&1] else { panic!("made") };
        assert_eq!(resource_id.as_deref(), Some("C"));
    }
}

#[test]
fn anothers_is_not_taken_for_its_own() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, create(), now);
    ends(&mut account, &mut now, &CREATE_CAMPAIGN, made());
    let id = *Uuid::from_u128(2).as_bytes();
    let twin = Message { seq: 2, id, key: vec!["campaign:2".to_owned()], may_be_done: true, ..create() };
    add(&mut account, twin, now);
    let start = now;
    ends(&mut account, &mut now, &GET_CAMPAIGNS, campaigns(&["C"]));
    let report = ends(&mut account, &mut now, &GET_CAMPAIGNS, campaigns(&["D", "C"]));
    let Ending::Accepted { resource_id, .. } = &endings(report)[&2] else { panic!("made") };
    assert_eq!(resource_id.as_deref(), Some("D"), "C is the first message's");
    // One that has none of them is made, when it must have shown.
    let id = *Uuid::from_u128(3).as_bytes();
    let third = Message { seq: 3, id, key: vec!["campaign:3".to_owned()], may_be_done: true, ..create() };
    add(&mut account, third, now);
    loop {
        let call = awaited(&mut account, &mut now);
        if lane(&call) == &CREATE_CAMPAIGN {
            assert!(now > start + POLICY.request_timeout);
            break;
        }
        settled(&mut account, call, campaigns(&["C", "D"]), now);
    }
}

#[test]
fn what_is_no_draft_is_not_sent() {
    for status in ["Preparing to send", "Scheduled", "Sent", "Cancelled"] {
        let mut now = Instant::now();
        let mut account = account(now);
        add(&mut account, send(1, "C"), now);
        assert_eq!(code(ends(&mut account, &mut now, &GET_CAMPAIGN, campaign(status)), 1), "not_a_draft");
    }
}

/// Where it has been sent that is the end of it; where it may still be, or nobody knows, it is not sent again.
#[test]
fn one_is_sent_once_whatever_becomes_of_the_answer() {
    for lost in [Err(TransportError::Timeout), answer(500, ""), Err(TransportError::Lost("reset".to_owned()))]
    {
        for sent in [true, false] {
            let mut now = Instant::now();
            let mut account = account(now);
            add(&mut account, create(), now);
            ends(&mut account, &mut now, &CREATE_CAMPAIGN, made());
            add(&mut account, send(2, "C"), now);
            // However long it has waited before.
            now += Duration::from_secs(600);
            ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
            let lost = match &lost {
                Ok(answer) => Ok(Answer { body: Vec::new(), ..*answer }),
                Err(TransportError::Timeout) => Err(TransportError::Timeout),
                Err(error) => Err(TransportError::Lost(error.to_string())),
            };
            let report = ends(&mut account, &mut now, &SEND_CAMPAIGN, lost);
            assert!(matches!(endings(report)[&2], Ending::Retry { .. }));
            let (lost_at, mut asked) = (now, 0);
            loop {
                let mut reports = Vec::new();
                let Some(call) = account.next_call(now, &POLICY, &mut reports) else {
                    if let Some(report) = reports.pop() {
                        assert!(
                            !sent
                                && now > lost_at + POLICY.request_timeout + Duration::from_secs(9)
                                && asked > 3
                        );
                        assert_eq!(code(report, 2), AMBIGUOUS);
                        break;
                    }
                    now = account.wakes_at(now, &POLICY).expect("more to come");
                    continue;
                };
                assert_eq!(lane(&call), &GET_CAMPAIGN, "it must not go twice");
                asked += 1;
                let status = if sent && asked > 2 { "Sending" } else { "Draft" };
                let report = settled(&mut account, call, campaign(status), now);
                if !report.outcomes.is_empty() {
                    assert!(sent);
                    assert!(facts(&report).iter().any(|fact| matches!(fact, CampaignFact::Sent { .. })));
                    assert!(matches!(endings(report)[&2], Ending::Accepted { .. }));
                    break;
                }
            }
        }
    }
}

/// An earlier worker has written down that it goes, and was killed.
#[test]
fn one_that_may_have_been_sent_is_read_before_anything_else() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, Message { may_be_done: true, attempts: 1, ..send(1, "C") }, now);
    let report = ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Sent"));
    assert!(matches!(endings(report)[&1], Ending::Accepted { .. }));
}

#[test]
fn one_that_is_not_reached_is_sent_again() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, send(1, "C"), now);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    let refused = Err(TransportError::Connect("refused".to_owned()));
    let report = ends(&mut account, &mut now, &SEND_CAMPAIGN, refused);
    assert!(!report.outcomes[0].may_be_done);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    ends(&mut account, &mut now, &SEND_CAMPAIGN, job("queued"));
}

/// That Klaviyo is not there for anybody is no reason to put it aside; nor to send it unread.
#[test]
fn one_that_klaviyo_was_not_there_for_is_sent_once_it_is() {
    for sent in [true, false] {
        let mut now = Instant::now();
        let mut account = account(now);
        add(&mut account, send(1, "C"), now);
        ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
        let denied_at = now;
        let report = ends(&mut account, &mut now, &SEND_CAMPAIGN, answer(503, ""));
        assert!(matches!(endings(report)[&1], Ending::Retry { .. }));
        loop {
            let call = awaited(&mut account, &mut now);
            if lane(&call) == &SEND_CAMPAIGN {
                assert!(!sent && now > denied_at + POLICY.request_timeout);
                assert!(matches!(
                    endings(settled(&mut account, call, job("queued"), now))[&1],
                    Ending::Accepted { .. }
                ));
                break;
            }
            let report = settled(&mut account, call, campaign(if sent { "Sending" } else { "Draft" }), now);
            if !report.outcomes.is_empty() {
                assert!(sent && matches!(endings(report)[&1], Ending::Accepted { .. }));
                break;
            }
        }
    }
}

/// Klaviyo may not show at once that a campaign is being sent.
#[test]
fn one_that_was_just_sent_is_neither_sent_again_nor_told_to_be_cancelled() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, send(1, "C"), now);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    let sent_at = now;
    ends(&mut account, &mut now, &SEND_CAMPAIGN, job("queued"));
    add(&mut account, send(2, "C"), now);
    let mut asked = 0;
    while now < sent_at + Duration::from_secs(5) {
        let call = awaited(&mut account, &mut now);
        assert_ne!(lane(&call), &SEND_CAMPAIGN);
        let result = if lane(&call) == &GET_CAMPAIGN { campaign("Draft") } else { job("processing") };
        asked += usize::from(lane(&call) == &GET_CAMPAIGN);
        settled(&mut account, call, result, now);
    }
    assert!(asked > 1);
    loop {
        let call = awaited(&mut account, &mut now);
        let result = if lane(&call) == &GET_CAMPAIGN { campaign("Sending") } else { job("processing") };
        let report = settled(&mut account, call, result, now);
        if !report.outcomes.is_empty() {
            assert_eq!(code(report, 2), "not_a_draft");
            break;
        }
    }
    add(&mut account, cancel(3, "C"), now);
    let mut refused = 0;
    while refused < 2 {
        let call = awaited(&mut account, &mut now);
        let result = match lane(&call).name {
            "get-campaign" => campaign("Draft"),
            "cancel-campaign-send" => answer(400, r#"{"errors":[{"code":"invalid"}]}"#),
            _ => job("processing"),
        };
        refused += usize::from(lane(&call) == &CANCEL_SEND);
        assert!(settled(&mut account, call, result, now).outcomes.is_empty(), "it is not told to be done");
    }
    now += POLICY.request_timeout;
    loop {
        let call = awaited(&mut account, &mut now);
        let result = match lane(&call).name {
            "get-campaign" => campaign("Sending"),
            "cancel-campaign-send" => answer(204, ""),
            _ => job("processing"),
        };
        let report = settled(&mut account, call, result, now);
        if !report.outcomes.is_empty() {
            assert!(matches!(endings(report)[&3], Ending::Accepted { .. }));
            break;
        }
    }
}

/// It may be waiting under both its names before it is known that they are one campaign's.
#[test]
fn whatever_it_is_called_what_is_about_it_keeps_its_order() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, create(), now);
    add(&mut account, send(2, &made_by_first()), now);
    add(&mut account, Message { wait: Duration::from_secs(600), ..cancel(3, "C") }, now);
    ends(&mut account, &mut now, &CREATE_CAMPAIGN, made());
    let mut reports = Vec::new();
    account.next_call(now, &POLICY, &mut reports);
    assert!(matches!(endings(reports.remove(0))[&2], Ending::Discarded { .. }));
}

#[test]
fn an_outage_is_not_found_to_be_over_by_a_campaign() {
    let mut now = Instant::now();
    let mut account = account(now);
    (1..=20).for_each(|seq| add(&mut account, send(seq, &format!("C{seq}")), now));
    let (mut lost, start) = (0, now);
    while now < start + Duration::from_secs(20) {
        let call = awaited(&mut account, &mut now);
        let result = if lane(&call) == &SEND_CAMPAIGN { answer(500, "") } else { campaign("Draft") };
        lost += usize::from(lane(&call) == &SEND_CAMPAIGN && call.purpose == Purpose::Deliver);
        settled(&mut account, call, result, now);
    }
    let under_way = lost;
    while now < start + Duration::from_secs(300) {
        let call = awaited(&mut account, &mut now);
        let result = if lane(&call) == &SEND_CAMPAIGN { answer(500, "") } else { campaign("Draft") };
        lost += usize::from(lane(&call) == &SEND_CAMPAIGN && call.purpose == Purpose::Deliver);
        settled(&mut account, call, result, now);
    }
    assert_eq!(lost, under_way, "those that were under way when it began, and no more");
    assert!(lost < 20, "{lost}");
}

/// It is made, but the answer does not say under which id.
#[test]
fn one_whose_answer_is_cut_off_is_found() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, create(), now);
    let report = ends(&mut account, &mut now, &CREATE_CAMPAIGN, answer(201, r#"{"data":{"type":"camp"#));
    assert!(matches!(endings(report)[&1], Ending::Retry { .. }));
    let report = ends(&mut account, &mut now, &GET_CAMPAIGNS, campaigns(&["C"]));
    assert!(matches!(facts(&report)[..], [CampaignFact::Made { .. }]));
}

#[test]
fn what_is_cancelled_while_it_waits_is_not_sent() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, send(1, "C"), now);
    add(&mut account, cancel(2, "C"), now);
    let mut reports = Vec::new();
    let call = account.next_call(now, &POLICY, &mut reports);
    let by = *Uuid::from_u128(2).as_bytes();
    assert_eq!(endings(reports.remove(0))[&1], Ending::Discarded { by });
    // That it is a draft need not be true any more, so it is cancelled all the same.
    let call = call.unwrap_or_else(|| awaited(&mut account, &mut now));
    assert_eq!(lane(&call), &GET_CAMPAIGN);
    settled(&mut account, call, campaign("Draft"), now);
    let refused = answer(400, r#"{"errors":[{"code":"invalid"}]}"#);
    let report = ends(&mut account, &mut now, &CANCEL_SEND, refused);
    assert!(matches!(endings(report)[&2], Ending::Accepted { .. }), "nothing was to be cancelled");
}

/// Klaviyo may be sending it: that is told first.
#[test]
fn what_may_have_been_sent_is_not_taken_back_by_a_cancellation_that_waits() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, Message { may_be_done: true, attempts: 1, ..send(1, "C") }, now);
    add(&mut account, cancel(2, "C"), now);
    let report = ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Sending"));
    assert!(matches!(endings(report)[&1], Ending::Accepted { .. }));
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Sending"));
    ends(&mut account, &mut now, &CANCEL_SEND, answer(204, ""));
}

#[test]
fn what_is_being_sent_is_cancelled_and_followed() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, cancel(1, "C"), now);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Scheduled"));
    let report = ends(&mut account, &mut now, &CANCEL_SEND, answer(204, ""));
    assert_eq!(facts(&report), [&CampaignFact::Cancelled]);
    ends(&mut account, &mut now, &GET_SEND_JOB, job("cancelled"));
    let report = ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Draft"));
    assert!(matches!(facts(&report)[..], [CampaignFact::Read { followed: Some(false), .. }]));
    add(&mut account, cancel(2, "C"), now);
    assert_eq!(code(ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Sent")), 2), "too_late");
    add(&mut account, cancel(3, "C"), now);
    let report = ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Cancelled"));
    assert!(matches!(endings(report)[&3], Ending::Accepted { .. }), "it is");
}

#[test]
fn recipients_are_counted_and_told() {
    let mut now = Instant::now();
    let mut account = account(now);
    add(&mut account, estimate(1, "C"), now);
    assert!(ends(&mut account, &mut now, &ESTIMATE_RECIPIENTS, job("queued")).outcomes.is_empty());
    ends(&mut account, &mut now, &GET_ESTIMATION_JOB, job("processing"));
    // Nobody waits for it.
    add(&mut account, cancel(2, "C"), now);
    ends(&mut account, &mut now, &GET_CAMPAIGN, campaign("Cancelled"));
    loop {
        let call = awaited(&mut account, &mut now);
        let is_count = lane(&call) == &GET_ESTIMATION_JOB;
        settled(&mut account, call, if is_count { job("complete") } else { campaign("Cancelled") }, now);
        if is_count {
            break;
        }
    }
    let counted = r#"{"data":{"id":"C","attributes":{"estimated_recipient_count":7}}}"#;
    let report = ends(&mut account, &mut now, &GET_ESTIMATION, answer(200, counted));
    assert_eq!(facts(&report), [&CampaignFact::Recipients(7)]);
    let Some(Ending::Accepted { answer: Some(answer), .. }) = endings(report).remove(&1) else {
        panic!("an answer");
    };
    assert_eq!(answer.body.as_deref(), Some(counted));
}

/// Who sends one has said when it is to go, and that was long ago.
#[test]
fn a_stale_one_is_not_sent() {
    for action in [StaleAction::Backfill, StaleAction::DeadLetter] {
        let mut now = Instant::now();
        let mut account = account(now);
        account.queue().stale = Some(Stale { after: Duration::from_secs(3_600), action });
        add(&mut account, send(1, "C"), now);
        let mut reports = Vec::new();
        assert!(account.next_call(now, &POLICY, &mut reports).is_none());
        assert_eq!(code(reports.remove(0), 1), "stale");
        add(&mut account, Message { redriven: true, ..send(2, "C") }, now);
        assert!(next(&mut account, now).is_some(), "a person wants it");
        add(&mut account, Message { may_be_done: true, attempts: 1, ..send(3, "D") }, now);
        assert_eq!(lane(&awaited(&mut account, &mut now)), &GET_CAMPAIGN, "it may have been sent");
    }
}

#[test]
fn campaigns_that_are_followed_leave_most_of_their_lanes_to_others() {
    let start = Instant::now();
    let mut account = account(start);
    (0..100).for_each(|number| account.watch(format!("C{number}"), None, start));
    let (mut now, mut calls) = (start, 0);
    while now < start + Duration::from_secs(60) {
        let call = awaited(&mut account, &mut now);
        calls += 1;
        let result = if lane(&call) == &GET_CAMPAIGN { campaign("Sending") } else { job("processing") };
        settled(&mut account, call, result, now);
    }
    assert!((50..=61).contains(&calls), "{calls}");
    // One of which Klaviyo knows nothing is followed no more; nor is any followed twice.
    account.watches = Watches::default();
    (0..2).for_each(|_| account.watch("C".to_owned(), None, now));
    for (status, followed) in [("Sending", false), ("Scheduled", true)] {
        ends(&mut account, &mut now, &GET_SEND_JOB, job("complete"));
        now += Duration::from_secs(31 * 24 * 60 * 60);
        let report = ends(&mut account, &mut now, &GET_CAMPAIGN, campaign(status));
        let [CampaignFact::Read { followed: told, .. }] = facts(&report)[..] else { panic!("read") };
        assert_eq!(*told, Some(followed), "{status} for a month");
        account.watch("C".to_owned(), None, now);
    }
    let unknown = || answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
    ends(&mut account, &mut now, &GET_SEND_JOB, unknown());
    let report = ends(&mut account, &mut now, &GET_CAMPAIGN, unknown());
    assert_eq!(facts(&report), [&CampaignFact::Left]);
    assert_eq!(account.wakes_at(now, &POLICY), None);
}
