//! When a campaign is to be sent.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::time::written;

/// How a campaign is sent, and when.
#[derive(Debug, PartialEq)]
pub enum Strategy {
    Immediate,
    Static { time: Timestamp, options: Options },
    Throttled { time: Timestamp, percentage: i64 },
    SmartSendTime { date: Date },
}

/// Whether a time is that of the clocks where the recipients are. It is only kept: here it is UTC for all.
#[derive(Debug, PartialEq)]
pub enum Options {
    Local { send_past_recipients_immediately: bool },
    NotLocal,
}

impl Strategy {
    /// When sending begins; none is at once. A day begins in UTC here, and whom it is best to send to at which hour of it
    /// is known to nobody.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Immediate => None,
            Self::Static { time, .. } | Self::Throttled { time, .. } => Some(*time),
            // A day that is beyond the type's range, and so never comes.
            Self::SmartSendTime { date } => {
                let zoned = date.to_zoned(TimeZone::UTC);
                Some(zoned.map_or(Timestamp::MAX, |zoned| zoned.timestamp()))
            }
        }
    }

    /// Whether it is too late to begin: the time is past, or the whole day.
    pub fn is_past(&self, now: Timestamp) -> bool {
        let length = match self {
            Self::SmartSendTime { .. } => SignedDuration::from_hours(24),
            _ => SignedDuration::ZERO,
        };
        self.time().is_some_and(|time| now.duration_since(time) > length)
    }

    /// The strategy as answers have it (`StaticSendStrategy` and its like).
    pub fn object(&self) -> Value {
        match self {
            Self::Immediate => json!({"method": "immediate"}),
            Self::Static { time, options } => {
                json!({"method": "static", "datetime": written(*time), "options": options.object()})
            }
            Self::Throttled { time, percentage } => {
                json!({"method": "throttled", "datetime": written(*time), "throttle_percentage": percentage})
            }
            Self::SmartSendTime { date } => json!({"method": "smart_send_time", "date": date.to_string()}),
        }
    }

    /// When a message of such a campaign is sent, as answers have it (`SendTime`). Those that are sent at once, or at a
    /// time of each recipient's, have none.
    pub fn send_times(&self) -> Value {
        let (time, is_local) = match self {
            Self::Immediate | Self::SmartSendTime { .. } => return json!([]),
            Self::Static { time, options } => (time, matches!(options, Options::Local { .. })),
            Self::Throttled { time, .. } => (time, false),
        };
        json!([{"datetime": written(*time), "is_local": is_local}])
    }
}

impl Options {
    fn object(&self) -> Value {
        match self {
            Self::NotLocal => json!({"is_local": false}),
            Self::Local { send_past_recipients_immediately: past } => {
                json!({"is_local": true, "send_past_recipients_immediately": past})
            }
        }
    }
}
