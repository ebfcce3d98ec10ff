//! The calls that read profiles.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Received;
use super::calls::{document, not_found, page, refused};
use super::query;
use super::query::listing::{Listing, SUBSCRIPTIONS, Shown};
use crate::check::Whose;
use crate::filter::Condition;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;
use crate::store::{Members, Profile, Store};
use crate::time::written;

impl Received<'_> {
    pub(super) fn profiles(&self, state: &mut State) -> Result<Reply, Reply> {
        let asked = query::lists::profiles(&self.head.uri).map_err(refused)?;
        state.store.sort_people(asked.slice.order);
        let store = &state.store;
        let Rows { rows, last } =
            store.people(&asked.slice, store.meant(&whose(&asked)).as_ref(), |profile| {
                asked.meets(|field, test| match field {
                    "created" => test.time(Some(profile.created())),
                    "updated" => test.time(Some(profile.updated())),
                    // They have said already who is meant.
                    _ => true,
                })
            });
        let data: Vec<Value> = rows
            .into_iter()
            .map(|profile| asked.shown.fields.narrow(self.shown(store, profile, &asked.shown)))
            .collect();
        let links = asked.links(self.api_url(), last.as_ref());
        Ok(page(data, links))
    }

    pub(super) fn profile(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let shown = query::lists::profile(&self.head.uri).map_err(refused)?;
        let unknown = || not_found("A profile with this id does not exist.");
        let profile = state.store.profile(id).ok_or_else(unknown)?;
        let resource = shown.fields.narrow(self.shown(&state.store, profile, &shown));
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }

    /// A page of the profiles on a list or in a segment.
    pub(super) fn members(&self, store: &Store, members: &Members, asked: &Listing) -> Reply {
        let Rows { rows, last } =
            store.members(members, &asked.slice, store.meant(&whose(asked)).as_ref(), |joined| {
                asked.meets(|field, test| field != query::JOINED || test.time(Some(joined)))
            });
        let data = rows.into_iter().map(|(profile, joined)| {
            let mut resource = self.shown(store, profile, &asked.shown);
            resource["attributes"][query::JOINED] = written(joined).into();
            asked.shown.fields.narrow(resource)
        });
        let data: Vec<Value> = data.collect();
        let links = asked.links(self.api_url(), last.as_ref());
        page(data, links)
    }

    /// A profile with all attributes that a query asks for by more than their names.
    fn shown(&self, store: &Store, profile: &Profile, shown: &Shown) -> Value {
        let mut resource = profile.resource(self.api_url());
        if shown.with_subscriptions {
            resource["attributes"][SUBSCRIPTIONS] = store.subscriptions(profile);
        }
        resource
    }
}

/// Whom a query means, by each condition on what profiles are found by.
fn whose(asked: &Listing) -> Vec<Vec<Whose>> {
    asked.conditions.iter().filter_map(Condition::whose).collect()
}
