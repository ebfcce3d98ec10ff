//! What a profile is found by.

/// An attribute that belongs to one profile at a time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Identifier {
    ExternalId,
    Email,
    PhoneNumber,
    /// Events only.
    AnonymousId,
}

impl Identifier {
    /// All, in order of precedence, which is also that of their discriminants.
    pub const ALL: [Self; 4] = [Self::ExternalId, Self::Email, Self::PhoneNumber, Self::AnonymousId];

    /// The name in a profile's attributes.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::Email => "email",
            Self::PhoneNumber => "phone_number",
            Self::AnonymousId => "anonymous_id",
        }
    }
}
