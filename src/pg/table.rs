//! Tables, used without the executor: for the one statement that every transaction of the shop pays for.

use std::ffi::CStr;
use std::num::NonZeroUsize;

use pgrx::htup::heap_getattr_raw;
use pgrx::{IntoDatum, PgRelation, Uuid, pg_sys};

use super::scoped::with_rights_of;

// commands/sequence.h, the same from 14 to 18. pgrx has no binding; this is how it calls all others.
unsafe extern "C-unwind" {
    fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// What a primary key can be of.
pub trait Key: IntoDatum {
    /// The function that compares two, of `pg_proc`.
    const EQUAL: u32;
}

impl Key for &str {
    const EQUAL: u32 = pg_sys::F_TEXTEQ;
}

impl Key for i32 {
    const EQUAL: u32 = pg_sys::F_INT4EQ;
}

impl Key for Uuid {
    const EQUAL: u32 = pg_sys::F_UUID_EQ;
}

/// A table, open, and locked until the transaction ends. Whoever may call us may use it: nobody's rights are looked at.
pub struct Table(PgRelation);

impl Table {
    /// None where there is none of that name.
    pub fn open(schema: &CStr, name: &CStr, lock: u32) -> Option<Self> {
        let table = find(schema, name)?;
        // SAFETY: locked before it is opened, as table_open() does; what has been dropped meanwhile is not found.
        unsafe {
            pg_sys::LockRelationOid(table, lock as pg_sys::LOCKMODE);
            let relation = pg_sys::RelationIdGetRelation(table);
            (!relation.is_null()).then(|| Self(PgRelation::from_pg_owned(relation)))
        }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        self.0.oid()
    }

    pub fn owner(&self) -> pg_sys::Oid {
        self.class().relowner
    }

    /// Whether it has these columns, and a row can be put into it by nothing but the table's access method and its
    /// primary key: no trigger, rule or policy wants to know of it, and nothing else is to be computed or checked.
    pub fn is_plain(&self, expected: &[(&CStr, pg_sys::Oid)]) -> bool {
        let class = self.class();
        let columns = self.0.tuple_desc();
        // SAFETY: the relcache entry is ours while it is open.
        let (triggers, constraints) =
            unsafe { ((*self.0.as_ptr()).trigdesc, (*columns.as_ptr()).constr.as_ref()) };
        class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relam == pg_sys::HEAP_TABLE_AM_OID
            && !(class.relrowsecurity || class.relhasrules || class.relispartition)
            && triggers.is_null()
            && constraints
                .is_none_or(|constraints| constraints.num_check == 0 && !constraints.has_generated_stored)
            && columns.iter().map(|column| (name(column), column.atttypid)).eq(expected.iter().copied())
            && matches!(self.indexes(), (1, Some(_)))
    }

    /// Whether it has a row whose primary key is this. None where its first column is no such key.
    pub fn has<K: Key>(&self, key: K) -> Option<bool> {
        self.with_row(key, |row| !row.is_null())
    }

    /// Columns, by value, of the row whose primary key is this. None where there is no such row, or no such column.
    pub fn read<const COLUMNS: usize>(
        &self,
        key: impl Key,
        names: [&CStr; COLUMNS],
    ) -> Option<[Option<pg_sys::Datum>; COLUMNS]> {
        let columns = self.0.tuple_desc();
        let place = |wanted: &CStr| {
            let found = columns.iter().position(|column| name(column) == wanted && column.attbyval)?;
            NonZeroUsize::new(found + 1)
        };
        let mut places = [NonZeroUsize::MIN; COLUMNS];
        for (to, name) in places.iter_mut().zip(names) {
            *to = place(name)?;
        }
        let read = |row: pg_sys::HeapTuple| {
            // SAFETY: the row is one of this table's, and held while it is looked at; what is passed by value is copied.
            (!row.is_null())
                .then(|| places.map(|place| unsafe { heap_getattr_raw(row, place, columns.as_ptr()) }))
        };
        self.with_row(key, read).flatten()
    }

    /// Looks at the row whose primary key is this; NULL where there is none.
    fn with_row<K: Key, R>(&self, key: K, look: impl FnOnce(pg_sys::HeapTuple) -> R) -> Option<R> {
        let (_, Some(index)) = self.indexes() else { return None };
        let columns = self.0.tuple_desc();
        let column = columns.get(0).filter(|column| column.atttypid == K::type_oid())?;
        let key = key.into_datum()?;
        // SAFETY: the index is one of this table's. With the column's own collation the scan finds what `=` finds; a column
        // that is not in the index is an error. The snapshot is registered while it is used: the latest, as for a foreign key,
        // for what is configured now holds for a transaction too that has seen nothing of it yet.
        unsafe {
            let mut scan_key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyEntryInitialize(
                &mut scan_key,
                0,
                1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::InvalidOid,
                column.attcollation,
                K::EQUAL.into(),
                key,
            );
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let scan = pg_sys::systable_beginscan(self.0.as_ptr(), index, true, snapshot, 1, &mut scan_key);
            let found = look(pg_sys::systable_getnext(scan));
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            Some(found)
        }
    }

    /// Adds a row.
    ///
    /// # Safety
    /// The table must be plain, and the values those of its columns, none of them NULL.
    pub unsafe fn insert<const COLUMNS: usize>(&self, values: &mut [pg_sys::Datum; COLUMNS]) {
        // SAFETY: as the caller says. Made for catalogues, this is a heap_insert() and an index_insert() for each index.
        unsafe {
            let columns = self.0.tuple_desc();
            let row =
                pg_sys::heap_form_tuple(columns.as_ptr(), values.as_mut_ptr(), [false; COLUMNS].as_mut_ptr());
            pg_sys::CatalogTupleInsert(self.0.as_ptr(), row);
            pg_sys::heap_freetuple(row);
        }
    }

    fn class(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: the relcache entry is ours while it is open, and has a pg_class row.
        unsafe { &*(*self.0.as_ptr()).rd_rel }
    }

    /// How many there are, and which is the primary key's.
    fn indexes(&self) -> (i32, Option<pg_sys::Oid>) {
        // SAFETY: the list is a copy; making it finds out which is the primary key's (utils/cache/relcache.c).
        unsafe {
            let relation = self.0.as_ptr();
            let list = pg_sys::RelationGetIndexList(relation);
            let count = list.as_ref().map_or(0, |list| list.length);
            pg_sys::list_free(list);
            let primary = (*relation).rd_pkindex;
            (count, (primary != pg_sys::InvalidOid).then_some(primary))
        }
    }
}

/// Runs a statement for whoever calls: what he may do with our tables is to call our functions.
pub fn as_owner<R>(table: Option<&Table>, run: impl FnOnce() -> R) -> R {
    match table {
        Some(table) => with_rights_of(table.owner(), run),
        None => run(),
    }
}

/// The next number of a sequence; None where there is none of that name.
pub fn next_number(schema: &CStr, sequence: &CStr) -> Option<i64> {
    let sequence = find(schema, sequence)?;
    // SAFETY: refuses what is no sequence; the guard turns errors into panics.
    Some(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) })
}

/// Locks a table, until the transaction ends, against all who write to it or change it. Whoever may is told by what he does.
pub fn keep_from_writers(table: pg_sys::Oid) {
    // SAFETY: waits as LOCK TABLE does; the guard turns errors into panics.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE) }
}

/// Has a function be dropped with a table, as an index is, and not keep it from being dropped.
pub fn drop_with_table(function: pg_sys::Oid, table: pg_sys::Oid) {
    let address =
        |catalogue, object| pg_sys::ObjectAddress { classId: catalogue, objectId: object, objectSubId: 0 };
    // SAFETY: writes a row of pg_depend, of two objects that are there.
    unsafe {
        pg_sys::recordDependencyOn(
            &address(pg_sys::ProcedureRelationId, function),
            &address(pg_sys::RelationRelationId, table),
            pg_sys::DependencyType::DEPENDENCY_AUTO,
        );
    }
}

fn name(column: &pg_sys::FormData_pg_attribute) -> &CStr {
    // SAFETY: a name ends in NUL.
    unsafe { CStr::from_ptr(column.attname.data.as_ptr()) }
}

fn find(schema: &CStr, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: looked up in the catalogue caches.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        let found = pg_sys::get_relname_relid(name.as_ptr(), schema);
        (found != pg_sys::InvalidOid).then_some(found)
    }
}
