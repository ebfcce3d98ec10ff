//! Messages of tests: events of orders, told apart by a business key in their properties, and what became of them.

use postgres::{Client, GenericClient};

use crate::sql::query;

/// The business key in a request's body.
pub const ORDER: &str = "data.attributes.properties.order_id";

/// Queues the event of an order, by a customer of its own; returns the message's id.
pub fn place(db: &mut impl GenericClient, order: i64) -> String {
    query(
        db,
        "SELECT klaviyo_track_event('Placed Order', external_id => $1,
                                    properties => jsonb_build_object('order_id', $2::bigint))::text",
        &[&format!("customer-{order}"), &order],
    )
}

/// Queues one event an order, for the orders from `first` to `last`, in one transaction.
pub fn place_orders(db: &mut Client, first: i64, last: i64) {
    place_orders_of("default", db, first, last);
}

/// Like [`place_orders`], for an account other than `default`.
pub fn place_orders_of(account: &str, db: &mut Client, first: i64, last: i64) {
    let queued: i64 = query(
        db,
        "SELECT count(klaviyo_track_event('Placed Order', external_id => n::text, account => $3,
                                          properties => jsonb_build_object('order_id', n)))
         FROM generate_series($1::bigint, $2::bigint) AS n",
        &[&first, &last, &account],
    );
    assert_eq!(queued, last - first + 1, "orders are queued");
}

/// Queues a message by such a call of one of the functions; returns the message's id.
pub fn queued(db: &mut impl GenericClient, call: &str) -> String {
    query(db, &format!("SELECT ({call})::text"), &[])
}

/// Where a message is.
pub fn status(db: &mut Client, message_id: &str) -> String {
    query(db, "SELECT status FROM klaviyo_result($1::text::uuid)", &[&message_id])
}

/// What is said to be done about a message.
pub fn hint(db: &mut Client, message_id: &str) -> Option<String> {
    query(db, "SELECT hint FROM klaviyo_result($1::text::uuid)", &[&message_id])
}
