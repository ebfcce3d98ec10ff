use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use klaviyo::{
    Answer, BULK_IMPORT_PROFILES, ENDPOINTS, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS,
    TransportError, UPSERT_PROFILE, ask_import_job,
};

use super::*;
use crate::call::tests::{BACKLOG, POLICY, SOON, account, add, answer, message, next, seqs, settled as end};
use crate::key;
use crate::message::Message;

const SECOND: Duration = Duration::from_secs(1);
const NO_JOBS: &str = r#"{"data":[]}"#;

fn lane(call: &Call) -> &'static Endpoint {
    ENDPOINTS[call.lane]
}

fn profile(seq: i64) -> Message {
    Message { key: vec![format!("external_id:{seq}")], ..message(seq, "profile", &seq.to_string()) }
}

fn profiles(account: &mut Account, now: Instant) {
    (1..=BACKLOG).for_each(|seq| add(account, profile(seq), now));
}

/// An account whose key may ask about jobs, with profiles waiting.
fn with_profiles(now: Instant) -> Account {
    let mut account = account(now);
    profiles(&mut account, now);
    let tried = next(&mut account, now).expect("a question");
    assert_eq!(lane(&tried), &GET_IMPORT_JOBS);
    end(&mut account, tried, answer(200, NO_JOBS), now);
    account
}

fn job(status: &str, total: i64, failed: usize) -> String {
    format!(
        r#"{{"type":"profile-bulk-import-job","id":"01J","attributes":{{"status":"{status}","created_at":"2026-01-01T00:00:00Z","total_count":{total},"failed_count":{failed}}}}}"#
    )
}

fn about(job: &str) -> Result<Answer, TransportError> {
    answer(200, &format!(r#"{{"data":{job}}}"#))
}

/// How a job ended, and how that was for each message.
fn endings(report: Report) -> (ImportEnding, BTreeMap<i64, Ending>) {
    let [ImportReport { step: ImportStep::Ended { ending, .. }, .. }] = report.imports[..] else {
        panic!("it has not ended: {:?}", report.imports);
    };
    (ending, report.outcomes.into_iter().map(|outcome| (outcome.seq, outcome.ending)).collect())
}

/// The messages of a job that is over are read again, as the worker does.
fn recall(account: &mut Account, over: Report, now: Instant) -> (ImportEnding, BTreeMap<i64, Ending>) {
    let [ImportReport { id, step: ImportStep::Over { .. } }] = over.imports[..] else {
        panic!("it is not over: {:?}", over.imports);
    };
    assert!(over.outcomes.is_empty());
    let messages = (0..BACKLOG).map(|place| (profile(place + 1), place as usize)).collect();
    endings(account.recall(id, messages, true, (now, &POLICY)).expect("a report"))
}

/// Makes a job of what waits.
fn made(account: &mut Account, now: Instant) -> ImportId {
    let call = next(account, now).expect("a call of many");
    assert_eq!(lane(&call), &BULK_IMPORT_PROFILES);
    let (id, _) = call.announcement().expect("it is announced");
    let report = end(account, call, about(&job("queued", BACKLOG, 0)).map(accepted), now);
    let [ImportReport { id: made, step: ImportStep::Made { klaviyo_id, messages, locks } }] =
        &report.imports[..]
    else {
        panic!("it is not made: {:?}", report.imports);
    };
    assert_eq!((*made, klaviyo_id.as_deref(), locks.len()), (id, Some("01J"), messages.len()));
    assert!(messages.iter().copied().eq(1..=BACKLOG));
    assert!(report.outcomes.is_empty());
    id
}

/// A list of jobs.
fn list(jobs: &[String]) -> Result<Answer, TransportError> {
    answer(200, &format!(r#"{{"data":[{}]}}"#, jobs.join(",")))
}

fn accepted(answer: Answer) -> Answer {
    Answer { status: 202, ..answer }
}

/// The next question, which is in that lane.
fn question(account: &mut Account, endpoint: &Endpoint, now: Instant) -> Call {
    let call = next(account, now).expect("a question");
    assert_eq!(lane(&call), endpoint);
    call
}

#[test]
fn a_job_is_announced_made_and_followed_to_its_end() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    let (id, report) = call.announcement().expect("it is announced");
    let messages = (1..=BACKLOG).map(|seq| (seq, usize::try_from(seq - 1).expect("small"))).collect();
    assert_eq!(report.imports, [ImportReport { id, step: ImportStep::Announced { messages } }]);
    end(&mut account, call, about(&job("queued", BACKLOG, 0)).map(accepted), now);
    // A later message of one of the keys waits for the job, and not in memory.
    let later = message(BACKLOG + 1, "profile", "external_id:7");
    let parked = account.queue().add(later.clone(), now).expect("it is parked");
    assert_eq!(parked.seq, later.seq);
    assert!(next(&mut account, now).is_none());
    let asks = account.wakes_at(now, &POLICY).expect("it is asked about");
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks);
    assert!(end(&mut account, asked, list(&[job("processing", BACKLOG, 0)]), asks).imports.is_empty());
    assert!(next(&mut account, asks).is_none(), "not at once again");
    let asks = account.wakes_at(asks, &POLICY).expect("it is asked about");
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks);
    let over = end(&mut account, asked, list(&[job("complete", BACKLOG, 0)]), asks);
    assert!(next(&mut account, asks).is_none(), "the keys are locked until what has become of it is known");
    let (ending, endings) = recall(&mut account, over, asks);
    assert_eq!((ending, endings.len()), (ImportEnding::Complete, 1_500));
    assert!(endings.values().all(|ending| matches!(ending, Ending::Accepted { status: 202, .. })));
    add(&mut account, later, asks);
    let later = next(&mut account, asks).expect("the later message");
    assert_eq!((seqs(&later), lane(&later)), (vec![BACKLOG + 1], &UPSERT_PROFILE));
}

#[test]
fn what_a_job_could_not_import_goes_by_itself() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    made(&mut account, now);
    let asks = now + SECOND;
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks);
    end(&mut account, asked, list(&[job("complete", BACKLOG, 3)]), asks);
    let error = |pointer: &str, payload: &str| {
        format!(
            r#"{{"id":"e","type":"import-error","attributes":{{"code":"invalid","title":"No","detail":"no","source":{{"pointer":"{pointer}"}},"original_payload":{payload}}}}}"#
        )
    };
    let page = |errors: &[String], next: &str| {
        answer(200, &format!(r#"{{"data":[{}],"links":{{"self":"x"{next}}}}}"#, errors.join(",")))
    };
    // By its place, by its place though nothing else is said, and by its identifier where the place is another's.
    let errors = [
        error("/data/attributes/profiles/data/4/attributes/title", r#"{"attributes":{"external_id":"5"}}"#),
        error("/data/attributes/profiles/data/9", "null"),
    ];
    let asked = question(&mut account, &GET_IMPORT_ERRORS, asks);
    let next_page = r#","next":"https://k.example/x?page%5Bcursor%5D=abc&page%5Bsize%5D=20""#;
    assert!(end(&mut account, asked, page(&errors, next_page), asks).outcomes.is_empty());
    let asked = question(&mut account, &GET_IMPORT_ERRORS, asks);
    let errors = [error("/data/attributes/profiles/data/20", r#"{"external_id":"8"}"#)];
    let over = end(&mut account, asked, page(&errors, ""), asks);
    let (_, endings) = recall(&mut account, over, asks);
    let again: Vec<i64> = endings
        .iter()
        .filter(|(_, ending)| matches!(ending, Ending::Retry { failure, .. } if failure.code == "invalid"))
        .map(|(seq, _)| *seq)
        .collect();
    assert_eq!(again, [5, 8, 10]);
    let accepted = endings.values().filter(|ending| matches!(ending, Ending::Accepted { .. })).count();
    assert_eq!(accepted, 1_497);
    for seq in [5, 8, 10] {
        let call = next(&mut account, asks).expect("a call of its own");
        assert_eq!((seqs(&call), lane(&call)), (vec![seq], &UPSERT_PROFILE));
    }
}

/// A job is complete, with so many failures, or it does not say how many; what it answers who asks for them, and when.
fn complete(
    failed: Option<usize>,
    errors: &[Result<Answer, TransportError>],
) -> (Account, BTreeMap<i64, Ending>) {
    let mut now = Instant::now();
    let mut account = with_profiles(now);
    made(&mut account, now);
    now += SECOND;
    let asked = question(&mut account, &GET_IMPORT_JOBS, now);
    let job = job("complete", BACKLOG, failed.unwrap_or(77));
    let job = if failed.is_none() { job.replace("77", "null") } else { job };
    end(&mut account, asked, list(&[job]), now);
    let mut over = None;
    for answer in errors {
        assert!(over.is_none(), "it is not over yet");
        let asked = question(&mut account, &GET_IMPORT_ERRORS, now);
        let answer = match answer {
            Ok(Answer { status, body, .. }) => {
                crate::call::tests::answer(*status, &String::from_utf8_lossy(body))
            }
            Err(_) => Err(TransportError::Timeout),
        };
        let report = end(&mut account, asked, answer, now);
        over = (!report.imports.is_empty()).then_some(report);
        now += SECOND * 200;
    }
    let (ending, endings) = recall(&mut account, over.expect("it is over"), now);
    assert_eq!(ending, ImportEnding::Complete);
    (account, endings)
}

fn errors(places: &[&str]) -> Result<Answer, TransportError> {
    let error = |place: &&str| {
        format!(
            r#"{{"id":"e","type":"import-error","attributes":{{"code":"invalid","title":"No","detail":"no","source":{{"pointer":"/data{place}"}}}}}}"#
        )
    };
    let errors: Vec<String> = places.iter().map(error).collect();
    answer(200, &format!(r#"{{"data":[{}],"links":{{"self":"x"}}}}"#, errors.join(",")))
}

const FOURTH: &str = "/attributes/profiles/data/4";

#[test]
fn where_not_each_failure_is_found_none_is_taken_for_imported() {
    let title = format!("{FOURTH}/attributes/title");
    let refused = || answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
    let unreadable = || answer(200, "nonsense");
    for (what, failed, answers) in [
        ("about none of them", 1, vec![errors(&[""])]),
        ("two about one", 2, vec![errors(&[FOURTH, &title])]),
        ("one is none", 2, vec![answer(200, r#"{"data":[{"id":1}],"links":{}}"#)]),
        ("they are not known", 3, vec![refused(), refused(), refused()]),
        ("they cannot be read", 3, vec![unreadable(), unreadable(), unreadable()]),
    ] {
        let (mut account, endings) = complete(Some(failed), &answers);
        assert!(endings.values().all(|ending| matches!(ending, Ending::Retry { .. })), "{what}");
        let later = Instant::now() + SECOND * 900;
        let calls = std::iter::from_fn(|| next(&mut account, later)).take(2);
        assert_eq!(calls.map(|call| call.carried.messages.len()).max(), Some(750), "{what}: half of them");
    }
}

#[test]
fn a_job_that_does_not_say_how_many_failed_is_asked_which() {
    for (answers, failed) in [([errors(&[])], 0), ([errors(&[FOURTH])], 1), ([errors(&[FOURTH, FOURTH])], 1)]
    {
        let (_, endings) = complete(None, &answers);
        let retried = endings.values().filter(|ending| matches!(ending, Ending::Retry { .. })).count();
        assert_eq!((retried, endings.len()), (failed, 1_500));
    }
}

#[test]
fn what_cannot_be_read_of_others_jobs_is_in_nobodys_way() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    made(&mut account, now);
    let asks = now + SECOND;
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks);
    assert!(end(&mut account, asked, answer(200, "nonsense"), asks).imports.is_empty());
    let asks = asks + SECOND;
    let asked = question(&mut account, &GET_IMPORT_JOB, asks);
    assert!(end(&mut account, asked, answer(200, "nonsense"), asks).imports.is_empty());
    let later = asks + SECOND * 400;
    let asked = question(&mut account, &GET_IMPORT_JOB, later);
    let over = end(&mut account, asked, answer(200, "nonsense"), later);
    assert_eq!(recall(&mut account, over, later).0, ImportEnding::Lost);

    let mut account = with_profiles(now);
    made(&mut account, now);
    let asks = now + SECOND;
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks);
    let another =
        r#"{"type":"profile-bulk-import-job","id":"02J","attributes":{"status":"resting"}}"#.to_owned();
    let over = end(&mut account, asked, list(&[another, job("complete", BACKLOG, 0)]), asks);
    assert_eq!(recall(&mut account, over, asks).0, ImportEnding::Complete);
}

#[test]
fn a_call_without_an_answer_may_have_made_a_job() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    let report = end(&mut account, call, Err(TransportError::Timeout), now);
    assert!(matches!(report.imports[0].step, ImportStep::Made { klaviyo_id: None, .. }), "nothing is known");
    assert!(report.outcomes.is_empty());
    let another = |job: String| job.replace("01J", "02J");
    let unlike = another(job("processing", BACKLOG - 1, 0));
    let two_like = [job("processing", BACKLOG, 0), another(job("queued", BACKLOG, 0)), unlike.clone()];
    // Too early, then two like it are under way. What somebody makes later cannot be it, and nobody looks for that.
    for (after, jobs) in [(1, &[unlike][..]), (31, &two_like)] {
        let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND * after);
        assert!(end(&mut account, asked, list(jobs), now + SECOND * after).imports.is_empty());
        assert!(next(&mut account, now + SECOND * after).is_none(), "after {after} s");
    }
    let stands = [(62, another(job("processing", BACKLOG, 0))), (93, another(job("complete", BACKLOG, 0)))];
    for (after, stands) in stands.into_iter().chain([(124, job("queued", BACKLOG, 0))]) {
        let asked = question(&mut account, &GET_IMPORT_JOB, now + SECOND * after);
        assert!(end(&mut account, asked, about(&stands), now + SECOND * after).imports.is_empty());
        assert!(next(&mut account, now + SECOND * after).is_none(), "after {after} s");
    }
    let then = now + SECOND * 155;
    let asked = question(&mut account, &GET_IMPORT_JOB, then);
    let over = end(&mut account, asked, about(&job("cancelled", BACKLOG, 0)), then);
    let (ending, endings) = recall(&mut account, over, then);
    assert_eq!((ending, endings.len()), (ImportEnding::Lost, 1_500));
    assert!(endings.values().all(|ending| matches!(ending, Ending::Retry { .. })));
    let again = next(&mut account, then + SECOND).expect("half of them go again");
    assert_eq!((lane(&again), again.carried.messages.len()), (&BULK_IMPORT_PROFILES, 750));
}

#[test]
fn a_call_without_an_answer_has_made_no_job_where_none_is_like_it() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    end(&mut account, call, Err(TransportError::Timeout), now);
    let then = now + SECOND * 31;
    let asked = question(&mut account, &GET_IMPORT_JOBS, then);
    let over = end(&mut account, asked, list(&[job("processing", BACKLOG - 1, 0)]), then);
    assert_eq!(recall(&mut account, over, then).0, ImportEnding::Lost);
}

/// The one like it is on the second page; of another that is, Klaviyo will not say how it stands.
#[test]
fn what_is_like_a_job_is_looked_for_on_all_pages_and_each_is_waited_for() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    end(&mut account, call, Err(TransportError::Timeout), now);
    let then = now + SECOND * 31;
    let asked = question(&mut account, &GET_IMPORT_JOBS, then);
    let next_page = "https://a.klaviyo.com/api/profile-bulk-import-jobs?page%5Bcursor%5D=second";
    let first = job("processing", BACKLOG - 1, 0);
    let first = answer(200, &format!(r#"{{"data":[{first}],"links":{{"next":"{next_page}"}}}}"#));
    assert!(end(&mut account, asked, first, then).imports.is_empty());
    let asked = question(&mut account, &GET_IMPORT_JOBS, then);
    assert_eq!(asked.request, Some(ask_open_import_jobs(Some("second"))));
    let like = [job("processing", BACKLOG, 0), job("processing", BACKLOG, 0).replace("01J", "02J")];
    assert!(end(&mut account, asked, list(&like), then).imports.is_empty());
    let (soon, later) = (then + SECOND * 31, then + SECOND * 400);
    for at in [soon, later] {
        let asked = question(&mut account, &GET_IMPORT_JOB, at);
        assert_eq!(asked.request, Some(ask_import_job("02J")));
        let unknown = answer(404, r#"{"errors":[{"code":"not_found"}]}"#);
        assert!(end(&mut account, asked, unknown, at).imports.is_empty(), "the other may be it");
    }
    let last = later + SECOND * 31;
    let asked = question(&mut account, &GET_IMPORT_JOB, last);
    assert_eq!(asked.request, Some(ask_import_job("01J")));
    let over = end(&mut account, asked, about(&job("complete", BACKLOG, 0)), last);
    assert_eq!(recall(&mut account, over, last).0, ImportEnding::Lost);
}

#[test]
fn what_is_refused_makes_no_job() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    let (ending, endings) =
        endings(end(&mut account, call, answer(400, r#"{"errors":[{"code":"invalid"}]}"#), now));
    assert_eq!((ending, endings.len()), (ImportEnding::Refused, 1_500));
    let half = next(&mut account, now + SOON).expect("half of them");
    assert_eq!(half.carried.messages.len(), 750);
}

#[test]
fn a_job_that_klaviyo_cancels_is_done_again() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    made(&mut account, now);
    let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND);
    let over = end(&mut account, asked, list(&[job("cancelled", BACKLOG, 0)]), now + SECOND);
    let (ending, endings) = recall(&mut account, over, now + SECOND);
    assert_eq!(ending, ImportEnding::Cancelled);
    assert!(endings.values().all(|ending| matches!(ending, Ending::Retry { .. })));
}

#[test]
fn a_key_that_may_not_ask_about_jobs_makes_none() {
    let now = Instant::now();
    let mut account = account(now);
    profiles(&mut account, now);
    let tried = question(&mut account, &GET_IMPORT_JOBS, now);
    let refused = r#"{"errors":[{"code":"permission_denied"}]}"#;
    let report = end(&mut account, tried, answer(403, refused), now);
    assert_eq!(report.account_state, None, "calls of one do as well");
    let call = next(&mut account, now).expect("a call");
    assert_eq!(lane(&call), &UPSERT_PROFILE);
    let later = now + TRY_AGAIN;
    question(&mut account, &GET_IMPORT_JOBS, later);
}

#[test]
fn a_job_of_an_earlier_life_locks_its_keys() {
    let now = Instant::now();
    let mut account = account(now);
    let id = new_id();
    let klaviyo_id = Some("01J".to_owned());
    let keys = vec![vec!["1".to_owned()], vec!["2".to_owned(), "also 2".to_owned()]];
    let sent_at = SystemTime::UNIX_EPOCH;
    let locks = keys.iter().flat_map(|key| key::identifiers(key)).collect();
    account.follow(PastImport { id, klaviyo_id, messages: 2, profiles: 2, sent_at, keys, locks }, now);
    for (seq, key, locked) in [(3, "1", true), (4, "also 2", true), (5, "3", false)] {
        let parked = account.queue().add(message(seq, "profile", key), now);
        assert_eq!(parked.map(|parked| parked.seq), locked.then_some(seq));
    }
    assert_eq!(seqs(&next(&mut account, now).expect("who is not in the job")), [5]);
    assert!(next(&mut account, now).is_none());
    let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND);
    end(&mut account, asked, list(&[job("complete", 2, 0)]), now + SECOND);
    let messages = vec![(message(1, "profile", "1"), 0), (message(2, "profile", "2"), 1)];
    let report = account.recall(id, messages, true, (now + SECOND, &POLICY)).expect("a report");
    assert_eq!(endings(report).1.len(), 2);
    for (seq, key) in [(3, "1"), (4, "also 2")] {
        add(&mut account, message(seq, "profile", key), now);
        assert_eq!(seqs(&next(&mut account, now + SECOND).expect("the later state")), [seq]);
    }
}

/// However many there are, they are asked about at once; one that is not among the latest by itself.
#[test]
fn many_jobs_are_asked_about_at_once() {
    let now = Instant::now();
    let mut account = account(now);
    let past = |n: u32| PastImport {
        id: [n as u8; 16],
        klaviyo_id: Some(n.to_string()),
        messages: 1,
        profiles: 1,
        sent_at: SystemTime::UNIX_EPOCH,
        keys: Vec::new(),
        locks: Arc::default(),
    };
    (1..=20).for_each(|n| account.follow(past(n), now));
    let asks = now + SECOND;
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks);
    assert!(next(&mut account, asks).is_none());
    // Made while the question is under way.
    account.follow(past(21), asks + SECOND / 10);
    let named = |n: u32, status: &str| job(status, 1, 0).replace("01J", &n.to_string());
    let jobs: Vec<String> = (2..=20).map(|n| named(n, if n <= 19 { "complete" } else { "queued" })).collect();
    let report = end(&mut account, asked, list(&jobs), asks);
    assert_eq!(report.imports.len(), 18);
    let asked = question(&mut account, &GET_IMPORT_JOB, asks);
    assert_eq!(end(&mut account, asked, about(&named(1, "complete")), asks).imports.len(), 1);
    assert!(next(&mut account, asks + SECOND / 2).is_none(), "not so soon again");
    let asked = question(&mut account, &GET_IMPORT_JOBS, asks + SECOND * 2);
    let jobs = [named(20, "complete"), named(21, "complete")];
    assert_eq!(end(&mut account, asked, list(&jobs), asks + SECOND * 2).imports.len(), 2);
}

#[test]
fn as_much_is_in_jobs_as_may_be() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let sent_at = SystemTime::UNIX_EPOCH;
    let id = new_id();
    let klaviyo_id = Some("01J".to_owned());
    account.follow(
        PastImport {
            id,
            klaviyo_id,
            messages: MOST,
            profiles: 1,
            sent_at,
            keys: Vec::new(),
            locks: Arc::default(),
        },
        now,
    );
    assert_eq!(lane(&next(&mut account, now).expect("a call")), &UPSERT_PROFILE);
    let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND);
    end(&mut account, asked, list(&[job("complete", 1, 0)]), now + SECOND);
    assert_eq!(lane(&next(&mut account, now + SECOND).expect("a call")), &UPSERT_PROFILE);
    account.recall(id, Vec::new(), true, (now + SECOND, &POLICY)).expect("a report");
    assert_eq!(lane(&next(&mut account, now + SECOND).expect("a call")), &BULK_IMPORT_PROFILES);
}

#[test]
fn states_of_a_profile_are_one_profile_of_a_job() {
    let now = Instant::now();
    let mut account = account(now);
    for seq in 1..=2 * BACKLOG {
        account.queue().add(message(seq, "profile", &(seq % BACKLOG).to_string()), now);
    }
    let tried = question(&mut account, &GET_IMPORT_JOBS, now);
    end(&mut account, tried, answer(200, NO_JOBS), now);
    let call = next(&mut account, now).expect("a call of many");
    assert_eq!(call.carried.messages.len(), 3_000);
    assert_eq!(call.carried.profiles(), 1_500);
    let (_, report) = call.announcement().expect("it is announced");
    let [ImportReport { step: ImportStep::Announced { ref messages }, .. }] = report.imports[..] else {
        panic!("so")
    };
    assert_eq!(messages[..4], [(1, 0), (1 + BACKLOG, 0), (2, 1), (2 + BACKLOG, 1)]);
}

#[test]
fn a_removed_account_leaves_nothing_locked() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let id = made(&mut account, now);
    account.forget(now);
    let session = klaviyo::Session::new("http://127.0.0.1:1", klaviyo::REVISION, "pk").expect("a session");
    account.set(
        crate::AccountOptions {
            name: "default".into(),
            session: Some(session),
            rate_share: 1e6,
            place: None,
            stale: None,
        },
        now,
    );
    assert!(account.recall(id, vec![(profile(1), 0)], true, (now, &POLICY)).is_none());
    profiles(&mut account, now);
    let tried = question(&mut account, &GET_IMPORT_JOBS, now);
    end(&mut account, tried, answer(200, NO_JOBS), now);
    made(&mut account, now + SOON);
}

/// What one call could not say of a profile goes in two, one after the other.
#[test]
fn of_states_that_do_not_merge_one_is_in_a_job() {
    let now = Instant::now();
    let mut account = account(now);
    for seq in 1..=2 * BACKLOG {
        let key = (seq % BACKLOG).to_string();
        let part = if seq <= BACKLOG { "city" } else { "zip" };
        let payload = format!(r#"{{"external_id":"{key}","location":{{"{part}":"x"}}}}"#);
        account.queue().add(Message { payload, ..message(seq, "profile", &key) }, now);
    }
    let tried = question(&mut account, &GET_IMPORT_JOBS, now);
    end(&mut account, tried, answer(200, NO_JOBS), now);
    let call = next(&mut account, now).expect("a call of many");
    assert_eq!(seqs(&call), (1..=BACKLOG).collect::<Vec<_>>());
    assert!(next(&mut account, now).is_none(), "the others wait for the job");
}

#[test]
fn a_key_that_may_not_make_jobs_holds_nothing_up() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    let report = end(&mut account, call, answer(403, r#"{"errors":[{"code":"permission_denied"}]}"#), now);
    assert_eq!(report.account_state, None);
    let (ending, endings) = endings(report);
    assert_eq!((ending, endings.len()), (ImportEnding::Refused, 1_500));
    let call = next(&mut account, now).expect("a call of one, at once");
    assert_eq!((lane(&call), seqs(&call)), (&UPSERT_PROFILE, vec![1]));
}

#[test]
fn a_job_that_may_not_be_asked_about_is_given_up() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    made(&mut account, now);
    let refused = || answer(403, r#"{"errors":[{"code":"permission_denied"}]}"#);
    let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND);
    assert!(end(&mut account, asked, refused(), now + SECOND).imports.is_empty(), "not at once");
    (2_001..=4_000).for_each(|seq| add(&mut account, profile(seq), now));
    assert_eq!(lane(&next(&mut account, now + SECOND).expect("a call")), &UPSERT_PROFILE, "no more are made");
    let later = now + SECOND * 400;
    let asked = question(&mut account, &GET_IMPORT_JOBS, later);
    let over = end(&mut account, asked, refused(), later);
    let (ending, endings) = recall(&mut account, over, later);
    assert_eq!(ending, ImportEnding::Lost);
    assert!(endings.values().all(|ending| matches!(ending, Ending::Retry { .. })));
}

/// What was handed in before could else come when nothing is locked any more, and what was handed in later before it.
#[test]
fn a_job_is_not_over_while_something_may_come_that_is_about_it() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let call = next(&mut account, now).expect("a call of many");
    let made = account.ended(call, about(&job("queued", BACKLOG, 0)).map(accepted), now, &POLICY);
    let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND);
    let report = end(&mut account, asked, list(&[job("complete", BACKLOG, 0)]), now + SECOND);
    assert!(report.imports.is_empty());
    assert!(account.queue().add(message(BACKLOG + 1, "profile", "external_id:7"), now).is_some());
    let report = account.barred(made.imports[0].id).expect("it is over");
    assert!(matches!(report.imports[..], [ImportReport { step: ImportStep::Over { .. }, .. }]));
    assert!(account.barred([0; 16]).is_none(), "of a removed account");
}

#[test]
fn of_a_job_with_nothing_in_doubt_the_messages_come_back_in_parts() {
    let now = Instant::now();
    let mut account = with_profiles(now);
    let id = made(&mut account, now);
    let later = message(BACKLOG + 1, "profile", "external_id:7");
    assert!(account.queue().add(later.clone(), now).is_some());
    let asked = question(&mut account, &GET_IMPORT_JOBS, now + SECOND);
    let over = end(&mut account, asked, list(&[job("complete", BACKLOG, 0)]), now + SECOND);
    assert_eq!(
        over.imports,
        [ImportReport { id, step: ImportStep::Over { in_doubt: false, messages: 1_500 } }]
    );
    let part = |seqs: std::ops::RangeInclusive<i64>| seqs.map(|seq| (profile(seq), 0)).collect::<Vec<_>>();
    let first = account.recall(id, part(1..=1_000), false, (now, &POLICY)).expect("a report");
    assert!(first.imports.is_empty() && first.outcomes.len() == 1_000);
    assert!(first.outcomes.iter().all(|it| it.attempts == 1 && matches!(it.ending, Ending::Accepted { .. })));
    assert!(next(&mut account, now).is_none(), "the keys are locked until all is known");
    let second = account.recall(id, part(1_001..=1_500), true, (now, &POLICY)).expect("a report");
    assert_eq!((second.imports.len(), second.outcomes.len()), (1, 500));
    add(&mut account, later, now);
    assert_eq!(seqs(&next(&mut account, now).expect("the later message")), [BACKLOG + 1]);
    // What the job has imported is known to be the newer of two states.
    account.queue().add(Message { redriven: true, ..profile(1) }, now);
    let mut reports = Vec::new();
    assert!(account.next_call(now, &POLICY, &mut reports).is_some());
    account.queue().add(Message { redriven: true, seq: 0, ..profile(9) }, now);
    assert!(account.next_call(now, &POLICY, &mut reports).is_none());
    assert!(matches!(&reports[0].outcomes[0].ending, Ending::Dead { newer: Some(9), .. }));
}
