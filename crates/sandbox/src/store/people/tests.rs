use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::check::{self, Merge};
use crate::store::Identifier;

fn at(microsecond: i64) -> Timestamp {
    Timestamp::from_microsecond(1_784_073_600_000_000 + microsecond).unwrap()
}

/// The id of the profile with this address, created or updated then.
fn import(store: &mut Store, name: &str, microsecond: i64) -> String {
    let body = json!({"data": {"type": "profile", "attributes": {"email": format!("{name}@shop.example")}}});
    let draft = check::profile_import(&(&body).into()).unwrap();
    store.import(draft, at(microsecond)).unwrap().profile.id.clone()
}

fn slice(order: &str, after: Option<Key>, size: usize) -> Slice {
    let order = Order::parse(order, &["created", "email", "id", "updated"]).ok().unwrap();
    Slice { order, after, from: None, to: None, size }
}

/// The names of the profiles of a page, and its last row if there are more.
fn page(store: &mut Store, slice: &Slice) -> (Vec<String>, Option<Key>) {
    store.sort_people(slice.order);
    let Rows { rows, last } = store.people(slice, None, |_| true);
    let name = |profile: &Profile| {
        let email = profile.text("email").unwrap_or("nobody@");
        email.split_once('@').unwrap().0.to_owned()
    };
    (rows.into_iter().map(name).collect(), last)
}

/// The same of all, in one page.
fn all(store: &mut Store, order: &str) -> Vec<String> {
    page(store, &slice(order, None, 100)).0
}

#[test]
fn orders_follow_what_changes() {
    let mut store = Store::new(1);
    let ids = [("b", 1), ("a", 2), ("c", 3)].map(|(name, time)| import(&mut store, name, time));
    for (order, expected) in [
        ("created", ["b", "a", "c"]),
        ("-created", ["c", "a", "b"]),
        ("email", ["a", "b", "c"]),
        ("-email", ["c", "b", "a"]),
        ("updated", ["b", "a", "c"]),
    ] {
        assert_eq!(all(&mut store, order), expected, "{order}");
    }
    let mut sorted = [(&ids[0], "b"), (&ids[1], "a"), (&ids[2], "c")];
    sorted.sort();
    assert_eq!(all(&mut store, "id"), sorted.iter().map(|(_, name)| *name).collect::<Vec<_>>());

    import(&mut store, "b", 4);
    assert_eq!(all(&mut store, "updated"), ["a", "c", "b"]);
    assert_eq!(all(&mut store, "created"), ["b", "a", "c"]);
    let body = json!({"data": {"type": "profile", "id": ids[1], "attributes": {"email": "z@shop.example"}}});
    store.import(check::profile_import(&(&body).into()).unwrap(), at(5)).unwrap();
    assert_eq!(all(&mut store, "email"), ["b", "c", "z"]);
    store.suppress("c@shop.example".to_owned(), 1, at(6));
    assert_eq!(all(&mut store, "updated"), ["b", "z", "c"]);
    store.suppress("b@shop.example".to_owned(), 1, at(7));
    store.unsuppress("c@shop.example", 1, at(8));
    assert_eq!(all(&mut store, "updated"), ["z", "b", "c"]);
    let merge = Merge { destination: ids[1].clone(), source: ids[0].clone() };
    store.merge(&merge, at(9)).unwrap();
    assert_eq!(all(&mut store, "updated"), ["c", "z"]);
    store.delete(&Whose::Id(ids[2].clone()));
    import(&mut store, "new", 10);
    for order in ["updated", "created", "email", "id"] {
        let mut names = all(&mut store, order);
        names.sort();
        assert_eq!(names, ["new", "z"], "{order}");
    }
}

#[test]
fn profiles_of_one_time_are_told_apart_by_their_ids() {
    let mut store = Store::new(1);
    let mut ids: Vec<String> = (0..25).map(|n| import(&mut store, &format!("p{n}"), 0)).collect();
    ids.sort();
    for (order, expected) in
        [("updated", ids.clone()), ("-updated", ids.iter().rev().cloned().collect::<Vec<_>>())]
    {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let slice = slice(order, after, 10);
            store.sort_people(slice.order);
            let Rows { rows, last } = store.people(&slice, None, |_| true);
            seen.extend(rows.iter().map(|profile| profile.id.clone()));
            let Some(last) = last else { break };
            assert_eq!(rows.len(), 10);
            after = Some(last);
        }
        assert_eq!(seen, expected, "{order}");
    }
}

#[test]
fn nobody_is_skipped_when_others_change_between_two_pages() {
    let mut store = Store::new(1);
    for (time, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        import(&mut store, name, i64::try_from(time).unwrap());
    }
    let (first, last) = page(&mut store, &slice("updated", None, 2));
    assert_eq!(first, ["a", "b"]);
    // One of the page and its last row move to the end, and one that is yet to come is deleted.
    import(&mut store, "a", 10);
    import(&mut store, "b", 11);
    store.delete(&Whose::Has(Identifier::Email, "d@shop.example".to_owned()));
    let (second, last) = page(&mut store, &slice("updated", last, 2));
    assert_eq!(second, ["c", "e"]);
    let (third, last) = page(&mut store, &slice("updated", last, 2));
    assert_eq!((third, last), (vec!["a".to_owned(), "b".to_owned()], None));
}

#[test]
fn those_without_an_address_come_first() {
    let mut store = Store::new(1);
    import(&mut store, "a", 0);
    let body = json!({"data": {"type": "profile", "attributes": {"external_id": "7"}}});
    store.import(check::profile_import(&(&body).into()).unwrap(), at(1)).unwrap();
    assert_eq!(all(&mut store, "email"), ["nobody", "a"]);
    let (first, last) = page(&mut store, &slice("email", None, 1));
    assert_eq!(first, ["nobody"]);
    assert_eq!(page(&mut store, &slice("email", last, 1)), (vec!["a".to_owned()], None));
}

#[test]
fn who_is_meant_is_meant_by_every_condition() {
    let mut store = Store::new(1);
    let ids = ["a", "b", "c"].map(|name| import(&mut store, name, 0));
    let by_email = |names: &[&str]| {
        let whose = |name: &&str| Whose::Has(Identifier::Email, format!("{name}@shop.example"));
        names.iter().map(whose).collect::<Vec<_>>()
    };
    let by_id = ids[..2].iter().cloned().map(Whose::Id).collect::<Vec<_>>();
    assert_eq!(store.meant(&[]), None);
    let both = store.meant(&[by_email(&["B", "c", "x"]), by_id]).unwrap();
    assert_eq!(both, BTreeSet::from([1]));
    let found = store.people(&slice("updated", None, 9), Some(&both), |_| true);
    assert_eq!((found.rows.len(), &found.rows[0].id, found.last), (1, &ids[1], None));
    assert!(store.people(&slice("updated", None, 9), Some(&both), |_| false).rows.is_empty());
    assert_eq!(store.meant(&[by_email(&["x"])]), Some(BTreeSet::new()));
}
