//! Which messages a lane draws from, and whether its calls carry one of them or many.

use klaviyo::{ENDPOINTS, Endpoint};

use crate::batch::Batch;
use crate::kind;
use crate::question;

/// What a lane's calls carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The messages: those whose next call by themselves is of that endpoint, by its number.
    pub from: usize,
    /// Whether it carries those that must go by themselves.
    pub one: bool,
    /// Whether it carries many in a call.
    pub many: bool,
}

/// What the lane of an endpoint draws from; nothing where its calls only ask about jobs, or are made for messages that ask
/// for them themselves.
pub fn of(endpoint: &'static Endpoint) -> Option<Draw> {
    let number = position(endpoint)?;
    if question::of(endpoint).is_some() {
        return Some(Draw { from: number, one: true, many: true });
    }
    if let Some(kind) = kind::ALL.iter().find(|kind| kind.endpoint() == Some(endpoint)) {
        return Some(Draw { from: number, one: true, many: kind.bulk() == Some(endpoint) });
    }
    let kind = kind::ALL.iter().find(|kind| kind.bulk() == Some(endpoint))?;
    Some(Draw { from: self::number(kind.endpoint()?), one: false, many: true })
}

/// The number of one in [`ENDPOINTS`], which is that of its lane.
pub fn number(endpoint: &Endpoint) -> usize {
    position(endpoint).expect("all endpoints are listed")
}

fn position(endpoint: &Endpoint) -> Option<usize> {
    ENDPOINTS.iter().position(|other| other.name == endpoint.name)
}

/// An empty call of many of that endpoint, where there is such a thing.
pub fn batch(endpoint: &Endpoint) -> Option<Box<dyn Batch>> {
    match question::of(endpoint) {
        Some(question) => Some(question.batch()),
        None => kind::ALL.iter().find(|kind| kind.bulk() == Some(endpoint))?.batch(),
    }
}

#[cfg(test)]
mod tests {
    use klaviyo::{BULK_CREATE_EVENTS, CREATE_EVENT, GET_IMPORT_JOB, REQUEST_DELETION};

    use super::*;

    #[test]
    fn a_lane_carries_one_or_many_or_both() {
        let events = number(&CREATE_EVENT);
        assert_eq!(of(&CREATE_EVENT), Some(Draw { from: events, one: true, many: false }));
        assert_eq!(of(&BULK_CREATE_EVENTS), Some(Draw { from: events, one: false, many: true }));
        let deletions = number(&REQUEST_DELETION);
        assert_eq!(of(&REQUEST_DELETION), Some(Draw { from: deletions, one: true, many: false }));
        assert_eq!(of(&GET_IMPORT_JOB), None);
    }

    #[test]
    fn what_carries_many_can_be_filled() {
        for endpoint in ENDPOINTS {
            let many = of(endpoint).is_some_and(|draw| draw.many);
            assert_eq!(batch(endpoint).is_some(), many, "{}", endpoint.name);
        }
    }
}
