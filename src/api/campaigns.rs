//! `klaviyo_create_campaign`, `klaviyo_assign_template`, `klaviyo_estimate_campaign`, `klaviyo_send_campaign`,
//! `klaviyo_cancel_campaign`.

use delivery::invalid::Invalid;
use delivery::json::JsonLimits;
use delivery::kind::campaign::{CONTENT, Draft};
use delivery::kind::{Checked, campaign_step};
use pgrx::datum::{Date, ToIsoString};

use super::given::Given;
use super::messages::{boolean, days, json, queue, texts, timestamp_text};
use crate::outbox::enqueue::Name;
use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_create_campaign, pg_finfo_klaviyo_create_campaign, create);
sql_function!(klaviyo_assign_template, pg_finfo_klaviyo_assign_template, assign_template);
sql_function!(klaviyo_estimate_campaign, pg_finfo_klaviyo_estimate_campaign, estimate);
sql_function!(klaviyo_send_campaign, pg_finfo_klaviyo_send_campaign, send);
sql_function!(klaviyo_cancel_campaign, pg_finfo_klaviyo_cancel_campaign, cancel);

/// `klaviyo_create_campaign(name, included, excluded, channel, content, send_at, recipient_time, throttle_percentage,
/// smart_send_on, smart_sending, tracking_options, account)`
fn create(arguments: &Arguments) -> Returned {
    let name = Name::next();
    let now = pg::now();
    let checked = || {
        let object = |argument| JsonLimits { argument, properties: usize::MAX, bytes: CONTENT, shaped: true };
        let content = json(arguments, 4, object("content"))?;
        let tracking_options = json(arguments, 10, object("tracking_options"))?;
        Draft {
            name: arguments.get(0),
            included: texts(arguments, 1).unwrap_or_default(),
            excluded: texts(arguments, 2).unwrap_or_default(),
            channel: arguments.get(3),
            content: content.as_deref(),
            // timestamptz is passed as the 64 bits it is.
            send_at: arguments.datum(5).map(|time| pg::micros(time.value() as i64)),
            recipient_time: arguments.get(6).unwrap_or_default(),
            throttle_percentage: arguments.get(7),
            smart_send_on: days(arguments, 8),
            smart_sending: arguments.get(9),
            tracking_options: tracking_options.as_deref(),
        }
        .check(&name.message_id, now)
    };
    let given = || {
        let mut given = Given::default();
        given.text("name", arguments.get(0));
        given.texts("included", arguments.get(1));
        given.texts("excluded", arguments.get(2));
        given.text("channel", arguments.get(3));
        given.json("content", arguments, 4);
        given.text("send_at", arguments.datum(5).map(timestamp_text).as_deref());
        given.text("recipient_time", boolean(arguments, 6));
        given.text(
            "throttle_percentage",
            arguments.get(7).map(|percentage: i32| percentage.to_string()).as_deref(),
        );
        given.text("smart_send_on", arguments.get(8).map(|date: Date| date.to_iso_string()).as_deref());
        given.text("smart_sending", boolean(arguments, 9));
        given.json("tracking_options", arguments, 10);
        given.finish()
    };
    queue("campaign_create", &name, arguments.get(11), now, checked, given)
}

/// `klaviyo_assign_template(campaign, template, account)`
fn assign_template(arguments: &Arguments) -> Returned {
    let checked = || campaign_step::with_template(arguments.get(0), arguments.get(1));
    step("campaign_template", arguments, checked, &["campaign", "template"])
}

/// `klaviyo_estimate_campaign(campaign, account)`
fn estimate(arguments: &Arguments) -> Returned {
    step("campaign_estimate", arguments, || campaign_step::plain(arguments.get(0)), &["campaign"])
}

/// `klaviyo_send_campaign(campaign, account)`
fn send(arguments: &Arguments) -> Returned {
    step("campaign_send", arguments, || campaign_step::plain(arguments.get(0)), &["campaign"])
}

/// `klaviyo_cancel_campaign(campaign, revert, account)`
fn cancel(arguments: &Arguments) -> Returned {
    let checked = || campaign_step::cancel(arguments.get(0), arguments.get(1).unwrap_or_default());
    let given = || {
        let mut given = Given::default();
        given.text("campaign", arguments.get(0));
        given.text("revert", boolean(arguments, 1));
        given.finish()
    };
    queue("campaign_cancel", &Name::next(), arguments.get(2), pg::now(), checked, given)
}

/// Queues what is done with a campaign; the arguments are texts, the account behind those that are named.
fn step(
    kind: &'static str,
    arguments: &Arguments,
    checked: impl FnOnce() -> Result<Checked, Invalid>,
    names: &[&str],
) -> Returned {
    let given = || {
        let mut given = Given::default();
        names.iter().enumerate().for_each(|(number, name)| given.text(name, arguments.get(number)));
        given.finish()
    };
    queue(kind, &Name::next(), arguments.get(names.len()), pg::now(), checked, given)
}
