//! What the lists can be asked for that have an order.

use hyper::Uri;

use super::listing::{Listing, Shown, Spec};
use super::{JOINED, PROFILE, SIZES, SIZES_OF_LISTS, Sizes};
use crate::error::ApiError;
use crate::filter::{ANY, EQUALS, Field, Kind};
use crate::order::Order;

const IS: &[&str] = &[ANY, EQUALS];
const AFTER: &[&str] = &["greater-than"];
const AFTER_OR_BEFORE: &[&str] = &["greater-than", "less-than"];
pub(super) const COMPARISONS: &[&str] = &["greater-or-equal", "greater-than", "less-or-equal", "less-than"];

const fn field(name: &'static str, of: Kind, operators: &'static [&'static str]) -> Field {
    Field { name, of, operators }
}

const PROFILES: Spec = Spec {
    sizes: SIZES,
    is_sized: true,
    filters: &[
        field("id", Kind::Text, IS),
        field("email", Kind::Text, IS),
        field("phone_number", Kind::Text, IS),
        field("external_id", Kind::Text, IS),
        field("created", Kind::Time, AFTER_OR_BEFORE),
        field("updated", Kind::Time, AFTER_OR_BEFORE),
    ],
    orders: &["created", "email", "id", "updated"],
    default: Order::ascending("created"),
    fields: Some((super::FIELDS, &PROFILE)),
    is_of_profiles: true,
};

const MEMBERS: Spec = Spec {
    sizes: SIZES,
    is_sized: true,
    filters: &[
        field("email", Kind::Text, IS),
        field("phone_number", Kind::Text, IS),
        field(JOINED, Kind::Time, COMPARISONS),
    ],
    orders: &[JOINED],
    default: Order::ascending(JOINED),
    fields: Some((super::FIELDS, &super::MEMBER)),
    is_of_profiles: true,
};

const LISTS: Spec = Spec {
    sizes: SIZES_OF_LISTS,
    is_sized: true,
    filters: &[
        field("name", Kind::Text, IS),
        field("id", Kind::Text, IS),
        field("created", Kind::Time, AFTER),
        field("updated", Kind::Time, AFTER),
    ],
    orders: &["created", "id", "name", "updated"],
    default: Order::ascending("created"),
    fields: None,
    is_of_profiles: false,
};

/// That of a list, and ids. `push_token` and `_kx` are nothing that is known here.
const SEGMENT_MEMBERS: Spec = Spec {
    filters: &[
        field("profile_id", Kind::Text, IS),
        field("email", Kind::Text, IS),
        field("phone_number", Kind::Text, IS),
        field(JOINED, Kind::Time, COMPARISONS),
    ],
    ..MEMBERS
};

const SEGMENTS: Spec = Spec {
    filters: &[
        field("name", Kind::Text, IS),
        field("id", Kind::Text, IS),
        field("created", Kind::Time, AFTER),
        field("updated", Kind::Time, AFTER),
        field("is_active", Kind::Flag, &[EQUALS]),
        field("is_starred", Kind::Flag, &[EQUALS]),
    ],
    fields: Some((
        "fields[segment]",
        &["created", "definition", "id", "is_active", "is_processing", "is_starred", "name", "updated"],
    )),
    ..LISTS
};

const FLOWS: Spec = Spec {
    sizes: Sizes { default: 50, most: 50 },
    is_sized: true,
    filters: &[
        field("id", Kind::Text, &[ANY]),
        field("name", Kind::Text, &["contains", EQUALS]),
        field("status", Kind::Text, &[EQUALS]),
        field("archived", Kind::Flag, &[EQUALS]),
        field("created", Kind::Time, COMPARISONS),
        field("updated", Kind::Time, COMPARISONS),
        field("trigger_type", Kind::Text, &[EQUALS]),
    ],
    orders: &["created", "id", "name", "status", "trigger_type", "updated"],
    default: Order::ascending("created"),
    fields: Some((
        "fields[flow]",
        &["archived", "created", "id", "name", "status", "trigger_type", "updated"],
    )),
    is_of_profiles: false,
};

const METRICS: Spec = Spec {
    // A maximum that the description has.
    sizes: Sizes { default: 200, most: 200 },
    is_sized: false,
    filters: &[
        field("integration.name", Kind::Text, &[EQUALS]),
        field("integration.category", Kind::Text, &[EQUALS]),
    ],
    orders: &[],
    default: Order::ascending("created"),
    fields: Some(("fields[metric]", &["created", "id", "integration", "name", "updated"])),
    is_of_profiles: false,
};

const EVENTS: Spec = Spec {
    sizes: Sizes { default: 200, most: 1_000 },
    is_sized: true,
    filters: &[
        field("metric_id", Kind::Text, &[EQUALS]),
        field("profile_id", Kind::Text, &[EQUALS]),
        field("datetime", Kind::Time, COMPARISONS),
        field("timestamp", Kind::Second, COMPARISONS),
    ],
    orders: &["datetime", "timestamp"],
    default: Order::ascending("datetime"),
    fields: Some(("fields[event]", &["datetime", "event_properties", "id", "timestamp", "uuid"])),
    is_of_profiles: false,
};

/// Which profiles a query asks for.
pub fn profiles(uri: &Uri) -> Result<Listing, ApiError> {
    PROFILES.read(uri)
}

/// What of the one profile a query asks for.
pub fn profile(uri: &Uri) -> Result<Shown, ApiError> {
    PROFILES.read_one(uri)
}

/// Which profiles on a list a query asks for.
pub fn members(uri: &Uri) -> Result<Listing, ApiError> {
    MEMBERS.read(uri)
}

/// Which lists a query asks for.
pub fn lists(uri: &Uri) -> Result<Listing, ApiError> {
    LISTS.read(uri)
}

/// Which profiles in a segment a query asks for.
pub fn segment_members(uri: &Uri) -> Result<Listing, ApiError> {
    SEGMENT_MEMBERS.read(uri)
}

/// Which segments a query asks for.
pub fn segments(uri: &Uri) -> Result<Listing, ApiError> {
    SEGMENTS.read(uri)
}

/// What of the one segment a query asks for.
pub fn segment(uri: &Uri) -> Result<Shown, ApiError> {
    SEGMENTS.read_one(uri)
}

/// Which flows a query asks for.
pub fn flows(uri: &Uri) -> Result<Listing, ApiError> {
    FLOWS.read(uri)
}

/// What of the one flow a query asks for.
pub fn flow(uri: &Uri) -> Result<Shown, ApiError> {
    FLOWS.read_one(uri)
}

/// Which metrics a query asks for.
pub fn metrics(uri: &Uri) -> Result<Listing, ApiError> {
    METRICS.read(uri)
}

/// What of the one metric a query asks for.
pub fn metric(uri: &Uri) -> Result<Shown, ApiError> {
    METRICS.read_one(uri)
}

/// Which events a query asks for.
pub fn events(uri: &Uri) -> Result<Listing, ApiError> {
    EVENTS.read(uri)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::order::{Key, Rank, cursor};

    type Read = fn(&Uri) -> Result<Listing, ApiError>;

    fn uri(query: &str) -> Uri {
        format!("http://k/api/x?{query}").parse().unwrap()
    }

    fn found(read: Read, query: &str) -> Listing {
        read(&uri(query)).map_err(|error| format!("{query}: {}", error.detail)).unwrap()
    }

    #[test]
    fn each_list_has_parameters_of_its_own() {
        for (read, query, parameter) in [
            (lists as Read, "page[size]=11", "page[size]"),
            (lists, "fields[list]=name", "fields[list]"),
            (lists, "fields[profile]=email", "fields[profile]"),
            (lists, "filter=less-than(created,2026-07-15T00:00:00Z)", "filter"),
            (lists, "sort=opt_in_process", "sort"),
            (profiles, "page[size]=0", "page[size]"),
            (profiles, "fields[profile]=joined_group_at", "fields[profile]"),
            (profiles, "filter=greater-or-equal(updated,2026-07-15T00:00:00Z)", "filter"),
            (profiles, "filter=equals(updated,2026-07-15T00:00:00Z)", "filter"),
            (profiles, "filter=greater-than(updated,2026-07-15)", "filter"),
            (profiles, "filter=greater-than(last_event_date,2026-07-15T00:00:00Z)", "filter"),
            (profiles, "sort=title", "sort"),
            (profiles, "sort=--id", "sort"),
            (profiles, "sort=id,email", "sort"),
            (profiles, "additional-fields[profile]=predictive_analytics", "additional-fields[profile]"),
            (profiles, "page[cursor]=7", "page[cursor]"),
            (members, "filter=equals(external_id,%227%22)", "filter"),
            (members, "sort=updated", "sort"),
            (members, "filter=equals(profile_id,%227%22)", "filter"),
            (segment_members, "filter=equals(external_id,%227%22)", "filter"),
            (segments, "page[size]=11", "page[size]"),
            (segments, "filter=equals(is_active,1)", "filter"),
            (segments, "sort=is_active", "sort"),
            (segments, "fields[segment]=profile_count", "fields[segment]"),
            (segments, "additional-fields[segment]=profile_count", "additional-fields[segment]"),
            (flows, "page[size]=51", "page[size]"),
            (flows, "filter=equals(created,2026-07-15T00:00:00Z)", "filter"),
            (flows, "sort=archived", "sort"),
            (flows, "include=tags", "include"),
            (metrics, "page[size]=10", "page[size]"),
            (metrics, "sort=name", "sort"),
            (metrics, "filter=equals(name,%22x%22)", "filter"),
            (events, "page[size]=1001", "page[size]"),
            (events, "sort=id", "sort"),
            (events, "filter=any(metric_id,[%22x%22])", "filter"),
            (events, "filter=greater-than(datetime,1784073600)", "filter"),
            (events, "include=metric", "include"),
            (events, "additional-fields[profile]=subscriptions", "additional-fields[profile]"),
        ] {
            let refused = read(&uri(query)).err().map(|error| error.pointer);
            assert_eq!(refused.as_deref(), Some(parameter), "{query}");
        }
        for (read, size) in [
            (lists as Read, 10),
            (profiles, 20),
            (members, 20),
            (segment_members, 20),
            (segments, 10),
            (flows, 50),
            (metrics, 200),
            (events, 200),
        ] {
            assert_eq!(found(read, "").slice.size, size);
        }
        assert_eq!(found(events, "page[size]=1000").slice.size, 1_000);
    }

    #[test]
    fn links_keep_what_was_asked_for_but_the_cursor() {
        let query = "page[size]=5&sort=-updated&fields[profile]=email&additional-fields[profile]=subscriptions\
                     &filter=any(email,%5B%22a%2Bb@a.co%22%5D)";
        let asked = found(profiles, query);
        assert!(asked.shown.with_subscriptions);
        assert_eq!(asked.slice.order, Order { field: "updated", is_descending: true });
        let kept = "http://k/api/x?sort=-updated&fields%5Bprofile%5D=email&additional-fields%5Bprofile%5D=subscriptions\
                    &filter=any%28email%2C%5B%22a%2Bb%40a.co%22%5D%29";
        assert_eq!(asked.links("http://k", None), json!({"self": format!("{kept}&page%5Bsize%5D=5")}));
        let last = Key { rank: Rank::Number(7), id: "01X".to_owned() };
        let next = asked.links("http://k", Some(&last))["next"].as_str().unwrap().to_owned();
        let text = cursor(asked.slice.order, &last);
        assert_eq!(next, format!("{kept}&page%5Bcursor%5D={text}&page%5Bsize%5D=5"));
        let again = profiles(&next.parse().unwrap()).ok().unwrap();
        assert_eq!((again.slice.after, again.slice.size), (Some(last.clone()), 5));
        let of_another = format!("sort=updated&page[cursor]={text}");
        assert_eq!(profiles(&uri(&of_another)).err().unwrap().pointer, "page[cursor]");
        // Where the size is no parameter, links have none.
        assert_eq!(found(metrics, "").links("http://k", None), json!({"self": "http://k/api/x"}));
    }

    #[test]
    fn a_condition_on_what_is_sorted_by_bounds_what_is_looked_at() {
        let time = |seconds: i64, us: i64| Some(Rank::Number(seconds * 1_000_000 + us));
        let [from, to] = ["2026-07-15T02:00:00%2B02:00", "'2026-07-16T00:00:00.000007Z'"];
        let both = format!("filter=greater-than(updated,{from}),less-than(updated,{to})");
        let asked = found(profiles, &format!("{both}&sort=-updated"));
        assert_eq!((asked.slice.from, asked.slice.to), (time(1_784_073_600, 0), time(1_784_160_000, 8)));
        let asked = found(profiles, &format!("{both}&sort=created"));
        assert_eq!((asked.slice.from, asked.slice.to, asked.conditions.len()), (None, None, 2));
        let asked = found(events, "filter=greater-or-equal(timestamp,1784073600)&sort=datetime");
        assert_eq!(asked.slice.from, time(1_784_073_600, 0));
    }
}
