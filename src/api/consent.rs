//! `klaviyo_subscribe`, `klaviyo_unsubscribe`, `klaviyo_suppress`, `klaviyo_unsuppress`: what a person has agreed to.

use delivery::kind::{subscribe, suppress, unsubscribe};
use pgrx::datum::{Date, ToIsoString};

use super::given::Given;
use super::messages::{boolean, days, queue, texts, timestamp_text};
use crate::outbox::enqueue::Name;
use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_subscribe, pg_finfo_klaviyo_subscribe, subscribe);
sql_function!(klaviyo_unsubscribe, pg_finfo_klaviyo_unsubscribe, unsubscribe);
sql_function!(klaviyo_suppress, pg_finfo_klaviyo_suppress, suppress);
sql_function!(klaviyo_unsuppress, pg_finfo_klaviyo_unsuppress, unsuppress);

/// `klaviyo_subscribe(email, phone_number, list, channels, consented_at, historical_import, custom_source, date_of_birth,
/// account)`
fn subscribe(arguments: &Arguments) -> Returned {
    let now = pg::now();
    let checked = || {
        subscribe::Draft {
            email: arguments.get(0),
            phone_number: arguments.get(1),
            list: arguments.get(2),
            channels: texts(arguments, 3),
            // timestamptz is passed as the 64 bits it is.
            consented_at: arguments.datum(4).map(|time| pg::micros(time.value() as i64)),
            historical_import: arguments.get(5).unwrap_or_default(),
            custom_source: arguments.get(6),
            date_of_birth: days(arguments, 7),
        }
        .check(now)
    };
    let given = || {
        let mut given = Given::default();
        for (name, number) in [("email", 0), ("phone_number", 1), ("list", 2), ("custom_source", 6)] {
            given.text(name, arguments.get(number));
        }
        given.texts("channels", arguments.get(3));
        given.text("consented_at", arguments.datum(4).map(timestamp_text).as_deref());
        given.text("date_of_birth", arguments.get(7).map(|date: Date| date.to_iso_string()).as_deref());
        given.text("historical_import", boolean(arguments, 5));
        given.finish()
    };
    queue("subscribe", &Name::next(), arguments.get(8), now, checked, given)
}

/// `klaviyo_unsubscribe(email, phone_number, list, channels, account)`
fn unsubscribe(arguments: &Arguments) -> Returned {
    let checked = || {
        unsubscribe::Draft {
            email: arguments.get(0),
            phone_number: arguments.get(1),
            list: arguments.get(2),
            channels: texts(arguments, 3),
        }
        .check()
    };
    let given = || {
        let mut given = Given::default();
        for (name, number) in [("email", 0), ("phone_number", 1), ("list", 2)] {
            given.text(name, arguments.get(number));
        }
        given.texts("channels", arguments.get(3));
        given.finish()
    };
    queue("unsubscribe", &Name::next(), arguments.get(4), pg::now(), checked, given)
}

/// `klaviyo_suppress(email, account)`
fn suppress(arguments: &Arguments) -> Returned {
    suppression("suppress", arguments)
}

/// `klaviyo_unsuppress(email, account)`
fn unsuppress(arguments: &Arguments) -> Returned {
    suppression("unsuppress", arguments)
}

fn suppression(kind: &'static str, arguments: &Arguments) -> Returned {
    let given = || {
        let mut given = Given::default();
        given.text("email", arguments.get(0));
        given.finish()
    };
    let checked = || suppress::check(arguments.get(0));
    queue(kind, &Name::next(), arguments.get(1), pg::now(), checked, given)
}
