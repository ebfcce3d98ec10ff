//! Purging what was read of people whose deletion Klaviyo has accepted, see [`crate::outbox::purge::Purge`].

use delivery::key;
use pgrx::spi;

use crate::outbox::named;
use crate::pg::spi::{arg, column, json_column, micros_column, rows, run};

/// A row, by its account and Klaviyo's id.
pub type At = (String, String);

/// Rows read in one go.
const PROFILES: i64 = 5_000;
const EVENTS: i64 = 500;

const NEXT_PROFILES: &str = "
    SELECT p.account, p.profile_id, p.email, p.phone_number, p.pulled_at
    FROM klaviyo.profile AS p
    WHERE (p.account, p.profile_id) > ($1, $2)
    ORDER BY p.account, p.profile_id
    LIMIT $3";

/// With all that is known of them. That they are gone is remembered without saying whose they were.
const DELETE_PROFILES: &str = "
    WITH named AS (
        SELECT n.account, n.profile_id, n.identifier
        FROM unnest($1::text[], $2::text[], $3::text[]) AS n (account, profile_id, identifier)
    ), gone AS (
        SELECT DISTINCT n.account, n.profile_id FROM named AS n
    ), remembered AS (
        INSERT INTO klaviyo.deleted_profile (message_id, digest)
        SELECT DISTINCT d.message_id, klaviyo.person_digest(a.person_salt, n.profile_id)
        FROM named AS n
        JOIN klaviyo.account AS a ON a.name = n.account
        JOIN klaviyo.deletion AS d ON d.account = a.name AND d.digest = klaviyo.person_digest(a.person_salt, n.identifier)
        ON CONFLICT DO NOTHING
    ), events AS (
        DELETE FROM klaviyo.event AS e USING gone AS g WHERE e.account = g.account AND e.profile_id = g.profile_id
    ), on_lists AS (
        DELETE FROM klaviyo.list_member AS m USING gone AS g WHERE m.account = g.account AND m.profile_id = g.profile_id
    ), in_segments AS (
        DELETE FROM klaviyo.segment_member AS m USING gone AS g WHERE m.account = g.account AND m.profile_id = g.profile_id
    )
    DELETE FROM klaviyo.profile AS p USING gone AS g WHERE p.account = g.account AND p.profile_id = g.profile_id";

const NEXT_EVENTS: &str = "
    SELECT e.account, e.event_id, e.properties::json, e.pulled_at
    FROM klaviyo.event AS e
    WHERE (e.account, e.event_id) > ($1, $2)
    ORDER BY e.account, e.event_id
    LIMIT $3";

const DELETE_EVENTS: &str = "
    DELETE FROM klaviyo.event AS e
    USING unnest($1::text[], $2::text[]) AS g (account, event_id)
    WHERE e.account = g.account AND e.event_id = g.event_id";

/// Purges some of the profiles after that one.
pub fn profiles(
    after: At,
    is_theirs: &dyn Fn(&str, &[String], i64) -> bool,
) -> Result<Option<At>, spi::Error> {
    let mut last = after.clone();
    let (mut accounts, mut ids, mut identifiers) = (Vec::new(), Vec::new(), Vec::new());
    let read = rows(NEXT_PROFILES, &[arg(after.0), arg(after.1), arg(PROFILES)], |row| {
        last = (column(row, 1), column(row, 2));
        let text = |number| row.get::<String>(number).ok().flatten();
        let people = key::of(text(3).as_deref(), text(4).as_deref(), None);
        if is_theirs(&last.0, &people, micros_column(row, 5)) {
            for identifier in people {
                accounts.push(last.0.clone());
                ids.push(last.1.clone());
                identifiers.push(identifier);
            }
        }
    })?;
    if !ids.is_empty() {
        run(DELETE_PROFILES, &[arg(accounts), arg(ids), arg(identifiers)])?;
    }
    Ok((i64::try_from(read) == Ok(PROFILES)).then_some(last))
}

/// Purges some of the events after that one, for whomever they name.
pub fn events(after: At, is_theirs: &dyn Fn(&str, &[String], i64) -> bool) -> Result<Option<At>, spi::Error> {
    let (mut last, mut theirs) = (after.clone(), Vec::new());
    let read = rows(NEXT_EVENTS, &[arg(after.0), arg(after.1), arg(EVENTS)], |row| {
        last = (column(row, 1), column(row, 2));
        if is_theirs(&last.0, &named::people_within(&json_column(row, 3)), micros_column(row, 4)) {
            theirs.push(last.clone());
        }
    })?;
    if !theirs.is_empty() {
        let (accounts, ids): (Vec<String>, Vec<String>) = theirs.into_iter().unzip();
        run(DELETE_EVENTS, &[arg(accounts), arg(ids)])?;
    }
    Ok((i64::try_from(read) == Ok(EVENTS)).then_some(last))
}
