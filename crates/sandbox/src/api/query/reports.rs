//! The queries of the calls that ask for numbers. What they ask is in their bodies.

use hyper::Uri;
use serde_json::{Value, json};

use super::{Fields, Link, parameters, unknown};
use crate::error::ApiError;
use crate::order::{Key, Order, key_at};
use crate::reports::Report;

/// The parameter that has the cursor. There are no brackets in it here.
const CURSOR: &str = "page_cursor";

/// What a query asks for.
pub struct Asked {
    pub fields: Fields,
    cursor: Option<String>,
    link: Link,
}

/// Its cursor is in the body.
pub fn metric_aggregates(uri: &Uri) -> Result<Asked, ApiError> {
    Asked::read(uri, "fields[metric-aggregate]", &["data", "dates", "id"], false)
}

pub fn report(uri: &Uri, report: Report) -> Result<Asked, ApiError> {
    let known = if report.is_series() { &["date_times", "id", "results"][..] } else { &["id", "results"] };
    let parameter = format!("fields[{}]", report.resource());
    Asked::read(uri, &parameter, known, report.subject().spec().is_of_messages)
}

impl Asked {
    fn read(uri: &Uri, parameter: &str, known: &[&str], has_cursor: bool) -> Result<Self, ApiError> {
        let mut asked = Self { fields: Fields::default(), cursor: None, link: Link::to(uri) };
        for (name, value) in parameters(uri)? {
            if name == CURSOR && has_cursor {
                asked.cursor = Some(value);
            } else if name == parameter {
                asked.fields = Fields::parse(&name, &value, known)?;
                asked.link.keep(&name, &value);
            } else {
                return Err(unknown(&name));
            }
        }
        Ok(asked)
    }

    /// The row that the page comes after, if it is not the first.
    pub fn after(&self, order: Order) -> Result<Option<Key>, ApiError> {
        let invalid = || ApiError::parameter(CURSOR, "Invalid cursor.");
        self.cursor.as_deref().map(|cursor| key_at(cursor, order).ok_or_else(invalid)).transpose()
    }

    pub fn url(&self, api_url: &str) -> String {
        self.link.url(api_url)
    }

    /// The links of the page. That to the next is not in the document, which has the cursor for it.
    pub fn links(&self, api_url: &str, after: Option<&str>) -> Value {
        let page = |cursor: Option<&str>| {
            let mut link = self.link.clone();
            if let Some(cursor) = cursor {
                link.keep(CURSOR, cursor);
            }
            link.url(api_url)
        };
        let mut links = json!({"self": page(self.cursor.as_deref())});
        if let Some(after) = after {
            links["next"] = page(Some(after)).into();
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(of: Report, query: &str) -> Option<String> {
        let uri = format!("http://k{}?{query}", of.path()).parse().unwrap();
        report(&uri, of).err().map(|error| error.pointer)
    }

    #[test]
    fn cursors_are_of_messages_and_fields_of_the_report() {
        for report in Report::ALL {
            let cursor = (!report.subject().spec().is_of_messages).then(|| CURSOR.to_owned());
            assert_eq!(pointer(report, "page_cursor=7"), cursor, "{report:?}");
            let parameter = format!("fields[{}]", report.resource());
            assert_eq!(pointer(report, &format!("{parameter}=id,results")), None, "{report:?}");
            let dates = (!report.is_series()).then(|| parameter.clone());
            assert_eq!(pointer(report, &format!("{parameter}=date_times")), dates, "{report:?}");
            assert_eq!(pointer(report, "sort=id").as_deref(), Some("sort"), "{report:?}");
        }
    }

    #[test]
    fn links_keep_what_was_asked_for() {
        let uri =
            "http://k/api/flow-values-reports?fields[flow-values-report]=id&page_cursor=7".parse().unwrap();
        let asked = report(&uri, Report::FlowValues).map_err(|error| error.pointer).unwrap();
        let url = "http://k/api/flow-values-reports?fields%5Bflow-values-report%5D=id";
        let [own, next] = ["7", "8"].map(|cursor| format!("{url}&page_cursor={cursor}"));
        assert_eq!(asked.links("http://k", None), json!({"self": own}));
        assert_eq!(asked.links("http://k", Some("8")), json!({"self": own, "next": next}));
        assert!(asked.after(Order::ascending("flow-values-report")).is_err());
    }
}
