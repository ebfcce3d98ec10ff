//! `klaviyo_sync_events`, `klaviyo_sync_detach`: what stands in a table's columns, said once.

use delivery::kind::event;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{IntoDatum, JsonB};
use serde_json::{Map, Value};

use crate::api::messages::{DEFAULT_ACCOUNT, unknown_account};
use crate::capture::attach::{self, Mapping};
use crate::capture::generate::Call;
use crate::capture::reader::{Reader, Wanted};
use crate::capture::refusal;
use crate::capture::table::Table;
use crate::outbox::enqueue;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_sync_events, pg_finfo_klaviyo_sync_events, sync_events);
sql_function!(klaviyo_sync_detach, pg_finfo_klaviyo_sync_detach, sync_detach);

/// What of an event is mapped: the argument's place, its name, and what it must be.
const OF_EVENT: [(usize, &str, Wanted); 7] = [
    (2, "email", Wanted::Text),
    (3, "phone_number", Wanted::Text),
    (4, "external_id", Wanted::Text),
    (5, "value", Wanted::Number),
    (6, "value_currency", Wanted::Text),
    (7, "unique_id", Wanted::Text),
    (8, "event_time", Wanted::Time),
];

/// `klaviyo_sync_events(relation, metric, email, phone_number, external_id, value, value_currency, unique_id, event_time,
/// properties, profile, "when", name, account)`
fn sync_events(arguments: &Arguments) -> Returned {
    let metric: &str = arguments.get(1).unwrap_or_default();
    event::check_metric(metric)?;
    let account: &str = arguments.get(13).unwrap_or(DEFAULT_ACCOUNT);
    if !enqueue::has_account(account) {
        return Err(unknown_account(account).into());
    }
    if (2..=4).all(|place| arguments.datum(place).is_none()) {
        return Err(refusal::argument(
            "the mapping does not say whom an event is about",
            "None of email, phone_number and external_id is given.",
            "Name the column or expression that identifies the person: email => 'customer_email'.",
        ));
    }
    let table = Table::open(arguments.get(0))?;
    table.check()?;
    let reader = Reader::new(&table);
    let mut spec = Map::new();
    let mut mapped = vec![("metric", quote_literal(metric))];
    for (place, name, wanted) in OF_EVENT {
        let Some(text) = arguments.get::<&str>(place) else { continue };
        mapped.push((name, reader.value(name, text, wanted)?));
        spec.insert(name.to_owned(), Value::from(text));
    }
    for (place, name) in [(9, "properties"), (10, "profile")] {
        let Some(JsonB(given)) = arguments.get(place) else { continue };
        mapped.push((name, reader.object(name, &given)?));
        spec.insert(name.to_owned(), given);
    }
    mapped.push(("account", quote_literal(account)));
    let function = format!("{}.klaviyo_track_event", quote_identifier(arguments.schema()));
    let mut call = Call { function, arguments: mapped, condition: None };
    if let Some(text) = arguments.get::<&str>(11) {
        call.condition = Some(reader.value("when", text, Wanted::Condition)?);
        spec.insert("when".to_owned(), Value::from(text));
    }
    let name: &str = arguments.get(12).unwrap_or(metric);
    let mapping = Mapping { kind: "event", name, account, spec: Value::Object(spec) };
    Ok(attach::attach(&table, mapping, &call)?.into_datum())
}

/// `klaviyo_sync_detach(relation, name)`
fn sync_detach(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    let detached = attach::detach(&table, arguments.get(1))?;
    Ok(i32::try_from(detached).unwrap_or(i32::MAX).into_datum())
}
