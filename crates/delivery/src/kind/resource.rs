//! Kinds whose messages are each about one resource of Klaviyo's that can also come many in a job: see [`super::catalog`]
//! and [`super::coupon_code`].
//!
//! What is to be made and is there already is changed instead, and what is to be changed and is not there is made; so it does
//! not matter which of the two a shop believes. A job says what it failed at; that goes again, in the end by itself, and hears
//! then what is wrong with it.

use klaviyo::{Endpoint, ListBody, Request, ResourceCalls};

use super::{Kind, Lost, Otherwise, Reading, Rides, find};
use crate::batch::{Batch, Offered, Places};
use crate::message::Failure;

/// What is done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Create,
    Update,
    Delete,
}

/// A resource as Klaviyo takes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Klaviyo's id of it, where it has one before it is made.
    pub id: String,
    /// JSON.
    pub json: String,
}

/// One of these kinds.
pub struct Resource {
    pub name: &'static str,
    pub calls: &'static ResourceCalls,
    pub act: Act,
    /// The kind of what this turns into where Klaviyo says that it is there already, or not.
    pub instead: Option<&'static str>,
    /// Keys of what it needs besides.
    pub needs: fn(&str) -> Vec<String>,
    /// What a payload lays down, for that act.
    ///
    /// # Errors
    /// Says why the payload is none of ours, or is not enough for it.
    pub entry: fn(Act, &str) -> Result<Entry, String>,
}

impl Resource {
    /// The kind that it turns into, if this payload is enough for that.
    fn instead(&self, payload: &str) -> Option<&'static dyn Kind> {
        let kind = find(self.instead?)?;
        kind.request(payload).is_ok().then_some(kind)
    }
}

impl Kind for Resource {
    fn name(&self) -> &'static str {
        self.name
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(&self.calls.one)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        Ok(self.request(payload)?.body().to_vec())
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        let Entry { id, json } = (self.entry)(self.act, payload)?;
        let body = || ResourceCalls::body_of_one(&json);
        Ok(match self.act {
            Act::Create => Request::post(&self.calls.one, body()),
            Act::Update => Request::to(&self.calls.one, &id, body()),
            Act::Delete => Request::to(&self.calls.one, &id, Vec::new()),
        })
    }

    fn lost(&self) -> Lost {
        Lost::Repeated
    }

    fn otherwise(&self, payload: &str, failure: &Failure, pointers: &[String]) -> Option<Otherwise> {
        // What it needs besides is not there.
        let is_about_a_part = pointers.iter().any(|pointer| pointer.starts_with("/data/relationships"));
        match (self.act, failure.status) {
            (Act::Create, Some(409)) => Some(self.instead(payload).map_or(Otherwise::Done, Otherwise::As)),
            (Act::Update, Some(404)) if !is_about_a_part => self.instead(payload).map(Otherwise::As),
            (Act::Delete, Some(404)) => Some(Otherwise::Done),
            _ => None,
        }
    }

    fn needs(&self, payload: &str) -> Vec<String> {
        (self.needs)(payload)
    }

    fn after_job(&self, payload: &str) -> Option<&'static dyn Kind> {
        self.instead(payload).filter(|_| self.act == Act::Create)
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Always, carries_state: false, backfill: false }
    }

    fn bulk(&self) -> Option<&'static Endpoint> {
        Some(&self.calls.many)
    }

    fn batch(&self) -> Option<Box<dyn Batch>> {
        let Self { calls, act, entry, .. } = *self;
        Some(Box::new(ResourceBatch {
            calls,
            act,
            entry,
            body: calls.body_of_many(),
            positions: Vec::new(),
            taken: 0,
        }))
    }
}

/// A job that is being filled.
struct ResourceBatch {
    calls: &'static ResourceCalls,
    act: Act,
    entry: fn(Act, &str) -> Result<Entry, String>,
    body: ListBody,
    positions: Vec<usize>,
    taken: usize,
}

impl Batch for ResourceBatch {
    fn offer(&mut self, payload: &str, messages: usize) -> Offered {
        let Ok(Entry { json, .. }) = (self.entry)(self.act, payload) else { return Offered::Alone };
        let many = &self.calls.many;
        if self.taken >= many.max_items || !self.body.push(&[&json], many.max_body) {
            return if self.taken == 0 { Offered::Alone } else { Offered::Full };
        }
        self.positions.extend(std::iter::repeat_n(self.taken, messages));
        self.taken += 1;
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let Self { calls, body, positions, .. } = *self;
        let request = Request::post(&calls.many, body.finish().unwrap_or_default());
        (request, Box::new(ResourcePlaces { calls, positions }))
    }
}

/// Which resource of the body each message is.
struct ResourcePlaces {
    calls: &'static ResourceCalls,
    positions: Vec<usize>,
}

impl Places for ResourcePlaces {
    fn is_about(&self, pointer: &str, message: usize) -> bool {
        self.calls.resource_at(pointer).is_some_and(|resource| self.position(message) == Some(resource))
    }

    fn position(&self, message: usize) -> Option<usize> {
        self.positions.get(message).copied()
    }
}

#[cfg(test)]
mod tests {
    use klaviyo::{CREATE_COUPON_CODES, CREATE_ITEMS};

    use super::*;
    use crate::kind::catalog::ITEM;
    use crate::kind::coupon_code::COUPON_CODE;

    fn item(n: usize, bytes: usize) -> String {
        let text = "x".repeat(bytes);
        format!(
            r#"{{"external_id":"{n}","attributes":{{"title":"T","description":"{text}","url":"https://b.example"}}}}"#
        )
    }

    #[test]
    fn a_job_has_as_many_as_klaviyo_takes() {
        let mut items = ITEM.batch().expect("jobs");
        assert!((0..CREATE_ITEMS.many.max_items).all(|n| items.offer(&item(n, 1), 1) == Offered::Taken));
        assert_eq!(items.offer(&item(100, 1), 1), Offered::Full);
        let mut codes = COUPON_CODE.batch().expect("jobs");
        let code = |n| format!(r#"{{"coupon":"A","code":"{n}"}}"#);
        assert!((0..CREATE_COUPON_CODES.many.max_items).all(|n| codes.offer(&code(n), 1) == Offered::Taken));
        assert_eq!(codes.offer(&code(1_000), 1), Offered::Full);
    }

    #[test]
    fn a_job_has_as_many_bytes_as_klaviyo_takes() {
        let mut batch = ITEM.batch().expect("jobs");
        let large = 300_000;
        let taken = (0..100).take_while(|n| batch.offer(&item(*n, large), 1) == Offered::Taken).count();
        let (request, places) = batch.finish();
        let length = request.body().len();
        assert!(length <= CREATE_ITEMS.many.max_body && length + large + 500 > CREATE_ITEMS.many.max_body);
        let last = taken - 1;
        assert!(places.is_about(&format!("/data/attributes/items/data/{last}/attributes/title"), last));
        assert_eq!(ITEM.batch().expect("jobs").offer(&item(0, 6_000_000), 1), Offered::Alone);
        assert_eq!(ITEM.batch().expect("jobs").offer("{}", 1), Offered::Alone);
    }
}
