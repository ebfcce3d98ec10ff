//! What is wrong with a message that cannot be queued, told so that it can be put right.

use std::borrow::Cow;

macro_rules! faults {
    ($($name:ident $sqlstate:literal $code:literal,)+) => {
        /// The reasons, each with an SQLSTATE of its own and the name under which a dead letter carries it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($name,)+
        }

        impl Fault {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Class `KS` is ours; SQL leaves classes from I to Z to implementations.
            pub fn sqlstate(self) -> &'static str {
                match self {
                    $(Self::$name => $sqlstate,)+
                }
            }

            /// `dead_letter.code`.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }
        }
    };
}

faults! {
    NoIdentifier "KS001" "no_identifier",
    Email "KS002" "invalid_email",
    PhoneNumber "KS003" "invalid_phone_number",
    ExternalId "KS004" "invalid_external_id",
    Metric "KS005" "invalid_metric",
    Properties "KS006" "invalid_properties",
    Time "KS007" "invalid_event_time",
    Value "KS008" "invalid_value",
    Currency "KS009" "invalid_currency",
    TooLarge "KS010" "too_large",
    Profile "KS011" "invalid_profile",
    UniqueId "KS012" "invalid_unique_id",
    UnknownAccount "KS013" "unknown_account",
    Clear "KS014" "invalid_clear",
    TwoIdentifiers "KS015" "two_identifiers",
    List "KS060" "invalid_list",
    Channels "KS061" "invalid_channels",
    ConsentedAt "KS062" "invalid_consented_at",
    DateOfBirth "KS063" "invalid_date_of_birth",
    CustomSource "KS064" "invalid_custom_source",
    OrderId "KS065" "invalid_order_id",
    Items "KS066" "invalid_items",
    ProfileId "KS067" "invalid_profile_id",
    Call "KS068" "invalid_call",
    Coupon "KS069" "invalid_coupon_code",
    Catalog "KS070" "invalid_catalog",
    Campaign "KS071" "invalid_campaign",
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
