//! Segments: groups of profiles by what is true of them. Who is in one is what a control path says.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::members::Members;
use super::{Identifier, Store, short_id};
use crate::call::Call;
use crate::error::ApiError;
use crate::order::{Key, Rank};
use crate::time::written;

/// One segment.
pub struct Segment {
    pub id: String,
    pub name: String,
    pub is_active: bool,
    pub created: Timestamp,
    pub members: Members,
}

/// A segment as the control path shows it.
#[derive(Serialize)]
pub struct SegmentView<'a> {
    id: &'a str,
    name: &'a str,
    is_active: bool,
    members: Vec<&'a str>,
}

impl Segment {
    /// Where it is among those that are sorted by this. Nobody changes one.
    pub fn key(&self, field: &str) -> Key {
        let rank = match field {
            "id" => Rank::Nothing,
            "name" => Rank::text(Some(&self.name)),
            _ => Rank::time(self.created),
        };
        Key { rank, id: self.id.clone() }
    }

    /// The segment as answers have it (`SegmentListResponseObjectResource` and its like). What it is of is not kept.
    pub fn resource(&self, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}/", Call::Segments.path(), self.id);
        let related = |name: &str| json!({"links": {"self": format!("{url}relationships/{name}/"), "related": format!("{url}{name}/")}});
        json!({
            "type": "segment",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "definition": null,
                "created": written(self.created),
                "updated": written(self.created),
                "is_active": self.is_active,
                "is_processing": false,
                "is_starred": false,
            },
            "relationships": {
                "profiles": related("profiles"),
                "tags": related("tags"),
                "flow-triggers": related("flow-triggers"),
            },
            "links": {"self": url},
        })
    }
}

fn unknown() -> ApiError {
    ApiError::not_found("A segment with this id does not exist.")
}

impl Store {
    /// All, in the order of their creation.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn segment(&self, id: &str) -> Result<&Segment, ApiError> {
        self.segments.iter().find(|segment| segment.id == id).ok_or_else(unknown)
    }

    pub fn create_segment(&mut self, name: String, is_active: bool, now: Timestamp) -> &Segment {
        let id = short_id(&mut self.random);
        self.segments.push(Segment { id, name, is_active, created: now, members: Members::default() });
        &self.segments[self.segments.len() - 1]
    }

    pub fn delete_segment(&mut self, id: &str) -> Result<(), ApiError> {
        self.segment(id)?;
        self.segments.retain(|segment| segment.id != id);
        Ok(())
    }

    /// Has those with these addresses be in a segment and nobody else. Whoever stays joined when they did. An error for the
    /// first address that nobody has, and then nothing is done.
    pub fn fill_segment(&mut self, id: &str, emails: &[String], now: Timestamp) -> Result<(), ApiError> {
        let at = self.segments.iter().position(|segment| segment.id == id).ok_or_else(unknown)?;
        let find = |email: &String| {
            let found = self.owner(Identifier::Email, &email.to_lowercase());
            found.ok_or_else(|| ApiError::invalid("/emails", format!("Nobody has the address {email}.")))
        };
        let meant: BTreeSet<usize> = emails.iter().map(find).collect::<Result<_, _>>()?;
        let members = &mut self.segments[at].members;
        let gone: Vec<usize> = members.places().filter(|place| !meant.contains(place)).collect();
        for place in gone {
            members.leave(place);
        }
        for place in meant {
            members.join(place, &self.profiles[place].id, now);
        }
        Ok(())
    }

    pub fn segment_views(&self) -> Vec<SegmentView<'_>> {
        let views = self.segments.iter().map(|Segment { id, name, is_active, members, .. }| {
            let members = members.places().map(|place| self.profiles[place].id.as_str()).collect();
            SegmentView { id, name, is_active: *is_active, members }
        });
        views.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{ProfileDraft, Whose};
    use crate::order::{Order, Slice};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_784_073_600 + second).unwrap()
    }

    fn person(store: &mut Store, email: &str) -> String {
        let mut draft = ProfileDraft::default();
        draft.attributes.insert("email".to_owned(), email.into());
        store.seed(draft, at(0)).unwrap().id.clone()
    }

    #[test]
    fn whoever_stays_joined_when_they_did() {
        let mut store = Store::new(1);
        let [a, b, c] = ["a@a.co", "b@a.co", "c@a.co"].map(|email| person(&mut store, email));
        let id = store.create_segment("Buyers".to_owned(), true, at(0)).id.clone();
        let fill = |store: &mut Store, emails: &[&str], second| {
            let emails: Vec<String> = emails.iter().map(|&email| email.to_owned()).collect();
            store.fill_segment(&id, &emails, at(second))
        };
        let members = |store: &Store| -> Vec<(i64, String)> {
            let order = Order::ascending("joined_group_at");
            let slice = Slice { order, after: None, from: None, to: None, size: 9 };
            let found = store.members(&store.segment(&id).unwrap().members, &slice, None, |_| true);
            let joined = |time: Timestamp| time.as_second() - at(0).as_second();
            found.rows.into_iter().map(|(profile, time)| (joined(time), profile.id.clone())).collect()
        };
        fill(&mut store, &["a@a.co", "B@a.co"], 1).unwrap();
        fill(&mut store, &["c@a.co", "b@a.co"], 2).unwrap();
        assert_eq!(members(&store), [(1, b.clone()), (2, c.clone())]);
        let refused = fill(&mut store, &["a@a.co", "nobody@a.co"], 3).unwrap_err();
        assert!(refused.detail.contains("nobody@a.co"), "{refused:?}");
        assert_eq!(members(&store).len(), 2, "nothing was done");
        fill(&mut store, &["a@a.co", "b@a.co", "c@a.co"], 4).unwrap();
        assert_eq!(members(&store), [(1, b.clone()), (2, c), (4, a)]);
        store.delete(&Whose::Id(b));
        assert_eq!(members(&store).len(), 2);
        store.delete_segment(&id).unwrap();
        assert_eq!(store.delete_segment(&id), Err(unknown()));
        assert_eq!(store.fill_segment(&id, &[], at(5)), Err(unknown()));
        assert_eq!(store.profile_count(), 2);
    }
}
