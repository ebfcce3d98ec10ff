//! Messages of new campaigns: what is sent over which channel.

use serde_json::{Map, Value, json};
use serde_json_borrow::Value as Borrowed;

use super::fields::{Findings, Object};

const MESSAGE: &str = "campaign-message";
const DEFINITION: &str = "definition";

/// The channels that a campaign may be sent over.
pub const CHANNELS: [&str; 3] = ["email", "sms", "mobile_push"];

/// Source: `EmailContent`.
const EMAIL: [&str; 7] =
    ["subject", "preview_text", "from_email", "from_label", "reply_to_email", "cc_email", "bcc_email"];

/// What an SMS message has that does not say. Source: `RenderOptions`.
const RENDER: [(&str, bool); 4] = [
    ("shorten_links", true),
    ("add_org_prefix", true),
    ("add_info_link", true),
    ("add_opt_out_language", false),
];

/// Characters of a button's label and address. Source: `PushActionButtonDefinition`.
const MAX_LABEL: usize = 40;
const MAX_URL: usize = 2_048;

/// A checked message.
#[derive(Debug)]
pub struct MessageDraft {
    pub channel: &'static str,
    /// As answers have it, with what it did not say.
    pub definition: Map<String, Value>,
    pub has_image: bool,
}

/// Checks a `CampaignMessageCreateQueryResourceObject`.
pub fn check(findings: &mut Findings, data: Object<'_, '_>) -> Option<MessageDraft> {
    data.resource_type(findings, MESSAGE);
    data.only(findings, MESSAGE, &["type", "attributes", "relationships"]);
    let has_image = check_image(findings, data).is_some();
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, MESSAGE, &[DEFINITION]);
    let definition = attributes.object(findings, DEFINITION)?;
    let channel = definition.choice(findings, "channel", &CHANNELS)?;
    let checked = match channel {
        "email" => check_email(findings, definition),
        "sms" => check_sms(findings, definition),
        _ => check_push(findings, definition)?,
    };
    let channel = CHANNELS.into_iter().find(|known| *known == channel)?;
    Some(MessageDraft { channel, definition: checked, has_image })
}

/// The id of an image.
fn check_image<'v>(findings: &mut Findings, data: Object<'v, '_>) -> Option<&'v str> {
    let relationships = data.optional_object(findings, "relationships")?;
    relationships.only(findings, MESSAGE, &["image"]);
    let image = relationships.optional_object(findings, "image")?;
    image.only(findings, "image", &["data"]);
    image.optional_object(findings, "data")?.identifier(findings, "image")
}

/// `EmailMessageDefinition`.
fn check_email(findings: &mut Findings, definition: Object<'_, '_>) -> Map<String, Value> {
    definition.only(findings, DEFINITION, &["channel", "label", "content"]);
    let label = definition.text(findings, "label");
    let content = check_texts(findings, definition, "content", &EMAIL);
    members(json!({"channel": "email", "label": label, "content": content}))
}

/// `SMSMessageDefinitionCreate`.
fn check_sms(findings: &mut Findings, definition: Object<'_, '_>) -> Map<String, Value> {
    definition.only(findings, DEFINITION, &["channel", "content", "render_options"]);
    let mut content = check_texts(findings, definition, "content", &["body"]);
    // Of an answer's content only.
    content.insert("media_url".to_owned(), Value::Null);
    let options = definition.optional_object(findings, "render_options");
    if let Some(options) = options {
        options.only(findings, "render_options", &RENDER.map(|(name, _)| name));
    }
    let render = RENDER.map(|(name, unsaid)| {
        let said = options.and_then(|options| options.flag(findings, name));
        (name.to_owned(), Value::from(said.unwrap_or(unsaid)))
    });
    let render: Map<String, Value> = render.into_iter().collect();
    members(json!({"channel": "sms", "content": content, "render_options": render}))
}

/// `MobilePushMessageStandardDefinitionCreate`, or `MobilePushMessageSilentDefinitionCreate` if it is the one or, not
/// saying which, has no content.
fn check_push(findings: &mut Findings, definition: Object<'_, '_>) -> Option<Map<String, Value>> {
    const TYPE: &str = "notification_type";
    let is_said = |key| definition.map.get(key).is_some_and(|value| !value.is_null());
    let is_standard = match is_said(TYPE) {
        true => definition.choice(findings, TYPE, &["standard", "silent"])? == "standard",
        false => is_said("content") || is_said("options"),
    };
    definition.optional_object(findings, "kv_pairs");
    if is_standard {
        definition.only(findings, DEFINITION, &["channel", "content", "kv_pairs", "options", TYPE]);
        check_push_content(findings, definition);
        check_push_options(findings, definition);
    } else {
        definition.only(findings, DEFINITION, &["channel", "kv_pairs", TYPE]);
    }
    let mut checked: Map<String, Value> = definition.map.into();
    checked.insert(TYPE.to_owned(), if is_standard { "standard" } else { "silent" }.into());
    Some(checked)
}

fn check_push_content(findings: &mut Findings, definition: Object<'_, '_>) -> Option<()> {
    let content = definition.object(findings, "content")?;
    content.only(findings, "content", &["title", "body", "dynamic_image", "action_buttons"]);
    content.text(findings, "title");
    content.required_text(findings, "body");
    content.text(findings, "dynamic_image");
    content.optional_items(findings, "action_buttons", |findings, button| {
        button.only(findings, "action_buttons", &["label", "action_type", "position", "url"]);
        button.choice(findings, "action_type", &["open_app", "deep_link", "open_url", "dismiss"]);
        button.typed(findings, "position", "an integer", Borrowed::as_i64);
        let (label, url) = (button.required_text(findings, "label"), button.text(findings, "url"));
        for (key, text, most) in [("label", label, MAX_LABEL), ("url", url, MAX_URL)] {
            if text.is_some_and(|text| text.chars().count() > most) {
                findings.add(button.at.key(key), format!("'{key}' has at most {most} characters."));
            }
        }
        Some(())
    })?;
    Some(())
}

/// `MobilePushOptions`.
fn check_push_options(findings: &mut Findings, definition: Object<'_, '_>) -> Option<()> {
    let options = definition.optional_object(findings, "options")?;
    options.only(findings, "options", &["on_open", "badge", "play_sound"]);
    options.flag(findings, "play_sound");
    check_badge(findings, options);
    let on_open = options.optional_object(findings, "on_open")?;
    let texts: &[&str] = match on_open.choice(findings, "type", &["open_app", "deep_link", "open_web_url"])? {
        "deep_link" => &["ios_deep_link", "android_deep_link"],
        "open_web_url" => &["web_url"],
        _ => &[],
    };
    on_open.only(findings, "on_open", &[&["type"], texts].concat());
    for key in texts {
        on_open.text(findings, key);
    }
    Some(())
}

fn check_badge(findings: &mut Findings, options: Object<'_, '_>) -> Option<()> {
    const CONFIG: &str = "badge_config";
    let badge = options.optional_object(findings, "badge")?;
    if !badge.required_flag(findings, "display")? {
        badge.only(findings, "badge", &["display"]);
        return Some(());
    }
    badge.only(findings, "badge", &["display", "badge_options"]);
    let options = badge.optional_object(findings, "badge_options")?;
    let with = match options.choice(findings, CONFIG, &["increment_one", "set_count", "set_property"])? {
        "set_count" => Some("value"),
        "set_property" => Some("set_from_property"),
        _ => None,
    };
    let known: Vec<&str> = [CONFIG].into_iter().chain(with).collect();
    options.only(findings, "badge_options", &known);
    options.required_text(findings, with?);
    Some(())
}

/// An object that may be absent or null and has nothing but strings that may be so too; null for each that is.
fn check_texts(
    findings: &mut Findings,
    object: Object<'_, '_>,
    key: &str,
    names: &[&str],
) -> Map<String, Value> {
    let member = object.optional_object(findings, key);
    if let Some(member) = member {
        member.only(findings, key, names);
    }
    let text =
        |name: &&str| ((*name).to_owned(), json!(member.and_then(|member| member.text(findings, name))));
    names.iter().map(text).collect()
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
