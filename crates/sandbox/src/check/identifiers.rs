//! The form of e-mail addresses and phone numbers.

/// The longest e-mail address (RFC 5321 with erratum 1690), in bytes.
const MAX_EMAIL: usize = 254;

/// Whether a text is plausible as an e-mail address: one that no mail server could accept is refused.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    text.len() <= MAX_EMAIL && is_local(local) && is_domain(domain)
}

fn is_local(local: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    (1..=64).contains(&local.len())
        && local.chars().all(allowed)
        && !(local.starts_with('.') || local.ends_with('.') || local.contains(".."))
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !(label.starts_with('-') || label.ends_with('-'))
    };
    domain.contains('.') && domain.split('.').all(is_label)
}

/// Whether a text is a phone number in E.164 form: a plus sign, a country code, 15 digits at most in all. Shorter
/// than 7 digits is no number that can be dialled from abroad.
pub fn is_phone(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && !digits.starts_with('0')
}

/// Whether a phone number in E.164 form can be anybody's: one of a country code that the North American Numbering Plan
/// shares has ten digits after it, and neither area code nor exchange begins with 0 or 1. It stands for all that Klaviyo
/// knows of the plans of countries.
pub fn has_plan(phone: &str) -> bool {
    let Some(number) = phone.strip_prefix("+1") else { return true };
    let begins_well = |at: usize| number.as_bytes().get(at).is_some_and(|digit| *digit >= b'2');
    number.len() == 10 && begins_well(0) && begins_well(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails() {
        for good in ["a@b.co", "sarah.mason+x@klaviyo-demo.com", "UPPER@EXAMPLE.ORG", "ü@bücher.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "", "a", "@b.co", "a@", "a@b", "a b@c.de", "a@@b.co", "a@b..co", ".a@b.co", "a@-b.co", "a@b.co\n",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(!is_email(&format!("a@{}.co", "x.".repeat(130))));
    }

    #[test]
    fn phones() {
        for good in ["+15005550006", "+4930901820", "+123456789012345"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in [
            "15005550006",
            "+1 500 555 0006",
            "+05005550006",
            "+1234567890123456",
            "+12345",
            "+",
            "+1500555000x",
        ] {
            assert!(!is_phone(bad), "{bad}");
        }
    }

    #[test]
    fn plans() {
        for (phone, has) in [
            ("+15005550006", true),
            ("+4930901820", true),
            ("+10005550006", false),
            ("+15001550006", false),
            ("+1500555000", false),
        ] {
            assert_eq!(has_plan(phone), has, "{phone}");
        }
    }
}
