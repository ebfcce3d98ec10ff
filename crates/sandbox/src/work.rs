//! What jobs with many entries do: each kind is a call that makes one, and a call that asks how far it is.

use std::mem::discriminant;

use crate::catalog::{Act, Kind};

/// What a job does with each of its entries.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Work {
    /// Suppresses an address.
    Suppress,
    /// Lifts the suppression of one.
    Unsuppress,
    /// Creates a coupon's code.
    Codes,
    /// Changes the catalog.
    Catalog(Kind, Act),
}

/// The resource that a job is, the path that makes one, and the path of one as the OpenAPI document writes it.
macro_rules! names {
    ($resource:literal) => {
        [$resource, concat!("/api/", $resource, "s"), concat!("/api/", $resource, "s/{job_id}")]
    };
}

impl Work {
    /// Each of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let catalog = Kind::ALL.into_iter().flat_map(|kind| Act::ALL.map(|act| Self::Catalog(kind, act)));
        [Self::Suppress, Self::Unsuppress, Self::Codes].into_iter().chain(catalog)
    }

    /// Whether it can be asked which of its jobs there are. Of those that suppress the sandbox does not know the call.
    pub const fn is_listed(self) -> bool {
        matches!(self, Self::Codes | Self::Catalog(..))
    }

    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Suppress => names!("profile-suppression-bulk-create-job"),
            Self::Unsuppress => names!("profile-suppression-bulk-delete-job"),
            Self::Codes => names!("coupon-code-bulk-create-job"),
            Self::Catalog(Kind::Item, Act::Create) => names!("catalog-item-bulk-create-job"),
            Self::Catalog(Kind::Item, Act::Update) => names!("catalog-item-bulk-update-job"),
            Self::Catalog(Kind::Item, Act::Delete) => names!("catalog-item-bulk-delete-job"),
            Self::Catalog(Kind::Variant, Act::Create) => names!("catalog-variant-bulk-create-job"),
            Self::Catalog(Kind::Variant, Act::Update) => names!("catalog-variant-bulk-update-job"),
            Self::Catalog(Kind::Variant, Act::Delete) => names!("catalog-variant-bulk-delete-job"),
            Self::Catalog(Kind::Category, Act::Create) => names!("catalog-category-bulk-create-job"),
            Self::Catalog(Kind::Category, Act::Update) => names!("catalog-category-bulk-update-job"),
            Self::Catalog(Kind::Category, Act::Delete) => names!("catalog-category-bulk-delete-job"),
        }
    }

    /// The resource that such a job is.
    pub const fn resource(self) -> &'static str {
        self.names()[0]
    }

    /// The path that makes one.
    pub const fn path(self) -> &'static str {
        self.names()[1]
    }

    /// The path of one, as the OpenAPI document writes it.
    pub const fn path_of_one(self) -> &'static str {
        self.names()[2]
    }

    /// The attribute that has the entries.
    pub const fn entries(self) -> &'static str {
        match self {
            Self::Suppress | Self::Unsuppress => "profiles",
            Self::Codes => "coupon-codes",
            Self::Catalog(kind, _) => kind.plural(),
        }
    }

    /// Where the entries are in the body that makes a job.
    pub fn entries_at(self) -> String {
        format!("/data/attributes/{}/data", self.entries())
    }

    /// Entries in a call. Source: its description in Klaviyo's OpenAPI document.
    pub const fn max_entries(self) -> usize {
        match self {
            Self::Codes => 1_000,
            Self::Suppress | Self::Unsuppress | Self::Catalog(..) => 100,
        }
    }

    /// Jobs that may be under way. The descriptions say it of "jobs in progress" and of "jobs queued"; of which they do not
    /// say, and so it is all those of the catalog together, and queued is until the end.
    pub const fn max_jobs(self) -> Option<usize> {
        match self {
            Self::Suppress | Self::Unsuppress => None,
            Self::Codes => Some(100),
            Self::Catalog(..) => Some(500),
        }
    }

    /// Whether the limit on jobs under way is of both.
    pub fn is_limited_with(self, other: Self) -> bool {
        discriminant(&self) == discriminant(&other)
    }
}
