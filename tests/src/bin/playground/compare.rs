//! The end of the tour: what Klaviyo holds against what the shop's tables hold, row by row.

use std::collections::{BTreeMap, BTreeSet};

use harness::{Shop, StoredEvent, StoredProfile, explain, value_at};

use crate::screen::say;

/// What both sides must agree on, as text under a key.
type Side = BTreeMap<String, String>;

/// Shows both sides; an error when they differ.
pub fn compare(shop: &Shop) -> Result<(), String> {
    let profiles = shop.sandbox.profiles();
    let users = show("users", &users_in_database(shop), &users_at_klaviyo(&profiles));
    let events = shop.sandbox.events();
    let held = orders_at_klaviyo(&events, &profiles);
    let orders = show("orders", &orders_in_database(shop), &held);
    // An order under two events, or a user under two profiles, shows on one line above.
    let surplus = events.len() - held.len() + profiles.len() - users_at_klaviyo(&profiles).len();
    let dead = shop.backlog().dead;
    if users.differing + orders.differing + surplus == 0 && dead == 0 {
        say(&format!(
            "\n✓ Klaviyo holds exactly what the shop committed: {} users, {} orders, each once.",
            users.same, orders.same
        ));
        return Ok(());
    }
    Err(format!(
        "the two sides differ: in {} users, {} orders; {surplus} kept twice, {dead} dead letters",
        users.differing, orders.differing
    ))
}

struct Tally {
    same: usize,
    differing: usize,
}

fn show(what: &str, database: &Side, klaviyo: &Side) -> Tally {
    let mut tally = Tally { same: 0, differing: 0 };
    say(&format!("{what}:"));
    let keys: BTreeSet<&String> = database.keys().chain(klaviyo.keys()).collect();
    for key in keys {
        let (here, there) = (database.get(key), klaviyo.get(key));
        if here == there {
            tally.same += 1;
            say(&format!("   ✓ {key:<8} {}", here.map_or("", String::as_str)));
        } else {
            tally.differing += 1;
            let text = |side: Option<&String>| side.map_or("nothing".to_owned(), Clone::clone);
            say(&format!("   ✗ {key:<8} database: {}; Klaviyo: {}", text(here), text(there)));
        }
    }
    tally
}

fn query(shop: &Shop, query: &str) -> Side {
    let rows = shop
        .connect()
        .query(query, &[])
        .unwrap_or_else(|error| panic!("cannot read the shop: {}", explain(&error)));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn users_in_database(shop: &Shop) -> Side {
    query(shop, "SELECT id::text, concat_ws(' ', first_name, last_name, email) FROM users")
}

fn orders_in_database(shop: &Shop) -> Side {
    query(
        shop,
        "SELECT o.number, concat_ws(' ', o.total, u.email, (
                    SELECT string_agg(i.name, ' + ' ORDER BY i.line) FROM order_items i WHERE i.number = o.number
                ))
         FROM orders o JOIN users u ON u.id = o.user_id",
    )
}

fn users_at_klaviyo(profiles: &[StoredProfile]) -> Side {
    let user = |profile: &StoredProfile| {
        let words = ["first_name", "last_name", "email"].map(|name| attribute(profile, name));
        (attribute(profile, "external_id"), words.join(" "))
    };
    profiles.iter().map(user).collect()
}

fn orders_at_klaviyo(events: &[StoredEvent], profiles: &[StoredProfile]) -> Side {
    let emails: BTreeMap<&str, String> =
        profiles.iter().map(|profile| (profile.id.as_str(), attribute(profile, "email"))).collect();
    let order = |event: &StoredEvent| {
        let property = |name: &str| value_at(&event.properties, name);
        let number = property("OrderId").and_then(|number| number.as_str()).unwrap_or("?");
        let items = property("ItemNames").and_then(|names| names.as_array().cloned()).unwrap_or_default();
        let items: Vec<&str> = items.iter().filter_map(|name| name.as_str()).collect();
        let total = event.value.as_f64().map_or("?".to_owned(), |total| format!("{total:.2}"));
        let email = emails.get(event.profile_id.as_str()).map_or("?", String::as_str);
        (number.to_owned(), format!("{total} {email} {}", items.join(" + ")))
    };
    events.iter().filter(|event| event.metric == "Placed Order").map(order).collect()
}

fn attribute(profile: &StoredProfile, name: &str) -> String {
    value_at(&profile.attributes, name).and_then(|value| value.as_str()).unwrap_or("?").to_owned()
}
