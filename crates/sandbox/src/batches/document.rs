//! Jobs of many entries as Klaviyo's API shows them.

use serde_json::{Value, json};

use super::{Batch, Failure};
use crate::jobs::{Status, expiry};
use crate::store::rfc3339;
use crate::work::Work;

impl Batch {
    /// The answer to the job's creation and to a question for it (`PostBulkProfileSuppressionsCreateJobResponse`,
    /// `GetCatalogItemCreateJobResponseCompoundDocument` and their like).
    pub fn document(&self, api_url: &str) -> Value {
        let links = json!({"self": format!("{api_url}{}/{}", self.work.path(), self.id)});
        let mut attributes = json!({
            "status": Status::of(self.is_started, self.completed.is_some()),
            "created_at": rfc3339(self.created),
            "total_count": self.total,
            "completed_count": self.done,
            "completed_at": self.completed.map(rfc3339),
        });
        match self.work {
            Work::Suppress | Work::Unsuppress => attributes["skipped_count"] = self.skipped.into(),
            Work::Codes | Work::Catalog(..) => {
                attributes["failed_count"] = self.failures.len().into();
                attributes["errors"] = self.failures.iter().map(Failure::object).collect();
                attributes["expires_at"] = rfc3339(expiry(self.created)).into();
            }
        }
        let data = json!({
            "type": self.work.resource(),
            "id": self.id,
            "attributes": attributes,
            "links": links,
        });
        json!({"data": data, "links": links})
    }
}

impl Failure {
    fn object(&self) -> Value {
        json!({
            "id": self.id,
            "code": self.error.code,
            "title": self.error.title,
            "detail": self.error.detail,
            "source": {"pointer": self.error.pointer},
        })
    }
}
