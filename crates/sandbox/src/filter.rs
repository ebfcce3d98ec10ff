//! Filters of lists and reports: `equals(field,"value")` and `any(field,["value",…])`. Klaviyo's guide to filtering has more.

mod conditions;

use crate::error::ApiError;
pub use conditions::{Condition, Field, Kind, Test, conditions};

/// The parameter that has the filter.
pub const FILTER: &str = "filter";

pub const ANY: &str = "any";
pub const CONTAINS_ANY: &str = "contains-any";
pub const EQUALS: &str = "equals";

/// Whatever has one of the values there.
#[derive(Debug, PartialEq)]
pub struct Filter {
    pub field: &'static str,
    pub values: Vec<String>,
}

impl Filter {
    /// Reads a filter by one of these operators on one of these fields.
    pub fn parse(text: &str, operators: &[&str], fields: &[&'static str]) -> Result<Self, ApiError> {
        let invalid = |detail: String| ApiError::parameter(FILTER, detail);
        let (operator, field, values) =
            split(text).ok_or_else(|| invalid(format!("Invalid filter: {text}.")))?;
        let known = fields.iter().copied().find(|known| *known == field);
        let field = known.ok_or_else(|| invalid(format!("'{field}' cannot be filtered by here.")))?;
        if !operators.contains(&operator) {
            return Err(invalid(format!("'{operator}' is not an operator for '{field}'.")));
        }
        let values = match operator {
            EQUALS => only(values),
            _ => list(values),
        };
        match values {
            Some((values, ")")) => Ok(Self { field, values }),
            _ => Err(invalid(format!("Invalid value in the filter: {text}."))),
        }
    }
}

/// The operator, the field, and the rest of the text.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (operator, rest) = text.split_once('(')?;
    let (field, rest) = rest.split_once(',')?;
    Some((operator, field.trim(), rest.trim_start()))
}

/// A string, also in a list of its own, since the document writes equals(email,['example']) too; and what comes after it.
fn only(text: &str) -> Option<(Vec<String>, &str)> {
    let one = string(text).map(|(value, rest)| (vec![value], rest));
    one.or_else(|| list(text).filter(|(values, _)| values.len() == 1))
}

/// The strings of a list that has some, and what comes after it.
fn list(text: &str) -> Option<(Vec<String>, &str)> {
    let mut rest = text.strip_prefix('[')?;
    let mut values = Vec::new();
    loop {
        let (value, after) = string(rest.trim_start())?;
        values.push(value);
        let after = after.trim_start();
        if let Some(after) = after.strip_prefix(']') {
            return Some((values, after));
        }
        rest = after.strip_prefix(',')?;
    }
}

/// A string as JSON has it, or in single quotes, and what comes after it.
fn string(text: &str) -> Option<(String, &str)> {
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, rest) = rest.split_once('\'')?;
        return Some((value.to_owned(), rest));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(&'static str, Vec<String>), String> {
        let filter = Filter::parse(text, &[ANY, EQUALS], &["email", "id"]).map_err(|error| error.pointer);
        filter.map(|filter| (filter.field, filter.values))
    }

    #[test]
    fn values_are_strings_and_lists_of_them() {
        for (text, values) in [
            (r#"equals(email,"a@a.co")"#, &["a@a.co"][..]),
            ("equals(email,'a@a.co')", &["a@a.co"]),
            ("equals(email,['a@a.co'])", &["a@a.co"]),
            (r#"any(email,["a@a.co", "q\"u)o,t]e\u00e9"])"#, &["a@a.co", "q\"u)o,t]eé"]),
            ("any(email,['a@a.co','b@a.co'])", &["a@a.co", "b@a.co"]),
        ] {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            assert_eq!(read(text), Ok(("email", values)), "{text}");
        }
        assert_eq!(read(r#"any(id,["01X"])"#), Ok(("id", vec!["01X".to_owned()])));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "",
            "email",
            "equals(email)",
            "equals(email,a@a.co)",
            "equals(email,7)",
            r#"equals(email,"a@a.co""#,
            r#"equals(email,"a@a.co"))"#,
            r#"equals(email,"a@a.co"),equals(id,"01X")"#,
            r#"equals(email,["a@a.co","b@a.co"])"#,
            r#"any(email,"a@a.co")"#,
            "any(email,[])",
            r#"any(email,["a@a.co",])"#,
            r#"any(email,["a@a.co" "b@a.co"])"#,
            r#"contains(email,"a")"#,
            r#"equals(phone_number,"+15005550006")"#,
        ] {
            assert_eq!(read(text), Err(FILTER.to_owned()), "{text}");
        }
        assert!(Filter::parse(r#"equals(ids,"7")"#, &[ANY], &["ids"]).is_err());
    }
}
