//! Reading typed fields out of a JSON body, noting what is wrong with a pointer to it.

use std::fmt;

use serde_json_borrow::{Map, Value};

use crate::error::ApiError;

/// A place in the body. Costs nothing until it is written out as a JSON pointer (RFC 6901).
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub const ROOT: Self = At { parent: None, step: Step::Root };

    pub fn key(&'a self, key: &'a str) -> Self {
        At { parent: Some(self), step: Step::Key(key) }
    }

    pub fn index(&'a self, index: usize) -> Self {
        At { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Step::Index(index) => write!(f, "/{index}"),
        }
    }
}

/// What is wrong with a body.
#[derive(Default)]
pub struct Findings(Vec<ApiError>);

impl Findings {
    pub fn add(&mut self, at: At<'_>, detail: impl Into<String>) {
        self.0.push(ApiError::invalid(at.to_string(), detail));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_errors(self) -> Vec<ApiError> {
        self.0
    }
}

/// A JSON object at a place in the body. What is read out of it outlives the place.
#[derive(Clone, Copy)]
pub struct Object<'v, 'p> {
    pub map: &'v Map<'v>,
    pub at: At<'p>,
}

impl<'v, 'p> Object<'v, 'p> {
    /// The body itself.
    pub fn root(findings: &mut Findings, body: &'v Value<'v>) -> Option<Self> {
        let map = body.as_object();
        if map.is_none() {
            findings.add(At::ROOT.key("data"), "The request body must be a JSON object.");
        }
        Some(Self { map: map?, at: At::ROOT })
    }

    /// A field that must be an object.
    pub fn object<'s>(&'s self, findings: &mut Findings, key: &'s str) -> Option<Object<'v, 's>> {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.missing(findings, key);
            return None;
        }
        self.optional_object(findings, key)
    }

    /// A field that may be absent or null.
    pub fn optional_object<'s>(&'s self, findings: &mut Findings, key: &'s str) -> Option<Object<'v, 's>> {
        let map = self.typed(findings, key, "an object", Value::as_object)?;
        Some(Object { map, at: self.at.key(key) })
    }

    /// Checks each object in a field that must be an object with nothing but an array of them, `data`. What comes to
    /// nothing is left out, and has been noted.
    pub fn each<T>(
        &self,
        findings: &mut Findings,
        key: &str,
        check: impl FnMut(&mut Findings, Object<'v, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let member = self.object(findings, key)?;
        member.only(findings, key, &["data"]);
        member.items(findings, "data", check)
    }

    /// The same of a field that must be the array itself.
    pub fn items<T>(
        &self,
        findings: &mut Findings,
        key: &str,
        mut check: impl FnMut(&mut Findings, Object<'v, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.missing(findings, key);
        }
        let items = self.typed(findings, key, "an array", Value::as_array)?;
        let array = self.at.key(key);
        let mut drafts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = array.index(index);
            match item.as_object() {
                Some(map) => drafts.extend(check(findings, Object { map, at })),
                None => findings.add(at, "This must be an object."),
            }
        }
        Some(drafts)
    }

    /// The same of a field that may be absent or null.
    pub fn optional_items<T>(
        &self,
        findings: &mut Findings,
        key: &str,
        check: impl FnMut(&mut Findings, Object<'v, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.map.get(key).filter(|value| !value.is_null())?;
        self.items(findings, key, check)
    }

    /// A string that may be absent or null.
    pub fn text(&self, findings: &mut Findings, key: &str) -> Option<&'v str> {
        self.typed(findings, key, "a string", Value::as_str)
    }

    /// A string that may be absent, and not null.
    pub fn text_if_any(&self, findings: &mut Findings, key: &str) -> Option<&'v str> {
        if self.map.get(key).is_some_and(Value::is_null) {
            findings.add(self.at.key(key), "This field may not be null.");
        }
        self.text(findings, key)
    }

    /// A string that must be there.
    pub fn required_text(&self, findings: &mut Findings, key: &str) -> Option<&'v str> {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.missing(findings, key);
        }
        self.text(findings, key)
    }

    /// The same that must say something.
    pub fn filled_text(&self, findings: &mut Findings, key: &str) -> Option<&'v str> {
        let text = self.required_text(findings, key)?;
        if text.trim().is_empty() {
            findings.add(self.at.key(key), "This field may not be blank.");
        }
        Some(text)
    }

    /// The same that must be one of some.
    pub fn choice(&self, findings: &mut Findings, key: &str, known: &[&str]) -> Option<&'v str> {
        let text = self.required_text(findings, key)?;
        if known.contains(&text) {
            return Some(text);
        }
        findings.add(self.at.key(key), one_of(&format!("'{key}'"), known));
        None
    }

    /// An array of strings that may be absent or null.
    pub fn texts(&self, findings: &mut Findings, key: &str) -> Option<Vec<&'v str>> {
        self.typed(findings, key, "an array of strings", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// The same that must each be one of some.
    pub fn choices(
        &self,
        findings: &mut Findings,
        key: &str,
        known: &[&'static str],
    ) -> Option<Vec<&'static str>> {
        let texts = self.texts(findings, key)?;
        let array = self.at.key(key);
        let mut found = Vec::with_capacity(texts.len());
        for (index, text) in texts.into_iter().enumerate() {
            match known.iter().find(|known| **known == text) {
                Some(known) => found.push(*known),
                None => findings.add(array.index(index), one_of("This", known)),
            }
        }
        Some(found)
    }

    /// The same that must be there, and have some.
    pub fn filled_choices(
        &self,
        findings: &mut Findings,
        key: &str,
        known: &[&'static str],
    ) -> Option<Vec<&'static str>> {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.missing(findings, key);
        }
        let found = self.choices(findings, key, known)?;
        if self.map.get(key).and_then(Value::as_array).is_some_and(<[_]>::is_empty) {
            findings.add(self.at.key(key), format!("'{key}' must name at least one."));
        }
        Some(found)
    }

    /// A boolean that may be absent or null.
    pub fn flag(&self, findings: &mut Findings, key: &str) -> Option<bool> {
        self.typed(findings, key, "a boolean", Value::as_bool)
    }

    /// A boolean that must be there.
    pub fn required_flag(&self, findings: &mut Findings, key: &str) -> Option<bool> {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.missing(findings, key);
        }
        self.flag(findings, key)
    }

    /// The id of the one resource that this one is related to by a relationship that must be there, the only one.
    pub fn related(&self, findings: &mut Findings, name: &str, resource: &str) -> Option<&'v str> {
        let relationships = self.object(findings, "relationships")?;
        relationships.only(findings, name, &[name]);
        let related = relationships.object(findings, name)?;
        related.only(findings, name, &["data"]);
        related.object(findings, "data")?.identifier(findings, resource)
    }

    /// The id of a resource of which there is nothing else.
    pub fn identifier(&self, findings: &mut Findings, resource: &str) -> Option<&'v str> {
        self.resource_type(findings, resource);
        self.only(findings, resource, &["type", "id"]);
        self.required_text(findings, "id")
    }

    /// A field of some type that may be absent or null; `name` is the type's, with its article.
    pub fn typed<T>(
        &self,
        findings: &mut Findings,
        key: &str,
        name: &str,
        read: impl FnOnce(&'v Value<'v>) -> Option<T>,
    ) -> Option<T> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        let typed = read(value);
        if typed.is_none() {
            findings.add(self.at.key(key), format!("'{key}' must be {name}."));
        }
        typed
    }

    /// The member `type`, which JSON:API requires to name the resource.
    pub fn resource_type(&self, findings: &mut Findings, expected: &str) {
        match self.map.get("type") {
            None => self.missing(findings, "type"),
            Some(Value::Str(found)) if found == expected => {}
            Some(_) => findings.add(self.at.key("type"), format!("'type' must be '{expected}'.")),
        }
    }

    /// Members outside the list. Klaviyo refuses a body with fields it does not know.
    pub fn only(&self, findings: &mut Findings, resource: &str, known: &[&str]) {
        for key in self.map.keys().filter(|key| !known.contains(key)) {
            let detail = format!("'{key}' is not a valid field for the resource '{resource}'.");
            findings.add(self.at.key(key), detail);
        }
    }

    pub fn missing(&self, findings: &mut Findings, key: &str) {
        findings.add(self.at.key(key), format!("'{key}' is a required field."));
    }
}

fn one_of(what: &str, known: &[&str]) -> String {
    format!("{what} must be one of '{}'.", known.join("', '"))
}
