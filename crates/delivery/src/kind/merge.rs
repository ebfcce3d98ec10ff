//! Merges of two profiles, by Klaviyo's ids: one stays, the other becomes part of it.
//!
//! Payload: `{"keep": …, "merge": …}`. A merge whose answer is lost is asked for again; if the profile to be merged is gone then, it
//! was done.

use klaviyo::{Endpoint, MERGE_PROFILES};
use serde::Deserialize;

use super::{Checked, Kind, Lost, Reading, Rides, push_string};
use crate::invalid::{Fault, Invalid};
use crate::message::Failure;

/// Bytes of an id. Klaviyo's are 26.
const ID: usize = 64;

/// What `klaviyo_merge_profiles` was given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draft<'a> {
    pub keep: Option<&'a str>,
    pub merge: Option<&'a str>,
}

impl Draft<'_> {
    /// Checks it as it would be checked at Klaviyo, and lays it down.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let (keep, merge) = (check_id("keep", self.keep)?, check_id("merge", self.merge)?);
        if keep == merge {
            return Err(refusal("merge", "It is the profile that is to stay.", "Pass the id of the other."));
        }
        let mut payload = String::from("{");
        push_string(&mut payload, "keep", keep);
        push_string(&mut payload, "merge", merge);
        payload.push('}');
        Ok(Checked { key: [keep, merge].map(|id| format!("profile_id:{id}")).to_vec(), payload })
    }
}

fn check_id<'a>(argument: &str, id: Option<&'a str>) -> Result<&'a str, Invalid> {
    let is_id =
        |id: &&str| (1..=ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    id.filter(is_id).ok_or_else(|| {
        refusal(
            argument,
            "Klaviyo's ids are of letters and digits.",
            "klaviyo.profile_conflict has the id of the profile that is in the way; Klaviyo shows both in the addresses of their pages.",
        )
    })
}

fn refusal(argument: &str, detail: &'static str, hint: &'static str) -> Invalid {
    Invalid::new(
        Fault::ProfileId,
        format!("argument \"{argument}\" is not the id of another profile"),
        detail,
        hint,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    keep: String,
    merge: String,
}

/// The kind.
pub struct Merge;

impl Kind for Merge {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn endpoint(&self) -> Option<&'static Endpoint> {
        Some(&MERGE_PROFILES)
    }

    fn body(&self, payload: &str) -> Result<Vec<u8>, String> {
        let Payload { keep, merge } = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        Ok(klaviyo::merge_body(&keep, &merge))
    }

    fn lost(&self) -> Lost {
        Lost::Repeated
    }

    /// Once it is part of the other, there is no such profile; that the other is gone says nothing of the kind.
    fn says_done(&self, payload: &str, failure: &Failure, pointers: &[String]) -> bool {
        let names = |merge: &str| failure.reason.contains(merge);
        failure.status == Some(404)
            && (pointers.iter().any(|pointer| pointer.starts_with("/data/relationships/profiles"))
                || serde_json::from_str(payload).is_ok_and(|Payload { merge, .. }| names(&merge)))
    }

    fn read(&self, _: &str, _: [u8; 16], _: &str) -> Reading {
        Reading { rides: Rides::Never, carries_state: false, backfill: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_two_profiles() {
        let checked = Draft { keep: Some("01A"), merge: Some("01B") }.check().expect("valid");
        assert_eq!(checked.key, ["profile_id:01A", "profile_id:01B"]);
        let body = Merge.body(&checked.payload).expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["data"]["id"], "01A");
        assert_eq!(body["data"]["relationships"]["profiles"]["data"][0]["id"], "01B");
        let bad = [
            (None, Some("01B")),
            (Some("01A"), None),
            (Some("01A"), Some("01A")),
            (Some("a@b.example"), Some("01B")),
        ];
        for (keep, merge) in bad {
            assert_eq!(Draft { keep, merge }.check().expect_err("invalid").fault, Fault::ProfileId);
        }
        assert!(Merge.body("{}").is_err());
    }

    #[test]
    fn only_that_the_merged_one_is_gone_says_that_it_is_done() {
        let payload = Draft { keep: Some("01A"), merge: Some("01B") }.check().expect("valid").payload;
        let says = |status: u16, reason: &str, pointer: &str| {
            let failure = Failure { status: Some(status), reason: reason.to_owned(), ..Failure::default() };
            Merge.says_done(&payload, &failure, &[pointer.to_owned()])
        };
        assert!(says(404, "no", "/data/relationships/profiles/data/0/id"));
        assert!(says(404, "There is no profile 01B.", "/data"));
        assert!(!says(404, "There is no profile 01A.", "/data/id"));
        assert!(!says(400, "There is no profile 01B.", "/data/relationships/profiles/data/0/id"));
    }
}
