//! The queries of the calls that ask for numbers. What they ask is in their bodies.

use hyper::Uri;
use serde_json::{Value, json};

use super::{Fields, Link, parameters, unknown};
use crate::error::ApiError;

/// The parameter that has the cursor. There are no brackets in it here.
const CURSOR: &str = "page_cursor";

/// What a query asks for.
pub struct Asked {
    pub fields: Fields,
    pub cursor: Option<String>,
    link: Link,
}

/// Its cursor is in the body.
pub fn metric_aggregates(uri: &Uri) -> Result<Asked, ApiError> {
    Asked::read(uri, "fields[metric-aggregate]", &["data", "dates", "id"], false)
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
