//! The calls that read metrics, and what their events come to.

use hyper::StatusCode;
use serde_json::{Map, json};
use serde_json_borrow::Value;

use super::Received;
use super::calls::{document, page, refused};
use super::query;
use crate::check;
use crate::intervals::written;
use crate::order::{Rows, cursor};
use crate::reply::Reply;
use crate::sandbox::State;
use crate::store::{Aggregate, INTEGRATION, short_id};

impl Received<'_> {
    pub(super) fn metrics(&self, state: &State) -> Result<Reply, Reply> {
        let asked = query::lists::metrics(&self.head.uri).map_err(refused)?;
        // All have the one integration, whose category is called like itself.
        let found = state.store.metrics().iter().filter(|_| asked.meets(|_, test| test.text(INTEGRATION)));
        let Rows { rows, last } =
            asked.slice.page_of_few(found.map(|metric| (metric.key(), metric)).collect());
        let data: Vec<_> = rows
            .into_iter()
            .map(|metric| asked.shown.fields.narrow(metric.resource(self.api_url())))
            .collect();
        let links = asked.links(self.api_url(), last.as_ref());
        Ok(page(data, links))
    }

    pub(super) fn metric(&self, state: &State, id: &str) -> Result<Reply, Reply> {
        let shown = query::lists::metric(&self.head.uri).map_err(refused)?;
        let metric = state.store.metric(id).map_err(refused)?;
        let resource = shown.fields.narrow(metric.resource(self.api_url()));
        Ok(document(StatusCode::OK, &json!({"links": resource["links"], "data": resource})))
    }

    /// A page's rows. The next is asked for with the cursor of its link in the body, since the document has it there.
    pub(super) fn metric_aggregates(&self, state: &mut State, body: &Value<'_>) -> Result<Reply, Reply> {
        let asked = query::reports::metric_aggregates(&self.head.uri).map_err(refused)?;
        let aggregation = check::metric_aggregate(body).map_err(|errors| Reply::errors(&errors))?;
        state.store.sort_events();
        let Aggregate { starts, rows: Rows { rows, last } } =
            state.store.aggregate(&aggregation).map_err(refused)?;
        let data = rows.into_iter().map(|row| {
            let numbers =
                row.measurements.into_iter().map(|(of, numbers)| (of.name().to_owned(), numbers.into()));
            json!({"dimensions": row.dimensions, "measurements": numbers.collect::<Map<_, _>>()})
        });
        let resource = asked.fields.narrow(json!({
            "type": "metric-aggregate",
            "id": short_id(&mut fastrand::Rng::new()),
            "attributes": {
                "dates": starts.iter().map(written).collect::<Vec<_>>(),
                "data": data.collect::<Vec<_>>(),
            },
            "links": {"self": asked.url(self.api_url())},
        }));
        let after = last.map(|last| cursor(aggregation.slice.order, &last));
        let links = asked.links(self.api_url(), after.as_deref());
        Ok(document(StatusCode::OK, &json!({"data": resource, "links": links})))
    }
}
