//! The tables of what Klaviyo has counted (`sql/46_numbers.sql`). As those of [`super::mirror`]: in the transaction the caller has
//! begun, rows are written where they are new or other than here.

use delivery::klaviyo::pull::{Aggregates, Listing, PullPage, Report};
use pgrx::spi;
use serde_json::Value;

use crate::pg;
use crate::pg::spi::{arg, run};

/// Rows of a page: the table, its key, its other columns, each by the name that records have it under. `$3` is from when on that
/// was read.
macro_rules! upsert {
    ($table:literal, [$($key:ident),*], [$($column:ident),*] $(, $condition:literal)?) => {
        concat!(
            "INSERT INTO klaviyo.", $table, " AS t (account, ", $(stringify!($key), ", ",)* $(stringify!($column), ", ",)* "pulled_at)
            SELECT $1, ", $("r.", stringify!($key), ", ",)* $("r.", stringify!($column), ", ",)* "pg_catalog.now()
            FROM (
                SELECT DISTINCT ON (", $("f.", stringify!($key), ", ",)* "f.account) f.*
                FROM jsonb_populate_recordset(NULL::klaviyo.", $table, ", $2::jsonb) AS f
                ORDER BY ", $("f.", stringify!($key), ", ",)* "f.account
            ) AS r
            ", $("WHERE ", $condition,)? "
            ON CONFLICT ON CONSTRAINT ", $table, "_pkey DO UPDATE
            SET (", $(stringify!($column), ", ",)* "pulled_at) = (", $("excluded.", stringify!($column), ", ",)* "excluded.pulled_at)
            WHERE (", $("t.", stringify!($column), ", ",)* "t.account)
                  IS DISTINCT FROM (", $("excluded.", stringify!($column), ", ",)* "excluded.account)"
        )
    };
}

const AGGREGATES: &str = upsert!(
    "metric_aggregate",
    [metric_id, dimension, dimension_value, starts_at],
    [interval, time_zone, count, sum_value, unique_profiles]
);

/// The same of what messages have come to, with these further columns.
macro_rules! upsert_messages {
    ($table:literal, [$($key:ident),*], [$($column:ident),*] $(, $condition:literal)?) => {
        upsert!(
            $table,
            [$($key),*],
            [
                conversion_metric_id, recipients, delivered, bounced, failed, opens, opens_unique, clicks, clicks_unique,
                unsubscribes, unsubscribe_uniques, spam_complaints, conversions, conversion_uniques, conversion_value,
                text_message_spend $(, $column)*
            ]
            $(, $condition)?
        )
    };
}

/// Of one that was sent before, some of what came of it lies outside of what was read, which begins with a day by whatever clock.
/// So it is, whether or not that is known, of one that has gone to fewer than it had.
const CAMPAIGNS: &str = upsert_messages!(
    "campaign_report",
    [campaign_id, campaign_message_id, send_channel],
    [
        delivery_rate,
        bounce_rate,
        open_rate,
        click_rate,
        click_to_open_rate,
        conversion_rate,
        unsubscribe_rate,
        spam_complaint_rate,
        revenue_per_recipient,
        average_order_value
    ],
    "r.recipients > 0 AND NOT EXISTS (
         SELECT FROM klaviyo.campaign_report AS k
         WHERE k.account = $1 AND k.campaign_id = r.campaign_id AND k.campaign_message_id = r.campaign_message_id
           AND k.send_channel = r.send_channel AND k.recipients > r.recipients
     ) AND NOT EXISTS (
         SELECT FROM klaviyo.campaign AS c
         WHERE c.account = $1 AND c.campaign_id = r.campaign_id AND c.send_time < $3 + interval '1 day'
     )"
);

const FLOWS: &str = upsert_messages!("flow_report", [flow_id, flow_message_id, send_channel, day], []);

const FORMS: &str = upsert!(
    "form_report",
    [form_id, day],
    [
        viewed_form,
        viewed_form_uniques,
        closed_form,
        closed_form_uniques,
        submits,
        submitted_form_step,
        submitted_form_step_uniques,
        qualified_form,
        qualified_form_uniques
    ]
);

const SEGMENTS: &str = upsert!(
    "segment_report",
    [segment_id, day],
    [total_members, members_added, members_removed, net_members_changed]
);

/// What was counted in that time (`$3` to `$4`), and is no more: what the run has not seen, by ids as records have them. For
/// `OFFSET 0` see [`super::mirror`].
const REMOVE_AGGREGATES: &str = "
    DELETE FROM klaviyo.metric_aggregate AS t
    WHERE t.account = $1 AND t.metric_id = $5 AND t.dimension = $6 AND t.starts_at >= $3 AND t.starts_at < $4 AND NOT EXISTS (
        SELECT FROM klaviyo.job_seen AS s
        WHERE s.account = $1 AND s.job = $2
          AND s.id = pg_catalog.to_char(t.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || ' ' || t.dimension_value
        OFFSET 0
    )";

/// The same of days, by whatever clock.
macro_rules! remove_days {
    ($table:literal, $ids:literal) => {
        concat!(
            "DELETE FROM klaviyo.",
            $table,
            " AS t
            WHERE t.account = $1 AND t.day >= ($3 AT TIME ZONE 'UTC')::date AND t.day < ($4 AT TIME ZONE 'UTC')::date AND NOT EXISTS (
                SELECT FROM klaviyo.job_seen AS s
                WHERE s.account = $1 AND s.job = $2 AND s.id = ",
            $ids,
            " || ' ' || pg_catalog.to_char(t.day, 'YYYY-MM-DD')
                OFFSET 0
            )"
        )
    };
}

const REMOVE_FLOWS: &str =
    remove_days!("flow_report", "t.flow_id || ' ' || t.flow_message_id || ' ' || t.send_channel");
const REMOVE_FORMS: &str = remove_days!("form_report", "t.form_id");
const REMOVE_SEGMENTS: &str = remove_days!("segment_report", "t.segment_id");

/// Intervals of one length cannot stand beside those of another, or of another clock: whoever adds them up would count twice.
const FORGET: &str = "
    DELETE FROM klaviyo.metric_aggregate AS t
    WHERE t.account = $1 AND t.metric_id = $2 AND (t.interval <> $3 OR t.time_zone <> $4)";

/// Writes a page of numbers. Returns how many rows that has changed.
pub fn write(account: &str, listing: &Listing<'_>, page: &mut PullPage) -> Result<usize, spi::Error> {
    let (statement, span, of): (_, _, Vec<(&str, &str)>) = match listing {
        Listing::Aggregates(query) => {
            let of = vec![
                ("metric_id", query.metric),
                ("dimension", query.dimension.unwrap_or_default()),
                ("interval", query.interval.name()),
                ("time_zone", query.time_zone),
            ];
            // The whole of a metric comes first.
            if query.dimension.is_none() {
                forget(account, query)?;
            }
            (AGGREGATES, query.span, of)
        }
        Listing::Report(query) => {
            let statement = match query.report {
                Report::Campaigns => CAMPAIGNS,
                Report::Flows => FLOWS,
                Report::Forms => FORMS,
                Report::Segments => SEGMENTS,
            };
            (statement, query.span, vec![("conversion_metric_id", query.conversion_metric)])
        }
        _ => return Ok(0),
    };
    for record in &mut page.records {
        of.iter().for_each(|(name, value)| record[*name] = (*value).into());
    }
    let records = Value::from(page.records.clone()).to_string();
    run(statement, &[arg(account), arg(records), arg(pg::timestamp(span.from))])
}

/// Removes what was not on any page of a stretch of time. Returns how many rows that were.
pub fn remove(account: &str, job: &str, listing: &Listing<'_>) -> Result<usize, spi::Error> {
    let (statement, span) = match listing {
        Listing::Aggregates(query) => (REMOVE_AGGREGATES, query.span),
        Listing::Report(query) => match query.report {
            // What was sent a year ago is told no more.
            Report::Campaigns => return Ok(0),
            Report::Flows => (REMOVE_FLOWS, query.span),
            Report::Forms => (REMOVE_FORMS, query.span),
            Report::Segments => (REMOVE_SEGMENTS, query.span),
        },
        _ => return Ok(0),
    };
    let mut args =
        vec![arg(account), arg(job), arg(pg::timestamp(span.from)), arg(pg::timestamp(span.until))];
    if let Listing::Aggregates(query) = listing {
        args.extend([arg(query.metric), arg(query.dimension.unwrap_or_default())]);
    }
    run(statement, &args)
}

/// Forgets what was counted of the metric otherwise.
fn forget(account: &str, query: &Aggregates<'_>) -> Result<(), spi::Error> {
    let Aggregates { metric, interval, time_zone, .. } = *query;
    let args = [arg(account), arg(metric), arg(interval.name()), arg(time_zone)];
    run(FORGET, &args).map(drop)
}
