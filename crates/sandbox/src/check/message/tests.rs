use serde_json::{Value, json};

use crate::check;

/// The definition of a campaign's second message as it is kept, or where it is wrong, below the message.
fn checked(message: Value) -> Result<Value, Vec<String>> {
    let first = json!({"type": "campaign-message", "attributes": {"definition": {"channel": "email"}}});
    let body = json!({"data": {"type": "campaign", "attributes": {
        "name": "Sale",
        "audiences": {"included": ["Y6nRLr"]},
        "campaign-messages": {"data": [first, message]},
    }}});
    let part = |pointer: String| {
        pointer.strip_prefix("/data/attributes/campaign-messages/data/1/").unwrap().to_owned()
    };
    match check::campaign(&(&body).into()) {
        Ok(mut draft) => Ok(Value::Object(draft.messages.remove(1).definition)),
        Err(errors) => Err(errors.into_iter().map(|error| part(error.pointer)).collect()),
    }
}

fn defined(definition: Value) -> Result<Value, Vec<String>> {
    checked(json!({"type": "campaign-message", "attributes": {"definition": definition}}))
}

fn refused(definition: Value) -> Vec<String> {
    let pointers = defined(definition).unwrap_err();
    pointers.iter().map(|part| part.strip_prefix("attributes/definition/").unwrap().to_owned()).collect()
}

#[test]
fn a_message_is_a_definition_and_perhaps_an_image() {
    let definition = json!({"definition": {"channel": "sms"}});
    let image = json!({"image": {"data": {"type": "image", "id": "7"}}});
    assert!(
        checked(json!({"type": "campaign-message", "attributes": definition, "relationships": image}))
            .is_ok()
    );
    for (message, pointer) in [
        (json!({"type": "message", "attributes": definition}), "type"),
        (json!({"type": "campaign-message"}), "attributes"),
        (json!({"type": "campaign-message", "attributes": {}}), "attributes/definition"),
        (
            json!({"type": "campaign-message", "attributes": {"definition": {}}}),
            "attributes/definition/channel",
        ),
        (json!({"type": "campaign-message", "id": "01X", "attributes": definition}), "id"),
        (
            json!({"type": "campaign-message", "attributes": definition, "relationships": {"template": {}}}),
            "relationships/template",
        ),
        (
            json!({"type": "campaign-message", "attributes": definition,
                "relationships": {"image": {"data": {"type": "image"}}}}),
            "relationships/image/data/id",
        ),
    ] {
        assert_eq!(checked(message).unwrap_err(), [pointer]);
    }
    assert_eq!(refused(json!({"channel": "whatsapp"})), ["channel"]);
}

#[test]
fn an_email_has_content() {
    let content = json!({"subject": "Sale", "preview_text": "Now", "from_email": "a@shop.example", "from_label": "Shop",
        "reply_to_email": "b@shop.example", "cc_email": null, "bcc_email": null});
    let definition = json!({"channel": "email", "label": "First", "content": content});
    assert_eq!(defined(definition.clone()), Ok(definition));
    let bare = defined(json!({"channel": "email", "content": null})).unwrap();
    assert_eq!(json!([bare["label"], bare["content"]["subject"]]), json!([null, null]));
    for (definition, pointer) in [
        (json!({"channel": "email", "label": 7}), "label"),
        (json!({"channel": "email", "content": "Sale"}), "content"),
        (json!({"channel": "email", "content": {"subject": 7}}), "content/subject"),
        (json!({"channel": "email", "content": {"body": "Sale"}}), "content/body"),
        (json!({"channel": "email", "render_options": {}}), "render_options"),
    ] {
        assert_eq!(refused(definition), [pointer]);
    }
}

#[test]
fn an_sms_message_has_a_body_and_options() {
    let definition =
        json!({"channel": "sms", "content": {"body": "Sale"}, "render_options": {"shorten_links": false}});
    assert_eq!(
        defined(definition).unwrap(),
        json!({"channel": "sms", "content": {"body": "Sale", "media_url": null}, "render_options":
            {"shorten_links": false, "add_org_prefix": true, "add_info_link": true, "add_opt_out_language": false}})
    );
    for (definition, pointer) in [
        (json!({"channel": "sms", "content": {"body": 7}}), "content/body"),
        (json!({"channel": "sms", "content": {"media_url": "x"}}), "content/media_url"),
        (json!({"channel": "sms", "render_options": {"add_info_link": 1}}), "render_options/add_info_link"),
        (json!({"channel": "sms", "render_options": {"links": true}}), "render_options/links"),
        (json!({"channel": "sms", "label": "First"}), "label"),
    ] {
        assert_eq!(refused(definition), [pointer]);
    }
}

#[test]
fn a_push_message_is_seen_or_silent() {
    let button =
        json!({"label": "Look", "action_type": "open_url", "position": 0, "url": "https://shop.example"});
    let standard = json!({
        "channel": "mobile_push",
        "notification_type": "standard",
        "content": {"title": "Sale", "body": "Now", "dynamic_image": null, "action_buttons": [button]},
        "kv_pairs": {"a": "b"},
        "options": {
            "on_open": {"type": "deep_link", "ios_deep_link": "shop://", "android_deep_link": null},
            "badge": {"display": true, "badge_options": {"badge_config": "set_count", "value": "3"}},
            "play_sound": true,
        },
    });
    assert_eq!(defined(standard.clone()), Ok(standard));
    let kind = |definition: Value| defined(definition).unwrap()["notification_type"].clone();
    assert_eq!(kind(json!({"channel": "mobile_push", "content": {"body": "Now"}})), "standard");
    assert_eq!(kind(json!({"channel": "mobile_push", "kv_pairs": {}})), "silent");
    assert_eq!(kind(json!({"channel": "mobile_push", "notification_type": "silent"})), "silent");

    let options =
        |options: Value| json!({"channel": "mobile_push", "content": {"body": "Now"}, "options": options});
    let button = |change: Value| {
        let mut button = json!({"label": "Look", "action_type": "dismiss"});
        button.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"channel": "mobile_push", "content": {"body": "Now", "action_buttons": [button]}})
    };
    for (definition, pointer) in [
        (json!({"channel": "mobile_push", "notification_type": "loud"}), "notification_type"),
        (json!({"channel": "mobile_push", "notification_type": "standard"}), "content"),
        (
            json!({"channel": "mobile_push", "notification_type": "silent", "content": {"body": "Now"}}),
            "content",
        ),
        (json!({"channel": "mobile_push", "content": {"title": "Sale"}}), "content/body"),
        (json!({"channel": "mobile_push", "content": {"body": "Now", "subject": "Sale"}}), "content/subject"),
        (json!({"channel": "mobile_push", "kv_pairs": []}), "kv_pairs"),
        (button(json!({"label": null})), "content/action_buttons/0/label"),
        (button(json!({"label": "é".repeat(41)})), "content/action_buttons/0/label"),
        (button(json!({"url": "x".repeat(2_049)})), "content/action_buttons/0/url"),
        (button(json!({"action_type": "call"})), "content/action_buttons/0/action_type"),
        (button(json!({"position": "first"})), "content/action_buttons/0/position"),
        (button(json!({"colour": "red"})), "content/action_buttons/0/colour"),
        (options(json!({"play_sound": "ding"})), "options/play_sound"),
        (options(json!({"vibrate": true})), "options/vibrate"),
        (options(json!({"on_open": {"type": "close"}})), "options/on_open/type"),
        (options(json!({"on_open": {"type": "open_app", "web_url": "x"}})), "options/on_open/web_url"),
        (options(json!({"on_open": {"type": "open_web_url", "web_url": 7}})), "options/on_open/web_url"),
        (options(json!({"badge": {}})), "options/badge/display"),
        (options(json!({"badge": {"display": false, "badge_options": null}})), "options/badge/badge_options"),
        (
            options(json!({"badge": {"display": true, "badge_options": {"badge_config": "set_property"}}})),
            "options/badge/badge_options/set_from_property",
        ),
        (
            options(
                json!({"badge": {"display": true, "badge_options": {"badge_config": "increment_one", "value": "1"}}}),
            ),
            "options/badge/badge_options/value",
        ),
    ] {
        assert_eq!(refused(definition.clone()), [pointer], "{definition}");
    }
}
