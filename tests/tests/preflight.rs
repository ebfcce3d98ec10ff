//! `klaviyo_check_account()`: which calls an account's key may make, asked of Klaviyo without doing anything there.

use delivery::klaviyo::ENDPOINTS;
use harness::{Fault, Shop, explain, wait_for_worker};
use postgres::Client;

/// What the check says of each call: path, scope, status and detail.
fn check(db: &mut Client) -> Vec<(String, String, String, Option<String>)> {
    let rows = db
        .query("SELECT path, scope, status, detail FROM klaviyo_check_account(timeout => '1 minute')", &[])
        .unwrap_or_else(|error| panic!("the account cannot be checked: {}", explain(&error)));
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

/// The SQLSTATE and the hint that a call of it fails with.
fn refusal(db: &mut Client, call: &str) -> (String, String) {
    let error = db.query(call, &[]).expect_err("refused");
    let error = error.as_db_error().expect("an error of the server");
    (error.code().code().to_owned(), error.hint().unwrap_or_default().to_owned())
}

#[test]
fn a_missing_scope_is_named_and_nothing_comes_of_asking() {
    let shop = Shop::start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    let all = check(&mut db);
    let mut expected: Vec<(&str, String)> =
        ENDPOINTS.iter().map(|endpoint| (endpoint.path, endpoint.scopes.join(", "))).collect();
    expected.sort();
    for ((path, scope, status, detail), expected) in all.iter().zip(&expected) {
        assert_eq!((path.as_str(), scope.as_str()), (expected.0, expected.1.as_str()));
        assert_eq!((status.as_str(), detail), ("allowed", &None), "{path}");
    }
    assert_eq!(all.len(), expected.len());

    shop.sandbox.set_faults(&[Fault::status(403)
        .error("permission_denied", "Missing the profiles:write scope.")
        .path("/api/profile-import")]);
    let found = check(&mut db);
    let (profiles, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(path, ..)| path == "/api/profile-import");
    assert!(others.iter().all(|(.., status, _)| status == "allowed"), "{others:?}");
    assert_eq!(profiles[0].2, "refused");
    assert!(profiles[0].3.as_ref().is_some_and(|detail| detail.contains("profiles:write")), "{profiles:?}");

    shop.sandbox.set_faults(&[Fault::status(503)]);
    assert!(check(&mut db).iter().all(|(.., status, _)| status == "unknown"));
    shop.sandbox.clear_faults();

    // Asked for as often as a lane has places, it still leaves them all.
    for _ in 0..70 {
        check(&mut db);
    }
    db.execute("SELECT klaviyo_track_event('A', external_id => '1')", &[]).expect("queued");
    shop.drain_soon();
    let stats = shop.sandbox.stats();
    assert_eq!(
        (stats.events, stats.profiles),
        (1, 1),
        "of all this Klaviyo has the one event and its profile"
    );
}

#[test]
fn an_account_that_makes_no_calls_is_not_checked() {
    let shop = Shop::start();
    let mut db = shop.connect();
    wait_for_worker(&mut db);
    assert_eq!(refusal(&mut db, "SELECT klaviyo_check_account('nobody')").0, "KS013");
    db.execute("SELECT klaviyo_pause_account()", &[]).expect("paused");
    let (state, hint) = refusal(&mut db, "SELECT klaviyo_check_account()");
    assert_eq!(state, "KS028");
    assert!(!hint.is_empty());
    db.execute("SELECT klaviyo_resume_account()", &[]).expect("resumed");

    db.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").expect("begun");
    assert_eq!(refusal(&mut db, "SELECT klaviyo_check_account()").0, "KS031");
    db.batch_execute("ROLLBACK").expect("rolled back");

    shop.sandbox.set_faults(&[Fault::hang()]);
    assert_eq!(refusal(&mut db, "SELECT klaviyo_check_account(timeout => '1 second')").0, "KS029");
}
