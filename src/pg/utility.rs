//! Statements that are no queries, as Postgres shows them to its hook before it runs them (tcop/utility.h).

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::panic::pgrx_extern_c_guard;
use pgrx::pg_sys::{self, NodeTag, ObjectType, ProcessUtilityContext};

/// A statement that is ours to know of.
#[derive(Clone, Copy)]
pub enum Statement {
    /// It wants no worker in this database, and the caller may run it.
    NeedsDatabase(pg_sys::Oid),
    /// It may take an extension away, or change its version.
    ChangesExtension,
}

type Hook = unsafe extern "C-unwind" fn(
    *mut pg_sys::PlannedStmt,
    *const c_char,
    bool,
    ProcessUtilityContext::Type,
    pg_sys::ParamListInfo,
    *mut pg_sys::QueryEnvironment,
    *mut pg_sys::DestReceiver,
    *mut pg_sys::QueryCompletion,
);

static mut PREVIOUS: Option<Hook> = None;

/// Has [`crate::worker::before`] called for every such statement. In the postmaster, while it loads libraries.
pub fn install() {
    // SAFETY: hooks are chained as Postgres asks for it, in the postmaster, which has one thread.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(on_utility);
    }
}

// pgrx' own declaration catches errors and raises them anew, without what it does not know of them: the position, the
// constraint, an SQLSTATE of somebody's own. Statements of other people's are not ours to do that to.
unsafe extern "C-unwind" {
    fn standard_ProcessUtility(
        plan: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only: bool,
        context: ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

unsafe extern "C-unwind" fn on_utility(
    plan: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only: bool,
    context: ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: Postgres passes a valid statement. What runs it may leave by longjmp: nothing in this frame needs dropping.
    unsafe {
        let node = (*plan).utilityStmt;
        if concerns_us((*node).type_) {
            pgrx_extern_c_guard(|| read(node, context).map(crate::worker::before));
        }
        let run = PREVIOUS.unwrap_or(standard_ProcessUtility);
        run(plan, query, read_only, context, parameters, environment, receiver, completion);
    }
}

fn concerns_us(tag: NodeTag) -> bool {
    matches!(
        tag,
        NodeTag::T_CreatedbStmt
            | NodeTag::T_DropdbStmt
            | NodeTag::T_AlterDatabaseStmt
            | NodeTag::T_RenameStmt
            | NodeTag::T_DropStmt
            | NodeTag::T_DropOwnedStmt
            | NodeTag::T_AlterExtensionStmt
    )
}

/// # Safety
/// The node must be a statement that [`concerns_us`].
unsafe fn read(node: *mut pg_sys::Node, context: ProcessUtilityContext::Type) -> Option<Statement> {
    // SAFETY: the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_RenameStmt => {
                let statement: *const pg_sys::RenameStmt = node.cast();
                let of_database = (*statement).renameType == ObjectType::OBJECT_DATABASE;
                of_database.then(|| of_owner((*statement).subname)).flatten()
            }
            NodeTag::T_DropStmt => match (*node.cast::<pg_sys::DropStmt>()).removeType {
                ObjectType::OBJECT_EXTENSION => of_extension(),
                ObjectType::OBJECT_SCHEMA => Some(Statement::ChangesExtension),
                _ => None,
            },
            NodeTag::T_AlterExtensionStmt => of_extension(),
            NodeTag::T_DropOwnedStmt => Some(Statement::ChangesExtension),
            // The others refuse to run there (PreventInTransactionBlock).
            _ if pg_sys::IsTransactionBlock()
                || context != ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL =>
            {
                None
            }
            NodeTag::T_DropdbStmt => of_owner((*node.cast::<pg_sys::DropdbStmt>()).dbname),
            NodeTag::T_AlterDatabaseStmt => {
                let statement: *const pg_sys::AlterDatabaseStmt = node.cast();
                option((*statement).options, c"tablespace").and_then(|_| of_owner((*statement).dbname))
            }
            NodeTag::T_CreatedbStmt => {
                let statement: *const pg_sys::CreatedbStmt = node.cast();
                of_copier(option((*statement).options, c"template").unwrap_or(c"template1".as_ptr()))
            }
            _ => None,
        }
    }
}

/// The value of an option, where it is given one.
///
/// # Safety
/// A list of `DefElem`.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*const c_char> {
    // SAFETY: as above; the list outlives the statement.
    unsafe {
        let list = options.as_ref()?;
        let element = (0..list.length.unsigned_abs() as usize)
            .map(|n| (*list.elements.add(n)).ptr_value.cast::<pg_sys::DefElem>())
            .find(|&element| CStr::from_ptr((*element).defname) == name && !(*element).arg.is_null())?;
        Some(pg_sys::defGetString(element).cast_const())
    }
}

/// A database that its owner alone may drop, rename or move, if it exists and the caller is that.
///
/// # Safety
/// The name must end in NUL.
unsafe fn of_owner(name: *const c_char) -> Option<Statement> {
    // SAFETY: as above; looks into the catalogue.
    let database = unsafe { pg_sys::get_database_oid(name, true) };
    // The database one is in oneself cannot be had.
    let possible = database != pg_sys::InvalidOid && database != super::database();
    (possible && is_owner(database)).then_some(Statement::NeedsDatabase(database))
}

/// An extension that its owner alone may drop or change. Ours locks its tables one after the other, and so does the
/// worker: it is held off, or one of the two would end in a deadlock. Should the statement be about another extension,
/// a worker starts anew for nothing.
fn of_extension() -> Option<Statement> {
    // SAFETY: looks into the catalogue.
    let extension = unsafe { pg_sys::get_extension_oid(c"klaviyo_sync".as_ptr(), true) };
    (extension != pg_sys::InvalidOid).then(|| {
        if owns_extension(extension) {
            Statement::NeedsDatabase(super::database())
        } else {
            Statement::ChangesExtension
        }
    })
}

fn owns_extension(extension: pg_sys::Oid) -> bool {
    // SAFETY: looks into the catalogue; a superuser owns everything.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_extension_ownercheck(extension, pg_sys::GetUserId());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return pg_sys::object_ownercheck(pg_sys::ExtensionRelationId, extension, pg_sys::GetUserId());
    }
}

/// A database that is copied: who may create databases copies templates and his own (createdb in commands/dbcommands.c).
///
/// # Safety
/// The name must end in NUL.
unsafe fn of_copier(name: *const c_char) -> Option<Statement> {
    // SAFETY: as above; looks into the catalogue.
    let database = unsafe { pg_sys::get_database_oid(name, true) };
    let possible = database != pg_sys::InvalidOid && creates_databases();
    (possible && (is_template(database) || is_owner(database))).then_some(Statement::NeedsDatabase(database))
}

fn is_owner(database: pg_sys::Oid) -> bool {
    // SAFETY: looks into the catalogue; a superuser owns everything.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        return pg_sys::pg_database_ownercheck(database, pg_sys::GetUserId());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        return pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, pg_sys::GetUserId());
    }
}

/// `have_createdb_privilege`, which not every major exports.
fn creates_databases() -> bool {
    // SAFETY: the row is of the type that belongs to its catalogue.
    unsafe {
        pg_sys::superuser()
            || row(
                pg_sys::SysCacheIdentifier::AUTHOID,
                pg_sys::GetUserId(),
                |role: *const pg_sys::FormData_pg_authid| (*role).rolcreatedb,
            )
    }
}

fn is_template(database: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe {
        row(
            pg_sys::SysCacheIdentifier::DATABASEOID,
            database,
            |database: *const pg_sys::FormData_pg_database| (*database).datistemplate,
        )
    }
}

/// Asks something of a row of a catalogue; false where there is none.
///
/// # Safety
/// The cache must be one by OID, of rows of type `T`.
unsafe fn row<T>(
    cache: pg_sys::SysCacheIdentifier::Type,
    oid: pg_sys::Oid,
    ask: impl FnOnce(*const T) -> bool,
) -> bool {
    // SAFETY: as above; the row is held until it has been asked.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(oid));
        if tuple.is_null() {
            return false;
        }
        let answer = ask(pg_sys::GETSTRUCT(tuple).cast());
        pg_sys::ReleaseSysCache(tuple);
        answer
    }
}
