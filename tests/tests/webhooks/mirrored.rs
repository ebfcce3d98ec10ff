//! Ready handlers: what webhooks tell comes into the tables of what was read, each event once.

use harness::{PATIENCE, Shop, count, query, sql};
use serde_json::{Value, json};

use super::request::{Request, SECRET};

const CAMPAIGN: &str = "01JCAMPAIGN000000000000001";

#[test]
fn what_webhooks_tell_is_brought_into_what_was_read() {
    let shop = Shop::builder().quick_retries().start();
    let mut db = shop.connect();
    let [ada, eve] = ["ada", "eve"].map(|name| {
        shop.sandbox.make_profiles(&[json!({"email": format!("{name}@shop.example")})]).remove(0)
    });
    shop.sandbox.make_list("Newsletter");
    sql(&mut db, "SELECT klaviyo_set_job('profiles'), klaviyo_set_job('lists')");
    let read = "SELECT count(*) FROM klaviyo.job WHERE last_outcome = 'complete'";
    shop.eventually("all is read", PATIENCE, || count(&mut db, read) == 2);
    db.execute("SELECT klaviyo_set_webhook('W', $1)", &[&SECRET]).expect("a webhook");
    assert_eq!(count(&mut db, "SELECT klaviyo_mirror_webhooks()::bigint"), 13);
    assert_eq!(count(&mut db, "SELECT klaviyo_mirror_webhooks()::bigint"), 0);
    let sent = |n: usize, topic: &'static str, profile: &str, properties: Value| {
        (format!("{topic}-{n}"), format!("event:klaviyo.{topic}"), profile.to_owned(), properties)
    };
    let of_campaign = || json!({"$message": CAMPAIGN, "Campaign Name": "Spring"});
    let mut events = Vec::new();
    for n in 0..5 {
        events.push(sent(n, "received_email", &ada, of_campaign()));
    }
    events.push(sent(0, "bounced_email", &eve, of_campaign()));
    for n in 0..3 {
        events.push(sent(n, "opened_email", &ada, of_campaign()));
    }
    events.push(sent(0, "clicked_email", &ada, of_campaign()));
    // Of a flow, and of nobody knows what.
    events.push(sent(
        7,
        "opened_email",
        &ada,
        json!({"$message": "01JFLOWMESSAGE00000000001", "$flow": "Xyz123"}),
    ));
    events.push(sent(8, "opened_email", &ada, json!({"$message": "Xyz123"})));
    events.push(sent(9, "opened_email", &ada, Value::Null));
    events.push(sent(0, "subscribed_to_email_marketing", &ada, json!({})));
    events.push(sent(0, "unsubscribed_from_sms_marketing", &eve, json!({})));
    events.push(sent(0, "subscribed_to_list", &eve, json!({"List": "Newsletter"})));
    events.push(sent(1, "subscribed_to_list", &eve, json!({"List": "Another"})));
    let events: Vec<(&str, &str, &str, Value)> = events
        .iter()
        .map(|(id, topic, profile, properties)| {
            (id.as_str(), topic.as_str(), profile.as_str(), properties.clone())
        })
        .collect();
    let request = Request::telling(&events);
    assert_eq!(request.hand_in(&mut db), Ok(events.len() as i32));
    assert_eq!(request.hand_in(&mut db), Ok(0), "each counts once");
    let told = "SELECT count(*) FROM klaviyo.webhook_task";
    shop.eventually("all is told", PATIENCE, || count(&mut db, told) == 0);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.webhook_dead_letter"), 0);
    let day = "SELECT concat_ws(' ', campaign_id, day = (now() AT TIME ZONE 'UTC')::date, sent, delivered, bounced, opened, clicked)
               FROM klaviyo.campaign_day";
    assert_eq!(query::<String>(&mut db, day, &[]), format!("{CAMPAIGN} t 6 5 1 3 1"));
    let consent = "SELECT string_agg(concat_ws('/', email, email_consent, sms_consent), ' ' ORDER BY email) FROM klaviyo.profile";
    let expected =
        "ada@shop.example/SUBSCRIBED/NEVER_SUBSCRIBED eve@shop.example/NEVER_SUBSCRIBED/UNSUBSCRIBED";
    assert_eq!(query::<String>(&mut db, consent, &[]), expected);
    let on = "SELECT string_agg(p.email || ' ' || l.name, ', ')
              FROM klaviyo.list_member AS m
              JOIN klaviyo.list AS l USING (account, list_id)
              JOIN klaviyo.profile AS p USING (account, profile_id)";
    assert_eq!(query::<String>(&mut db, on, &[]), "eve@shop.example Newsletter");
    assert_eq!(count(&mut db, "SELECT klaviyo_mirror_webhooks(false)::bigint"), 13);
    assert_eq!(count(&mut db, "SELECT count(*) FROM klaviyo.webhook_handler"), 0);
}
