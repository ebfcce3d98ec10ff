//! Which lists have a name? Most messages need the one that has it; a new list must be the only one.

use klaviyo::{Endpoint, GET_LISTS, Request, ask_lists, lists_of};

use super::{Answer, Learned, Question, Says};
use crate::batch::{Batch, Offered, Places};
use crate::kind::list;
use crate::list::{List, name_in, with_id};
use crate::message::Failure;

/// The code of what names a list that there is not.
pub const NO_SUCH_LIST: &str = "no_such_list";

/// The question.
pub struct ListNames;

/// The name it is about, if it is about one.
fn name(payload: &str) -> Option<String> {
    name_in(payload).or_else(|| list::new_name(payload))
}

impl Question for ListNames {
    fn endpoint(&self) -> &'static Endpoint {
        &GET_LISTS
    }

    fn is_for(&self, payload: &str) -> bool {
        name(payload).is_some()
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(SameName(None))
    }

    fn request(&self, payload: &str) -> Result<Request, String> {
        name(payload).map(|name| ask_lists(&name)).ok_or_else(|| "it names no list".to_owned())
    }

    fn read(&self, body: &[u8]) -> Option<Box<dyn Answer>> {
        Some(Box::new(Lists(lists_of(body)?)))
    }
}

/// A call about one name, for all that mean it.
struct SameName(Option<String>);

impl Batch for SameName {
    fn offer(&mut self, payload: &str, _: usize) -> Offered {
        match (name(payload), &self.0) {
            (None, _) => Offered::Alone,
            (Some(name), Some(mine)) if *mine != name => Offered::Elsewhere,
            (Some(name), _) => {
                self.0 = Some(name);
                Offered::Taken
            }
        }
    }

    fn finish(self: Box<Self>) -> (Request, Box<dyn Places>) {
        (ask_lists(&self.0.unwrap_or_default()), Box::new(super::asked::NoPlaces))
    }
}

struct Lists(Vec<klaviyo::List>);

impl Lists {
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a klaviyo::List> {
        self.0.iter().filter(move |list| list.name == name)
    }
}

impl Answer for Lists {
    fn says(&self, payload: &str) -> Says {
        if let Some(new) = list::new_name(payload) {
            let Some(list) = self.of(&new).next() else { return Says::Go };
            let failure = failure("list_exists", format!("there is a list of that name, {}", list.id));
            return Says::StopUnlessDone { failure, id: Some(list.id.clone()) };
        }
        let name = name_in(payload).unwrap_or_default();
        let lists: Vec<&str> = self.of(&name).map(|list| list.id.as_str()).collect();
        match lists[..] {
            [id] => match with_id(payload, id) {
                Some(payload) => Says::GoAs(payload),
                None => Says::Stop(failure("malformed_payload", "it names no list".to_owned())),
            },
            [] => Says::StopUnlessComing {
                failure: failure(NO_SUCH_LIST, format!("Klaviyo has no list called \"{name}\"")),
                key: List::Name(&name).key(),
            },
            _ => Says::Stop(failure(
                "ambiguous_list",
                format!("Klaviyo has several lists called \"{name}\": {}", lists.join(", ")),
            )),
        }
    }

    fn learned(&self, payload: &str) -> Option<Learned> {
        let name = name_in(payload)?;
        let lists: Vec<&klaviyo::List> = self.of(&name).collect();
        let [klaviyo::List { id, .. }] = lists[..] else { return None };
        Some(Learned { id: id.clone(), name })
    }
}

fn failure(code: &str, reason: String) -> Failure {
    Failure { code: code.to_owned(), reason, ..Failure::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lists: &[(&str, &str)]) -> Box<dyn Answer> {
        let list = |(id, name): &(&str, &str)| {
            format!(r#"{{"type":"list","id":"{id}","attributes":{{"name":"{name}"}}}}"#)
        };
        let body = format!(r#"{{"data":[{}]}}"#, lists.iter().map(list).collect::<Vec<_>>().join(","));
        ListNames.read(body.as_bytes()).expect("an answer")
    }

    fn code(says: Says) -> String {
        match says {
            Says::Stop(failure)
            | Says::StopUnlessDone { failure, .. }
            | Says::StopUnlessComing { failure, .. } => failure.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_means_the_one_list_that_has_it() {
        let payload = r#"{"list_name":"VIP","email":"a@b.example"}"#;
        let one = answer(&[("Y6nRLr", "VIP"), ("XXXXXX", "vip")]);
        assert_eq!(
            one.says(payload),
            Says::GoAs(r#"{"email":"a@b.example","list":"Y6nRLr","list_name":"VIP"}"#.to_owned())
        );
        assert_eq!(one.learned(payload).expect("a list").id, "Y6nRLr");
        assert_eq!(code(answer(&[]).says(payload)), "no_such_list");
        let two = answer(&[("Y6nRLr", "VIP"), ("XXXXXX", "VIP")]);
        assert_eq!((code(two.says(payload)).as_str(), two.learned(payload)), ("ambiguous_list", None));
    }

    #[test]
    fn a_new_list_is_the_only_one_of_its_name() {
        let payload = r#"{"new_list":"VIP"}"#;
        assert!(ListNames.is_for(payload) && !ListNames.is_for(r#"{"list":"Y6nRLr"}"#));
        assert_eq!(answer(&[("Y6nRLr", "vip")]).says(payload), Says::Go);
        let there = answer(&[("Y6nRLr", "VIP")]);
        assert_eq!(code(there.says(payload)), "list_exists");
        assert_eq!(there.learned(payload), None, "it may be the one just made");
    }

    #[test]
    fn a_call_is_about_one_name() {
        let mut batch = ListNames.batch();
        let offered = [r#"{"list_name":"A"}"#, r#"{"list_name":"B"}"#, r#"{"list_name":"A"}"#, "{}"]
            .map(|payload| batch.offer(payload, 1));
        assert_eq!(offered, [Offered::Taken, Offered::Elsewhere, Offered::Taken, Offered::Alone]);
        assert_eq!(batch.finish().0, ask_lists("A"));
    }
}
