//! What is wrong with a message that cannot be queued, told so that it can be put right.

use std::borrow::Cow;

/// The reasons, each with an SQLSTATE of its own and the name under which a dead letter carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    NoIdentifier,
    Email,
    PhoneNumber,
    ExternalId,
    Metric,
    Properties,
    Time,
    Value,
    Currency,
    TooLarge,
    Profile,
    UniqueId,
    UnknownAccount,
    Clear,
}

impl Fault {
    /// Class `KS` is ours; SQL leaves classes from I to Z to implementations.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::NoIdentifier => "KS001",
            Self::Email => "KS002",
            Self::PhoneNumber => "KS003",
            Self::ExternalId => "KS004",
            Self::Metric => "KS005",
            Self::Properties => "KS006",
            Self::Time => "KS007",
            Self::Value => "KS008",
            Self::Currency => "KS009",
            Self::TooLarge => "KS010",
            Self::Profile => "KS011",
            Self::UniqueId => "KS012",
            Self::UnknownAccount => "KS013",
            Self::Clear => "KS014",
        }
    }

    /// `dead_letter.code`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoIdentifier => "no_identifier",
            Self::Email => "invalid_email",
            Self::PhoneNumber => "invalid_phone_number",
            Self::ExternalId => "invalid_external_id",
            Self::Metric => "invalid_metric",
            Self::Properties => "invalid_properties",
            Self::Time => "invalid_event_time",
            Self::Value => "invalid_value",
            Self::Currency => "invalid_currency",
            Self::TooLarge => "too_large",
            Self::Profile => "invalid_profile",
            Self::UniqueId => "invalid_unique_id",
            Self::UnknownAccount => "unknown_account",
            Self::Clear => "invalid_clear",
        }
    }
}

/// A refusal. The texts name the argument and never carry an address or a phone number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub fault: Fault,
    pub message: Cow<'static, str>,
    pub detail: Cow<'static, str>,
    pub hint: Cow<'static, str>,
}

impl Invalid {
    pub fn new(
        fault: Fault,
        message: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { fault, message: message.into(), detail: detail.into(), hint: hint.into() }
    }
}
