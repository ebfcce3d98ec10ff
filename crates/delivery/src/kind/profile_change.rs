//! What has changed of a profile, between two versions of what a shop knows of it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::profile::{self, TEXTS};
use crate::identifiers::{Identifiers, NAMES};
use crate::invalid::Invalid;

/// What is to be sent so that Klaviyo has the later version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    identifiers: [Option<String>; NAMES.len()],
    texts: [Option<String>; TEXTS.len()],
    location: Option<String>,
    properties: Option<String>,
    clear: Vec<String>,
}

/// What fields an object has that are worth sending, or were.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl Change {
    /// The change from one state to another. A state is an object of the identifiers and attributes that
    /// [`profile::Draft`] has. None where nothing has changed.
    ///
    /// Where an identifier has changed it may be another profile at Klaviyo: then all that is known is sent, as where
    /// nothing was before.
    ///
    /// # Errors
    /// Says what of the new state Klaviyo would not take. What was wrong with the old one is put right by the new.
    pub fn between(old: Option<&str>, new: &str) -> Result<Option<Self>, Invalid> {
        profile::check_state("new", new)?;
        let new = fields(new);
        let old = old.map(fields).filter(|old| NAMES.iter().all(|name| text(old, name) == text(&new, name)));
        let before = old.clone().unwrap_or_default();
        let changed = |name: &str| text(&before, name) != text(&new, name);
        let change = Self {
            identifiers: NAMES.map(|name| text(&new, name)),
            texts: TEXTS.map(|name| text(&new, name).filter(|_| changed(name))),
            location: changed_parts(&before, &new, "location"),
            properties: changed_parts(&before, &new, "properties"),
            clear: TEXTS
                .into_iter()
                .filter(|name| text(&new, name).is_none() && text(&before, name).is_some())
                .map(str::to_owned)
                .collect(),
        };
        Ok((old.is_none() || !change.is_empty()).then_some(change))
    }

    fn is_empty(&self) -> bool {
        self.texts.iter().all(Option::is_none)
            && self.location.is_none()
            && self.properties.is_none()
            && self.clear.is_empty()
    }

    /// It, to be checked and laid down.
    pub fn draft(&self) -> profile::Draft<'_> {
        let [email, phone_number, external_id] = self.identifiers.each_ref().map(Option::as_deref);
        profile::Draft {
            identifiers: Identifiers { email, phone_number, external_id },
            texts: self.texts.each_ref().map(Option::as_deref),
            location: self.location.as_deref(),
            properties: self.properties.as_deref(),
            clear: self.clear.clone(),
            backfill: false,
        }
    }
}

/// What is no object has none.
fn fields(json: &str) -> Fields<'_> {
    serde_json::from_str(json).unwrap_or_default()
}

fn text(fields: &Fields, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// The parts of an object that have changed. One that is no longer there, or null, is cleared if it was there.
fn changed_parts(old: &Fields, new: &Fields, name: &str) -> Option<String> {
    let (old, new) = (parts(old, name), parts(new, name));
    let mut changed: BTreeMap<&str, &RawValue> = BTreeMap::new();
    changed.extend(
        new.iter()
            .filter(|(part, value)| old.get(*part).map(|it| it.get()) != Some(value.get()))
            .map(|(part, value)| (part.as_str(), *value)),
    );
    changed.extend(
        old.keys().filter(|part| !new.contains_key(*part)).map(|part| (part.as_str(), RawValue::NULL)),
    );
    (!changed.is_empty())
        .then(|| serde_json::to_string(&changed).expect("an object can be written to memory"))
}

/// The parts of an object that are not null.
fn parts<'a>(state: &Fields<'a>, name: &str) -> Fields<'a> {
    let mut parts = state.get(name).map(|raw| fields(raw.get())).unwrap_or_default();
    parts.retain(|_, value| value.get() != "null");
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(old: Option<&str>, new: &str) -> Option<String> {
        let change = Change::between(old, new).expect("the states are right")?;
        Some(change.draft().check().expect("it can be sent").payload)
    }

    #[test]
    fn only_what_changed_is_sent() {
        let old = r#"{"email":"a@b.de","title":"Dr","first_name":"Ada","properties":{"n":1,"o":2,"p":[1]},"location":{"city":"Bonn","zip":null}}"#;
        let new = r#"{"email":"a@b.de","title":null,"first_name":"Ada","last_name":"L","properties":{"n":1,"p":[1,2]},"location":{"city":"Bonn","zip":"1"}}"#;
        assert_eq!(
            payload(Some(old), new).as_deref(),
            Some(
                r#"{"email":"a@b.de","last_name":"L","title":null,"location":{"zip":"1"},"properties":{"o":null,"p":[1,2]}}"#
            )
        );
        assert_eq!(payload(Some(new), new), None);
        assert_eq!(payload(Some(r#"{"email":"a@b.de","title":null}"#), r#"{"email":"a@b.de"}"#), None);
    }

    #[test]
    fn all_is_sent_of_whom_nothing_is_known() {
        let new = r#"{"email":"a@b.de","external_id":null,"title":null,"first_name":"Ada","properties":{"n":1,"o":null}}"#;
        let all = r#"{"email":"a@b.de","first_name":"Ada","properties":{"n":1}}"#;
        assert_eq!(payload(None, new).as_deref(), Some(all));
        assert_eq!(payload(Some(r#"{"email":"c@b.de","first_name":"Ada"}"#), new).as_deref(), Some(all));
        assert_eq!(payload(Some(r#"{"email":"a@b.de","external_id":"1"}"#), new).as_deref(), Some(all));
        assert_eq!(payload(None, r#"{"email":"a@b.de"}"#).as_deref(), Some(r#"{"email":"a@b.de"}"#));
    }

    #[test]
    fn names_with_quotes_stay_names() {
        let new = r#"{"email":"a@b.de","properties":{"a\"b\\":1}}"#;
        assert_eq!(payload(None, new).as_deref(), Some(new));
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for new in
            ["[]", r#"{"email":1}"#, r#"{"mail":"a@b.de"}"#, r#"{"email":"a@b.de","location":{"town":"x"}}"#]
        {
            assert!(Change::between(None, new).is_err(), "{new}");
        }
        // However wrong it was before.
        let new = r#"{"email":"a@b.de"}"#;
        assert_eq!(payload(Some(r#"{"email":7}"#), new).as_deref(), Some(new));
        assert_eq!(payload(Some(r#"{"email":"a@b.de","location":7}"#), new), None);
    }
}
