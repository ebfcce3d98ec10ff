//! Two profiles that become one.

use super::fields::{Findings, Object};

const RESOURCE: &str = "profile-merge";

/// Whom to merge into whom, by their ids.
#[derive(Debug, PartialEq)]
pub struct Merge {
    pub destination: String,
    pub source: String,
}

/// Checks a `ProfileMergeQuery`: it takes one source.
pub fn check(findings: &mut Findings, root: Object<'_, '_>) -> Option<Merge> {
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "id", "relationships"]);
    let destination = data.required_text(findings, "id");
    let relationships = data.object(findings, "relationships")?;
    relationships.only(findings, RESOURCE, &["profiles"]);
    let mut sources = relationships.each(findings, "profiles", |findings, item| {
        item.identifier(findings, "profile").map(str::to_owned)
    })?;
    if sources.len() != 1 && findings.is_empty() {
        findings
            .add(relationships.at.key("profiles").key("data"), "Exactly one source profile must be given.");
    }
    let merge = Merge { destination: destination?.to_owned(), source: sources.pop()? };
    if merge.destination == merge.source {
        findings.add(data.at.key("id"), "A profile cannot be merged into itself.");
    }
    Some(merge)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(id: &str, sources: &[&str]) -> Result<Merge, Vec<String>> {
        let sources: Vec<Value> = sources.iter().map(|id| json!({"type": "profile", "id": id})).collect();
        let body =
            json!({"data": {"type": RESOURCE, "id": id, "relationships": {"profiles": {"data": sources}}}});
        let text = body.to_string();
        let body: serde_json_borrow::Value<'_> = serde_json::from_str(&text).unwrap();
        crate::check::merge(&body).map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn one_profile_is_merged_into_another() {
        assert_eq!(checked("a", &["b"]), Ok(Merge { destination: "a".to_owned(), source: "b".to_owned() }));
        let sources = "/data/relationships/profiles/data".to_owned();
        assert_eq!(checked("a", &[]), Err(vec![sources.clone()]));
        assert_eq!(checked("a", &["b", "c"]), Err(vec![sources]));
        assert_eq!(checked("a", &["a"]), Err(vec!["/data/id".to_owned()]));
    }
}
