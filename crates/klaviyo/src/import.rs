//! Jobs that import profiles: how one stands, and what it could not import.

use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{ApiError, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS, Request, profile_at};

/// Errors on a page. Each may come with its profile, of 100 KB, so a page of them stays within what is read of an answer.
const PAGE: usize = 20;

/// Jobs on a page, as many as Klaviyo gives.
const JOBS: usize = 100;

/// How far a job is (spec: `ProfileImportJobResponseObjectResource`, `BulkProfileSuppressionsCreateJobResponseObjectResource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    Queued,
    Processing,
    Complete,
    /// It will do nothing more; what it has done nobody tells.
    Cancelled,
}

impl JobStatus {
    /// As Klaviyo writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it will do nothing more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Cancelled)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportJob {
    /// Klaviyo's.
    pub id: String,
    pub status: JobStatus,
    /// Profiles it was made of.
    pub total: usize,
    /// Those of them that could not be imported, so far; none where it does not say.
    pub failed: Option<usize>,
}

#[derive(Deserialize)]
struct JobResource {
    id: String,
    attributes: JobAttributes,
}

#[derive(Deserialize)]
struct JobAttributes {
    status: JobStatus,
    total_count: usize,
    failed_count: Option<usize>,
}

impl From<JobResource> for ImportJob {
    fn from(JobResource { id, attributes }: JobResource) -> Self {
        let JobAttributes { status, total_count, failed_count } = attributes;
        Self { id, status, total: total_count, failed: failed_count }
    }
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// What to ask for the next one with; none where this is the last.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    links: Links,
}

#[derive(Default, Deserialize)]
struct Links {
    next: Option<String>,
}

/// Reads a page. None where it is no such thing, or where nobody knows how to ask for the next. A row that is not as the
/// document has it is left out: it may be somebody else's.
pub(crate) fn page<T: DeserializeOwned>(body: &[u8]) -> Option<Page<T>> {
    let List { data, links } = serde_json::from_slice(body).ok()?;
    let rows = data.into_iter().filter_map(|row| serde_json::from_str(row.get()).ok()).collect();
    let next = match links.next {
        Some(next) => Some(cursor_in(&next, CURSOR)?),
        None => None,
    };
    Some(Page { rows, next })
}

/// What an address names the next page by, in this parameter.
pub(crate) fn cursor_in(address: &str, parameter: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    url.query_pairs().find(|(name, _)| name == parameter).map(|(_, cursor)| cursor.into_owned())
}

pub(crate) const CURSOR: &str = "page[cursor]";

fn paged(request: Request, size: usize, cursor: Option<&str>) -> Request {
    let request = request.with("page[size]", size.to_string());
    match cursor {
        Some(cursor) => request.with(CURSOR, cursor),
        None => request,
    }
}

/// Asks how a job stands.
pub fn ask_import_job(id: &str) -> Request {
    Request::get(&GET_IMPORT_JOB, id)
}

/// The job that an answer is about.
pub fn import_job_of(body: &[u8]) -> Option<ImportJob> {
    #[derive(Deserialize)]
    struct Body {
        data: JobResource,
    }
    Some(serde_json::from_slice::<Body>(body).ok()?.data.into())
}

/// Asks for the jobs that are not at their end, the latest first.
pub fn ask_open_import_jobs(cursor: Option<&str>) -> Request {
    let request = Request::get(&GET_IMPORT_JOBS, "")
        .with("filter", r#"any(status,["queued","processing"])"#)
        .with("sort", "-created_at");
    paged(request, JOBS, cursor)
}

/// Asks for the jobs made last, the latest first.
pub fn ask_latest_import_jobs() -> Request {
    paged(Request::get(&GET_IMPORT_JOBS, "").with("sort", "-created_at"), JOBS, None)
}

/// The jobs of a page.
pub fn import_jobs_of(body: &[u8]) -> Option<Page<ImportJob>> {
    let Page { rows, next } = page::<JobResource>(body)?;
    Some(Page { rows: rows.into_iter().map(ImportJob::from).collect(), next })
}

/// Why a profile could not be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    pub error: ApiError,
    /// Which it was by its place in the body, where the error says so.
    pub position: Option<usize>,
    /// Its identifiers, by name, where the error comes with the profile.
    pub identifiers: Vec<(String, String)>,
}

/// Asks what a job could not import.
pub fn ask_import_errors(id: &str, cursor: Option<&str>) -> Request {
    paged(Request::get(&GET_IMPORT_ERRORS, id), PAGE, cursor)
}

/// The errors of a page.
pub fn import_errors_of(body: &[u8]) -> Option<Page<ImportError>> {
    #[derive(Deserialize)]
    struct Resource {
        #[serde(default)]
        id: String,
        attributes: Attributes,
    }
    #[derive(Deserialize)]
    struct Attributes {
        #[serde(flatten)]
        error: ApiError,
        original_payload: Option<Profile>,
    }
    let Page { rows, next } = page::<Resource>(body)?;
    let rows = rows.into_iter().map(|Resource { id, attributes }| {
        let Attributes { mut error, original_payload } = attributes;
        error.id = id;
        let position = error.source.pointer.as_deref().and_then(profile_at);
        let identifiers = original_payload.map(Profile::identifiers).unwrap_or_default();
        ImportError { error, position, identifiers }
    });
    Some(Page { rows: rows.collect(), next })
}

/// A profile as it was sent, as a resource or as its attributes alone: the document says only that it is an object.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    attributes: Option<Box<Profile>>,
    external_id: Option<Box<RawValue>>,
    email: Option<Box<RawValue>>,
    phone_number: Option<Box<RawValue>>,
}

impl Profile {
    fn identifiers(self) -> Vec<(String, String)> {
        if let Some(attributes) = self.attributes {
            return attributes.identifiers();
        }
        let all =
            [("external_id", self.external_id), ("email", self.email), ("phone_number", self.phone_number)];
        let text = |raw: Box<RawValue>| serde_json::from_str(raw.get()).ok();
        all.into_iter().filter_map(|(name, raw)| Some((name.to_owned(), text(raw?)?))).collect()
    }
}
