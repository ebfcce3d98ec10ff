//! Filters of several conditions, which all have to hold: one after the other, or in `and(…)`.

use jiff::Timestamp;

use super::{ANY, CONTAINS_ANY, EQUALS, FILTER, list, only, string};
use crate::check::{Whose, rfc3339};
use crate::error::ApiError;
use crate::store::Identifier;

/// What a field is.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Text,
    Flag,
    Time,
    /// A time that may be written in seconds since 1970 too.
    Second,
}

/// A field that can be filtered by.
pub struct Field {
    pub name: &'static str,
    pub of: Kind,
    pub operators: &'static [&'static str],
}

/// What a field has to be.
#[derive(Debug, PartialEq)]
pub enum Test {
    OneOf(Vec<String>),
    /// However it is written. Klaviyo does not say whether that matters.
    Contains(String),
    Flag(bool),
    After(Timestamp),
    From(Timestamp),
    Until(Timestamp),
    Before(Timestamp),
}

/// One condition.
#[derive(Debug, PartialEq)]
pub struct Condition {
    pub field: &'static str,
    pub test: Test,
}

impl Condition {
    /// The profiles that a condition on what they are found by means.
    pub fn whose(&self) -> Option<Vec<Whose>> {
        let Test::OneOf(values) = &self.test else { return None };
        let identifier = Identifier::ALL.into_iter().find(|identifier| identifier.attribute() == self.field);
        let whose = |value: &String| match identifier {
            Some(identifier) => Whose::Has(identifier, value.clone()),
            None => Whose::Id(value.clone()),
        };
        Some(values.iter().map(whose).collect())
    }
}

impl Test {
    pub fn text(&self, text: &str) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|value| value == text),
            Self::Contains(part) => text.to_lowercase().contains(&part.to_lowercase()),
            _ => false,
        }
    }

    pub fn flag(&self, flag: bool) -> bool {
        *self == Self::Flag(flag)
    }

    /// A time that there is not meets nothing.
    pub fn time(&self, time: Option<Timestamp>) -> bool {
        let Some(time) = time else { return false };
        match self {
            Self::After(other) => time > *other,
            Self::From(other) => time >= *other,
            Self::Until(other) => time <= *other,
            Self::Before(other) => time < *other,
            _ => false,
        }
    }
}

/// Reads a filter by these fields.
pub fn conditions(text: &str, fields: &[Field]) -> Result<Vec<Condition>, ApiError> {
    let invalid = || ApiError::parameter(FILTER, format!("Invalid filter: {text}."));
    let (mut rest, end) = match text.strip_prefix("and(") {
        Some(rest) => (rest, ")"),
        None => (text, ""),
    };
    let mut found = Vec::new();
    loop {
        let (operator, after) = rest.split_once('(').ok_or_else(invalid)?;
        let (name, after) = after.split_once(',').ok_or_else(invalid)?;
        let (operator, name) = (operator.trim(), name.trim());
        let field = fields
            .iter()
            .find(|field| field.name == name)
            .ok_or_else(|| ApiError::parameter(FILTER, format!("'{name}' cannot be filtered by here.")))?;
        if !field.operators.contains(&operator) {
            let detail = format!("'{operator}' is not an operator for '{name}'.");
            return Err(ApiError::parameter(FILTER, detail));
        }
        let (test, after) = test(operator, field.of, after.trim_start()).ok_or_else(invalid)?;
        found.push(Condition { field: field.name, test });
        let after = after.trim_start().strip_prefix(')').ok_or_else(invalid)?;
        if after == end {
            return Ok(found);
        }
        rest = after.strip_prefix(',').ok_or_else(invalid)?.trim_start();
    }
}

/// What an operator and the value at the beginning of a text say, and what comes after it.
fn test<'t>(operator: &str, kind: Kind, text: &'t str) -> Option<(Test, &'t str)> {
    match (operator, kind) {
        (ANY | CONTAINS_ANY, _) => list(text).map(|(values, rest)| (Test::OneOf(values), rest)),
        (EQUALS, Kind::Flag) => {
            let flag = |word, flag| Some((Test::Flag(flag), text.strip_prefix(word)?));
            flag("true", true).or_else(|| flag("false", false))
        }
        (EQUALS, _) => only(text).map(|(values, rest)| (Test::OneOf(values), rest)),
        ("contains", _) => string(text).map(|(part, rest)| (Test::Contains(part), rest)),
        _ => {
            let (time, rest) = time(text, kind)?;
            let test = match operator {
                "greater-than" => Test::After(time),
                "greater-or-equal" => Test::From(time),
                "less-or-equal" => Test::Until(time),
                _ => Test::Before(time),
            };
            Some((test, rest))
        }
    }
}

/// A time, as it is or as a string.
fn time(text: &str, kind: Kind) -> Option<(Timestamp, &str)> {
    let (time, rest) = match string(text) {
        Some((time, rest)) => (time, rest),
        None => text.split_at_checked(text.find(')')?).map(|(time, rest)| (time.to_owned(), rest))?,
    };
    let seconds = if kind == Kind::Second { time.trim().parse().ok() } else { None };
    let second = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    Some((second.or_else(|| rfc3339(time.trim()))?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [Field; 4] = [
        Field { name: "id", of: Kind::Text, operators: &["any"] },
        Field { name: "name", of: Kind::Text, operators: &["contains", "equals"] },
        Field { name: "archived", of: Kind::Flag, operators: &["equals"] },
        Field { name: "created_at", of: Kind::Time, operators: &["greater-than", "less-or-equal"] },
    ];

    fn read(text: &str) -> Option<Vec<Condition>> {
        conditions(text, &FIELDS).ok()
    }

    #[test]
    fn conditions_come_one_after_the_other_or_together() {
        let time = "2026-07-15T10:00:00Z".parse().unwrap();
        let expected = || {
            vec![
                Condition { field: "name", test: Test::Contains("a),b".to_owned()) },
                Condition { field: "archived", test: Test::Flag(false) },
                Condition { field: "created_at", test: Test::After(time) },
                Condition { field: "id", test: Test::OneOf(vec!["1".to_owned(), "2".to_owned()]) },
            ]
        };
        let rest = "equals(archived,false),greater-than(created_at,2026-07-15T10:00:00Z),any(id,['1',\"2\"])";
        assert_eq!(read(&format!("contains(name,'a),b'),{rest}")), Some(expected()));
        assert_eq!(read(&format!("and(contains(name, \"a),b\"), {rest})")), Some(expected()));
        let one = || vec![Condition { field: "name", test: Test::OneOf(vec!["x".to_owned()]) }];
        assert_eq!(read("equals(name,['x'])"), Some(one()));
        let quoted = read("less-or-equal(created_at,'2026-07-15T12:00:00+02:00')");
        assert_eq!(quoted, Some(vec![Condition { field: "created_at", test: Test::Until(time) }]));
        for text in [
            "",
            "name",
            "equals(name)",
            "equals(name,x)",
            "equals(name,'x'",
            "equals(name,'x'))",
            "equals(name,'x'),",
            "equals(name,'x')equals(name,'x')",
            "and(equals(name,'x')",
            "any(name,['x'])",
            "any(id,'x')",
            "equals(archived,'true')",
            "equals(archived,truer)",
            "greater-than(created_at,2026-07-15)",
            "equals(status,'x')",
            "equals(name,['x','y'])",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn tests_are_met_or_not() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let time = at("2026-07-15T10:00:00Z").unwrap();
        let times = ["2026-07-15T09:59:59Z", "2026-07-15T10:00:00Z", "2026-07-15T10:00:01Z"];
        for (test, expected) in [
            (Test::After(time), [false, false, true]),
            (Test::From(time), [false, true, true]),
            (Test::Until(time), [true, true, false]),
            (Test::Before(time), [true, false, false]),
        ] {
            assert_eq!(times.map(|text| test.time(at(text))), expected, "{test:?}");
            assert!(!test.time(None));
        }
        let part = Test::Contains("New".to_owned());
        assert_eq!(["news", "Old news", "old"].map(|text| part.text(text)), [true, true, false]);
    }
}
