//! `klaviyo_call`: any call of Klaviyo's API.

use delivery::json::JsonLimits;
use delivery::kind::call::{BODY, Draft};

use super::given::Given;
use super::messages::{json, queue};
use crate::outbox::enqueue::Name;
use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_call, pg_finfo_klaviyo_call, call);

/// `klaviyo_call(method, path, body, account)`
fn call(arguments: &Arguments) -> Returned {
    let checked = || {
        let limits = JsonLimits { argument: "body", properties: usize::MAX, bytes: BODY, shaped: false };
        let body = json(arguments, 2, limits)?;
        Draft { method: arguments.get(0), path: arguments.get(1), body: body.as_deref() }.check()
    };
    let given = || {
        let mut given = Given::default();
        given.text("method", arguments.get(0));
        given.text("path", arguments.get(1));
        given.json("body", arguments, 2);
        given.finish()
    };
    queue("call", &Name::next(), arguments.get(3), pg::now(), checked, given)
}
