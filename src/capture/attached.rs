//! What there is of a mapping in the database: its function and its triggers.

use pgrx::pg_sys;

use super::generate;
use super::operation::Operation;
use super::refusal;
use super::statements::{define, done};
use super::table::Table;
use crate::pg::function::Refusal;
use crate::pg::scoped::with_own_search_path;
use crate::pg::spi::{arg, column, rows};

/// A mapping's triggers, on its table and wherever else they call the same function, and that.
const TRIGGERS: &str = "
    SELECT t.tgrelid, format('%I.%I', s.nspname, c.relname), c.relowner, quote_ident(t.tgname), t.tgtype & 1 = 1,
           p.oid, format('%I.%I', n.nspname, p.proname),
           p.proname = 'klaviyo_sync_' || $3::text AND EXISTS (
               SELECT FROM pg_depend AS d
               JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
               WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x'
           ),
           p.proowner,
           pg_get_userbyid(p.proowner)::text, pg_has_role(p.proowner, 'USAGE'), p.prosrc, t.tgenabled = 'D'
    FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_namespace AS s ON s.oid = c.relnamespace
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE t.tgname = ANY ($2) AND NOT t.tgisinternal
      AND (t.tgrelid = $1
           OR t.tgfoid IN (SELECT r.tgfoid FROM pg_trigger AS r WHERE r.tgrelid = $1 AND r.tgname = ANY ($2)))
    ORDER BY t.tgrelid <> $1, t.tgrelid, t.tgname";

#[derive(Debug)]
pub struct Attached {
    pub function: pg_sys::Oid,
    /// In full: the table may have moved to another schema since it was made.
    pub function_name: String,
    pub source: String,
    owner: pg_sys::Oid,
    owner_name: String,
    /// Whether who asks has its owner's rights.
    has_rights: bool,
    /// Those of the table first.
    pub triggers: Vec<Trigger>,
}

#[derive(Debug)]
pub struct Trigger {
    pub relation: pg_sys::Oid,
    relation_name: String,
    relation_owner: pg_sys::Oid,
    pub name: String,
    pub is_row_level: bool,
    is_disabled: bool,
}

impl Attached {
    /// What there is of the table's mapping of that number.
    pub fn find(table: &Table, id: i32) -> Result<Self, Refusal> {
        let mut found: Option<Self> = None;
        let mut is_ours = true;
        with_own_search_path(|| {
            let names = Operation::ALL.map(|operation| generate::trigger_name(id, operation)).to_vec();
            done(rows(TRIGGERS, &[arg(table.oid), arg(names), arg(id)], |row| {
                let it = found.get_or_insert_with(|| Self {
                    function: column(row, 6),
                    function_name: column(row, 7),
                    owner: column(row, 9),
                    owner_name: column(row, 10),
                    has_rights: column(row, 11),
                    source: column(row, 12),
                    triggers: Vec::new(),
                });
                it.triggers.push(Trigger {
                    relation: column(row, 1),
                    relation_name: column(row, 2),
                    relation_owner: column(row, 3),
                    name: column(row, 4),
                    is_row_level: column(row, 5),
                    is_disabled: column(row, 13),
                });
                is_ours &= column::<bool>(row, 8) && it.function == column::<pg_sys::Oid>(row, 6);
            }));
        });
        // Anybody may give a trigger such a name, and have it call what he likes; no function of another's depends on us.
        found.filter(|_| is_ours).ok_or_else(|| {
            refusal::table(
                format!(
                    "{} has a trigger that is called as those of mapping {id}, and calls another function",
                    table.sql()
                ),
                "Names that begin with klaviyo_sync_ and a number are those of mappings.",
                "Drop that trigger, or rename it.",
            )
        })
    }

    /// Refuses a function that is not the table owner's: it would run with the rights of one who has nothing to do with the
    /// table any more, on what its owner makes of it.
    pub fn check_owner(&self, table: &Table) -> Result<(), Refusal> {
        if self.owner == table.owner {
            return Ok(());
        }
        Err(refusal::table(
            format!("{}() is that of {}", self.function_name, self.owner_name),
            "It runs with the rights of its owner, who would not be the table's any more.",
            "",
        ))
    }

    /// Refuses another function than before.
    pub fn check_same(&self, before: &Self) -> Result<(), Refusal> {
        if self.function == before.function && self.owner == before.owner {
            return Ok(());
        }
        Err(refusal::table(
            format!("{}() has just been made another", before.function_name),
            "Somebody has changed it in the same moment.",
            "Try again.",
        ))
    }

    /// Whether somebody has disabled a trigger on the table.
    pub fn are_disabled(&self, table: &Table) -> bool {
        self.triggers.iter().any(|trigger| trigger.relation == table.oid && trigger.is_disabled)
    }

    /// Drops it: triggers with the rights of their table's owner, the function with those of its own, who may be one who
    /// was the table's before.
    pub fn take_away(&self) -> Result<(), Refusal> {
        if !self.has_rights {
            return Err(refusal::rights(
                format!("{}() is not yours to drop", self.function_name),
                "The table has another owner than when it was mapped.",
                format!(
                    "Ask a member of role {}, or have the function be given to the table's owner.",
                    self.owner_name
                ),
            ));
        }
        self.drop_triggers(|_| true);
        define(self.owner, &[format!("DROP FUNCTION {}()", self.function_name)]);
        Ok(())
    }

    /// Drops some of its triggers.
    pub fn drop_triggers(&self, which: impl Fn(&Trigger) -> bool) {
        for trigger in self.triggers.iter().filter(|trigger| which(trigger)) {
            let drop = format!("DROP TRIGGER {} ON {}", trigger.name, trigger.relation_name);
            define(trigger.relation_owner, &[drop]);
        }
    }
}
