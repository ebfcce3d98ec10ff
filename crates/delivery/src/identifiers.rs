//! Whom a message is about: checks of the three identifiers.

use email_address::{EmailAddress, Options};

use crate::invalid::{Fault, Invalid};
use crate::key;

/// The identifiers a message may name. An absent one is `None`; an empty one is a mistake.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identifiers<'a> {
    pub email: Option<&'a str>,
    pub phone_number: Option<&'a str>,
    pub external_id: Option<&'a str>,
}

/// The names of the three, as Klaviyo has them.
pub const NAMES: [&str; 3] = ["email", "phone_number", "external_id"];

/// Bytes of an external id. Klaviyo names no bound; this keeps a key that is no key out of every table.
const EXTERNAL_ID: usize = 1_024;

impl<'a> Identifiers<'a> {
    /// Refuses what Klaviyo would refuse, and what names nobody.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(email) = self.email {
            check_email(email)?;
        }
        if let Some(phone_number) = self.phone_number {
            check_phone_number(phone_number)?;
        }
        if let Some(external_id) = self.external_id {
            check_external_id(external_id)?;
        }
        if self.email.or(self.phone_number).or(self.external_id).is_none() {
            return Err(Invalid::new(
                Fault::NoIdentifier,
                "no identifier: a message must say whom it is about",
                "None of email, phone_number and external_id is given.",
                "Pass at least one of them; a column that is NULL counts as absent.",
            ));
        }
        Ok(())
    }

    /// The key under which the message keeps its order.
    pub fn key(&self) -> Vec<String> {
        key::of(self.email, self.phone_number, self.external_id)
    }

    /// Names and values of those given, as Klaviyo names them.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        NAMES
            .into_iter()
            .zip([self.email, self.phone_number, self.external_id])
            .filter_map(|(name, value)| Some((name, value?)))
    }
}

fn check_email(email: &str) -> Result<(), Invalid> {
    let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
    let detail = if email.trim() != email {
        "It begins or ends with white space."
    } else if email.is_empty() {
        "It is empty."
    } else if EmailAddress::parse_with_options(email, options).is_err()
        || !email.rsplit('.').next().unwrap_or_default().contains(char::is_alphabetic)
    {
        "It is not of the form name@domain.tld."
    } else {
        return Ok(());
    };
    Err(Invalid::new(
        Fault::Email,
        "argument \"email\" is not an e-mail address",
        detail,
        "Correct it, or pass NULL and another identifier.",
    ))
}

/// E.164: a plus, then 7 to 15 digits of which the first is not 0.
fn check_phone_number(phone_number: &str) -> Result<(), Invalid> {
    let digits = phone_number.strip_prefix('+').unwrap_or_default().as_bytes();
    let valid =
        (7..=15).contains(&digits.len()) && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit);
    if valid {
        return Ok(());
    }
    Err(Invalid::new(
        Fault::PhoneNumber,
        "argument \"phone_number\" is not in E.164 format",
        "It must be a plus sign, the country code and the number: 7 to 15 digits, nothing between them.",
        "Write +15005550006 for (500) 555-0006 in the United States.",
    ))
}

fn check_external_id(external_id: &str) -> Result<(), Invalid> {
    if !external_id.trim().is_empty() && external_id.len() <= EXTERNAL_ID {
        return Ok(());
    }
    Err(Invalid::new(
        Fault::ExternalId,
        "argument \"external_id\" is blank or too long",
        format!("It must have 1 to {EXTERNAL_ID} bytes, not all of them white space."),
        "Pass the primary key of the user's row, as text.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(email: &str) -> Result<(), Invalid> {
        Identifiers { email: Some(email), ..Default::default() }.check()
    }

    #[test]
    fn somebody_must_be_named() {
        assert_eq!(Identifiers::default().check().expect_err("nobody").fault, Fault::NoIdentifier);
    }

    #[test]
    fn e_mail_addresses() {
        for good in ["a@b.example", "first.last+tag@sub.example.co.uk", "o'neil@example.com", "ü@exämple.de"]
        {
            email(good).expect(good);
        }
        for bad in [
            "",
            " ",
            "a",
            "a@",
            "@b.example",
            "a b@c.example",
            "a@b",
            "a@127.0.0.1",
            "a@b..c",
            " a@b.example",
            "a@b.example\n",
        ] {
            assert_eq!(email(bad).expect_err(bad).fault, Fault::Email);
        }
        assert_eq!(email("Ada <ada@b.example>").expect_err("display name").fault, Fault::Email);
        assert_eq!(email("a@[127.0.0.1]").expect_err("literal").fault, Fault::Email);
    }

    #[test]
    fn phone_numbers() {
        let check = |text| Identifiers { phone_number: Some(text), ..Default::default() }.check();
        for good in ["+15005550006", "+4930123456", "+123456789012345"] {
            check(good).expect(good);
        }
        for bad in [
            "",
            "+",
            "15005550006",
            "+1 500 555 0006",
            "+05005550006",
            "+1234567890123456",
            "+12345x7890",
            "+١٢٣٤٥٦٧",
        ] {
            assert_eq!(check(bad).expect_err(bad).fault, Fault::PhoneNumber);
        }
    }

    #[test]
    fn refusals_carry_no_address() {
        let invalid = email("secret person@b.example").expect_err("a space");
        assert!(!format!("{invalid:?}").contains("secret"));
    }
}
