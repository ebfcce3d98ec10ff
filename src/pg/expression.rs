//! Expressions over the rows of a table, as a person writes them: parsed, understood and printed by Postgres itself.
//!
//! What is printed names everything by its schema, so that it means the same under another `search_path`, and holds
//! nothing but the one expression: no comment, no second statement, however the text was made.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};

use super::scoped::with_settings_of_triggers;

/// What the rows of the table are called in an expression: `row.user_id`.
pub const ROW: &CStr = c"row";

/// An expression that Postgres has understood.
#[derive(Debug, Clone)]
pub struct Expression {
    /// It, with every name in full. The table's columns are `"row".column`.
    pub sql: String,
    pub type_oid: pg_sys::Oid,
    /// Whether it may come to something else where a session has other settings.
    pub is_mutable: bool,
}

/// Why a text is no expression over a table's rows.
#[derive(Debug)]
pub enum Fault {
    /// Postgres does not understand it: its message, and its hint if it has one.
    Refused { message: String, hint: Option<String> },
    /// It is more, or less, than one expression.
    NotSingle,
    /// It takes many rows, or makes many.
    NotOfOneRow,
    /// It uses a table that only this session sees.
    Temporary,
}

/// Understands a text, with the names that the present `search_path` finds. `from` is the table's name as SQL.
pub fn understand(table: pg_sys::Oid, from: &str, text: &str) -> Result<Expression, Fault> {
    // A line end of our own, for the text may end in a comment.
    let alone = c_string(&format!("SELECT {text}\n"))?;
    let over = c_string(&format!("SELECT ({text}\n) FROM {from} AS \"row\""))?;
    let understood = PgTryBuilder::new(|| {
        // SAFETY: the texts end in NUL and live until the end; trees and queries live as long as the statement.
        unsafe {
            if !is_single(&alone) {
                return Err(Fault::NotSingle);
            }
            analyse(&over).map_or(Err(Fault::NotSingle), |query| read(table, query))
        }
    });
    // Whoever asks raises an error of his own then, so that what Postgres began is cleaned up by that.
    understood.catch_others(refused).execute()
}

fn refused(error: CaughtError) -> Result<Expression, Fault> {
    match error {
        CaughtError::PostgresError(report) => Err(Fault::Refused {
            message: report.message().to_owned(),
            hint: report.hint().map(str::to_owned),
        }),
        other => other.rethrow(),
    }
}

fn c_string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| Fault::NotSingle)
}

/// The one statement that a text is.
///
/// # Safety
/// Raises an error where it is no SQL at all; to be called where those are caught.
unsafe fn parse(text: &CStr) -> Option<*mut pg_sys::RawStmt> {
    // SAFETY: as the caller says; what is in the list is of that type (parser/parser.h).
    unsafe { only(pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT)) }
}

/// What is in a list, if that is one thing.
///
/// # Safety
/// The list must be one of pointers to `T`.
unsafe fn only<T>(list: *mut pg_sys::List) -> Option<*mut T> {
    // SAFETY: as the caller says; a list that is not NULL has as many elements as its length says.
    unsafe { list.as_ref().filter(|list| list.length == 1).map(|list| (*list.elements).ptr_value.cast()) }
}

/// Whether a statement is `SELECT` and one expression, and nothing else.
///
/// # Safety
/// As [`parse`].
unsafe fn is_single(text: &CStr) -> bool {
    // SAFETY: as the caller says. The tree's nodes are of the types that their tags say.
    unsafe {
        let Some(statement) = parse(text).map(|statement| (*statement).stmt) else { return false };
        if (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return false;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let lists = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let nodes = [select.whereClause, select.havingClause, select.limitOffset, select.limitCount];
        lists.iter().all(|list| list.is_null())
            && nodes.iter().all(|node| node.is_null())
            && select.intoClause.is_null()
            && select.withClause.is_null()
            && select.op == pg_sys::SetOperation::SETOP_NONE
            && only::<pg_sys::ResTarget>(select.targetList).is_some_and(|target| (*target).name.is_null())
    }
}

/// The query that a statement is.
///
/// # Safety
/// As [`parse`].
unsafe fn analyse(text: &CStr) -> Option<*mut pg_sys::Query> {
    // SAFETY: as the caller says.
    unsafe {
        let (statement, source) = (parse(text)?, text.as_ptr());
        #[cfg(feature = "pg14")]
        let query = pg_sys::parse_analyze(statement, source, std::ptr::null(), 0, std::ptr::null_mut());
        #[cfg(not(feature = "pg14"))]
        let query =
            pg_sys::parse_analyze_fixedparams(statement, source, std::ptr::null(), 0, std::ptr::null_mut());
        Some(query)
    }
}

/// Prints what a query selects.
///
/// # Safety
/// As [`parse`], of a query of one expression over the table.
unsafe fn read(table: pg_sys::Oid, query: *mut pg_sys::Query) -> Result<Expression, Fault> {
    // SAFETY: as the caller says. The table is the query's only relation, number 1, as the context has it.
    unsafe {
        if (*query).hasAggs || (*query).hasWindowFuncs || (*query).hasTargetSRFs {
            return Err(Fault::NotOfOneRow);
        }
        if pg_sys::isQueryUsingTempRelation(query) {
            return Err(Fault::Temporary);
        }
        let Some(target) = only::<pg_sys::TargetEntry>((*query).targetList) else {
            return Err(Fault::NotSingle);
        };
        let expression: *mut pg_sys::Node = (*target).expr.cast();
        let context = pg_sys::deparse_context_for(ROW.as_ptr(), table);
        // What is said holds as the session means it, and is written down so that every other reads it so.
        let printed =
            with_settings_of_triggers(|| pg_sys::deparse_expression(expression, context, true, false));
        let sql = CStr::from_ptr(printed).to_string_lossy().into_owned();
        let is_mutable = pg_sys::contain_mutable_functions(expression);
        Ok(Expression { sql, type_oid: pg_sys::exprType(expression), is_mutable })
    }
}
