//! Templates, and the copies of them that messages are written with.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Store, rfc3339, short_id};
use crate::call::Call;
use crate::check::TemplateDraft;
use crate::error::{ApiError, WHOLE_BODY};

/// Templates of an account. Source: the description of `POST /api/templates`.
const MAX_TEMPLATES: usize = 1_000;

/// One template.
pub struct Template {
    pub id: String,
    draft: TemplateDraft,
    created: Timestamp,
    /// Whether it is a message's own, and no other's.
    is_copy: bool,
}

impl Store {
    pub fn create_template(&mut self, draft: TemplateDraft, now: Timestamp) -> Result<&Template, ApiError> {
        if self.templates.iter().filter(|template| !template.is_copy).count() >= MAX_TEMPLATES {
            let detail = format!("An account has at most {MAX_TEMPLATES} templates.");
            return Err(ApiError::invalid(WHOLE_BODY, detail));
        }
        Ok(self.add_template(draft, false, now))
    }

    /// Makes a copy that is not reusable, and says its id.
    pub fn copy_template(&mut self, id: &str, now: Timestamp) -> Result<String, ApiError> {
        let template = self.template(id)?;
        if template.is_copy {
            return Err(ApiError::invalid("", "This template is not reusable: a message has it."));
        }
        let draft = template.draft.clone();
        Ok(self.add_template(draft, true, now).id.clone())
    }

    fn add_template(&mut self, draft: TemplateDraft, is_copy: bool, now: Timestamp) -> &Template {
        let id = short_id(&mut self.random);
        self.templates.push(Template { id, draft, created: now, is_copy });
        &self.templates[self.templates.len() - 1]
    }

    pub fn template(&self, id: &str) -> Result<&Template, ApiError> {
        let found = self.templates.iter().find(|template| template.id == id);
        found.ok_or_else(|| ApiError::not_found("A template with this id does not exist."))
    }
}

impl Template {
    /// The answer about the one template (`PostTemplateDndResponse`, `GetTemplateDndResponse`).
    pub fn document(&self, api_url: &str) -> Value {
        let TemplateDraft { name, editor_type, html, text, amp } = &self.draft;
        let links = json!({"self": format!("{api_url}{}/{}/", Call::CreateTemplate.path(), self.id)});
        let data = json!({
            "type": "template",
            "id": self.id,
            "attributes": {
                "name": name,
                "editor_type": editor_type,
                "html": html,
                "text": text,
                "amp": amp,
                "created": rfc3339(self.created),
                "updated": rfc3339(self.created),
            },
            "links": links,
        });
        json!({"data": data, "links": links})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_so_many_templates_and_any_number_of_copies() {
        let (mut store, now) = (Store::new(1), Timestamp::now());
        let create = |store: &mut Store| {
            let made = store.create_template(TemplateDraft::named("Sale".to_owned()), now);
            made.map(|template| template.id.clone()).map_err(|error| (error.status.as_u16(), error.pointer))
        };
        let first = create(&mut store).unwrap();
        let copy = store.copy_template(&first, now).unwrap();
        assert_ne!(copy, first);
        for _ in 1..MAX_TEMPLATES {
            create(&mut store).unwrap();
        }
        assert_eq!(create(&mut store), Err((400, "/data".to_owned())));
        assert!(store.copy_template(&first, now).is_ok());
        assert!(store.copy_template(&copy, now).is_err());
    }
}
