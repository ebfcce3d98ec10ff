//! Many people's consent in a call, which makes a job of them.
//!
//! All of a call have the job's attributes and the list in common; what has others goes in another call.

use klaviyo::{Endpoint, Job, ProfilesBody, Request};

use super::consent::Payload;
use super::profile::open_object;
use super::profile_batch::ProfilePlaces;
use crate::batch::{Batch, Offered, Places};

/// A call that is being filled.
pub(super) struct ConsentBatch {
    endpoint: &'static Endpoint,
    resource: &'static str,
    filling: Option<Filling>,
}

struct Filling {
    job: Option<String>,
    list: Option<String>,
    body: ProfilesBody,
    profiles: usize,
    positions: Vec<usize>,
}

impl ConsentBatch {
    /// One of an endpoint, whose jobs are resources of that type.
    pub fn new(endpoint: &'static Endpoint, resource: &'static str) -> Self {
        Self { endpoint, resource, filling: None }
    }

    /// The body of a call with one.
    pub fn body_of(mut self, payload: &str) -> Result<Vec<u8>, String> {
        Payload::read(payload)?;
        match self.offer(payload, 1) {
            Offered::Taken => Ok(self.filling.and_then(|filling| filling.body.finish()).unwrap_or_default()),
            _ => Err("it is longer than a call may be".to_owned()),
        }
    }
}

impl Filling {
    fn new(resource: &str, job: Option<&str>, list: Option<&str>) -> Self {
        let attributes = job.and_then(open_object).map(|job| format!("{job},")).unwrap_or_default();
        Self {
            job: job.map(str::to_owned),
            list: list.map(str::to_owned),
            body: ProfilesBody::new(&Job { resource, attributes: &attributes, list }),
            profiles: 0,
            positions: Vec::new(),
        }
    }
}

impl Batch for ConsentBatch {
    fn offer(&mut self, payload: &str, messages: usize) -> Offered {
        let Ok(Payload { job, list, profile, .. }) = Payload::known(payload) else { return Offered::Alone };
        let job = job.map(|job| job.get());
        let filling = self.filling.get_or_insert_with(|| Filling::new(self.resource, job, list.as_deref()));
        if filling.job.as_deref() != job || filling.list.as_deref() != list.as_deref() {
            return Offered::Elsewhere;
        }
        if filling.profiles >= self.endpoint.max_items
            || !filling.body.push(profile.get(), self.endpoint.max_body)
        {
            return if filling.profiles == 0 { Offered::Alone } else { Offered::Full };
        }
        filling.positions.extend(std::iter::repeat_n(filling.profiles, messages));
        filling.profiles += 1;
        Offered::Taken
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        let (body, positions) = match self.filling {
            Some(filling) => (filling.body.finish().unwrap_or_default(), filling.positions),
            None => (Vec::new(), Vec::new()),
        };
        (Request::post(self.endpoint, body), Box::new(ProfilePlaces(positions)))
    }
}

#[cfg(test)]
mod tests {
    use klaviyo::{SUBSCRIBE, UNSUBSCRIBE};

    use super::*;

    fn payload(n: usize, head: &str) -> String {
        format!(r#"{{{head}"profile":{{"email":"{n}@b.example"}}}}"#)
    }

    #[test]
    fn a_call_has_as_many_people_as_klaviyo_takes() {
        for (endpoint, most) in [(&SUBSCRIBE, 1_000), (&UNSUBSCRIBE, 100)] {
            let mut batch = ConsentBatch::new(endpoint, "job");
            assert!((0..most).all(|n| batch.offer(&payload(n, ""), 1) == Offered::Taken));
            assert_eq!(batch.offer(&payload(most, ""), 1), Offered::Full);
        }
    }

    #[test]
    fn a_call_is_of_one_list_and_one_source() {
        let mut batch = ConsentBatch::new(&SUBSCRIBE, "job");
        let heads = [
            r#""list":"A","#,
            "",
            r#""list":"B","#,
            r#""job":{"historical_import":true},"list":"A","#,
            r#""list":"A","#,
        ];
        let offered: Vec<Offered> =
            heads.iter().enumerate().map(|(n, head)| batch.offer(&payload(n, head), 1)).collect();
        let (taken, elsewhere) = (Offered::Taken, Offered::Elsewhere);
        assert_eq!(offered, [taken, elsewhere, elsewhere, elsewhere, taken]);
        let (request, places) = Box::new(batch).finish();
        assert_eq!(
            String::from_utf8_lossy(request.body()),
            concat!(
                r#"{"data":{"type":"job","attributes":{"profiles":{"data":[{"type":"profile","attributes":{"email":"0@b.example"}},"#,
                r#"{"type":"profile","attributes":{"email":"4@b.example"}}]}},"relationships":{"list":{"data":{"type":"list","id":"A"}}}}}"#
            )
        );
        assert!(places.is_about("/data/attributes/profiles/data/1/attributes/email", 1));
    }

    #[test]
    fn what_is_none_of_ours_goes_alone() {
        let mut batch = ConsentBatch::new(&SUBSCRIBE, "job");
        assert_eq!(batch.offer("{}", 1), Offered::Alone);
        assert!(ConsentBatch::new(&SUBSCRIBE, "job").body_of("{}").is_err());
    }
}
