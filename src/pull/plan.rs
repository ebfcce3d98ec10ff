//! What a job reads, and in which order.

use delivery::klaviyo::pull::{CHANNELS, Listing, Resource};

use super::wish;

/// A job, by what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Profiles,
    Events,
    Lists,
    Segments,
    /// One of them, for a statement that waits.
    Segment,
    /// One profile, for a statement that waits.
    Profile,
    Campaigns,
    Flows,
    Metrics,
}

/// What a job reads for one of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Which metrics there are, for who reads events of some by their names.
    Metrics,
    /// What the job is about.
    Listing,
    /// Who is on a list or in a segment.
    Members,
}

impl Job {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "profiles" => Self::Profiles,
            "events" => Self::Events,
            "lists" => Self::Lists,
            "segments" => Self::Segments,
            "campaigns" => Self::Campaigns,
            "flows" => Self::Flows,
            "metrics" => Self::Metrics,
            _ if name.starts_with(wish::SEGMENT) => Self::Segment,
            _ if name.starts_with(wish::PROFILE) => Self::Profile,
            _ => return None,
        })
    }

    /// How a run begins: with which step, and of what.
    pub fn begins(self, names: Option<&[String]>) -> (Step, &str) {
        match (self, names) {
            (Self::Events, Some(_)) => (Step::Metrics, ""),
            (Self::Segment, Some([segment, ..])) => (Step::Members, segment),
            (Self::Profile, Some([email, ..])) => (Step::Listing, email),
            (Self::Campaigns, _) => (Step::Listing, CHANNELS[0]),
            _ => (Step::Listing, ""),
        }
    }

    /// What is read for a step.
    pub fn listing(self, step: Step, item: &str, read_from: Option<i64>) -> Listing<'_> {
        match (self, step) {
            (Self::Metrics, _) | (_, Step::Metrics) => Listing::Metrics,
            (Self::Lists, Step::Members) => Listing::ListMembers(item),
            (Self::Segments | Self::Segment, Step::Members) => Listing::SegmentMembers(item),
            (Self::Lists, _) => Listing::Lists,
            (Self::Segments | Self::Segment, _) => Listing::Segments,
            (Self::Profile, _) => Listing::ProfileOf { email: item },
            (Self::Profiles, _) => Listing::Profiles { after: read_from },
            (Self::Events, _) => {
                Listing::Events { metric: Some(item).filter(|item| !item.is_empty()), from: read_from }
            }
            (Self::Campaigns, _) => Listing::Campaigns { channel: item },
            (Self::Flows, _) => Listing::Flows,
        }
    }

    /// Whether what it lists is read by time, from where the last run has come to.
    pub fn goes_by_time(self) -> bool {
        matches!(self, Self::Profiles | Self::Events)
    }
}

impl Step {
    pub fn named(name: &str) -> Option<Self> {
        [Self::Metrics, Self::Listing, Self::Members].into_iter().find(|step| step.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Listing => "listing",
            Self::Members => "members",
        }
    }
}

/// Whether at the end of such a listing whatever it has not is no more.
pub fn is_whole(listing: &Listing<'_>) -> bool {
    !matches!(listing.resource(), Resource::Event)
        && !matches!(listing, Listing::Profiles { .. } | Listing::ProfileOf { .. })
}
