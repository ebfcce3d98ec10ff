//! What an import job could not import, found among its messages.

use std::collections::{HashMap, HashSet};

use klaviyo::ImportError;

use crate::call::Carried;
use crate::key;
use crate::message::Failure;

impl Carried {
    /// Why the messages of a complete job were not imported, one by one; none for those that were. And, where of so many
    /// failures not each was found among them, what the first of them says.
    pub fn refusals(&self, errors: &[ImportError], failed: usize) -> (Vec<Option<Failure>>, Option<Failure>) {
        let messages = &self.messages;
        let (mut placed, mut named) =
            (HashMap::<usize, Vec<usize>>::new(), HashMap::<&str, Vec<usize>>::new());
        for (number, queued) in messages.iter().enumerate() {
            if let Some(position) = self.position(number) {
                placed.entry(position).or_default().push(number);
            }
            for identifier in &queued.message.key {
                named.entry(identifier).or_default().push(number);
            }
        }
        let mut refusals: Vec<Option<Failure>> = vec![None; messages.len()];
        // Of a profile there may be more than one error.
        let (mut found, mut all_fit) = (HashSet::new(), true);
        for error in errors {
            let theirs: Vec<String> =
                error.identifiers.iter().map(|(name, value)| key::identifier(name, value)).collect();
            let fits = |number: &&usize| {
                let key = &messages[**number].message.key;
                theirs.iter().all(|identifier| key.contains(identifier))
            };
            // By its place, if the identifiers that come with it are not another's; else by these.
            let at = error
                .position
                .and_then(|position| placed.get(&position))
                .filter(|at| at.iter().all(|it| fits(&it)));
            let by_name = || named.get(theirs.first()?.as_str());
            let about = at.or_else(by_name).into_iter().flatten().filter(fits);
            let mut any = false;
            for number in about {
                refusals[*number] = Some(failure(error));
                found.insert(self.position(*number).ok_or(*number));
                any = true;
            }
            all_fit &= any;
        }
        let unknown = found.len() < failed || !all_fit;
        (refusals, unknown.then(|| errors.first().map(failure).unwrap_or_default()))
    }
}

fn failure(error: &ImportError) -> Failure {
    let klaviyo::ApiError { id, code, .. } = &error.error;
    Failure {
        status: None,
        code: if code.is_empty() { "import_error".to_owned() } else { code.clone() },
        reason: error.error.reason(),
        error_id: Some(id.clone()).filter(|id| !id.is_empty()),
        duplicate_profile_id: error.error.meta.duplicate_profile_id.clone(),
    }
}
