//! Which reports there are, and what each can be asked for. Source: the `…RequestDTO` of each in Klaviyo's OpenAPI document.

use serde::Deserialize;

use super::statistics::{How, OF_FORMS, OF_MESSAGES, OF_SEGMENTS};
use crate::filter::{ANY, CONTAINS_ANY, EQUALS, Field, Kind};

/// One of the reports: of values, or of a series of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Report {
    CampaignValues,
    FlowValues,
    FlowSeries,
    FormValues,
    FormSeries,
    SegmentValues,
    SegmentSeries,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Campaign,
    Flow,
    Form,
    Segment,
}

/// What the reports about a subject can be asked for.
pub struct Spec {
    /// The statistics, and how each comes of what is said of days.
    pub statistics: &'static [(&'static str, How)],
    /// What results can be grouped by.
    pub groupings: &'static [&'static str],
    /// What they are grouped by unless the query says so.
    pub default: &'static [&'static str],
    /// What a query that says so has to name.
    pub required: &'static [&'static str],
    pub filters: &'static [Field],
    /// Whether they are about messages: these count conversions, and come page by page.
    pub is_of_messages: bool,
}

/// Groupings and filters that the document has, and the sandbox does not, which knows no tags.
pub const TAGS: [&str; 2] = ["tag_id", "tag_name"];

/// The resource that a report is, and the path of the call.
macro_rules! names {
    ($resource:literal) => {
        [$resource, concat!("/api/", $resource, "s")]
    };
}

impl Report {
    pub const ALL: [Self; 7] = [
        Self::CampaignValues,
        Self::FlowValues,
        Self::FlowSeries,
        Self::FormValues,
        Self::FormSeries,
        Self::SegmentValues,
        Self::SegmentSeries,
    ];

    const fn names(self) -> [&'static str; 2] {
        match self {
            Self::CampaignValues => names!("campaign-values-report"),
            Self::FlowValues => names!("flow-values-report"),
            Self::FlowSeries => names!("flow-series-report"),
            Self::FormValues => names!("form-values-report"),
            Self::FormSeries => names!("form-series-report"),
            Self::SegmentValues => names!("segment-values-report"),
            Self::SegmentSeries => names!("segment-series-report"),
        }
    }

    pub const fn resource(self) -> &'static str {
        self.names()[0]
    }

    pub const fn path(self) -> &'static str {
        self.names()[1]
    }

    pub const fn subject(self) -> Subject {
        match self {
            Self::CampaignValues => Subject::Campaign,
            Self::FlowValues | Self::FlowSeries => Subject::Flow,
            Self::FormValues | Self::FormSeries => Subject::Form,
            Self::SegmentValues | Self::SegmentSeries => Subject::Segment,
        }
    }

    pub const fn is_series(self) -> bool {
        matches!(self, Self::FlowSeries | Self::FormSeries | Self::SegmentSeries)
    }
}

impl Subject {
    pub const fn spec(self) -> &'static Spec {
        match self {
            Self::Campaign => &CAMPAIGN,
            Self::Flow => &FLOW,
            Self::Form => &FORM,
            Self::Segment => &SEGMENT,
        }
    }
}

impl Spec {
    /// How a statistic comes of what is said of days.
    pub(super) fn how(&self, name: &str) -> Option<How> {
        self.statistics.iter().find(|(known, _)| *known == name).map(|(_, how)| *how)
    }
}

/// A field of the reports about messages.
const fn message(name: &'static str) -> Field {
    Field { name, of: Kind::Text, operators: &[EQUALS, CONTAINS_ANY] }
}

const fn other(name: &'static str) -> Field {
    Field { name, of: Kind::Text, operators: &[EQUALS, ANY] }
}

const CAMPAIGN: Spec = Spec {
    statistics: &OF_MESSAGES,
    groupings: &[
        "campaign_id",
        "campaign_message_id",
        "campaign_message_name",
        "group",
        "group_name",
        "send_channel",
        "tag_id",
        "tag_name",
        "text_message_format",
        "variation",
        "variation_name",
    ],
    default: &["campaign_id", "campaign_message_id", "send_channel"],
    required: &["campaign_id", "campaign_message_id"],
    filters: &[
        message("send_channel"),
        message("campaign_id"),
        message("campaign_message_id"),
        message("campaign_message_name"),
        message("variation"),
        message("variation_name"),
        message("text_message_format"),
    ],
    is_of_messages: true,
};

const FLOW: Spec = Spec {
    statistics: &OF_MESSAGES,
    groupings: &[
        "flow_id",
        "flow_message_id",
        "flow_message_name",
        "flow_name",
        "send_channel",
        "tag_id",
        "tag_name",
        "text_message_format",
        "variation",
        "variation_name",
    ],
    default: &["flow_id", "flow_message_id", "send_channel"],
    required: &["flow_id", "flow_message_id"],
    filters: &[
        message("flow_id"),
        message("flow_name"),
        message("send_channel"),
        message("flow_message_id"),
        message("flow_message_name"),
        message("text_message_format"),
        message("variation"),
        message("variation_name"),
    ],
    is_of_messages: true,
};

const FORM: Spec = Spec {
    statistics: &OF_FORMS,
    groupings: &["form_id", "form_version_id"],
    default: &["form_id"],
    required: &["form_id"],
    filters: &[other("form_id"), other("form_version_id")],
    is_of_messages: false,
};

/// A query cannot say what these are grouped by.
const SEGMENT: Spec = Spec {
    statistics: &OF_SEGMENTS,
    groupings: &["segment_id"],
    default: &["segment_id"],
    required: &["segment_id"],
    filters: &[other("segment_id")],
    is_of_messages: false,
};
