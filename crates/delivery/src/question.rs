//! Questions: what some messages must be told before they may go, since their call would do harm if it were not so, or could
//! not be made.

mod asked;
mod campaign_made;
mod campaign_state;
mod list_members;
mod list_names;
mod profile_ids;

use klaviyo::{Campaign, Endpoint, Request};

use crate::batch::Batch;
use crate::message::Failure;
pub use campaign_made::CampaignMade;
pub use campaign_state::CampaignState;
pub use list_members::ListMembers;
pub use list_names::{ListNames, NO_SUCH_LIST};
pub use profile_ids::ProfileIds;

/// A question about messages, one or many.
pub trait Question: Sync {
    /// The call that asks it, which is of no other.
    fn endpoint(&self) -> &'static Endpoint;

    /// Whether a message must be told.
    fn is_for(&self, payload: &str) -> bool;

    /// Whether only what may have been done must be told.
    fn is_of_doubt(&self) -> bool {
        false
    }

    /// An empty call about many messages.
    fn batch(&self) -> Box<dyn Batch>;

    /// The call about one.
    ///
    /// # Errors
    /// Says why the payload is none of ours.
    fn request(&self, payload: &str) -> Result<Request, String>;

    /// The answer to such a call, where it can be read.
    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>>;
}

/// What Klaviyo has answered.
pub trait Answer {
    /// What that is to a message about which it was asked.
    fn says(&self, payload: &str) -> Says;

    /// How the campaign stands that it is about, where it is about one.
    fn campaign(&self) -> Option<&Campaign> {
        None
    }

    /// What it tells besides that others need not ask.
    fn learned(&self, _payload: &str) -> Option<Learned> {
        None
    }
}

/// Which list has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    pub name: String,
    /// Klaviyo's.
    pub id: String,
}

/// What becomes of a message that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// It may go.
    Go,
    /// The same, but where an earlier call of its own may still do it: not before that must have shown.
    GoOnceSettled,
    /// It may go, with this payload instead of its own.
    GoAs(String),
    /// Nothing is left to be done. `id` is Klaviyo's of what it is about.
    Done { id: String },
    /// It is done where it has made one of these, by Klaviyo's ids: what others have made is not among them. Where it has
    /// made none, as with [`Says::GoOnceSettled`].
    MadeOneOf(Vec<String>),
    /// It must not go, for that reason; or, if an earlier call of its own may have done it, it is done.
    /// `id` is Klaviyo's of what that has made.
    StopUnlessDone { failure: Failure, id: Option<String> },
    /// It cannot go, for that reason.
    Stop(Failure),
    /// It cannot go, for that reason, unless something with that key still waits that may change it: then it asks again.
    StopUnlessComing { failure: Failure, key: String },
}

/// Every question there is.
const ALL: [&dyn Question; 5] = [&ListNames, &ListMembers, &ProfileIds, &CampaignState, &CampaignMade];

/// The question that calls of an endpoint ask, if they ask one.
pub fn of(endpoint: &Endpoint) -> Option<&'static dyn Question> {
    ALL.into_iter().find(|question| question.endpoint() == endpoint)
}
