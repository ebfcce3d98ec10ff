use serde_json::{Value, json};

use super::*;
use crate::check;

/// Checks a campaign with some of its attributes changed.
fn checked(change: Value) -> Result<CampaignDraft, Vec<String>> {
    let message = json!({"type": "campaign-message", "attributes": {"definition": {"channel": "email"}}});
    let mut attributes = json!({
        "name": "Sale",
        "audiences": {"included": ["Y6nRLr"]},
        "campaign-messages": {"data": [message]},
    });
    attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let body = json!({"data": {"type": "campaign", "attributes": attributes}});
    check::campaign(&(&body).into()).map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
}

/// Where a change is wrong, below the attributes.
fn refused(change: Value) -> Vec<String> {
    let pointers = checked(change).unwrap_err();
    pointers.iter().map(|pointer| pointer.strip_prefix("/data/attributes/").unwrap().to_owned()).collect()
}

#[test]
fn a_campaign_has_a_name_an_audience_and_a_message() {
    let draft = checked(json!({})).unwrap();
    assert_eq!(
        (draft.name.as_str(), draft.strategy, draft.use_smart_sending),
        ("Sale", Strategy::Immediate, true)
    );
    assert_eq!(json!(draft.audiences), json!({"included": ["Y6nRLr"], "excluded": []}));
    assert_eq!((draft.tracking_options, draft.messages.len()), (Value::Null, 1));
    let nulls = json!({"audiences": {"included": ["Y6nRLr"], "excluded": null}, "send_strategy": null,
        "send_options": null, "tracking_options": null});
    assert_eq!(checked(nulls).unwrap().strategy, Strategy::Immediate);
    for (change, pointer) in [
        (json!({"name": null}), "name"),
        (json!({"name": " "}), "name"),
        (json!({"name": 7}), "name"),
        (json!({"audiences": null}), "audiences"),
        (json!({"audiences": ["Y6nRLr"]}), "audiences"),
        (json!({"audiences": {}}), "audiences/included"),
        (json!({"audiences": {"included": []}}), "audiences/included"),
        (json!({"audiences": {"included": [7]}}), "audiences/included"),
        (json!({"audiences": {"included": ["Y6nRLr"], "excluded": "X"}}), "audiences/excluded"),
        (json!({"audiences": {"included": ["Y6nRLr"], "segments": []}}), "audiences/segments"),
        (json!({"campaign-messages": null}), "campaign-messages"),
        (json!({"campaign-messages": {}}), "campaign-messages/data"),
        (json!({"campaign-messages": {"data": []}}), "campaign-messages/data"),
        (json!({"campaign-messages": {"data": [7]}}), "campaign-messages/data/0"),
        (json!({"archived": false}), "archived"),
    ] {
        assert_eq!(refused(change), [pointer]);
    }
    let body = json!({"data": {"type": "list", "id": "01X", "attributes": {}}, "meta": {}});
    let pointers = check::campaign(&(&body).into()).unwrap_err().into_iter().map(|error| error.pointer);
    let missing = ["name", "audiences", "campaign-messages"].map(|key| format!("/data/attributes/{key}"));
    let expected: Vec<String> =
        ["/meta", "/data/type", "/data/id"].map(str::to_owned).into_iter().chain(missing).collect();
    assert_eq!(pointers.collect::<Vec<_>>(), expected);
}

#[test]
fn a_strategy_is_one_of_four() {
    for (strategy, shown) in [
        (json!({"method": "immediate"}), json!({"method": "immediate"})),
        (
            json!({"method": "static", "datetime": "2026-07-15T12:00:00.5+02:00", "options": null}),
            json!({"method": "static", "datetime": "2026-07-15T10:00:00.5+00:00", "options": {"is_local": false}}),
        ),
        (
            json!({"method": "static", "datetime": "2026-07-15T12:00:00Z", "options": {"is_local": true}}),
            json!({"method": "static", "datetime": "2026-07-15T12:00:00+00:00",
                "options": {"is_local": true, "send_past_recipients_immediately": false}}),
        ),
        (
            json!({"method": "throttled", "datetime": "2026-07-15T12:00:00Z", "throttle_percentage": 13}),
            json!({"method": "throttled", "datetime": "2026-07-15T12:00:00+00:00", "throttle_percentage": 13}),
        ),
        (
            json!({"method": "smart_send_time", "date": "2026-07-15"}),
            json!({"method": "smart_send_time", "date": "2026-07-15"}),
        ),
    ] {
        assert_eq!(checked(json!({"send_strategy": strategy})).unwrap().strategy.object(), shown);
    }
    let time = "2026-07-15T12:00:00Z";
    for (strategy, expected) in [
        (json!("immediate"), &[""][..]),
        (json!({}), &["/method"]),
        (json!({"method": "ab_test_campaign"}), &["/method"]),
        (json!({"method": "immediate", "datetime": time}), &["/datetime"]),
        (json!({"method": "static"}), &["/datetime"]),
        (json!({"method": "static", "datetime": "2026-07-15 12:00:00"}), &["/datetime"]),
        (json!({"method": "static", "datetime": "2026-07-15"}), &["/datetime"]),
        (json!({"method": "static", "datetime": time, "throttle_percentage": 1}), &["/throttle_percentage"]),
        (json!({"method": "static", "datetime": time, "options": {}}), &["/options/is_local"]),
        (
            json!({"method": "static", "datetime": time, "options": {"is_local": "no"}}),
            &["/options/is_local"],
        ),
        (
            json!({"method": "static", "datetime": time,
                "options": {"is_local": false, "send_past_recipients_immediately": true}}),
            &["/options/send_past_recipients_immediately"],
        ),
        (json!({"method": "throttled"}), &["/throttle_percentage", "/datetime"]),
        (
            json!({"method": "throttled", "datetime": time, "throttle_percentage": 3}),
            &["/throttle_percentage"],
        ),
        (
            json!({"method": "throttled", "datetime": time, "throttle_percentage": "1"}),
            &["/throttle_percentage"],
        ),
        (json!({"method": "smart_send_time"}), &["/date"]),
        (json!({"method": "smart_send_time", "date": time}), &["/date"]),
        (json!({"method": "smart_send_time", "date": "2026-02-30"}), &["/date"]),
    ] {
        let expected: Vec<String> = expected.iter().map(|part| format!("send_strategy{part}")).collect();
        assert_eq!(refused(json!({ "send_strategy": strategy })), expected, "{strategy}");
    }
}

#[test]
fn options_say_what_is_tracked_and_who_is_left_out() {
    let draft = checked(json!({"send_options": {"use_smart_sending": false}})).unwrap();
    assert!(!draft.use_smart_sending);
    let custom = json!([
        {"type": "dynamic", "value": "campaign_id", "name": "utm_id"},
        {"type": "static", "value": "anything", "name": "utm_source"},
    ]);
    let options =
        json!({"add_tracking_params": true, "custom_tracking_params": custom, "is_tracking_opens": false});
    assert_eq!(
        checked(json!({"tracking_options": options})).unwrap().tracking_options,
        json!({"add_tracking_params": true, "custom_tracking_params": custom, "is_tracking_clicks": null,
            "is_tracking_opens": false})
    );
    let param = |change: Value| json!({"tracking_options": {"custom_tracking_params": [change]}});
    for (change, pointer) in [
        (json!({"send_options": {"use_smart_sending": "yes"}}), "send_options/use_smart_sending"),
        (json!({"send_options": {"smart": true}}), "send_options/smart"),
        (json!({"tracking_options": []}), "tracking_options"),
        (json!({"tracking_options": {"is_tracking_clicks": 1}}), "tracking_options/is_tracking_clicks"),
        (json!({"tracking_options": {"utm": true}}), "tracking_options/utm"),
        (
            param(json!({"type": "dynamic", "value": "me", "name": "u"})),
            "tracking_options/custom_tracking_params/0/value",
        ),
        (param(json!({"type": "static", "value": "me"})), "tracking_options/custom_tracking_params/0/name"),
        (
            param(json!({"type": "odd", "value": "me", "name": "u"})),
            "tracking_options/custom_tracking_params/0/type",
        ),
    ] {
        assert_eq!(refused(change), [pointer]);
    }
    let sms = json!({"type": "campaign-message", "attributes": {"definition": {"channel": "sms"}}});
    let of_sms = |options: Value| json!({"campaign-messages": {"data": [sms]}, "tracking_options": options});
    assert!(checked(of_sms(json!({"add_tracking_params": true}))).is_ok());
    assert_eq!(refused(of_sms(json!({"is_tracking_opens": true}))), ["tracking_options/is_tracking_opens"]);
}
