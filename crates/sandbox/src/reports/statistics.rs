//! The statistics of reports, and which of them come of others. The document has only the names: what is divided by what is
//! assumed.

/// How a statistic of a stretch of time comes of what is said of its days.
#[derive(Clone, Copy)]
pub enum How {
    /// It is their sum.
    Sum,
    /// It is what the last of them said that there was by then.
    Last,
    /// It is one statistic by another, and 0 where that is 0.
    Rate(&'static str, &'static str),
    /// It is one statistic less another.
    Net(&'static str, &'static str),
}

/// Of campaigns and flows.
pub const OF_MESSAGES: [(&str, How); 31] = [
    ("average_order_value", How::Rate("conversion_value", "conversions")),
    ("bounce_rate", How::Rate("bounced", "recipients")),
    ("bounced", How::Sum),
    ("bounced_or_failed", How::Sum),
    ("bounced_or_failed_rate", How::Rate("bounced_or_failed", "recipients")),
    ("click_rate", How::Rate("clicks_unique", "delivered")),
    ("click_to_open_rate", How::Rate("clicks_unique", "opens_unique")),
    ("clicks", How::Sum),
    ("clicks_unique", How::Sum),
    ("conversion_rate", How::Rate("conversion_uniques", "delivered")),
    ("conversion_uniques", How::Sum),
    ("conversion_value", How::Sum),
    ("conversions", How::Sum),
    ("delivered", How::Sum),
    ("delivery_rate", How::Rate("delivered", "recipients")),
    ("failed", How::Sum),
    ("failed_rate", How::Rate("failed", "recipients")),
    ("message_segment_count_sum", How::Sum),
    ("open_rate", How::Rate("opens_unique", "delivered")),
    ("opens", How::Sum),
    ("opens_unique", How::Sum),
    ("recipients", How::Sum),
    ("revenue_per_recipient", How::Rate("conversion_value", "recipients")),
    ("spam_complaint_rate", How::Rate("spam_complaints", "delivered")),
    ("spam_complaints", How::Sum),
    ("text_message_credit_usage_amount", How::Sum),
    ("text_message_roi", How::Rate("conversion_value", "text_message_spend")),
    ("text_message_spend", How::Sum),
    ("unsubscribe_rate", How::Rate("unsubscribe_uniques", "delivered")),
    ("unsubscribe_uniques", How::Sum),
    ("unsubscribes", How::Sum),
];

pub const OF_FORMS: [(&str, How); 12] = [
    ("closed_form", How::Sum),
    ("closed_form_uniques", How::Sum),
    ("qualified_form", How::Sum),
    ("qualified_form_uniques", How::Sum),
    // As the example of `PostFormValuesResponseDTO` has it.
    ("submit_rate", How::Rate("submits", "viewed_form")),
    ("submits", How::Sum),
    ("submitted_form_step", How::Sum),
    ("submitted_form_step_uniques", How::Sum),
    ("viewed_form", How::Sum),
    ("viewed_form_step", How::Sum),
    ("viewed_form_step_uniques", How::Sum),
    ("viewed_form_uniques", How::Sum),
];

pub const OF_SEGMENTS: [(&str, How); 4] = [
    ("members_added", How::Sum),
    ("members_removed", How::Sum),
    ("net_members_changed", How::Net("members_added", "members_removed")),
    ("total_members", How::Last),
];
