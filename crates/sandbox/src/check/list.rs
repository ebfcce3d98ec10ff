//! Lists, and the profiles that are put on them or taken off.

use super::fields::{Findings, Object};
use crate::store::OptIn;

const RESOURCE: &str = "list";

/// Profiles in a call. Source: the description of `POST /api/lists/{id}/relationships/profiles`.
const MAX_PROFILES: usize = 1_000;

/// A checked new list.
#[derive(Debug)]
pub struct ListDraft {
    pub name: String,
    /// The account's, unless it says so.
    pub opt_in: Option<OptIn>,
}

/// A checked change of a list: what is absent stays as it is.
#[derive(Debug)]
pub struct ListChange {
    pub name: Option<String>,
    pub opt_in: Option<OptIn>,
}

/// Checks a `ListCreateQuery`.
pub fn check_create(findings: &mut Findings, root: Object<'_, '_>) -> Option<ListDraft> {
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, RESOURCE, &["name", "opt_in_process"]);
    let opt_in = check_opt_in(findings, attributes);
    let name = attributes.required_text(findings, "name")?;
    check_name(findings, attributes, name);
    Some(ListDraft { name: name.to_owned(), opt_in })
}

/// Checks a `ListPartialUpdateQuery` for the list with this id.
pub fn check_update(findings: &mut Findings, root: Object<'_, '_>, id: &str) -> Option<ListChange> {
    root.only(findings, RESOURCE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, RESOURCE);
    data.only(findings, RESOURCE, &["type", "id", "attributes"]);
    if data.required_text(findings, "id").is_some_and(|said| said != id) {
        findings.add(data.at.key("id"), "'id' must be that of the list in the path.");
    }
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, RESOURCE, &["name", "opt_in_process"]);
    let opt_in = check_opt_in(findings, attributes);
    let name = attributes.text(findings, "name");
    if let Some(name) = name {
        check_name(findings, attributes, name);
    }
    Some(ListChange { name: name.map(str::to_owned), opt_in })
}

/// Checks a `ListMembersAddQuery` or a `ListMembersDeleteQuery`: ids of profiles.
pub fn check_members(findings: &mut Findings, root: Object<'_, '_>) -> Option<Vec<String>> {
    root.only(findings, "profile", &["data"]);
    let ids = root
        .items(findings, "data", |findings, item| item.identifier(findings, "profile").map(str::to_owned))?;
    if !(1..=MAX_PROFILES).contains(&ids.len()) && findings.is_empty() {
        let detail = format!("A call has 1 to {MAX_PROFILES} profiles, this has {}.", ids.len());
        findings.add(root.at.key("data"), detail);
    }
    Some(ids)
}

fn check_name(findings: &mut Findings, attributes: Object<'_, '_>, name: &str) {
    if name.trim().is_empty() {
        findings.add(attributes.at.key("name"), "This field may not be blank.");
    }
}

fn check_opt_in(findings: &mut Findings, attributes: Object<'_, '_>) -> Option<OptIn> {
    const KEY: &str = "opt_in_process";
    match attributes.text(findings, KEY)? {
        "single_opt_in" => Some(OptIn::SingleOptIn),
        "double_opt_in" => Some(OptIn::DoubleOptIn),
        _ => {
            let detail = format!("'{KEY}' must be 'single_opt_in' or 'double_opt_in'.");
            findings.add(attributes.at.key(KEY), detail);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check;
    use crate::error::ApiError;

    fn pointers(errors: Vec<ApiError>) -> Vec<String> {
        errors.into_iter().map(|error| error.pointer).collect()
    }

    fn created(attributes: Value) -> Result<ListDraft, Vec<String>> {
        let body = json!({"data": {"type": "list", "attributes": attributes}});
        check::list(&(&body).into()).map_err(pointers)
    }

    fn changed(id: &str, attributes: Value) -> Result<ListChange, Vec<String>> {
        let body = json!({"data": {"type": "list", "id": id, "attributes": attributes}});
        check::list_change(&(&body).into(), "Y6nRLr").map_err(pointers)
    }

    #[test]
    fn a_list_has_a_name() {
        let draft = created(json!({"name": "News", "opt_in_process": "double_opt_in"})).unwrap();
        assert_eq!((draft.name.as_str(), draft.opt_in), ("News", Some(OptIn::DoubleOptIn)));
        assert_eq!(created(json!({"name": "News", "opt_in_process": null})).unwrap().opt_in, None);
        for (attributes, pointer) in [
            (json!({}), "name"),
            (json!({"name": null}), "name"),
            (json!({"name": " "}), "name"),
            (json!({"name": 7}), "name"),
            (json!({"name": "News", "opt_in_process": "none"}), "opt_in_process"),
            (json!({"name": "News", "tags": []}), "tags"),
        ] {
            assert_eq!(created(attributes.clone()).unwrap_err(), [format!("/data/attributes/{pointer}")]);
        }
    }

    #[test]
    fn a_change_is_of_the_list_in_the_path() {
        assert_eq!(changed("Y6nRLr", json!({"name": "News"})).unwrap().name.as_deref(), Some("News"));
        assert!(changed("Y6nRLr", json!({"name": null})).unwrap().name.is_none());
        assert_eq!(changed("XXXXXX", json!({})).unwrap_err(), ["/data/id"]);
        assert_eq!(changed("Y6nRLr", json!({"name": ""})).unwrap_err(), ["/data/attributes/name"]);
    }

    #[test]
    fn members_are_named_by_their_ids() {
        let checked = |data: Value| {
            let body = json!({ "data": data });
            check::list_members(&(&body).into()).map(|ids| ids.len()).map_err(pointers)
        };
        let profile = json!({"type": "profile", "id": "01X"});
        assert_eq!(checked(json!(vec![profile.clone(); 1_000])), Ok(1_000));
        assert_eq!(checked(json!(vec![profile.clone(); 1_001])), Err(vec!["/data".to_owned()]));
        for (data, pointer) in [
            (json!([]), "/data"),
            (json!(null), "/data"),
            (json!({"type": "profile", "id": "01X"}), "/data"),
            (json!([profile, {"type": "profile"}]), "/data/1/id"),
            (json!([{"type": "list", "id": "01X"}]), "/data/0/type"),
            (json!([{"type": "profile", "id": "01X", "attributes": {}}]), "/data/0/attributes"),
        ] {
            assert_eq!(checked(data.clone()), Err(vec![pointer.to_owned()]), "{data}");
        }
    }
}
