//! `klaviyo_sync_events`, `klaviyo_sync_profiles`, `klaviyo_sync_detach`, `klaviyo_preview`: what stands in a table's columns,
//! said once.

use delivery::identifiers::NAMES;
use delivery::kind::event;
use delivery::kind::profile::Shape;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{IntoDatum, JsonB};
use serde_json::{Map, Value};

use crate::api::messages::{DEFAULT_ACCOUNT, unknown_account};
use crate::capture::attach::{self, Mapping};
use crate::capture::fault;
use crate::capture::follow;
use crate::capture::generate::Capture;
use crate::capture::operation::{At, Operation};
use crate::capture::plan::Plan;
use crate::capture::preview::{self, Previewed};
use crate::capture::query::{Action, Message, Sql};
use crate::capture::reader::{Reader, Wanted};
use crate::capture::refusal;
use crate::capture::state;
use crate::capture::table::Table;
use crate::outbox::enqueue;
use crate::pg::function::{Arguments, Refusal, Returned, sql_function};

sql_function!(klaviyo_sync_events, pg_finfo_klaviyo_sync_events, sync_events);
sql_function!(klaviyo_sync_profiles, pg_finfo_klaviyo_sync_profiles, sync_profiles);
sql_function!(klaviyo_sync_detach, pg_finfo_klaviyo_sync_detach, sync_detach);
sql_function!(klaviyo_sync_pause, pg_finfo_klaviyo_sync_pause, sync_pause);
sql_function!(klaviyo_sync_resume, pg_finfo_klaviyo_sync_resume, sync_resume);
sql_function!(klaviyo_is_capturing, pg_finfo_klaviyo_is_capturing, is_capturing);
sql_function!(klaviyo_fault_to_bury, pg_finfo_klaviyo_fault_to_bury, fault_to_bury);
sql_function!(klaviyo_adopt_mappings, pg_finfo_klaviyo_adopt_mappings, adopt_mappings);
sql_function!(klaviyo_follow_table, pg_finfo_klaviyo_follow_table, follow_table);
sql_function!(klaviyo_preview_rows, pg_finfo_klaviyo_preview_rows, preview_rows);
sql_function!(klaviyo_check_mapping, pg_finfo_klaviyo_check_mapping, check_mapping);

/// What is mapped: the argument's place, its name, and what it is read as.
type Mapped = (usize, &'static str, As);

#[derive(Clone, Copy)]
enum As {
    Value(Wanted),
    Object(Shape),
}

const OF_EVENT: [Mapped; 9] = [
    (2, "email", As::Value(Wanted::Text)),
    (3, "phone_number", As::Value(Wanted::Text)),
    (4, "external_id", As::Value(Wanted::Text)),
    (5, "value", As::Value(Wanted::Number)),
    (6, "value_currency", As::Value(Wanted::Text)),
    (7, "unique_id", As::Value(Wanted::Text)),
    (8, "event_time", As::Value(Wanted::Time)),
    (9, "properties", As::Object(Shape::Object)),
    (10, "profile", As::Object(Shape::Profile)),
];

const OF_PROFILE: [Mapped; 11] = [
    (1, "email", As::Value(Wanted::Text)),
    (2, "phone_number", As::Value(Wanted::Text)),
    (3, "external_id", As::Value(Wanted::Text)),
    (4, "first_name", As::Value(Wanted::Text)),
    (5, "last_name", As::Value(Wanted::Text)),
    (6, "organization", As::Value(Wanted::Text)),
    (7, "title", As::Value(Wanted::Text)),
    (8, "locale", As::Value(Wanted::Text)),
    (9, "image", As::Value(Wanted::Text)),
    (10, "location", As::Object(Shape::Location)),
    (11, "properties", As::Object(Shape::Object)),
];

/// `klaviyo_sync_events(relation, metric, email, phone_number, external_id, value, value_currency, unique_id, event_time,
/// properties, profile, "when", "on", at, replicated, name, account, replace)`
fn sync_events(arguments: &Arguments) -> Returned {
    let metric: &str = arguments.get(1).unwrap_or_default();
    event::check_metric(metric)?;
    let on: &str = arguments.get(12).unwrap_or("insert");
    let operations = Operation::list(on)?;
    if operations.contains(&Operation::Update) && arguments.datum(11).is_none() {
        return Err(refusal::argument(
            "the mapping does not say which updates are events",
            "An update is an event where the row then meets \"when\", and did not before.",
            "Say what an update brings about: \"when\" => 'status = ''shipped'''.",
        ));
    }
    let at = At::named(arguments.get(13).unwrap_or("statement"))?;
    let mut mapper = Mapper::new(arguments, 14)?;
    let mut call = vec![("metric".to_owned(), Sql::Text(quote_literal(metric)))];
    call.extend(mapper.read(&OF_EVENT)?);
    mapper.spec.insert("on".to_owned(), Value::from(on));
    if at == At::Commit {
        mapper.spec.insert("at".to_owned(), Value::from("commit"));
    }
    let condition = mapper.condition(11)?;
    let action = mapper.action("klaviyo_track_event", Message::Event(call), condition);
    mapper.attach("event", metric, operations, at, action)
}

/// `klaviyo_sync_profiles(relation, email, phone_number, external_id, first_name, last_name, organization, title, locale,
/// image, location, properties, "when", replicated, name, account, replace)`
fn sync_profiles(arguments: &Arguments) -> Returned {
    let mut mapper = Mapper::new(arguments, 13)?;
    let state = mapper.read(&OF_PROFILE)?;
    let condition = mapper.condition(12)?;
    let action = mapper.action("klaviyo_upsert_changes", Message::Profile(state), condition);
    mapper.attach("profile", "profile", vec![Operation::Insert, Operation::Update], At::Statement, action)
}

/// `klaviyo_sync_detach(relation, name)`
fn sync_detach(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(attach::detach(&table, arguments.get(1))?)
}

/// `klaviyo_sync_pause(relation, name)`
fn sync_pause(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(state::pause(&table, arguments.get(1), true)?)
}

/// `klaviyo_sync_resume(relation, name)`
fn sync_resume(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    counted(state::pause(&table, arguments.get(1), false)?)
}

fn counted(mappings: usize) -> Returned {
    Ok(i32::try_from(mappings).unwrap_or(i32::MAX).into_datum())
}

/// `klaviyo.is_capturing(mapping, relation)`
fn is_capturing(arguments: &Arguments) -> Returned {
    let (Some(mapping), Some(relation)) = (arguments.get(0), arguments.get(1)) else { return Ok(None) };
    Ok(state::is_capturing(mapping, relation).into_datum())
}

/// `klaviyo.fault_to_bury(mapping)`
fn fault_to_bury(arguments: &Arguments) -> Returned {
    let fault = arguments.get(0).and_then(state::fault_to_bury);
    Ok(fault.and_then(IntoDatum::into_datum))
}

/// `klaviyo.adopt_mappings(account)`
fn adopt_mappings(arguments: &Arguments) -> Returned {
    state::adopt(arguments.get(0).unwrap_or(DEFAULT_ACCOUNT));
    Ok(None)
}

/// `klaviyo.follow_table(relation)`
fn follow_table(arguments: &Arguments) -> Returned {
    if let Some(relation) = arguments.get(0) {
        follow::follow(relation)?;
    }
    Ok(None)
}

/// `klaviyo.preview(relation, limit, name)`: a JSON array of what [`preview::preview`] finds.
fn preview_rows(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    let limit = arguments.get::<i32>(1).unwrap_or(i32::MAX);
    let rows = preview::preview(&table, arguments.get(2), limit.into())?;
    // What was checked is an object already, and numbers in it are kept to the letter.
    let row = |row: &Previewed| {
        format!(
            "{{\"mapping\":{},\"key\":{},\"checked\":{}}}",
            Value::from(row.mapping.as_str()),
            row.key,
            row.checked
        )
    };
    Ok(format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(",")).into_datum())
}

/// `klaviyo.check_mapping(relation, plan)`
fn check_mapping(arguments: &Arguments) -> Returned {
    let table = Table::open(arguments.get(0))?;
    table.check()?;
    if let Some(plan) = arguments.get(1).and_then(|JsonB(plan)| Plan::from_json(plan)) {
        fault::check(&table, &plan.action);
    }
    Ok(None)
}

/// Reads the arguments of a mapping.
struct Mapper<'a> {
    arguments: &'a Arguments,
    /// The place of the last four: "replicated", "name", "account" and "replace".
    last: usize,
    account: &'a str,
    table: Table,
    /// What was said, for the record.
    spec: Map<String, Value>,
    prints_by_settings: bool,
}

impl<'a> Mapper<'a> {
    fn new(arguments: &'a Arguments, last: usize) -> Result<Self, Refusal> {
        let account: &str = arguments.get(last + 2).unwrap_or(DEFAULT_ACCOUNT);
        if !enqueue::has_account(account) {
            return Err(unknown_account(account).into());
        }
        let table = Table::open(arguments.get(0))?;
        table.check()?;
        Ok(Self { arguments, last, account, table, spec: Map::new(), prints_by_settings: false })
    }

    /// The arguments that are given, as SQL over the row.
    fn read(&mut self, mapped: &[Mapped]) -> Result<Vec<(String, Sql)>, Refusal> {
        let mut read = Vec::new();
        let reader = Reader::new(&self.table);
        for (place, name, read_as) in mapped {
            if self.arguments.datum(*place).is_none() {
                continue;
            }
            let (sql, given) = match read_as {
                As::Value(wanted) => {
                    let text: &str = self.arguments.get(*place).unwrap_or_default();
                    (Sql::Text(reader.value(name, text, *wanted)?), Value::from(text))
                }
                As::Object(shape) => {
                    let JsonB(given) = self.arguments.get(*place).unwrap_or(JsonB(Value::Null));
                    (reader.object(name, &given, *shape)?, given)
                }
            };
            read.push(((*name).to_owned(), sql));
            self.spec.insert((*name).to_owned(), given);
        }
        self.prints_by_settings = reader.prints_by_settings();
        if !read.iter().any(|(name, _)| NAMES.contains(&name.as_str())) {
            return Err(refusal::argument(
                "the mapping does not say whom a row is about",
                "None of email, phone_number and external_id is given.",
                "Name the column or expression that identifies the person: email => 'customer_email'.",
            ));
        }
        Ok(read)
    }

    fn condition(&mut self, place: usize) -> Result<Option<String>, Refusal> {
        let Some(text) = self.arguments.get::<&str>(place) else { return Ok(None) };
        self.spec.insert("when".to_owned(), Value::from(text));
        Reader::new(&self.table).value("when", text, Wanted::Condition).map(Some)
    }

    fn action(&self, function: &str, message: Message, condition: Option<String>) -> Action {
        let function = format!("{}.{function}", quote_identifier(self.arguments.schema()));
        Action { function, message, condition, account: quote_literal(self.account) }
    }

    fn attach(
        mut self,
        kind: &'static str,
        default_name: &str,
        operations: Vec<Operation>,
        at: At,
        action: Action,
    ) -> Returned {
        let replicated = self.arguments.get(self.last).unwrap_or_default();
        if replicated {
            self.spec.insert("replicated".to_owned(), Value::from(true));
        }
        let plan = Plan { operations, at, replicated, action, prints_by_settings: self.prints_by_settings };
        let capture = Capture { table: &self.table, plan };
        let name = self.arguments.get(self.last + 1).unwrap_or(default_name);
        let mapping = Mapping { kind, name, account: self.account, spec: Value::Object(self.spec) };
        let replace = self.arguments.get(self.last + 3).unwrap_or_default();
        Ok(attach::attach(mapping, &capture, replace)?.into_datum())
    }
}
