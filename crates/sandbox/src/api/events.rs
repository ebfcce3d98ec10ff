//! The call that reads events.

use super::Received;
use super::calls::{page, refused};
use super::query;
use crate::filter::Test;
use crate::order::Rows;
use crate::reply::Reply;
use crate::sandbox::State;

impl Received<'_> {
    pub(super) fn recorded_events(&self, state: &mut State) -> Result<Reply, Reply> {
        let asked = query::lists::events(&self.head.uri).map_err(refused)?;
        state.store.sort_events();
        let store = &state.store;
        let ids = |field: &'static str| {
            let conditions = asked.conditions.iter().filter(move |condition| condition.field == field);
            conditions.filter_map(|condition| match &condition.test {
                Test::OneOf(ids) => ids.first().map(String::as_str),
                _ => None,
            })
        };
        let meant = store.events_of(ids("profile_id"), ids("metric_id"));
        let Rows { rows, last } = store.happened(&asked.slice, &meant, |event| {
            asked.meets(|field, test| match field {
                "datetime" | "timestamp" => test.time(Some(event.time)),
                // They have said already which are meant.
                _ => true,
            })
        });
        let data: Vec<_> = rows
            .into_iter()
            .map(|event| asked.shown.fields.narrow(store.event_resource(event, self.api_url())))
            .collect();
        let links = asked.links(self.api_url(), last.as_ref());
        Ok(page(data, links))
    }
}
