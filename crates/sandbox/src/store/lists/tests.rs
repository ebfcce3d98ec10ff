use super::*;
use crate::check::{self, Whose};
use crate::order::{Order, Slice};
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

/// All that are on a list, in the order in which they joined.
fn members(store: &Store, list: &str) -> Vec<String> {
    let order = Order::ascending("joined_group_at");
    let slice = Slice { order, after: None, from: None, to: None, size: 100 };
    let found = store.members(&store.list(list).unwrap().members, &slice, None, |_| true);
    found.rows.into_iter().map(|(profile, _)| profile.id.clone()).collect()
}

#[test]
fn profiles_are_put_on_a_list_and_taken_off() {
    let mut store = Store::new(1);
    let (news, other) = (list(&mut store, "News"), list(&mut store, "Other"));
    let ids = people(&mut store, &["a", "b", "c"]);
    let later = "2026-07-16T12:00:00Z".parse().unwrap();
    store.add_to_list(&news, &ids[..1], later).unwrap();
    store.add_to_list(&news, &ids, now()).unwrap();
    // The first was there already, and stays since when it is.
    let of_the_rest = members(&store, &news)[..2].to_vec();
    let mut sorted = ids[1..].to_vec();
    sorted.sort();
    assert_eq!((members(&store, &news)[2].as_str(), of_the_rest), (ids[0].as_str(), sorted));
    assert_eq!(members(&store, &other), [""; 0]);
    store.remove_from_list(&news, &ids[1..2]).unwrap();
    store.remove_from_list(&news, &ids[1..2]).unwrap();
    assert_eq!(members(&store, &news), [ids[2].clone(), ids[0].clone()]);
    let meant = ["B@example.com", "C@example.com", "x@example.com"]
        .map(|email| Whose::Has(Identifier::Email, email.to_owned()));
    let meant = store.meant(&[meant.into()]).unwrap();
    assert_eq!(meant.len(), 2);
    let slice =
        Slice { order: Order::ascending("joined_group_at"), after: None, from: None, to: None, size: 9 };
    let found = store.members(&store.list(&news).unwrap().members, &slice, Some(&meant), |_| true);
    assert_eq!(found.rows.len(), 1);
    assert_eq!((&found.rows[0].0.id, found.rows[0].1), (&ids[2], now()));
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
    assert_eq!(members(&store, &news), [""; 0]);
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
        "name": "Old news", "created": "2026-07-15T12:00:00.9+00:00", "updated": "2026-07-16T12:00:00+00:00",
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
