//! Profiles in conflict: two have the identifiers that a message names. It is put aside with what a person must know, and
//! goes when the two are one.

use harness::{Fault, Shop, count, queued, sql};

fn shop() -> Shop {
    Shop::builder().quick_retries().start()
}

#[test]
fn two_profiles_of_one_person_become_one() {
    let shop = shop();
    let mut db = shop.connect();
    sql(
        &mut db,
        "SELECT klaviyo_upsert_profile('ada@shop.example'), klaviyo_upsert_profile(external_id => '7')",
    );
    sql(&mut db, "SELECT klaviyo_track_event('Placed Order', external_id => '7', unique_id => 'a')");
    assert_eq!(shop.drain_soon().dead, 0);
    let both = queued(
        &mut db,
        "klaviyo_upsert_profile('ada@shop.example', external_id => '7', first_name => 'Ada')",
    );
    shop.wait_for_status(&both, "dead");
    let row = db
        .query_one(
            "SELECT c.key::text, c.duplicate_profile_id, (klaviyo_result(c.message_id)).hint FROM klaviyo.profile_conflict AS c",
            &[],
        )
        .expect("a conflict");
    let (key, duplicate, hint): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(key, "{email:ada@shop.example,external_id:7}");
    assert!(hint.contains(&duplicate) && hint.contains("klaviyo_merge_profiles()"), "{hint}");
    let profile = |attribute: &str, value: &str| {
        let profiles = shop.sandbox.profiles();
        profiles.into_iter().find(|it| it.attributes[attribute] == value).expect("a profile").id
    };
    let (ada, seven) = (profile("email", "ada@shop.example"), profile("external_id", "7"));
    assert!([&ada, &seven].contains(&&duplicate));
    // The answer is lost, and what was done by then is not held against the message.
    shop.sandbox.set_faults(&[Fault::reset_after().path("/api/profile-merge").times(1)]);
    let merge = queued(&mut db, &format!("klaviyo_merge_profiles('{ada}', '{seven}')"));
    shop.wait_for_status(&merge, "accepted");
    assert_eq!(count(&mut db, "SELECT klaviyo_redrive(code => 'duplicate_profile')"), 1);
    shop.wait_for_status(&both, "accepted");
    let profiles = shop.sandbox.profiles();
    assert_eq!(profiles.len(), 1);
    assert_eq!((&profiles[0].id, &profiles[0].attributes["external_id"]), (&ada, &"7".into()));
    assert_eq!(shop.sandbox.events()[0].profile_id, ada, "what was the other's is theirs");
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.profile_conflict"), 0);
    // Of one that nobody has it is told.
    let nobody = queued(&mut db, &format!("klaviyo_merge_profiles('{ada}', '{seven}')"));
    shop.wait_for_status(&nobody, "dead");
    assert_eq!(count(&mut db, "SELECT klaviyo_redrive(kind => 'merge')"), 1);
    assert_eq!(shop.drain_soon().dead, 1, "trying again does not make it done");
    shop.assert_requests_conform();
}
