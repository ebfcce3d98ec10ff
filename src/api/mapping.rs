//! `klaviyo_sync_events`, `klaviyo_sync_metric`, `klaviyo_sync_profiles`: what stands in a table's columns, said once.

use delivery::identifiers::NAMES;
use delivery::kind::event;
use delivery::kind::profile::Shape;
use pgrx::spi::{quote_identifier, quote_literal};
use pgrx::{IntoDatum, JsonB};
use serde_json::{Map, Value};

use crate::api::messages::{DEFAULT_ACCOUNT, unknown_account};
use crate::capture::attach::{self, Mapping};
use crate::capture::generate::Capture;
use crate::capture::operation::{At, Operation};
use crate::capture::plan::Plan;
use crate::capture::query::{Action, Message, Sql};
use crate::capture::reader::{Reader, Wanted};
use crate::capture::refusal;
use crate::capture::table::Table;
use crate::capture::template::Template;
use crate::capture::write_back::WriteBack;
use crate::outbox::enqueue;
use crate::pg::function::{Arguments, Refusal, Returned, sql_function};

sql_function!(klaviyo_sync_events, pg_finfo_klaviyo_sync_events, sync_events);
sql_function!(klaviyo_sync_metric, pg_finfo_klaviyo_sync_metric, sync_metric);
sql_function!(klaviyo_sync_profiles, pg_finfo_klaviyo_sync_profiles, sync_profiles);

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
    map_events(arguments, None)
}

/// `klaviyo_sync_metric(…, items, items_from)`: those of `klaviyo_sync_events`, and these.
fn sync_metric(arguments: &Arguments) -> Returned {
    map_events(arguments, Some(Template::named(arguments.get(1).unwrap_or_default())?))
}

fn map_events(arguments: &Arguments, template: Option<&'static Template>) -> Returned {
    let metric: &str = arguments.get(1).unwrap_or_default();
    event::check_metric(metric)?;
    let has_condition = arguments.datum(11).is_some();
    let on = arguments.get(12).unwrap_or(template.map_or("insert", |it| it.on(has_condition)));
    let operations = Operation::list(on)?;
    if operations.contains(&Operation::Update) && !has_condition {
        return Err(refusal::argument(
            "the mapping does not say which updates are events",
            "An update is an event where the row then meets \"when\", and did not before.",
            "Say what an update brings about: \"when\" => 'status = ''shipped'''.",
        ));
    }
    let at = match arguments.get(13) {
        Some(at) => At::named(at)?,
        None => template.map_or(At::Statement, Template::at),
    };
    let mut mapper = Mapper::new(arguments, 14)?;
    let mut call = vec![("metric".to_owned(), Sql::Text(quote_literal(metric)))];
    call.extend(mapper.read(&OF_EVENT)?);
    if let Some(template) = template {
        mapper.fill(template, &mut call)?;
    }
    mapper.spec.insert("on".to_owned(), Value::from(on));
    if at == At::Commit {
        mapper.spec.insert("at".to_owned(), Value::from("commit"));
    }
    let condition = mapper.condition(11)?;
    let action = mapper.action("klaviyo_track_event", Message::Event(call), condition);
    mapper.attach("event", metric, operations, at, action, None)
}

/// `klaviyo_sync_profiles(relation, email, phone_number, external_id, first_name, last_name, organization, title, locale,
/// image, location, properties, "when", on_delete, replicated, name, account, replace, direction, updated_at)`
fn sync_profiles(arguments: &Arguments) -> Returned {
    let mut mapper = Mapper::new(arguments, 14)?;
    let state = mapper.read(&OF_PROFILE)?;
    let mut operations = vec![Operation::Insert, Operation::Update];
    if mapper.requests_deletion(13, &state)? {
        operations.push(Operation::Delete);
    }
    let condition = mapper.condition(12)?;
    let write_back = mapper.write_back(&state)?;
    let function = if write_back.is_some() { "klaviyo_upsert_two_way" } else { "klaviyo_upsert_changes" };
    let action = mapper.action(function, Message::Profile(state), condition);
    mapper.attach("profile", "profile", operations, At::Statement, action, write_back)
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
        self.prints_by_settings |= reader.prints_by_settings();
        if !read.iter().any(|(name, _)| NAMES.contains(&name.as_str())) {
            return Err(refusal::argument(
                "the mapping does not say whom a row is about",
                "None of email, phone_number and external_id is given.",
                "Name the column or expression that identifies the person: email => 'customer_email'.",
            ));
        }
        Ok(read)
    }

    /// Adds what a template knows of a metric to the arguments of the call.
    fn fill(&mut self, template: &Template, call: &mut Vec<(String, Sql)>) -> Result<(), Refusal> {
        let properties = self.map(9, "properties")?.unwrap_or_default();
        let items = self.map(18, "items")?;
        let has = |name: &str| call.iter().any(|(given, _)| given == name);
        template.check(&properties, items.is_some(), has("value"))?;
        // The same row is the same event, also if it is sent once more.
        if !has("unique_id") && !self.table.key.is_empty() {
            call.push(("unique_id".to_owned(), Sql::Text(self.table.key_as_text())));
        }
        let Some(items) = items else { return Ok(()) };
        let from: &str = self.arguments.get(19).ok_or_else(|| {
            refusal::argument(
                "the mapping does not say where items stand",
                "Argument \"items_from\" is not given.",
                "Name what comes after FROM: items_from => 'order_items AS i WHERE i.order_id = row.id'.",
            )
        })?;
        let reader = Reader::new(&self.table);
        let items_sql = Sql::Text(reader.value("items", &template.items(&items, from)?, Wanted::Json)?);
        self.prints_by_settings |= reader.prints_by_settings();
        self.spec.insert("items".to_owned(), Value::Object(items));
        self.spec.insert("items_from".to_owned(), Value::from(from));
        match call.iter_mut().find(|(name, _)| name == "properties") {
            // What is said of the order itself counts.
            Some((_, own)) => *own = Sql::Merged(vec![items_sql, own.clone()]),
            None => call.push(("properties".to_owned(), items_sql)),
        }
        Ok(())
    }

    /// An argument that must be a map, as it was given.
    fn map(&self, place: usize, argument: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.arguments.get(place) {
            None => Ok(None),
            Some(JsonB(Value::Object(map))) => Ok(Some(map)),
            Some(_) => Err(refusal::argument(
                format!("argument \"{argument}\" is no map"),
                "A template looks at the names in it.",
                "For example '{\"OrderId\": \"number\"}'.",
            )),
        }
    }

    /// Whether a row that is deleted has Klaviyo be asked to delete the person's data.
    fn requests_deletion(&mut self, place: usize, state: &[(String, Sql)]) -> Result<bool, Refusal> {
        let given: &str = self.arguments.get(place).unwrap_or("keep");
        match given {
            "keep" => return Ok(false),
            "request_deletion" => {}
            _ => {
                return Err(refusal::argument(
                    "argument \"on_delete\" does not say what becomes of a profile whose row is deleted",
                    format!("It is \"{given}\"."),
                    "Write keep, or request_deletion: Klaviyo is asked to delete the person's data.",
                ));
            }
        }
        if !state.iter().any(|(name, _)| ["email", "phone_number"].contains(&name.as_str())) {
            return Err(refusal::argument(
                "Klaviyo cannot be asked to delete whom only an external_id names",
                "It deletes by email or phone_number.",
                "Map one of them, or leave out on_delete.",
            ));
        }
        self.spec.insert("on_delete".to_owned(), Value::from(given));
        Ok(true)
    }

    /// What Klaviyo changes is written back, if that is what the mapping says.
    fn write_back(&mut self, state: &[(String, Sql)]) -> Result<Option<WriteBack>, Refusal> {
        let direction: &str = self.arguments.get(18).unwrap_or("out");
        let updated_at: Option<&str> = self.arguments.get(19);
        match (direction, updated_at) {
            ("out", None) => return Ok(None),
            ("out" | "both", _) => {}
            _ => {
                return Err(refusal::argument(
                    "argument \"direction\" does not say which way profiles go",
                    format!("It is \"{direction}\"."),
                    "Write out: to Klaviyo; or both: what Klaviyo changes is written back into the table.",
                ));
            }
        }
        let ("both", Some(updated_at)) = (direction, updated_at) else {
            return Err(refusal::argument(
                "of a table that is written back to it must be known when a row was last changed, and of no other",
                "Arguments direction => 'both' and \"updated_at\" belong together.",
                "Name the column or expression: direction => 'both', updated_at => 'updated_at'.",
            ));
        };
        let reader = Reader::new(&self.table);
        let sql = reader.value("updated_at", updated_at, Wanted::Time)?;
        self.prints_by_settings |= reader.prints_by_settings();
        self.spec.insert("direction".to_owned(), Value::from(direction));
        self.spec.insert("updated_at".to_owned(), Value::from(updated_at));
        WriteBack::of(&self.table, state, sql).map(Some)
    }

    fn condition(&mut self, place: usize) -> Result<Option<String>, Refusal> {
        let Some(text) = self.arguments.get::<&str>(place) else { return Ok(None) };
        self.spec.insert("when".to_owned(), Value::from(text));
        let reader = Reader::new(&self.table);
        let condition = reader.value("when", text, Wanted::Condition)?;
        self.prints_by_settings |= reader.prints_by_settings();
        Ok(Some(condition))
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
        write_back: Option<WriteBack>,
    ) -> Returned {
        let replicated = self.arguments.get(self.last).unwrap_or_default();
        if replicated {
            self.spec.insert("replicated".to_owned(), Value::from(true));
        }
        let prints_by_settings = self.prints_by_settings;
        let plan =
            Plan { operations, at, replicated, action, prints_by_settings, boundary: None, write_back };
        let capture = Capture { table: &self.table, plan };
        let name = self.arguments.get(self.last + 1).unwrap_or(default_name);
        let mapping = Mapping { kind, name, account: self.account, spec: Value::Object(self.spec) };
        let replace = self.arguments.get(self.last + 3).unwrap_or_default();
        Ok(attach::attach(mapping, capture, replace)?.into_datum())
    }
}
