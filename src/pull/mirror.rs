//! The tables of what Klaviyo has: rows are written where they are new or other than here, and nowhere else. In the transaction
//! the caller has begun.

use delivery::key;
use delivery::klaviyo::pull::{Listing, PullPage, Resource};
use pgrx::spi;
use serde_json::{Value, json};

use super::numbers;
use crate::outbox::named;
use crate::pg::scoped::without_triggers;
use crate::pg::spi::{arg, run};
use crate::settings;

/// A request for deletion (`d`) for which what Klaviyo tells is not taken: Klaviyo may take a while until it has done so. `$3` are the
/// minutes of `klaviyo.straggler_time`, NULL for ever.
macro_rules! still_holds {
    () => {
        "d.dropped_at IS NULL AND d.readmitted_seq IS NULL
         AND ($3 IS NULL OR d.requested_at > pg_catalog.now() - $3 * interval '1 minute')"
    };
}

/// Whether a row names somebody whose data was to be deleted.
macro_rules! names_deleted {
    () => {
        concat!(
            "EXISTS (
                SELECT FROM unnest(r.people) AS n (identifier)
                JOIN klaviyo.account AS a ON a.name = $1
                JOIN klaviyo.deletion AS d ON d.account = a.name AND d.digest = klaviyo.person_digest(a.person_salt, n.identifier)
                WHERE ",
            still_holds!(),
            ")"
        )
    };
}

/// Whether a row is of a profile that was purged here for that, or that was read and not taken.
macro_rules! is_deleted {
    ($profile:literal) => {
        concat!(
            "EXISTS (
                SELECT FROM klaviyo.account AS a
                JOIN klaviyo.deleted_profile AS g ON g.digest = klaviyo.person_digest(a.person_salt, ",
            $profile,
            ")
                JOIN klaviyo.deletion AS d USING (message_id)
                WHERE a.name = $1 AND d.account = $1 AND ",
            still_holds!(),
            ")"
        )
    };
}

/// Profiles of those whose data was to be deleted: their events name nobody.
const REMEMBER: &str = concat!(
    "INSERT INTO klaviyo.deleted_profile (message_id, digest)
    SELECT DISTINCT d.message_id, klaviyo.person_digest(a.person_salt, r.id)
    FROM jsonb_to_recordset($2::jsonb) AS r (id text, people text[])
    CROSS JOIN LATERAL unnest(r.people) AS n (identifier)
    JOIN klaviyo.account AS a ON a.name = $1
    JOIN klaviyo.deletion AS d ON d.account = a.name AND d.digest = klaviyo.person_digest(a.person_salt, n.identifier)
    WHERE ",
    still_holds!(),
    " ON CONFLICT DO NOTHING"
);

/// Of two that were read the one that Klaviyo has changed last is right, whichever comes first.
const PROFILES: &str = concat!(
    "INSERT INTO klaviyo.profile AS p (account, profile_id, email, phone_number, external_id, first_name, last_name, organization,
                                       title, locale, image, location, properties, subscriptions, created_at, updated_at,
                                       last_event_at, pulled_at)
    SELECT $1, r.id, r.email, r.phone_number, r.external_id, r.first_name, r.last_name, r.organization, r.title, r.locale, r.image,
           r.location, r.properties, r.subscriptions, r.created_at, r.updated_at, r.last_event_at, pg_catalog.now()
    FROM (
        SELECT DISTINCT ON (f.id) f.*
        FROM jsonb_to_recordset($2::jsonb) AS f (
            id text, email text, phone_number text, external_id text, first_name text, last_name text, organization text, title text,
            locale text, image text, location jsonb, properties jsonb, subscriptions jsonb, created_at timestamptz,
            updated_at timestamptz, last_event_at timestamptz, people text[]
        )
        ORDER BY f.id, f.updated_at DESC NULLS LAST
    ) AS r
    WHERE NOT ",
    is_deleted!("r.id"),
    "
    ON CONFLICT ON CONSTRAINT profile_pkey DO UPDATE
    SET email = excluded.email, phone_number = excluded.phone_number, external_id = excluded.external_id,
        first_name = excluded.first_name, last_name = excluded.last_name, organization = excluded.organization,
        title = excluded.title, locale = excluded.locale, image = excluded.image, location = excluded.location,
        properties = excluded.properties, subscriptions = excluded.subscriptions, created_at = excluded.created_at,
        updated_at = excluded.updated_at, last_event_at = excluded.last_event_at, pulled_at = excluded.pulled_at
    WHERE (p.updated_at IS NULL OR excluded.updated_at >= p.updated_at)
      AND (p.email, p.phone_number, p.external_id, p.first_name, p.last_name, p.organization, p.title, p.locale, p.image, p.location,
           p.properties, p.subscriptions, p.created_at, p.updated_at, p.last_event_at)
          IS DISTINCT FROM
          (excluded.email, excluded.phone_number, excluded.external_id, excluded.first_name, excluded.last_name, excluded.organization,
           excluded.title, excluded.locale, excluded.image, excluded.location, excluded.properties, excluded.subscriptions,
           excluded.created_at, excluded.updated_at, excluded.last_event_at)"
);

/// What has happened does not change.
const EVENTS: &str = concat!(
    "INSERT INTO klaviyo.event (account, event_id, metric_id, profile_id, happened_at, properties, pulled_at)
    SELECT $1, r.id, r.metric_id, r.profile_id, r.happened_at, r.properties, pg_catalog.now()
    FROM jsonb_to_recordset($2::jsonb) AS r (
        id text, metric_id text, profile_id text, happened_at timestamptz, properties jsonb, people text[]
    )
    WHERE r.happened_at IS NOT NULL AND NOT ",
    names_deleted!(),
    " AND NOT ",
    is_deleted!("r.profile_id"),
    "
    ORDER BY r.id
    ON CONFLICT ON CONSTRAINT event_pkey DO NOTHING"
);

/// What has an id, a name and a few words besides: the table, its id, its other columns with their types.
macro_rules! upsert {
    ($table:literal, $id:literal, $columns:literal, $excluded:literal, $here:literal, $types:literal) => {
        concat!(
            "INSERT INTO klaviyo.",
            $table,
            " AS t (account, ",
            $id,
            ", ",
            $columns,
            ", pulled_at)
            SELECT $1, r.id, ",
            $columns,
            ", pg_catalog.now()
            FROM (SELECT DISTINCT ON (f.id) f.* FROM jsonb_to_recordset($2::jsonb) AS f (id text, ",
            $types,
            ") ORDER BY f.id) AS r
            ON CONFLICT ON CONSTRAINT ",
            $table,
            "_pkey DO UPDATE
            SET (",
            $columns,
            ", pulled_at) = (",
            $excluded,
            ", excluded.pulled_at)
            WHERE (",
            $here,
            ") IS DISTINCT FROM (",
            $excluded,
            ")"
        )
    };
}

const LISTS: &str = upsert!(
    "list",
    "list_id",
    "name, opt_in_process, created_at, updated_at",
    "excluded.name, excluded.opt_in_process, excluded.created_at, excluded.updated_at",
    "t.name, t.opt_in_process, t.created_at, t.updated_at",
    "name text, opt_in_process text, created_at timestamptz, updated_at timestamptz"
);

const SEGMENTS: &str = upsert!(
    "segment",
    "segment_id",
    "name, is_active, is_processing, created_at, updated_at",
    "excluded.name, excluded.is_active, excluded.is_processing, excluded.created_at, excluded.updated_at",
    "t.name, t.is_active, t.is_processing, t.created_at, t.updated_at",
    "name text, is_active boolean, is_processing boolean, created_at timestamptz, updated_at timestamptz"
);

const FLOWS: &str = upsert!(
    "flow",
    "flow_id",
    "name, status, archived, trigger_type, created_at, updated_at",
    "excluded.name, excluded.status, excluded.archived, excluded.trigger_type, excluded.created_at, excluded.updated_at",
    "t.name, t.status, t.archived, t.trigger_type, t.created_at, t.updated_at",
    "name text, status text, archived boolean, trigger_type text, created_at timestamptz, updated_at timestamptz"
);

const METRICS: &str = upsert!(
    "metric",
    "metric_id",
    "name, integration, category, created_at, updated_at",
    "excluded.name, excluded.integration, excluded.category, excluded.created_at, excluded.updated_at",
    "t.name, t.integration, t.category, t.created_at, t.updated_at",
    "name text, integration text, category text, created_at timestamptz, updated_at timestamptz"
);

/// The worker writes here as well, and never waits for long: whoever has one of these rows is not waited for, and whatever it has
/// read since this was asked (`$4`) is newer.
const LOCK_CAMPAIGNS: &str = "
    SELECT FROM klaviyo.campaign AS c
    WHERE c.account = $1 AND c.campaign_id = ANY (ARRAY(SELECT f.id FROM jsonb_to_recordset($2::jsonb) AS f (id text)))
    ORDER BY c.campaign_id
    FOR UPDATE NOWAIT";

const CAMPAIGNS: &str = "
    INSERT INTO klaviyo.campaign AS c (account, campaign_id, name, status, send_time, channel, archived, scheduled_at, created_at,
                                       updated_at, followed, read_at, changed_at, pulled_at)
    SELECT $1, r.id, r.name, r.status, r.send_time, $3, r.archived, r.scheduled_at, r.created_at, r.updated_at, false, $4,
           pg_catalog.now(), pg_catalog.now()
    FROM (
        SELECT DISTINCT ON (f.id) f.*
        FROM jsonb_to_recordset($2::jsonb) AS f (
            id text, name text, status text, send_time timestamptz, archived boolean, scheduled_at timestamptz,
            created_at timestamptz, updated_at timestamptz
        )
        ORDER BY f.id
    ) AS r
    ON CONFLICT ON CONSTRAINT campaign_pkey DO UPDATE
    SET name = excluded.name, status = excluded.status, send_time = excluded.send_time, channel = excluded.channel,
        archived = excluded.archived, scheduled_at = excluded.scheduled_at, created_at = excluded.created_at,
        updated_at = excluded.updated_at, read_at = excluded.read_at, changed_at = excluded.changed_at,
        pulled_at = excluded.pulled_at
    WHERE (c.read_at IS NULL OR c.read_at <= excluded.read_at)
      AND (c.pulled_at IS NULL
           OR (c.name, c.status, c.send_time, c.channel, c.archived, c.scheduled_at, c.created_at, c.updated_at)
              IS DISTINCT FROM
              (excluded.name, excluded.status, excluded.send_time, excluded.channel, excluded.archived, excluded.scheduled_at,
               excluded.created_at, excluded.updated_at))";

/// Whoever is not here as a profile was to be deleted.
macro_rules! members {
    ($table:literal, $id:literal) => {
        concat!(
            "INSERT INTO klaviyo.", $table, " AS m (account, ", $id, ", profile_id, joined_at, pulled_at)
            SELECT $1, $3, p.profile_id, r.joined_at, pg_catalog.now()
            FROM (
                SELECT DISTINCT ON (f.id) f.* FROM jsonb_to_recordset($2::jsonb) AS f (id text, joined_at timestamptz) ORDER BY f.id
            ) AS r
            JOIN klaviyo.profile AS p ON p.account = $1 AND p.profile_id = r.id
            ON CONFLICT ON CONSTRAINT ", $table, "_pkey DO UPDATE SET joined_at = excluded.joined_at
            WHERE m.joined_at IS DISTINCT FROM excluded.joined_at"
        )
    };
}

const LIST_MEMBERS: &str = members!("list_member", "list_id");
const SEGMENT_MEMBERS: &str = members!("segment_member", "segment_id");

const SEEN: &str = "
    INSERT INTO klaviyo.job_seen (account, job, id)
    SELECT DISTINCT $1, $3, f.id FROM jsonb_to_recordset($2::jsonb) AS f (id text)
    ON CONFLICT DO NOTHING";

/// Of a table whatever the run has not seen, where `$3` says of which. Who has become a member since it was begun (`$4`), as a
/// webhook has told, may not have been on the page that was read before. `OFFSET 0` has each row be looked up by the key: whoever
/// expects few of them, as of tables that have just been filled, would go through all for each.
macro_rules! remove {
    ($table:literal, $id:literal, $of:literal) => {
        concat!(
            "DELETE FROM klaviyo.",
            $table,
            " AS t
            WHERE t.account = $1 AND ",
            $of,
            " AND NOT EXISTS (
                SELECT FROM klaviyo.job_seen AS s WHERE s.account = $1 AND s.job = $2 AND s.id = t.",
            $id,
            " OFFSET 0
            )"
        )
    };
}

const REMOVE_LISTS: &str = remove!("list", "list_id", "$3 = ''");
const REMOVE_SEGMENTS: &str = remove!("segment", "segment_id", "$3 = ''");
const REMOVE_FLOWS: &str = remove!("flow", "flow_id", "$3 = ''");
const REMOVE_METRICS: &str = remove!("metric", "metric_id", "$3 = ''");
const REMOVE_LIST_MEMBERS: &str = remove!("list_member", "profile_id", "t.list_id = $3 AND t.pulled_at < $4");
const REMOVE_SEGMENT_MEMBERS: &str =
    remove!("segment_member", "profile_id", "t.segment_id = $3 AND t.pulled_at < $4");
/// What is of no pull the worker knows of, and forgets in time.
const REMOVE_CAMPAIGNS: &str =
    remove!("campaign", "campaign_id", "t.channel = $3 AND t.pulled_at IS NOT NULL AND NOT t.followed");

const UNSEE: &str = "DELETE FROM klaviyo.job_seen AS s WHERE s.account = $1 AND s.job = $2";

/// How many are on it today, as far as the day has come.
const LIST_DAY: &str = "
    INSERT INTO klaviyo.list_day AS d (account, list_id, day, members)
    SELECT $1, $2, (pg_catalog.now() AT TIME ZONE 'UTC')::date, count(*)
    FROM klaviyo.list_member AS m
    WHERE m.account = $1 AND m.list_id = $2
    ON CONFLICT ON CONSTRAINT list_day_pkey DO UPDATE SET members = excluded.members WHERE d.members <> excluded.members";

const LIST_IS_READ: &str = "
    UPDATE klaviyo.list AS l SET members_pulled_at = greatest(l.members_pulled_at, $3)
    WHERE l.account = $1 AND l.list_id = $2";
const SEGMENT_IS_READ: &str = "
    UPDATE klaviyo.segment AS s SET members_pulled_at = greatest(s.members_pulled_at, $3)
    WHERE s.account = $1 AND s.segment_id = $2";

/// Writes a page. Returns how many rows that has changed. `asked_at` is when it was asked for, in microseconds since 1970.
pub fn write(
    account: &str,
    listing: &Listing<'_>,
    page: &mut PullPage,
    asked_at: i64,
) -> Result<usize, spi::Error> {
    let Some(resource) = listing.resource() else { return numbers::write(account, listing, page) };
    page.records.iter_mut().for_each(|record| name_people(resource, record));
    let records = Value::from(page.records.clone()).to_string();
    let records = || arg(records.as_str());
    let stragglers = || arg(settings::straggler_minutes());
    let write_profiles = || {
        run(REMEMBER, &[arg(account), records(), stragglers()])?;
        run(PROFILES, &[arg(account), records(), stragglers()])
    };
    match listing {
        Listing::Profiles { .. } | Listing::ProfileOf { .. } => write_profiles(),
        Listing::ListMembers(id) | Listing::SegmentMembers(id) => {
            let members =
                if matches!(listing, Listing::ListMembers(_)) { LIST_MEMBERS } else { SEGMENT_MEMBERS };
            let profiles = write_profiles()?;
            Ok(profiles + run(members, &[arg(account), records(), arg(*id)])?)
        }
        Listing::Events { .. } => run(EVENTS, &[arg(account), records(), stragglers()]),
        Listing::Lists => run(LISTS, &[arg(account), records()]),
        Listing::Segments => run(SEGMENTS, &[arg(account), records()]),
        Listing::Flows => run(FLOWS, &[arg(account), records()]),
        Listing::Metrics => run(METRICS, &[arg(account), records()]),
        Listing::Aggregates(_) | Listing::Report(_) => Ok(0),
        Listing::Campaigns { channel } => {
            run(LOCK_CAMPAIGNS, &[arg(account), records()])?;
            let asked_at = arg(crate::pg::timestamp(asked_at));
            // The worker would wait for whatever a trigger does with these rows.
            without_triggers(|| run(CAMPAIGNS, &[arg(account), records(), arg(*channel), asked_at]))
        }
    }
}

/// Whom a row is about. An event may name whomever.
fn name_people(resource: Resource, record: &mut Value) {
    let people = match resource {
        Resource::Profile => key::of(record["email"].as_str(), record["phone_number"].as_str(), None),
        Resource::Event => named::people_within(&record["properties"].to_string()),
        _ => return,
    };
    record["people"] = people.into();
}

/// Notes what a page has.
pub fn see(account: &str, job: &str, page: &PullPage) -> Result<(), spi::Error> {
    let ids = page.records.iter().map(|record| json!({"id": record["id"]}));
    run(SEEN, &[arg(account), arg(ids.collect::<Value>().to_string()), arg(job)]).map(drop)
}

/// Forgets that.
pub fn unsee(account: &str, job: &str) -> Result<(), spi::Error> {
    run(UNSEE, &[arg(account), arg(job)]).map(drop)
}

/// Removes what a whole listing, which was begun at that time, has not had. Returns how many rows that were.
pub fn remove(account: &str, job: &str, listing: &Listing<'_>, began_at: i64) -> Result<usize, spi::Error> {
    let (statement, item) = match listing {
        Listing::Lists => (REMOVE_LISTS, ""),
        Listing::Segments => (REMOVE_SEGMENTS, ""),
        Listing::Flows => (REMOVE_FLOWS, ""),
        Listing::Metrics => (REMOVE_METRICS, ""),
        Listing::ListMembers(id) => (REMOVE_LIST_MEMBERS, *id),
        Listing::SegmentMembers(id) => (REMOVE_SEGMENT_MEMBERS, *id),
        Listing::Campaigns { channel } => (REMOVE_CAMPAIGNS, *channel),
        Listing::Aggregates(_) | Listing::Report(_) => return numbers::remove(account, job, listing),
        Listing::Profiles { .. } | Listing::ProfileOf { .. } | Listing::Events { .. } => return Ok(0),
    };
    let began_at = || arg(crate::pg::timestamp(began_at));
    let remove = || run(statement, &[arg(account), arg(job), arg(item), began_at()]);
    let removed = match listing {
        Listing::Campaigns { .. } => without_triggers(remove)?,
        _ => remove()?,
    };
    match listing {
        Listing::ListMembers(id) => {
            run(LIST_DAY, &[arg(account), arg(*id)])?;
            run(LIST_IS_READ, &[arg(account), arg(*id), began_at()])?
        }
        Listing::SegmentMembers(id) => run(SEGMENT_IS_READ, &[arg(account), arg(*id), began_at()])?,
        _ => 0,
    };
    Ok(removed)
}
