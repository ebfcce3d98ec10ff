//! The server programming interface: statements, their arguments and rows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::{self, OwnedPreparedStatement, SpiClient, SpiTupleTable};
use pgrx::{FromDatum, IntoDatum, PgOid, pg_sys};

/// An argument of its own SQL type.
pub fn arg<'a, T: IntoDatum>(value: T) -> DatumWithOid<'a> {
    let oid = T::type_oid();
    // SAFETY: the type says its own OID.
    unsafe { DatumWithOid::new(value, oid) }
}

/// A json argument from text that is JSON already; both are laid out alike, and json's input function would only
/// parse it once more.
pub fn json_arg<'a>(text: &str) -> DatumWithOid<'a> {
    // SAFETY: json is stored as text is (utils/adt/json.c: json_recv returns a text).
    unsafe { DatumWithOid::new(text.to_owned(), pg_sys::JSONOID) }
}

thread_local! {
    /// Plans of this session, by the text of their statement, which is a constant's.
    static PLANS: RefCell<HashMap<*const u8, Rc<OwnedPreparedStatement>>> = RefCell::new(HashMap::new());
}

/// The plan of a constant statement, made the first time it is asked for. The types of its parameters are those of
/// `args`, which must be the same each time.
fn plan(
    client: &SpiClient<'_>,
    statement: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<Rc<OwnedPreparedStatement>, spi::Error> {
    // Nothing is run while the map is borrowed: what runs may come back here, by a trigger on one of our tables.
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&statement.as_ptr()).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
    let plan = Rc::new(client.prepare_mut(statement, &types)?.keep());
    PLANS.with_borrow_mut(|plans| plans.insert(statement.as_ptr(), plan.clone()));
    Ok(plan)
}

/// Runs a constant statement and returns how many rows it touched.
pub fn run(statement: &'static str, args: &[DatumWithOid<'_>]) -> Result<usize, spi::Error> {
    Spi::connect_mut(|client| {
        let plan = plan(client, statement, args)?;
        Ok(client.update(&*plan, None, args)?.len())
    })
}

/// Rows fetched from a cursor at a time.
const FETCH: i64 = 32;

/// Calls `each` for every row of a constant query, seen in a snapshot of now. Returns how many there were.
pub fn rows(
    query: &'static str,
    args: &[DatumWithOid<'_>],
    mut each: impl FnMut(&SpiTupleTable),
) -> Result<usize, spi::Error> {
    Spi::connect_mut(|client| {
        let plan = plan(client, query, args)?;
        let mut cursor = client.try_open_cursor(&*plan, args)?;
        let mut count = 0;
        loop {
            let mut table = cursor.fetch(FETCH)?;
            let fetched = table.len();
            while table.next().is_some() {
                each(&table);
            }
            count += fetched;
            if (fetched as i64) < FETCH {
                return Ok(count);
            }
        }
    })
}

/// The one value of a constant query's one row, if that is not NULL.
pub fn value<T: FromDatum + IntoDatum>(
    query: &'static str,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>, spi::Error> {
    let mut value = None;
    rows(query, args, |row| value = row.get::<T>(1).ok().flatten())?;
    Ok(value)
}

/// Column `number` of the row a table stands at, which must not be NULL.
pub fn column<T: FromDatum + IntoDatum>(row: &SpiTupleTable, number: usize) -> T {
    match row.get::<T>(number) {
        Ok(Some(value)) => value,
        Ok(None) => error!("column {number} is null"),
        Err(error) => error!("column {number}: {error}"),
    }
}

/// A timestamptz column of the row a table stands at, in microseconds since 1970.
pub fn micros_column(row: &SpiTupleTable, number: usize) -> i64 {
    super::micros(i64::from(column::<TimestampWithTimeZone>(row, number)))
}

/// A json column's text, of the row a table stands at.
pub fn json_column(row: &SpiTupleTable, number: usize) -> String {
    let datum = row.get_datum_by_ordinal(number).ok().flatten();
    // SAFETY: json is stored as text is.
    datum.and_then(|datum| unsafe { String::from_datum(datum, false) }).unwrap_or_default()
}
