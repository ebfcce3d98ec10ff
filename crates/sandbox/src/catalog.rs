//! What a catalog has: items, their variants, and the categories that they are in.

use serde_json::Value;

/// A kind of thing in the catalog.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    Item,
    Variant,
    Category,
}

/// A way to change the catalog.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Act {
    Create,
    Update,
    Delete,
}

impl Act {
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];
}

/// What an attribute can be.
#[derive(Clone, Copy)]
pub enum Type {
    Text,
    Number,
    Boolean,
    /// How much an empty stock hides: 0, 1 or 2.
    Policy,
    Texts,
    /// An object without objects or arrays in it.
    Flat,
}

/// An attribute that is given and changed.
pub struct Attribute {
    pub name: &'static str,
    pub of: Type,
    /// Whether a new thing must have it.
    pub is_required: bool,
}

impl Attribute {
    const fn required(name: &'static str, of: Type) -> Self {
        Self { name, of, is_required: true }
    }

    const fn optional(name: &'static str, of: Type) -> Self {
        Self { name, of, is_required: false }
    }

    /// What it is of a new thing that does not say. Source: `default` in Klaviyo's OpenAPI document.
    pub fn unsaid(&self) -> Value {
        match self.of {
            Type::Boolean => true.into(),
            Type::Policy => 0.into(),
            Type::Text | Type::Number | Type::Texts | Type::Flat => Value::Null,
        }
    }
}

/// Source: `CatalogItemCreateQuery` and `CatalogItemUpdateQuery`.
const ITEM: [Attribute; 9] = [
    Attribute::required("title", Type::Text),
    Attribute::required("description", Type::Text),
    Attribute::required("url", Type::Text),
    Attribute::optional("price", Type::Number),
    Attribute::optional("image_full_url", Type::Text),
    Attribute::optional("image_thumbnail_url", Type::Text),
    Attribute::optional("images", Type::Texts),
    Attribute::optional("custom_metadata", Type::Flat),
    Attribute::optional("published", Type::Boolean),
];

/// Source: `CatalogVariantCreateQuery` and `CatalogVariantUpdateQuery`.
const VARIANT: [Attribute; 12] = [
    Attribute::required("title", Type::Text),
    Attribute::required("description", Type::Text),
    Attribute::required("sku", Type::Text),
    Attribute::optional("inventory_policy", Type::Policy),
    Attribute::required("inventory_quantity", Type::Number),
    Attribute::required("price", Type::Number),
    Attribute::required("url", Type::Text),
    Attribute::optional("image_full_url", Type::Text),
    Attribute::optional("image_thumbnail_url", Type::Text),
    Attribute::optional("images", Type::Texts),
    Attribute::optional("custom_metadata", Type::Flat),
    Attribute::optional("published", Type::Boolean),
];

/// Source: `CatalogCategoryCreateQuery` and `CatalogCategoryUpdateQuery`.
const CATEGORY: [Attribute; 1] = [Attribute::required("name", Type::Text)];

impl Kind {
    /// In the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Item, Self::Variant, Self::Category];

    /// The resource that such a thing is.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Item => "catalog-item",
            Self::Variant => "catalog-variant",
            Self::Category => "catalog-category",
        }
    }

    /// What many of them are called.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Item => "items",
            Self::Variant => "variants",
            Self::Category => "categories",
        }
    }

    /// The path of all of them.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Item => "/api/catalog-items",
            Self::Variant => "/api/catalog-variants",
            Self::Category => "/api/catalog-categories",
        }
    }

    /// The path of one, as the OpenAPI document writes it.
    pub const fn path_of_one(self) -> &'static str {
        match self {
            Self::Item => "/api/catalog-items/{id}",
            Self::Variant => "/api/catalog-variants/{id}",
            Self::Category => "/api/catalog-categories/{id}",
        }
    }

    /// What is given and changed of such a thing.
    pub const fn attributes(self) -> &'static [Attribute] {
        match self {
            Self::Item => &ITEM,
            Self::Variant => &VARIANT,
            Self::Category => &CATEGORY,
        }
    }

    /// The kind of things that a request relates such a thing to.
    pub const fn related(self) -> Self {
        match self {
            Self::Item => Self::Category,
            Self::Variant | Self::Category => Self::Item,
        }
    }

    /// What the relationship is called.
    pub const fn relationship(self) -> &'static str {
        match self {
            Self::Item => "categories",
            Self::Variant => "item",
            Self::Category => "items",
        }
    }
}

/// Klaviyo's id of what a shop calls so. There is one integration and one catalog.
pub fn id_of(external_id: &str) -> String {
    format!("{INTEGRATION}:::{CATALOG}:::{external_id}")
}

/// The only integration there is.
pub const INTEGRATION: &str = "$custom";
/// The only catalog there is.
pub const CATALOG: &str = "$default";
