//! New campaigns, but for their messages.

use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Map, Value, json};
use serde_json_borrow::Value as Borrowed;

use super::event::rfc3339;
use super::fields::{Findings, Object};
use super::message::{self, MessageDraft};
use crate::campaigns::{Options, Strategy};

const CAMPAIGN: &str = "campaign";

/// Source: `ThrottledSendStrategy`.
const PERCENTAGES: [i64; 12] = [1, 2, 5, 10, 11, 13, 14, 17, 20, 25, 33, 50];

/// Source: `DynamicTrackingParam`.
const DYNAMIC: [&str; 12] = [
    "campaign_id",
    "campaign_name",
    "campaign_name_id",
    "campaign_name_send_day",
    "email_subject",
    "group_id",
    "group_name",
    "group_name_id",
    "link_alt_text",
    "message_type",
    "profile_external_id",
    "profile_id",
];

/// A checked new campaign.
#[derive(Debug)]
pub struct CampaignDraft {
    pub name: String,
    pub audiences: Audiences,
    pub strategy: Strategy,
    pub use_smart_sending: bool,
    /// As answers have them, null if they were not given.
    pub tracking_options: Value,
    pub messages: Vec<MessageDraft>,
}

/// Whom a campaign is for: the ids of lists.
#[derive(Debug, Serialize)]
pub struct Audiences {
    pub included: Vec<String>,
    pub excluded: Vec<String>,
}

/// Checks a `CampaignCreateQuery`.
pub fn check(findings: &mut Findings, root: Object<'_, '_>) -> Option<CampaignDraft> {
    root.only(findings, CAMPAIGN, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, CAMPAIGN);
    data.only(findings, CAMPAIGN, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    let known =
        ["name", "audiences", "send_strategy", "send_options", "tracking_options", "campaign-messages"];
    attributes.only(findings, CAMPAIGN, &known);
    let name = attributes.filled_text(findings, "name");
    let audiences = check_audiences(findings, attributes);
    let strategy = check_strategy(findings, attributes);
    let use_smart_sending = check_send_options(findings, attributes);
    let messages = attributes.each(findings, "campaign-messages", message::check)?;
    let is_email = messages.is_empty() || messages.iter().any(|message| message.channel == "email");
    let tracking_options = check_tracking(findings, attributes, is_email);
    if messages.is_empty() && findings.is_empty() {
        let at = attributes.at.key("campaign-messages");
        findings.add(at.key("data"), "A campaign has at least one message.");
    }
    Some(CampaignDraft {
        name: name?.to_owned(),
        audiences: audiences?,
        strategy: strategy?,
        use_smart_sending,
        tracking_options,
        messages,
    })
}

fn check_audiences(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<Audiences> {
    let audiences = attributes.object(findings, "audiences")?;
    audiences.only(findings, "audiences", &["included", "excluded"]);
    let excluded = audiences.texts(findings, "excluded").unwrap_or_default();
    if audiences.map.get("included").is_none_or(Borrowed::is_null) {
        audiences.missing(findings, "included");
    }
    let included = audiences.texts(findings, "included")?;
    if included.is_empty() {
        findings.add(audiences.at.key("included"), "A campaign has at least one audience.");
    }
    let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
    Some(Audiences { included: owned(included), excluded: owned(excluded) })
}

fn check_strategy(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<Strategy> {
    let Some(strategy) = attributes.optional_object(findings, "send_strategy") else {
        return Some(Strategy::Immediate);
    };
    const METHODS: [&str; 4] = ["static", "throttled", "immediate", "smart_send_time"];
    match strategy.choice(findings, "method", &METHODS)? {
        "static" => {
            strategy.only(findings, "send_strategy", &["method", "datetime", "options"]);
            let options = check_options(findings, strategy);
            Some(Strategy::Static { time: check_time(findings, strategy)?, options: options? })
        }
        "throttled" => {
            strategy.only(findings, "send_strategy", &["method", "datetime", "throttle_percentage"]);
            let percentage = check_percentage(findings, strategy);
            Some(Strategy::Throttled { time: check_time(findings, strategy)?, percentage: percentage? })
        }
        "smart_send_time" => {
            strategy.only(findings, "send_strategy", &["method", "date"]);
            Some(Strategy::SmartSendTime { date: check_date(findings, strategy)? })
        }
        _ => {
            strategy.only(findings, "send_strategy", &["method"]);
            Some(Strategy::Immediate)
        }
    }
}

fn check_time(findings: &mut Findings, strategy: Object<'_, '_>) -> Option<jiff::Timestamp> {
    const KEY: &str = "datetime";
    let time = rfc3339(strategy.required_text(findings, KEY)?);
    if time.is_none() {
        findings.add(strategy.at.key(KEY), "This must be a date and time in RFC 3339 form.");
    }
    time
}

fn check_date(findings: &mut Findings, strategy: Object<'_, '_>) -> Option<Date> {
    const KEY: &str = "date";
    let text = strategy.required_text(findings, KEY)?;
    // jiff also reads 20260715 and dates with a time.
    let date = Some(text).filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
    if date.is_none() {
        findings.add(strategy.at.key(KEY), "This must be a date (YYYY-MM-DD).");
    }
    date
}

fn check_percentage(findings: &mut Findings, strategy: Object<'_, '_>) -> Option<i64> {
    const KEY: &str = "throttle_percentage";
    if strategy.map.get(KEY).is_none_or(Borrowed::is_null) {
        strategy.missing(findings, KEY);
    }
    let name = "one of 1, 2, 5, 10, 11, 13, 14, 17, 20, 25, 33 and 50";
    strategy.typed(findings, KEY, name, |value| {
        value.as_i64().filter(|percentage| PERCENTAGES.contains(percentage))
    })
}

fn check_options(findings: &mut Findings, strategy: Object<'_, '_>) -> Option<Options> {
    let Some(options) = strategy.optional_object(findings, "options") else {
        return Some(Options::NotLocal);
    };
    if options.required_flag(findings, "is_local")? {
        const PAST: &str = "send_past_recipients_immediately";
        options.only(findings, "options", &["is_local", PAST]);
        let past = options.flag(findings, PAST).unwrap_or(false);
        return Some(Options::Local { send_past_recipients_immediately: past });
    }
    options.only(findings, "options", &["is_local"]);
    Some(Options::NotLocal)
}

/// Whether recipients who were sent to a short while ago are left out: unless it says no.
fn check_send_options(findings: &mut Findings, attributes: Object<'_, '_>) -> bool {
    let options = attributes.optional_object(findings, "send_options");
    let said = options.and_then(|options| {
        options.only(findings, "send_options", &["use_smart_sending"]);
        options.flag(findings, "use_smart_sending")
    });
    said.unwrap_or(true)
}

/// `CampaignsEmailTrackingOptions`, or `CampaignsSMSTrackingOptions`, which have less.
fn check_tracking(findings: &mut Findings, attributes: Object<'_, '_>, is_email: bool) -> Value {
    const KEY: &str = "tracking_options";
    const CUSTOM: &str = "custom_tracking_params";
    let Some(options) = attributes.optional_object(findings, KEY) else { return Value::Null };
    let flags = ["add_tracking_params", "is_tracking_clicks", "is_tracking_opens"];
    let flags = if is_email { &flags[..] } else { &flags[..1] };
    options.only(findings, KEY, &[flags, &[CUSTOM]].concat());
    let flag = |flag: &&str| ((*flag).to_owned(), json!(options.flag(findings, flag)));
    let mut said: Map<String, Value> = flags.iter().map(flag).collect();
    let custom = options.optional_items(findings, CUSTOM, check_param);
    said.insert(CUSTOM.to_owned(), json!(custom));
    Value::Object(said)
}

fn check_param(findings: &mut Findings, param: Object<'_, '_>) -> Option<Value> {
    param.only(findings, "custom_tracking_params", &["type", "value", "name"]);
    let name = param.required_text(findings, "name");
    let value = match param.choice(findings, "type", &["dynamic", "static"])? {
        "dynamic" => param.choice(findings, "value", &DYNAMIC),
        _ => param.required_text(findings, "value"),
    };
    value.and(name).map(|_| Value::Object(param.map.into()))
}

#[cfg(test)]
mod tests;
