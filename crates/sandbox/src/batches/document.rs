//! Jobs of many entries as Klaviyo's API shows them.

use serde_json::{Value, json};

use super::{Batch, Batches, Failure};
use crate::jobs::{Status, expiry};
use crate::page::Page;
use crate::store::rfc3339;
use crate::work::Work;

impl Batch {
    /// The answer to the job's creation and to a question for it (`PostBulkProfileSuppressionsCreateJobResponse`,
    /// `GetCatalogItemCreateJobResponseCompoundDocument` and their like).
    pub fn document(&self, api_url: &str) -> Value {
        let data = self.resource(api_url);
        json!({"links": data["links"], "data": data})
    }

    fn status(&self) -> Status {
        Status::of(self.is_started, self.completed.is_some())
    }

    fn resource(&self, api_url: &str) -> Value {
        let links = json!({"self": format!("{api_url}{}/{}", self.work.path(), self.id)});
        let mut attributes = json!({
            "status": self.status(),
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
        json!({
            "type": self.work.resource(),
            "id": self.id,
            "attributes": attributes,
            "links": links,
        })
    }
}

impl Batches {
    /// A page of the jobs that do such work, the latest first, or of those with a status
    /// (`GetCatalogItemCreateJobResponseCollectionCompoundDocument` and its like).
    pub fn list(&self, work: Work, status: Option<&str>, page: Page, api_url: &str) -> Value {
        let is_meant = |batch: &&Batch| {
            batch.work == work && status.is_none_or(|status| json!(batch.status()) == json!(status))
        };
        let batches: Vec<&Batch> = self.batches.iter().rev().filter(is_meant).collect();
        let filter = status.map(|status| format!("?filter=equals(status,%22{status}%22)"));
        let url = format!("{api_url}{}{}", work.path(), filter.unwrap_or_default());
        let (range, links) = page.of(batches.len(), &url);
        let batches = batches[range].iter().map(|batch| batch.resource(api_url));
        json!({"data": batches.collect::<Vec<_>>(), "links": links})
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
