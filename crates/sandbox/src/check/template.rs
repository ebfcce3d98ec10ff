//! New templates.

use super::fields::{Findings, Object};

const TEMPLATE: &str = "template";

/// How a template is edited, of those that are HTML. Source: `TemplateCreateHtmlOrDndQuery`.
const EDITORS: [&str; 2] = ["CODE", "USER_DRAGGABLE"];
/// That of those which are a tree of blocks.
const BLOCKS: &str = "SYSTEM_DRAGGABLE";

/// A checked new template.
#[derive(Clone, Debug)]
pub struct TemplateDraft {
    pub name: String,
    pub editor_type: &'static str,
    pub html: String,
    pub text: Option<String>,
    pub amp: Option<String>,
}

impl TemplateDraft {
    /// One of which only the name matters.
    pub fn named(name: String) -> Self {
        Self { name, editor_type: EDITORS[0], html: String::new(), text: None, amp: None }
    }
}

/// Checks a `TemplateCreateHtmlOrDndQuery`, of which the sandbox takes HTML.
pub fn check(findings: &mut Findings, root: Object<'_, '_>) -> Option<TemplateDraft> {
    root.only(findings, TEMPLATE, &["data"]);
    let data = root.object(findings, "data")?;
    data.resource_type(findings, TEMPLATE);
    data.only(findings, TEMPLATE, &["type", "attributes"]);
    let attributes = data.object(findings, "attributes")?;
    attributes.only(findings, TEMPLATE, &["name", "editor_type", "html", "definition", "text", "amp"]);
    let name = attributes.filled_text(findings, "name");
    let text = attributes.text(findings, "text").map(str::to_owned);
    let amp = attributes.text(findings, "amp").map(str::to_owned);
    // Of HTML it is ignored.
    attributes.optional_object(findings, "definition");
    let editor = attributes.choice(findings, "editor_type", &[EDITORS[0], EDITORS[1], BLOCKS])?;
    let Some(editor_type) = EDITORS.into_iter().find(|known| *known == editor) else {
        let detail = format!("klaviyo-sandbox does not know templates of the type '{BLOCKS}'.");
        findings.add(attributes.at.key("editor_type"), detail);
        return None;
    };
    let html = attributes.required_text(findings, "html")?.to_owned();
    Some(TemplateDraft { name: name?.to_owned(), editor_type, html, text, amp })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::check;
    use crate::error::ApiError;

    #[test]
    fn a_template_has_a_name_and_html() {
        let checked = |attributes: Value| {
            let body = json!({"data": {"type": "template", "attributes": attributes}});
            let pointers =
                |errors: Vec<ApiError>| errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>();
            check::template(&(&body).into()).map_err(pointers)
        };
        let said =
            json!({"name": "News", "editor_type": "USER_DRAGGABLE", "html": "<p>", "text": null, "amp": "a"});
        let draft = checked(said).unwrap();
        assert_eq!(
            (draft.name.as_str(), draft.editor_type, draft.html.as_str()),
            ("News", "USER_DRAGGABLE", "<p>")
        );
        assert_eq!((draft.text, draft.amp.as_deref()), (None, Some("a")));
        for (change, pointer) in [
            (json!({"name": null}), "name"),
            (json!({"name": " "}), "name"),
            (json!({"editor_type": null}), "editor_type"),
            (json!({"editor_type": "SIMPLE"}), "editor_type"),
            (json!({"editor_type": BLOCKS, "definition": {}}), "editor_type"),
            (json!({"html": null}), "html"),
            (json!({"html": 7}), "html"),
            (json!({"text": 7}), "text"),
            (json!({"definition": []}), "definition"),
            (json!({"css": ""}), "css"),
        ] {
            let mut attributes = json!({"name": "News", "editor_type": "CODE", "html": ""});
            attributes.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(checked(attributes).unwrap_err(), [format!("/data/attributes/{pointer}")]);
        }
    }
}
