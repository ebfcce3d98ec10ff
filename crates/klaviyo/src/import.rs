//! Jobs that import profiles: what makes one, how it stands, and what it could not import.

use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{ApiError, BULK_IMPORT_PROFILES, GET_IMPORT_ERRORS, GET_IMPORT_JOB, GET_IMPORT_JOBS, Request};

const HEAD: &str = r#"{"data":{"type":"profile-bulk-import-job","attributes":{"profiles":{"data":["#;
const TAIL: &str = "]}}}}";
const PROFILE_HEAD: &str = r#"{"type":"profile","attributes":"#;
const PROFILE_TAIL: &str = "}";

/// Errors on a page. Each may come with its profile, of 100 KB, so a page of them stays within what is read of an answer.
const PAGE: usize = 20;

/// Jobs on a page, as many as Klaviyo gives.
const JOBS: usize = 100;

/// Body of `bulk_import_profiles`, written one by one and never parsed again.
#[derive(Debug)]
pub struct ProfilesBody(String);

impl Default for ProfilesBody {
    fn default() -> Self {
        // As large as it may become: growing by doubling takes three times as much, for a moment.
        let mut body = String::with_capacity(BULK_IMPORT_PROFILES.max_body);
        body.push_str(HEAD);
        Self(body)
    }
}

impl ProfilesBody {
    /// Adds a profile's attributes, a JSON object. False, and nothing is added, if the body would become longer than
    /// `max` bytes.
    pub fn push(&mut self, attributes: &str, max: usize) -> bool {
        let more = 1 + PROFILE_HEAD.len() + attributes.len() + PROFILE_TAIL.len();
        if self.0.len() + more + TAIL.len() > max {
            return false;
        }
        if self.0.len() > HEAD.len() {
            self.0.push(',');
        }
        self.0.push_str(PROFILE_HEAD);
        self.0.push_str(attributes);
        self.0.push_str(PROFILE_TAIL);
        true
    }

    /// The body; of no profile none.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        (self.0.len() > HEAD.len()).then(|| {
            self.0.push_str(TAIL);
            self.0.into_bytes()
        })
    }
}

/// How far a job is (spec: `ProfileImportJobResponseObjectResource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportStatus {
    Queued,
    Processing,
    Complete,
    /// It will do nothing more; what it has done nobody tells.
    Cancelled,
}

impl ImportStatus {
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
    pub status: ImportStatus,
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
    status: ImportStatus,
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

/// A row that is not as the document has it is left out: it may be somebody else's.
fn page<T: DeserializeOwned>(body: &[u8]) -> Option<Page<T>> {
    let List { data, links } = serde_json::from_slice(body).ok()?;
    let rows = data.into_iter().filter_map(|row| serde_json::from_str(row.get()).ok()).collect();
    let next = links.next.and_then(|next| {
        let url = Url::parse(&next).ok()?;
        url.query_pairs().find(|(name, _)| name == CURSOR).map(|(_, cursor)| cursor.into_owned())
    });
    Some(Page { rows, next })
}

const CURSOR: &str = "page[cursor]";

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

/// Which profile of such a body a JSON pointer is about.
pub fn profile_at(pointer: &str) -> Option<usize> {
    let rest = pointer.strip_prefix("/data/attributes/profiles/data/")?;
    rest.split('/').next()?.parse().ok()
}
