//! Bodies of calls that make a job of many profiles, written one by one and never parsed again.

use crate::BULK_IMPORT_PROFILES;
use crate::body::ListBody;

const PROFILES: &str = r#""profiles":{"data":["#;
const PROFILE_HEAD: &str = r#"{"type":"profile","attributes":"#;
const PROFILE_TAIL: &str = "}";

/// What such a body says besides its profiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Job<'a> {
    /// Its resource type.
    pub resource: &'a str,
    /// Members of `attributes` that stand before the profiles: JSON, each followed by a comma.
    pub attributes: &'a str,
    /// Id of the list that the profiles come into or leave.
    pub list: Option<&'a str>,
}

/// The body.
#[derive(Debug)]
pub struct ProfilesBody(ListBody);

impl ProfilesBody {
    /// That of `bulk_import_profiles`.
    pub fn import() -> Self {
        let job = Job { resource: "profile-bulk-import-job", ..Job::default() };
        // As large as it may become: growing by doubling takes three times as much, for a moment.
        Self::with_capacity(&job, BULK_IMPORT_PROFILES.max_body)
    }

    /// That of a job of another kind.
    pub fn new(job: &Job) -> Self {
        Self::with_capacity(job, 0)
    }

    fn with_capacity(job: &Job, bytes: usize) -> Self {
        let Job { resource, attributes, list } = job;
        let mut head = String::with_capacity(bytes);
        for part in [r#"{"data":{"type":""#, resource, r#"","attributes":{"#, attributes, PROFILES] {
            head.push_str(part);
        }
        let tail = match list {
            None => "]}}}}".to_owned(),
            Some(list) => {
                let id = serde_json::Value::from(*list);
                format!(r#"]}}}},"relationships":{{"list":{{"data":{{"type":"list","id":{id}}}}}}}}}}}"#)
            }
        };
        Self(ListBody::new(head, tail))
    }

    /// Adds a profile's attributes, a JSON object. False, and nothing is added, if the body would become longer than
    /// `max` bytes.
    pub fn push(&mut self, attributes: &str, max: usize) -> bool {
        self.0.push(&[PROFILE_HEAD, attributes, PROFILE_TAIL], max)
    }

    /// The body; of no profile none.
    pub fn finish(self) -> Option<Vec<u8>> {
        self.0.finish()
    }
}

/// Which profile of such a body a JSON pointer is about.
pub fn profile_at(pointer: &str) -> Option<usize> {
    let rest = pointer.strip_prefix("/data/attributes/profiles/data/")?;
    rest.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn finished(mut body: ProfilesBody) -> Value {
        for n in 0..2 {
            assert!(body.push(&format!(r#"{{"email":"{n}@b.example"}}"#), 10_000));
        }
        serde_json::from_slice(&body.finish().expect("a body")).expect("JSON")
    }

    fn profiles() -> Value {
        let profile =
            |n: usize| json!({"type": "profile", "attributes": {"email": format!("{n}@b.example")}});
        json!({"data": [profile(0), profile(1)]})
    }

    #[test]
    fn a_job_says_what_it_does_with_its_profiles() {
        assert_eq!(
            finished(ProfilesBody::import()),
            json!({"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": profiles()}}})
        );
        let job =
            Job { resource: "some-job", attributes: r#""historical_import":true,"#, list: Some("Y\"6") };
        assert_eq!(
            finished(ProfilesBody::new(&job)),
            json!({"data": {
                "type": "some-job",
                "attributes": {"historical_import": true, "profiles": profiles()},
                "relationships": {"list": {"data": {"type": "list", "id": "Y\"6"}}}
            }})
        );
        assert_eq!(ProfilesBody::new(&job).finish(), None);
    }

    #[test]
    fn it_becomes_as_long_as_it_may_and_no_longer() {
        let job = Job { resource: "some-job", list: Some("Y6nRLr"), ..Job::default() };
        for max in 180..400 {
            let (mut body, mut n) = (ProfilesBody::new(&job), 0);
            while body.push("{}", max) {
                n += 1;
            }
            let Some(bytes) = body.finish() else { continue };
            assert!(bytes.len() <= max);
            let mut longer = ProfilesBody::new(&job);
            (0..=n).for_each(|_| assert!(longer.push("{}", usize::MAX)));
            assert!(longer.finish().expect("a body").len() > max, "one more would have fitted into {max}");
        }
    }

    #[test]
    fn pointers_name_a_profile() {
        assert_eq!(profile_at("/data/attributes/profiles/data/12/attributes/email"), Some(12));
        for other in ["", "/data", "/data/attributes/profiles/data/x", "/data/attributes/profiles"] {
            assert_eq!(profile_at(other), None, "{other}");
        }
    }
}
