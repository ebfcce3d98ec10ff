//! Many events at once: all of them, or none.

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;

use super::{Identifier, Refusal, Store, unique_id};
use crate::check::{EventGroup, ProfileDraft};

/// Why nothing of a bulk call was recorded.
#[derive(Debug, PartialEq)]
pub enum BulkRefusal {
    /// The store has no such profile as the group at this index names.
    Profile { group: usize, refusal: Refusal },
    /// These events, by group and place in the group, are in the store already, or in the call before.
    Repeats(Vec<(usize, usize)>),
}

/// Whom the identifiers of a call's profiles mean that no profile in the store has yet.
type Newcomers<'a> = HashMap<(Identifier, &'a str), usize>;

impl Store {
    /// Records events and creates or updates their profiles, unless one of the events is a repeat.
    pub fn record_all(
        &mut self,
        groups: Vec<EventGroup<'_>>,
        receipt: u64,
        now: Timestamp,
    ) -> Result<(), BulkRefusal> {
        let repeats = self.find_repeats(&groups, now)?;
        if !repeats.is_empty() {
            self.bulk_repeats += 1;
            return Err(BulkRefusal::Repeats(repeats));
        }
        for (index, group) in groups.into_iter().enumerate() {
            let profile = self
                .place(group.profile, now)
                .map_err(|refusal| BulkRefusal::Profile { group: index, refusal })?;
            for event in &group.events {
                self.add(profile, event, receipt, now);
            }
        }
        Ok(())
    }

    /// The events that are in the store or come twice. Looks only: a call that fails has changed no profile.
    fn find_repeats(
        &self,
        groups: &[EventGroup<'_>],
        now: Timestamp,
    ) -> Result<Vec<(usize, usize)>, BulkRefusal> {
        let mut newcomers = Newcomers::new();
        let mut seen = HashSet::new();
        let mut repeats = Vec::new();
        for (group, EventGroup { profile, events }) in groups.iter().enumerate() {
            // An index that no profile has yet, for one that this call creates.
            let fresh = self.profiles.len() + group;
            let profile = self
                .mean(profile, &mut newcomers, fresh)
                .map_err(|refusal| BulkRefusal::Profile { group, refusal })?;
            for (place, event) in events.iter().enumerate() {
                let unique_id = unique_id(event, now);
                let known = self.find_event(profile, event.metric, &unique_id).is_some();
                if !seen.insert((profile, event.metric, unique_id)) || known {
                    repeats.push((group, place));
                }
            }
        }
        Ok(repeats)
    }

    /// The profile that a draft will mean when those before it in the call are in the store.
    fn mean<'a>(
        &self,
        draft: &'a ProfileDraft,
        newcomers: &mut Newcomers<'a>,
        fresh: usize,
    ) -> Result<usize, Refusal> {
        let owners = Identifier::ALL.map(|identifier| {
            let text = draft.text(identifier)?;
            self.owner(identifier, text).or_else(|| newcomers.get(&(identifier, text)).copied())
        });
        let profile = self.find(draft, owners)?.unwrap_or(fresh);
        for (identifier, owner) in Identifier::ALL.into_iter().zip(owners) {
            if let (Some(text), None) = (draft.text(identifier), owner) {
                newcomers.insert((identifier, text), profile);
            }
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check;

    fn now() -> Timestamp {
        "2026-07-15T12:00:00.9Z".parse().unwrap()
    }

    /// Each group is its profile's data, and the unique ids of its events.
    fn record(store: &mut Store, groups: &[(Value, &[Option<&str>])]) -> Result<(), BulkRefusal> {
        let event = |unique_id: &Option<&str>| {
            json!({"type": "event", "attributes": {
                "properties": {}, "unique_id": unique_id,
                "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            }})
        };
        let group = |(who, ids): &(Value, &[Option<&str>])| {
            let mut profile = json!({"type": "profile", "attributes": {}});
            for (key, value) in who.as_object().unwrap() {
                profile[key] = value.clone();
            }
            let events: Vec<Value> = ids.iter().map(event).collect();
            json!({"type": "event-bulk-create", "attributes": {
                "profile": {"data": profile}, "events": {"data": events},
            }})
        };
        let groups: Vec<Value> = groups.iter().map(group).collect();
        let body = json!({"data": {"type": "event-bulk-create-job", "attributes": {
            "events-bulk-create": {"data": groups},
        }}});
        store.record_all(check::event_bulk(&(&body).into(), now()).unwrap(), 1, now())
    }

    fn known(attributes: Value) -> Value {
        json!({ "attributes": attributes })
    }

    #[test]
    fn all_are_recorded_under_their_profiles() {
        let mut store = Store::new(1);
        let (a, b) = (known(json!({"email": "a@example.com"})), known(json!({"external_id": "7"})));
        record(&mut store, &[(a.clone(), &[Some("1"), Some("2")]), (b, &[Some("1")])]).unwrap();
        record(&mut store, &[(a, &[Some("3")])]).unwrap();
        assert_eq!((store.event_count(), store.profile_count(), store.repeats()), (4, 2, 0));
    }

    #[test]
    fn a_repeat_fails_the_call_and_changes_nothing() {
        let mut store = Store::new(1);
        let a = known(json!({"email": "a@example.com"}));
        record(&mut store, &[(a.clone(), &[Some("1")])]).unwrap();
        let renamed = known(json!({"email": "a@example.com", "title": "Dr"}));
        let b = known(json!({"email": "b@example.com"}));
        let failed = record(&mut store, &[(b.clone(), &[Some("1")]), (renamed, &[Some("2"), Some("1")])]);
        assert_eq!(failed, Err(BulkRefusal::Repeats(vec![(1, 1)])));
        assert_eq!((store.event_count(), store.profile_count()), (1, 1));
        assert!(serde_json::to_value(store.profiles()).unwrap()[0]["attributes"]["title"].is_null());
        assert_eq!((store.repeats(), store.bulk_repeats()), (0, 1));
        record(&mut store, &[(b, &[Some("1")]), (a, &[Some("2")])]).unwrap();
    }

    #[test]
    fn a_repeat_within_the_call_fails_it_too() {
        let mut store = Store::new(1);
        let both = known(json!({"external_id": "7", "email": "a@example.com"}));
        let (by_id, by_email) =
            (known(json!({"external_id": "7"})), known(json!({"email": "A@example.com"})));
        for groups in [
            vec![(both.clone(), &[Some("1"), Some("1")][..])],
            vec![(both.clone(), &[Some("1")]), (by_email.clone(), &[Some("1")])],
            vec![
                (by_id.clone(), &[Some("1")]),
                (both.clone(), &[Some("2")]),
                (by_email.clone(), &[Some("1")]),
            ],
            // Without an id the second is one.
            vec![(both.clone(), &[None, None])],
        ] {
            let failed = record(&mut store, &groups);
            assert!(
                matches!(&failed, Err(BulkRefusal::Repeats(repeats)) if repeats.len() == 1),
                "{failed:?}"
            );
        }
        assert_eq!((store.event_count(), store.profile_count()), (0, 0));
        // Two who are not known to be one.
        record(&mut store, &[(by_id, &[Some("1")]), (by_email, &[Some("1")])]).unwrap();
    }

    #[test]
    fn a_newcomer_to_the_call_is_told_from_one_of_the_store() {
        let mut store = Store::new(1);
        let seven = known(json!({"external_id": "7"}));
        record(&mut store, &[(seven, &[Some("1")])]).unwrap();
        let named = known(json!({"external_id": "7", "email": "a@example.com"}));
        let by_email = known(json!({"email": "a@example.com"}));
        let failed = record(&mut store, &[(named, &[Some("2")]), (by_email, &[Some("1")])]);
        assert_eq!(failed, Err(BulkRefusal::Repeats(vec![(1, 0)])));
    }

    #[test]
    fn an_unknown_id_fails_the_call() {
        let mut store = Store::new(1);
        let a = known(json!({"email": "a@example.com"}));
        let failed = record(&mut store, &[(a, &[Some("1")]), (json!({"id": "01UNKNOWN"}), &[Some("2")])]);
        assert_eq!(failed, Err(BulkRefusal::Profile { group: 1, refusal: Refusal::UnknownProfile }));
        assert_eq!((store.event_count(), store.profile_count()), (0, 0));
    }
}
