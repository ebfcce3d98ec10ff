//! The queries of the calls that read campaigns and their messages.

use hyper::Uri;

use super::listing::{Listing, Spec};
use super::lists::COMPARISONS;
use super::{FILTER, Fields, SIZES_OF_MANY, parameters, unknown};
use crate::error::ApiError;
use crate::filter::{Field, Kind};
use crate::order::Order;

const CAMPAIGNS: Spec = Spec {
    sizes: SIZES_OF_MANY,
    is_sized: true,
    filters: &[
        Field { name: "id", of: Kind::Text, operators: &["any"] },
        Field { name: "messages.channel", of: Kind::Text, operators: &["equals"] },
        Field { name: "name", of: Kind::Text, operators: &["contains"] },
        Field { name: "status", of: Kind::Text, operators: &["any", "equals"] },
        Field { name: "archived", of: Kind::Flag, operators: &["equals"] },
        Field { name: "created_at", of: Kind::Time, operators: COMPARISONS },
        Field { name: "scheduled_at", of: Kind::Time, operators: COMPARISONS },
        Field { name: "updated_at", of: Kind::Time, operators: COMPARISONS },
    ],
    orders: &["created_at", "id", "name", "scheduled_at", "updated_at"],
    default: Order::ascending("created_at"),
    fields: None,
    is_of_profiles: false,
};

const CAMPAIGN_FIELDS: &str = "fields[campaign]";
/// The attributes of campaigns. The document has the members of some of them too.
const CAMPAIGN: [&str; 12] = [
    "archived",
    "audiences",
    "created_at",
    "id",
    "name",
    "scheduled_at",
    "send_options",
    "send_strategy",
    "send_time",
    "status",
    "tracking_options",
    "updated_at",
];

const MESSAGE_FIELDS: &str = "fields[campaign-message]";
/// The same of messages.
const MESSAGE: [&str; 5] = ["created_at", "definition", "id", "send_times", "updated_at"];

/// What of a campaign a query asks for.
#[derive(Default)]
pub struct Shown {
    pub fields: Fields,
    pub with_messages: bool,
    pub message_fields: Fields,
}

impl Shown {
    /// Takes in a parameter, if it is one.
    fn read(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        match name {
            CAMPAIGN_FIELDS => self.fields = Fields::parse(name, value, &CAMPAIGN)?,
            MESSAGE_FIELDS => self.message_fields = Fields::parse(name, value, &MESSAGE)?,
            "include" if value == "campaign-messages" => self.with_messages = true,
            "include" => {
                return Err(ApiError::parameter(name, "Only 'campaign-messages' can be included here."));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Which campaigns a query asks for, which has to name a channel, and what of them.
pub fn many(uri: &Uri) -> Result<(Listing, Shown), ApiError> {
    let mut shown = Shown::default();
    let asked = CAMPAIGNS.read_with(uri, |name, value| shown.read(name, value))?;
    if !asked.conditions.iter().any(|condition| condition.field == "messages.channel") {
        let detail = "A channel filter is required to list campaigns: equals(messages.channel,'email').";
        return Err(ApiError::parameter(FILTER, detail));
    }
    Ok((asked, shown))
}

/// What of the one campaign a query asks for.
pub fn one(uri: &Uri) -> Result<Shown, ApiError> {
    let mut shown = Shown::default();
    for (name, value) in parameters(uri)? {
        if !shown.read(&name, &value)? {
            return Err(unknown(&name));
        }
    }
    Ok(shown)
}

/// What of a campaign's messages a query asks for.
pub fn messages(uri: &Uri) -> Result<Fields, ApiError> {
    let mut fields = Fields::default();
    for (name, value) in parameters(uri)? {
        if name != MESSAGE_FIELDS {
            return Err(unknown(&name));
        }
        fields = Fields::parse(&name, &value, &MESSAGE)?;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("http://k/api/campaigns?{query}").parse().unwrap()
    }

    #[test]
    fn a_list_is_of_one_channel() {
        let asked =
            many(&uri("filter=equals(messages.channel,'email')&sort=-name&include=campaign-messages"));
        let (asked, shown) = asked.map_err(|error| error.pointer).unwrap();
        assert_eq!((asked.slice.size, asked.slice.order.text()), (100, "-name".to_owned()));
        assert!(shown.with_messages);
        assert_eq!(
            asked.links("http://k", None)["self"],
            "http://k/api/campaigns?filter=equals%28messages.channel%2C%27email%27%29&sort=-name\
             &include=campaign-messages&page%5Bsize%5D=100"
        );
        let channel = "filter=equals(messages.channel,'email')";
        for (query, parameter) in [
            ("", "filter"),
            ("filter=contains(name,'x')", "filter"),
            ("filter=equals(name,'x'),equals(messages.channel,'email')", "filter"),
            (&format!("{channel}&sort=status"), "sort"),
            (&format!("{channel}&include=tags"), "include"),
            (&format!("{channel}&page[size]=101"), "page[size]"),
            (&format!("{channel}&fields[campaign]=subject"), "fields[campaign]"),
            (&format!("{channel}&fields[campaign-message]=name"), "fields[campaign-message]"),
            (&format!("{channel}&fields[tag]=name"), "fields[tag]"),
        ] {
            assert_eq!(
                many(&uri(query)).err().map(|error| error.pointer).as_deref(),
                Some(parameter),
                "{query}"
            );
        }
    }
}
