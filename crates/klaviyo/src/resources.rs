//! Resources that come one by one or many in a job which Klaviyo does later: the catalog's items, variants and categories,
//! and coupons' codes.

use serde::Deserialize;

use crate::body::ListBody;
use crate::endpoint::question;
use crate::import::{CURSOR, page};
use crate::{ApiError, Endpoint, JobStatus, Limits, Method, Page, Request};

/// The calls that do one thing with resources of one type.
#[derive(Debug, PartialEq, Eq)]
pub struct ResourceCalls {
    /// The type of a resource.
    pub resource: &'static str,
    /// What a job calls many of them.
    pub members: &'static str,
    /// The type of a job.
    job: &'static str,
    /// Does it with one.
    pub one: Endpoint,
    /// Makes a job of many.
    pub many: Endpoint,
    /// Asks how a job stands.
    pub asks: Endpoint,
    /// Asks which jobs there are.
    pub lists: Endpoint,
}

const MANY: Limits = Limits { burst: 75, steady: 750, daily: None };
const MOST: Limits = Limits { burst: 350, steady: 3_500, daily: None };

/// Calls of a scope, `read` for the questions.
macro_rules! calls {
    ($const:ident, $doc:literal, $resource:literal, $members:literal, $job:literal,
     one: $one:literal $method:ident $path:literal $limits:ident,
     many: $many:literal $max_items:literal,
     asks: $asks:literal $asked:ident $lists:literal,
     scope: $scope:literal) => {
        #[doc = $doc]
        pub const $const: &ResourceCalls = &ResourceCalls {
            resource: $resource,
            members: $members,
            job: $job,
            one: Endpoint {
                name: $one,
                method: Method::$method,
                path: $path,
                scopes: &[concat!($scope, ":write")],
                limits: $limits,
                // The document names none; this is that of the calls of many.
                max_body: 5_000_000,
                max_items: 1,
                optional: false,
            },
            many: Endpoint {
                name: $many,
                method: Method::Post,
                path: concat!("/api/", $job, "s"),
                scopes: &[concat!($scope, ":write")],
                limits: MANY,
                max_body: 5_000_000,
                max_items: $max_items,
                optional: true,
            },
            asks: Endpoint {
                limits: $asked,
                ..question($asks, concat!("/api/", $job, "s/{job_id}"), &[concat!($scope, ":read")])
            },
            lists: Endpoint {
                limits: $asked,
                ..question($lists, concat!("/api/", $job, "s"), &[concat!($scope, ":read")])
            },
        };
    };
}

calls!(CREATE_ITEMS, "`create_catalog_item`, `bulk_create_catalog_items`.",
    "catalog-item", "items", "catalog-item-bulk-create-job",
    one: "create-catalog-item" Post "/api/catalog-items" MANY,
    many: "bulk-create-catalog-items" 100,
    asks: "get-bulk-create-catalog-items-job" MANY "get-bulk-create-catalog-items-jobs",
    scope: "catalogs");
calls!(UPDATE_ITEMS, "`update_catalog_item`, `bulk_update_catalog_items`.",
    "catalog-item", "items", "catalog-item-bulk-update-job",
    one: "update-catalog-item" Patch "/api/catalog-items/{id}" MANY,
    many: "bulk-update-catalog-items" 100,
    asks: "get-bulk-update-catalog-items-job" MANY "get-bulk-update-catalog-items-jobs",
    scope: "catalogs");
calls!(DELETE_ITEMS, "`delete_catalog_item`, `bulk_delete_catalog_items`.",
    "catalog-item", "items", "catalog-item-bulk-delete-job",
    one: "delete-catalog-item" Delete "/api/catalog-items/{id}" MANY,
    many: "bulk-delete-catalog-items" 100,
    asks: "get-bulk-delete-catalog-items-job" MOST "get-bulk-delete-catalog-items-jobs",
    scope: "catalogs");
calls!(CREATE_VARIANTS, "`create_catalog_variant`, `bulk_create_catalog_variants`.",
    "catalog-variant", "variants", "catalog-variant-bulk-create-job",
    one: "create-catalog-variant" Post "/api/catalog-variants" MANY,
    many: "bulk-create-catalog-variants" 100,
    asks: "get-bulk-create-variants-job" MANY "get-bulk-create-variants-jobs",
    scope: "catalogs");
calls!(UPDATE_VARIANTS, "`update_catalog_variant`, `bulk_update_catalog_variants`.",
    "catalog-variant", "variants", "catalog-variant-bulk-update-job",
    one: "update-catalog-variant" Patch "/api/catalog-variants/{id}" MANY,
    many: "bulk-update-catalog-variants" 100,
    asks: "get-bulk-update-variants-job" MANY "get-bulk-update-variants-jobs",
    scope: "catalogs");
calls!(DELETE_VARIANTS, "`delete_catalog_variant`, `bulk_delete_catalog_variants`.",
    "catalog-variant", "variants", "catalog-variant-bulk-delete-job",
    one: "delete-catalog-variant" Delete "/api/catalog-variants/{id}" MANY,
    many: "bulk-delete-catalog-variants" 100,
    asks: "get-bulk-delete-variants-job" MOST "get-bulk-delete-variants-jobs",
    scope: "catalogs");
calls!(CREATE_CATEGORIES, "`create_catalog_category`, `bulk_create_catalog_categories`.",
    "catalog-category", "categories", "catalog-category-bulk-create-job",
    one: "create-catalog-category" Post "/api/catalog-categories" MANY,
    many: "bulk-create-catalog-categories" 100,
    asks: "get-bulk-create-categories-job" MOST "get-bulk-create-categories-jobs",
    scope: "catalogs");
calls!(UPDATE_CATEGORIES, "`update_catalog_category`, `bulk_update_catalog_categories`.",
    "catalog-category", "categories", "catalog-category-bulk-update-job",
    one: "update-catalog-category" Patch "/api/catalog-categories/{id}" MANY,
    many: "bulk-update-catalog-categories" 100,
    asks: "get-bulk-update-categories-job" MOST "get-bulk-update-categories-jobs",
    scope: "catalogs");
calls!(DELETE_CATEGORIES, "`delete_catalog_category`, `bulk_delete_catalog_categories`.",
    "catalog-category", "categories", "catalog-category-bulk-delete-job",
    one: "delete-catalog-category" Delete "/api/catalog-categories/{id}" MANY,
    many: "bulk-delete-catalog-categories" 100,
    asks: "get-bulk-delete-categories-job" MOST "get-bulk-delete-categories-jobs",
    scope: "catalogs");
calls!(CREATE_COUPON_CODES, "`create_coupon_code`, `bulk_create_coupon_codes`.",
    "coupon-code", "coupon-codes", "coupon-code-bulk-create-job",
    one: "create-coupon-code" Post "/api/coupon-codes" MOST,
    many: "bulk-create-coupon-codes" 1_000,
    asks: "get-bulk-create-coupon-codes-job" MANY "get-bulk-create-coupon-code-jobs",
    scope: "coupon-codes");

/// All of them.
pub const RESOURCE_CALLS: [&ResourceCalls; 10] = [
    CREATE_ITEMS,
    UPDATE_ITEMS,
    DELETE_ITEMS,
    CREATE_VARIANTS,
    UPDATE_VARIANTS,
    DELETE_VARIANTS,
    CREATE_CATEGORIES,
    UPDATE_CATEGORIES,
    DELETE_CATEGORIES,
    CREATE_COUPON_CODES,
];

impl ResourceCalls {
    /// The body of a call with one resource, which is JSON.
    pub fn body_of_one(resource: &str) -> Vec<u8> {
        [r#"{"data":"#, resource, "}"].concat().into_bytes()
    }

    /// The body of a job, of no resource yet. What [`ListBody::push`] is given are resources as of [`Self::body_of_one`].
    pub fn body_of_many(&self) -> ListBody {
        let Self { job, members, .. } = self;
        ListBody::new(
            format!(r#"{{"data":{{"type":"{job}","attributes":{{"{members}":{{"data":["#),
            "]}}}}".to_owned(),
        )
    }

    /// Asks which jobs have that status, `queued` or `processing`; from a cursor on.
    pub fn ask_jobs(&'static self, status: &str, cursor: Option<&str>) -> Request {
        let request = Request::get(&self.lists, "").with("filter", format!("equals(status,\"{status}\")"));
        match cursor {
            Some(cursor) => request.with(CURSOR, cursor),
            None => request,
        }
    }

    /// Which resource of such a body a JSON pointer is about.
    pub fn resource_at(&self, pointer: &str) -> Option<usize> {
        let rest = pointer.strip_prefix("/data/attributes/")?.strip_prefix(self.members)?;
        rest.strip_prefix("/data/")?.split('/').next()?.parse().ok()
    }
}

/// The id of a thing in the catalog that has this one in the shop (spec: `$custom` and `$default` are all there is).
pub fn catalog_id(external_id: &str) -> String {
    format!("$custom:::$default:::{external_id}")
}

/// How a job stands that was made of resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceJob {
    pub status: JobStatus,
    /// Resources that it failed at, so far.
    pub failed: usize,
    /// Why, as far as it says.
    pub errors: Vec<ApiError>,
}

/// The ids of the jobs of a page.
pub fn job_ids_of(body: &[u8]) -> Option<Page<String>> {
    #[derive(Deserialize)]
    struct Resource {
        id: String,
    }
    let Page { rows, next } = page::<Resource>(body)?;
    Some(Page { rows: rows.into_iter().map(|Resource { id }| id).collect(), next })
}

/// How a job of any kind stands, by an answer that is about it.
pub fn resource_job_of(body: &[u8]) -> Option<ResourceJob> {
    #[derive(Deserialize)]
    struct Body {
        data: Resource,
    }
    #[derive(Deserialize)]
    struct Resource {
        attributes: Attributes,
    }
    #[derive(Deserialize)]
    struct Attributes {
        status: JobStatus,
        failed_count: Option<usize>,
        errors: Option<Vec<ApiError>>,
    }
    let Attributes { status, failed_count, errors } =
        serde_json::from_slice::<Body>(body).ok()?.data.attributes;
    Some(ResourceJob { status, failed: failed_count.unwrap_or_default(), errors: errors.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_or_many() {
        assert_eq!(ResourceCalls::body_of_one(r#"{"a":1}"#), br#"{"data":{"a":1}}"#);
        let mut body = CREATE_COUPON_CODES.body_of_many();
        assert!(body.push(&["1"], 1_000) && body.push(&["2"], 1_000));
        assert_eq!(
            String::from_utf8_lossy(&body.finish().expect("a body")),
            r#"{"data":{"type":"coupon-code-bulk-create-job","attributes":{"coupon-codes":{"data":[1,2]}}}}"#
        );
    }

    #[test]
    fn pointers_name_a_resource() {
        let at = |pointer| CREATE_ITEMS.resource_at(pointer);
        assert_eq!(at("/data/attributes/items/data/12/attributes/title"), Some(12));
        assert_eq!(at("/data/attributes/items/data/3"), Some(3));
        for other in ["", "/data", "/data/attributes/items/data/x", "/data/attributes/variants/data/1"] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn a_page_has_jobs() {
        let body = br#"{"data":[{"type":"j","id":"A"},{"type":"j","id":"B"}],"links":{"next":"https://x.example/a?page%5Bcursor%5D=c"}}"#;
        let page = job_ids_of(body).expect("a page");
        assert_eq!((page.rows, page.next.as_deref()), (vec!["A".to_owned(), "B".to_owned()], Some("c")));
        assert_eq!(job_ids_of(b"{}"), None);
    }

    #[test]
    fn a_job_says_what_it_failed_at() {
        let body =
            br#"{"data":{"type":"catalog-item-bulk-create-job","id":"1","attributes":{"status":"complete",
            "created_at":"2026-01-01","total_count":2,"failed_count":1,"errors":[{"id":"e","code":"invalid",
            "title":"T","detail":"D","source":{"pointer":"/data/attributes/items/data/1"}}]}}}"#;
        let job = resource_job_of(body).expect("a job");
        assert_eq!((job.status, job.failed, job.errors.len()), (JobStatus::Complete, 1, 1));
        let silent = br#"{"data":{"attributes":{"status":"queued","failed_count":null,"errors":null}}}"#;
        let job = resource_job_of(silent).expect("a job");
        assert_eq!(job, ResourceJob { status: JobStatus::Queued, failed: 0, errors: Vec::new() });
        assert_eq!(resource_job_of(b"{}"), None);
    }
}
