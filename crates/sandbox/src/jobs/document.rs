//! Jobs and their errors as Klaviyo's API shows them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Failure, Job, Jobs};
use crate::call::Call;
use crate::page::Page;
use crate::store::rfc3339;

/// How long Klaviyo keeps a job. A guess: the document has an `expires_at` and says nothing of it.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Jobs {
    /// A page of the jobs, or of those not at their end (`GetProfileImportJobResponseCollectionCompoundDocument`).
    pub fn list(&self, page: Page, open: bool, api_url: &str) -> Value {
        let jobs = self.latest(open);
        let (range, links) = page.of(jobs.len(), &format!("{api_url}{}", Call::ImportJobs.path()));
        let jobs = jobs[range].iter().map(|job| job.resource(api_url));
        json!({"data": jobs.collect::<Vec<_>>(), "links": links})
    }
}

impl Job {
    /// The answer to the job's creation and to a question for it (`GetProfileImportJobResponseCompoundDocument`).
    pub fn document(&self, api_url: &str) -> Value {
        let resource = self.resource(api_url);
        json!({"links": resource["links"], "data": resource})
    }

    fn resource(&self, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}", Call::ProfileBulkImport.path(), self.id);
        let related = |name: &str| json!({"self": format!("{url}/relationships/{name}/"), "related": format!("{url}/{name}/")});
        json!({
            "type": "profile-bulk-import-job",
            "id": self.id,
            "attributes": {
                "status": self.status(),
                "created_at": rfc3339(self.created),
                "total_count": self.total,
                "completed_count": self.imported,
                "failed_count": self.failures.len(),
                "started_at": self.started.map(rfc3339),
                "completed_at": self.completed.map(rfc3339),
                "expires_at": rfc3339(expiry(self.created)),
            },
            "relationships": {
                "lists": {"data": [], "links": related("lists")},
                "profiles": {"links": related("profiles")},
                "import-errors": {"links": {"related": format!("{url}/import-errors/")}},
            },
            "links": {"self": url},
        })
    }

    /// A page of what could not be imported so far (`GetImportErrorResponseCollection`).
    pub fn errors(&self, page: Page, original_payloads: bool, api_url: &str) -> Value {
        let url = format!("{api_url}{}/{}/import-errors", Call::ProfileBulkImport.path(), self.id);
        let (range, links) = page.of(self.failures.len(), &url);
        let errors = self.failures[range].iter().map(|failure| failure.resource(original_payloads));
        json!({"data": errors.collect::<Vec<_>>(), "links": links})
    }
}

impl Failure {
    fn resource(&self, original_payloads: bool) -> Value {
        json!({
            "type": "import-error",
            "id": self.id,
            "attributes": {
                "code": self.error.code,
                "title": self.error.title,
                "detail": self.error.detail,
                "source": {"pointer": self.error.pointer},
                "original_payload": original_payloads.then_some(&self.payload),
            },
        })
    }
}

/// Until when Klaviyo keeps a job.
pub fn expiry(created: Timestamp) -> Timestamp {
    // Beyond the type's range after some eight thousand years.
    created.checked_add(KEPT).unwrap_or(created)
}
