//! What a job reads, and in which order.

use delivery::klaviyo::pull::{Aggregates, CHANNELS, Interval, Listing, Report, ReportQuery, Resource, Span};

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
    /// What the events of metrics come to.
    Aggregates,
    Report(Report),
}

/// What a job was told besides (`options` of `klaviyo_set_job()`), and what it is where it was not.
pub struct Options {
    pub interval: Interval,
    pub time_zone: String,
    /// What events are grouped by, each by itself.
    pub by: Vec<String>,
    /// A metric's name, or Klaviyo's id of it.
    pub conversion_metric: String,
}

/// What a step is about. Times are microseconds since 1970.
pub struct Scope<'a> {
    pub item: &'a str,
    pub from: Option<i64>,
    pub until: Option<i64>,
    pub options: &'a Options,
}

/// What a job reads for one of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Which metrics there are, for who reads of some by their names.
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
            "aggregates" => Self::Aggregates,
            "campaign_reports" => Self::Report(Report::Campaigns),
            "flow_reports" => Self::Report(Report::Flows),
            "form_reports" => Self::Report(Report::Forms),
            "segment_reports" => Self::Report(Report::Segments),
            _ if name.starts_with(wish::SEGMENT) => Self::Segment,
            _ if name.starts_with(wish::PROFILE) => Self::Profile,
            _ => return None,
        })
    }

    /// How a run begins: with which step, and of what.
    pub fn begins(self, names: Option<&[String]>) -> (Step, &str) {
        match (self, names) {
            (Self::Events, Some(_))
            | (Self::Aggregates | Self::Report(Report::Campaigns | Report::Flows), _) => (Step::Metrics, ""),
            (Self::Segment, Some([segment, ..])) => (Step::Members, segment),
            (Self::Profile, Some([email, ..])) => (Step::Listing, email),
            (Self::Campaigns, _) => (Step::Listing, CHANNELS[0]),
            _ => (Step::Listing, ""),
        }
    }

    /// What is read for a step.
    pub fn listing<'a>(self, step: Step, scope: &Scope<'a>) -> Listing<'a> {
        let Scope { item, from, until, options } = *scope;
        let span = Span { from: from.unwrap_or_default(), until: until.unwrap_or_default() };
        match (self, step) {
            (Self::Metrics, _) | (_, Step::Metrics) => Listing::Metrics,
            (Self::Lists, Step::Members) => Listing::ListMembers(item),
            (Self::Segments | Self::Segment, Step::Members) => Listing::SegmentMembers(item),
            (Self::Lists, _) => Listing::Lists,
            (Self::Segments | Self::Segment, _) => Listing::Segments,
            (Self::Profile, _) => Listing::ProfileOf { email: item },
            (Self::Profiles, _) => Listing::Profiles { after: from },
            (Self::Events, _) => Listing::Events { metric: Some(item).filter(|item| !item.is_empty()), from },
            (Self::Campaigns, _) => Listing::Campaigns { channel: item },
            (Self::Flows, _) => Listing::Flows,
            (Self::Aggregates, _) => {
                let (metric, dimension) = item
                    .split_once(' ')
                    .map_or((item, None), |(metric, dimension)| (metric, Some(dimension)));
                let Options { interval, time_zone, .. } = options;
                Listing::Aggregates(Aggregates { metric, dimension, interval: *interval, time_zone, span })
            }
            (Self::Report(report), _) => {
                Listing::Report(ReportQuery { report, conversion_metric: item, span })
            }
        }
    }

    /// Whether what it lists is read by time, from where the last run has come to.
    pub fn goes_by_time(self) -> bool {
        matches!(self, Self::Profiles | Self::Events) || self.is_counted() && !self.is_of_a_year()
    }

    /// Whether it reads what Klaviyo has counted, one stretch of time after the other.
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Aggregates | Self::Report(_))
    }

    /// Whether of all time it reads the last year, each time anew.
    pub fn is_of_a_year(self) -> bool {
        self == Self::Report(Report::Campaigns)
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
    !matches!(listing, Listing::Report(query) if !query.report.is_series())
        && !matches!(listing.resource(), Some(Resource::Event))
        && !matches!(listing, Listing::Profiles { .. } | Listing::ProfileOf { .. })
}
