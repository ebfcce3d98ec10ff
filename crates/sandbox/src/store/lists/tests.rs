use super::*;
use crate::check;
use crate::store::Identifier;

fn now() -> Timestamp {
    "2026-07-15T12:00:00.9Z".parse().unwrap()
}

fn list(store: &mut Store, name: &str) -> String {
    let draft = ListDraft { name: name.to_owned(), opt_in: Some(OptIn::DoubleOptIn) };
    store.create_list(draft, now()).id.clone()
}

/// The ids of profiles with these addresses.
fn people(store: &mut Store, names: &[&str]) -> Vec<String> {
    let import = |name: &&str| {
        let body =
            json!({"data": {"type": "profile", "attributes": {"email": format!("{name}@example.com")}}});
        store.import(check::profile_import(&(&body).into()).unwrap(), now()).unwrap().profile.id.clone()
    };
    names.iter().map(import).collect()
}

fn members(store: &Store, list: &str, meant: Option<&[Whose]>) -> Vec<String> {
    let members = store.members(store.list(list).unwrap(), meant);
    members.into_iter().map(|(profile, _)| profile.id.clone()).collect()
}

#[test]
fn profiles_are_put_on_a_list_and_taken_off() {
    let mut store = Store::new(1);
    let (news, other) = (list(&mut store, "News"), list(&mut store, "Other"));
    let ids = people(&mut store, &["a", "b", "c"]);
    store.add_to_list(&news, &ids, now()).unwrap();
    store.add_to_list(&news, &ids[..1], now()).unwrap();
    assert_eq!(members(&store, &news, None), ids);
    assert_eq!(members(&store, &other, None), [""; 0]);
    store.remove_from_list(&news, &ids[1..2]).unwrap();
    store.remove_from_list(&news, &ids[1..2]).unwrap();
    assert_eq!(members(&store, &news, None), [ids[0].clone(), ids[2].clone()]);
    let meant = ["B@example.com", "C@example.com", "x@example.com"]
        .map(|email| Whose::Has(Identifier::Email, email.to_owned()));
    assert_eq!(members(&store, &news, Some(&meant)), [ids[2].clone()]);
    let chosen: Vec<&str> =
        store.chosen(Some(&meant)).into_iter().map(|profile| profile.id.as_str()).collect();
    assert_eq!(chosen, ids[1..]);
    assert_eq!(store.chosen(None).len(), 3);
    let views = serde_json::to_value(store.list_views()).unwrap();
    assert_eq!(views[0], json!({"id": news, "name": "News", "members": [ids[0], ids[2]]}));
}

#[test]
fn unknown_ids_fail_the_call() {
    let mut store = Store::new(1);
    let news = list(&mut store, "News");
    let mut ids = people(&mut store, &["a"]);
    ids.extend(["01X".to_owned(), "01Y".to_owned()]);
    for failed in [store.add_to_list(&news, &ids, now()), store.remove_from_list(&news, &ids)] {
        let errors = failed.unwrap_err();
        let found: Vec<_> =
            errors.iter().map(|error| (error.status.as_u16(), error.pointer.as_str())).collect();
        assert_eq!(found, [(404, "/data/1/id"), (404, "/data/2/id")]);
    }
    assert_eq!(members(&store, &news, None), [""; 0]);
    assert_eq!(store.add_to_list("XXXXXX", &ids[..1], now()).unwrap_err()[0], unknown_list());
}

#[test]
fn a_list_is_renamed_and_deleted() {
    let mut store = Store::new(1);
    let (news, other) = (list(&mut store, "News"), list(&mut store, "Other"));
    assert_eq!((news.len(), news == other), (6, false));
    let later = "2026-07-16T12:00:00Z".parse().unwrap();
    let change = ListChange { name: Some("Old news".to_owned()), opt_in: None };
    store.list_mut(&news).unwrap().change(change, later);
    let attributes = store.list(&news).unwrap().resource("http://k")["attributes"].clone();
    let expected = json!({
        "name": "Old news", "created": "2026-07-15T12:00:00+00:00", "updated": "2026-07-16T12:00:00+00:00",
        "opt_in_process": "double_opt_in",
    });
    assert_eq!(attributes, expected);
    let ids = people(&mut store, &["a"]);
    store.add_to_list(&news, &ids, now()).unwrap();
    store.delete_list(&news).unwrap();
    assert_eq!(store.delete_list(&news), Err(unknown_list()));
    assert_eq!(store.lists().len(), 1);
    assert_eq!(store.profile_count(), 1);
    assert_eq!(serde_json::to_value(store.profiles()).unwrap()[0]["lists"], json!([]));
}
