//! What a profile consented to, as answers have it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::consent::{Standing, Subscription};
use super::{Profile, Store};
use crate::time::written;

impl Store {
    /// The attribute `subscriptions` of a profile (`Subscriptions`). Nothing is known of how somebody was subscribed.
    pub fn subscriptions(&self, profile: &Profile) -> Value {
        let place = self.by_id.get(&profile.id);
        let list_suppressions = self.lists.iter().filter_map(|list| {
            let since = list.unsubscribed_since(*place?)?;
            Some(json!({"list_id": list.id, "reason": "UNSUBSCRIBE", "timestamp": written(since)}))
        });
        let consent = &profile.consent;
        let suppressions = consent.suppressions.iter().map(
            |suppression| json!({"reason": suppression.reason, "timestamp": written(suppression.since)}),
        );
        let subscriptions = consent.subscriptions;
        let mut email = marketing("can_receive_email_marketing", subscriptions.email);
        // It needs no subscription, only that nothing speaks against it.
        email["can_receive_email_marketing"] = consent.suppressions.is_empty().into();
        email["custom_method_detail"] = Value::Null;
        email["double_optin"] = Value::Null;
        email["suppression"] = suppressions.collect();
        email["list_suppressions"] = list_suppressions.collect();
        // There are no devices here.
        let mut all = json!({"email": {}, "sms": {}, "mobile_push": null});
        all["email"]["marketing"] = email;
        all["sms"]["marketing"] = marketing("can_receive_sms_marketing", subscriptions.sms);
        all["sms"]["transactional"] =
            marketing("can_receive_sms_transactional", subscriptions.sms_transactional);
        all
    }
}

fn marketing(may_be_sent_to: &str, Standing { subscription, since }: Standing) -> Value {
    let since: Option<String> = since.map(|since: Timestamp| written(since));
    json!({
        may_be_sent_to: subscription == Subscription::Subscribed,
        "consent": subscription,
        "consent_timestamp": since,
        "last_updated": since,
        "method": null,
        "method_detail": "",
    })
}
