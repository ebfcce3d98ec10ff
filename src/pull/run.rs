//! A run of a job: page after page, step after step, until all is read.

use delivery::Backoff;
use delivery::klaviyo::pull::{CHANNELS, DAYS, Interval, PullPage, Span};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi;

use super::plan::{Job, Options, Scope, Step, is_whole};
use super::{due, mirror, window};
use crate::pg;
use crate::pg::spi::{arg, column, micros_column, rows, run, value};
use crate::settings;

/// How often a step may be begun anew in a run: a listing that takes longer than Klaviyo knows its cursors never ends.
const RESTARTS: i32 = 10;

/// Rows asked for at a time, as many as Klaviyo gives.
const MOST: usize = 1_000;

const ANSWERED: &str = "
    SELECT r.read_id, r.account, r.job, a.body, a.code, a.reason, a.http_status, a.again, r.asked_at
    FROM klaviyo.read AS r
    JOIN klaviyo.read_answer AS a USING (read_id)
    WHERE (r.account, r.job) NOT IN (SELECT * FROM unnest($1::text[], $2::text[]))
    ORDER BY r.read_id
    LIMIT 1";

const TAKEN: &str = "
    WITH answer AS (DELETE FROM klaviyo.read_answer AS a WHERE a.read_id = $1)
    DELETE FROM klaviyo.read AS r WHERE r.read_id = $1";

/// Nobody is waited for: who has the row may keep it for long.
const LOAD: &str = "
    SELECT r.step, r.item, r.read_from, r.cursor, r.read_until, r.page_size, r.restarts, r.failures, r.started_at, r.step_lacks_rows,
           p.names, p.since, coalesce(r.step_started_at, r.started_at), coalesce(p.options->>'interval', 'day'),
           coalesce(p.options->>'time_zone', 'UTC'), ARRAY(SELECT jsonb_array_elements_text(p.options->'by')),
           coalesce(p.options->>'conversion_metric', 'Placed Order'), r.refusal
    FROM klaviyo.job_run AS r
    JOIN klaviyo.job_plan AS p USING (account, job)
    WHERE r.account = $1 AND r.job = $2 AND r.started_at IS NOT NULL
    FOR UPDATE OF r SKIP LOCKED";

const STORE: &str = "
    UPDATE klaviyo.job_run AS r
    SET step = $3, item = $4, read_from = $5, cursor = $6, read_until = $7, page_size = $8, restarts = $9, failures = $10,
        again_at = CASE WHEN $11 IS NOT NULL THEN pg_catalog.clock_timestamp() + $11 * interval '1 second' END, error = $12,
        pages = r.pages + $13, rows_read = r.rows_read + $14, rows_changed = r.rows_changed + $15,
        rows_removed = r.rows_removed + $16, rows_unreadable = r.rows_unreadable + $17, step_lacks_rows = $18,
        step_started_at = $19, refusal = $20
    WHERE r.account = $1 AND r.job = $2";

const END: &str = "
    UPDATE klaviyo.job_run AS r
    SET started_at = NULL, step = NULL, step_started_at = NULL, step_lacks_rows = false, item = NULL, read_from = NULL,
        cursor = NULL, read_until = NULL, again_at = NULL, failures = 0, error = NULL, refusal = NULL, last_started_at = r.started_at, last_ended_at = pg_catalog.clock_timestamp(),
        last_outcome = $3, last_error = $4
    WHERE r.account = $1 AND r.job = $2";

const MARK: &str = "
    INSERT INTO klaviyo.job_mark AS m (account, job, item, read_until)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT ON CONSTRAINT job_mark_pkey DO UPDATE SET read_until = excluded.read_until
    WHERE m.read_until < excluded.read_until";

const MARKED: &str = "
    SELECT m.read_until FROM klaviyo.job_mark AS m WHERE m.account = $1 AND m.job = $2 AND m.item = $3";

/// The next list or segment whose members are read, by their ids.
const NEXT_LIST: &str = "
    SELECT l.list_id FROM klaviyo.list AS l
    WHERE l.account = $1 AND l.list_id > $2 AND ($3::text[] IS NULL OR l.list_id = ANY ($3) OR l.name = ANY ($3))
    ORDER BY l.list_id
    LIMIT 1";
const NEXT_SEGMENT: &str = "
    SELECT s.segment_id FROM klaviyo.segment AS s
    WHERE s.account = $1 AND s.segment_id > $2 AND ($3::text[] IS NULL OR s.segment_id = ANY ($3) OR s.name = ANY ($3))
    ORDER BY s.segment_id
    LIMIT 1";
const NEXT_METRIC: &str = "
    SELECT m.metric_id FROM klaviyo.metric AS m
    WHERE m.account = $1 AND m.metric_id > $2 AND (m.metric_id = ANY ($3) OR m.name = ANY ($3))
    ORDER BY m.metric_id
    LIMIT 1";

/// The next metric whose aggregates are read, as a whole and by each dimension.
const NEXT_AGGREGATE: &str = "
    SELECT n.item
    FROM klaviyo.metric AS m
    CROSS JOIN LATERAL (SELECT m.metric_id || d.suffix FROM unnest($4::text[]) AS d (suffix)) AS n (item)
    WHERE m.account = $1 AND n.item COLLATE \"C\" > $2 AND ($3::text[] IS NULL OR m.metric_id = ANY ($3) OR m.name = ANY ($3))
    ORDER BY n.item COLLATE \"C\"
    LIMIT 1";
const CONVERSIONS: &str =
    "SELECT m.metric_id FROM klaviyo.metric AS m WHERE m.account = $1 AND $2 IN (m.metric_id, m.name)";

const UNKNOWN_METRICS: &str = "
    SELECT string_agg(n.name, ', ' ORDER BY n.name)
    FROM unnest($2::text[]) AS n (name)
    WHERE NOT EXISTS (SELECT FROM klaviyo.metric AS m WHERE m.account = $1 AND n.name IN (m.metric_id, m.name))";
const UNKNOWN_LISTS: &str = "
    SELECT string_agg(n.name, ', ' ORDER BY n.name)
    FROM unnest($2::text[]) AS n (name)
    WHERE NOT EXISTS (SELECT FROM klaviyo.list AS l WHERE l.account = $1 AND n.name IN (l.list_id, l.name))";
const UNKNOWN_SEGMENTS: &str = "
    SELECT string_agg(n.name, ', ' ORDER BY n.name)
    FROM unnest($2::text[]) AS n (name)
    WHERE NOT EXISTS (SELECT FROM klaviyo.segment AS s WHERE s.account = $1 AND n.name IN (s.segment_id, s.name))";

const UNREADABLE: &str =
    "some of what Klaviyo has answered cannot be read, so nobody knows who else is in it";

/// An answer that a job waits for.
pub struct Answered {
    read: i64,
    pub account: String,
    pub job: String,
    result: Result<String, Failed>,
    asked_at: i64,
}

/// Why there is none.
struct Failed {
    code: String,
    reason: String,
    status: Option<i32>,
    again: bool,
}

/// The oldest answer, but of these jobs.
pub fn answered(without: &[(String, String)]) -> Result<Option<Answered>, spi::Error> {
    let (accounts, jobs): (Vec<String>, Vec<String>) = without.iter().cloned().unzip();
    let mut answered = None;
    rows(ANSWERED, &[arg(accounts), arg(jobs)], |row| {
        let text = |number| row.get::<String>(number).ok().flatten();
        let failed = || Failed {
            code: text(5).unwrap_or_default(),
            reason: text(6).unwrap_or_default(),
            status: row.get(7).ok().flatten(),
            again: column(row, 8),
        };
        answered = Some(Answered {
            read: column(row, 1),
            account: column(row, 2),
            job: column(row, 3),
            result: text(4).ok_or_else(failed),
            asked_at: micros_column(row, 9),
        });
    })?;
    Ok(answered)
}

/// Takes an answer: what it brings is written, and how far the run is with it. False if somebody has the job.
pub fn take(answered: &Answered, backoff: Backoff) -> Result<bool, spi::Error> {
    let Answered { read, account, job, .. } = answered;
    let Some(mut it) = Run::load(account, job)? else {
        if due::is_locked(account, job)? {
            return Ok(false);
        }
        // The run was given up.
        return run(TAKEN, &[arg(*read)]).map(|_| true);
    };
    run(TAKEN, &[arg(*read)])?;
    it.take(answered, backoff)?;
    Ok(true)
}

/// What has failed here is tried again later, from the same page.
pub fn put_off(answered: &Answered, error: &str, backoff: Backoff) -> Result<(), spi::Error> {
    run(TAKEN, &[arg(answered.read)])?;
    match Run::load(&answered.account, &answered.job)? {
        Some(mut it) => it.fail_again(error, backoff),
        None => Ok(()),
    }
}

/// Begins a run, or lets one go on that waits for nothing: asks for its next page. False if somebody has the job.
pub fn go_on(account: &str, job: &str) -> Result<bool, spi::Error> {
    if due::begin(account, job)?
        && let (Some(mut it), Some(kind)) = (Run::load(account, job)?, Job::named(job))
    {
        mirror::unsee(account, job)?;
        let names = it.names.clone();
        let (step, item) = kind.begins(names.as_deref());
        it.enter(step, item)?;
        it.store(&Counts::default(), None)?;
    }
    let Some(it) = Run::load(account, job)? else { return Ok(false) };
    it.ask()?;
    Ok(true)
}

/// What a page has brought.
#[derive(Default)]
struct Counts {
    pages: i64,
    read: i64,
    changed: i64,
    removed: i64,
    unreadable: i64,
}

/// Where a run stands. Times are microseconds since 1970.
struct Run {
    account: String,
    job: String,
    kind: Job,
    names: Option<Vec<String>>,
    since: Option<i64>,
    options: Options,
    started_at: i64,
    step: Step,
    item: String,
    read_from: Option<i64>,
    cursor: Option<String>,
    read_until: Option<i64>,
    page_size: usize,
    restarts: i32,
    failures: i32,
    step_started_at: i64,
    /// Some rows of the step cannot be read, so nobody knows what is no more.
    lacks_rows: bool,
    /// What was to be read is not there any more, or cannot be read.
    is_gone: bool,
    /// What Klaviyo has refused of that, first.
    refusal: Option<String>,
    /// It has ended.
    over: bool,
}

impl Run {
    fn load(account: &str, job: &str) -> Result<Option<Self>, spi::Error> {
        let mut loaded = None;
        let Some(kind) = Job::named(job) else { return Ok(None) };
        rows(LOAD, &[arg(account), arg(job)], |row| {
            let text = |number| row.get::<String>(number).ok().flatten();
            let time = |number| {
                let time = row.get::<TimestampWithTimeZone>(number).ok().flatten();
                time.map(|time| pg::micros(i64::from(time)))
            };
            let page_size: Option<i32> = row.get(6).ok().flatten();
            loaded = Some(Self {
                account: account.to_owned(),
                job: job.to_owned(),
                kind,
                step: text(1).and_then(|name| Step::named(&name)).unwrap_or(Step::Listing),
                item: text(2).unwrap_or_default(),
                read_from: time(3),
                cursor: text(4),
                read_until: time(5),
                page_size: page_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(MOST),
                restarts: column(row, 7),
                failures: column(row, 8),
                started_at: micros_column(row, 9),
                lacks_rows: column(row, 10),
                names: row.get::<Vec<String>>(11).ok().flatten(),
                since: time(12),
                step_started_at: micros_column(row, 13),
                options: Options {
                    interval: Interval::named(&text(14).unwrap_or_default()).unwrap_or(Interval::Day),
                    time_zone: text(15).unwrap_or_default(),
                    by: column(row, 16),
                    conversion_metric: text(17).unwrap_or_default(),
                },
                is_gone: false,
                refusal: text(18),
                over: false,
            });
        })?;
        Ok(loaded)
    }

    fn take(&mut self, answered: &Answered, backoff: Backoff) -> Result<(), spi::Error> {
        let failed = match &answered.result {
            Ok(body) => match self.listing().page_of(body.as_bytes()) {
                Some(page) if page.next.is_some() && page.next == self.cursor => {
                    return self.fail_again("Klaviyo names the page that was read as the next", backoff);
                }
                Some(page) => return self.read(page, answered.asked_at),
                None => return self.fail_again("Klaviyo's answer cannot be read", backoff),
            },
            Err(failed) => failed,
        };
        let Failed { code, reason, status, again } = failed;
        match (code.as_str(), status) {
            _ if *again => return self.fail_again(reason, backoff),
            ("answer_too_long", _) if self.listing().largest().is_some_and(|_| self.page_size > 1) => {
                let size = self.listing().largest().unwrap_or(MOST).min(self.page_size);
                self.page_size = (size / 2).max(1);
                self.shorten()?;
                self.store(&Counts::default(), None)?;
            }
            // It is gone since it was listed. Whoever waits for it is told so.
            (_, Some(404)) if self.step == Step::Members && self.kind != Job::Segment => {
                self.is_gone = true;
                self.next_item(&mut Counts::default())?;
            }
            // Klaviyo knows its cursor no more.
            (_, Some(400 | 404 | 410)) if self.cursor.is_some() && self.restarts < RESTARTS => {
                self.restart()?
            }
            // Of one metric there may be what Klaviyo does not count.
            (_, Some(400 | 404)) if self.kind == Job::Aggregates && self.step == Step::Listing => {
                self.is_gone = true;
                let refusal = format!("{}: {reason}", self.item);
                self.refusal.get_or_insert(refusal);
                self.next_item(&mut Counts::default())?;
            }
            _ => return self.end(Some(reason)),
        }
        self.ask()
    }

    /// Writes what was read.
    fn read(&mut self, mut page: PullPage, asked_at: i64) -> Result<(), spi::Error> {
        let listing = self.listing();
        let mut counts = Counts {
            pages: 1,
            read: page.records.len() as i64,
            unreadable: page.unreadable as i64,
            ..Counts::default()
        };
        counts.changed = mirror::write(&self.account, &listing, &mut page, asked_at)? as i64;
        if is_whole(&listing) {
            mirror::see(&self.account, &self.job, &page)?;
        }
        self.failures = 0;
        self.lacks_rows |= counts.unreadable > 0;
        self.read_until = self.read_until.max(page.latest);
        self.cursor = page.next.take();
        if self.cursor.is_none() {
            self.next_item(&mut counts)?;
        } else {
            self.store(&counts, None)?;
        }
        self.ask()
    }

    /// Goes on to what comes after what has been read to its end, or ends the run.
    fn next_item(&mut self, counts: &mut Counts) -> Result<(), spi::Error> {
        if !self.lacks_rows && !self.is_gone {
            let listing = self.listing();
            counts.removed = mirror::remove(&self.account, &self.job, &listing, self.step_started_at)? as i64;
        }
        mirror::unsee(&self.account, &self.job)?;
        if !self.is_gone {
            self.mark()?;
        }
        if let Some(span) = self.next_window()? {
            self.enter_window(span);
            return self.store(counts, None);
        }
        let next = match (self.kind, self.step) {
            (Job::Campaigns, _) => {
                let at = CHANNELS.iter().position(|channel| *channel == self.item);
                at.and_then(|at| CHANNELS.get(at + 1)).map(|channel| (Step::Listing, (*channel).to_owned()))
            }
            (Job::Lists, _) => self.next_of(NEXT_LIST)?.map(|id| (Step::Members, id)),
            (Job::Segments, _) => self.next_of(NEXT_SEGMENT)?.map(|id| (Step::Members, id)),
            (Job::Events, _) if self.names.is_some() => {
                self.next_of(NEXT_METRIC)?.map(|id| (Step::Listing, id))
            }
            (Job::Aggregates, _) => self.next_aggregate()?.map(|item| (Step::Listing, item)),
            (Job::Report(_), Step::Metrics) => match self.conversions()? {
                Ok(metric) => Some((Step::Listing, metric)),
                Err(failure) => {
                    self.store(counts, None)?;
                    return self.end(Some(&failure));
                }
            },
            _ => None,
        };
        match next {
            Some((step, item)) => {
                self.enter(step, &item)?;
                self.store(counts, None)
            }
            None => {
                self.store(counts, None)?;
                let failure = match self.kind {
                    Job::Segment if self.lacks_rows => Some(UNREADABLE.to_owned()),
                    _ => self
                        .unknown()?
                        .or(self.refusal.take().map(|it| format!("{it}; what was not refused was read"))),
                };
                self.end(failure.as_deref())
            }
        }
    }

    fn next_of(&self, statement: &'static str) -> Result<Option<String>, spi::Error> {
        value(statement, &[arg(self.account.as_str()), arg(self.item.as_str()), arg(self.names.clone())])
    }

    fn next_aggregate(&self) -> Result<Option<String>, spi::Error> {
        let suffixes = self.options.by.iter().map(|dimension| format!(" {dimension}"));
        let suffixes: Vec<String> = std::iter::once(String::new()).chain(suffixes).collect();
        let args = [
            arg(self.account.as_str()),
            arg(if self.step == Step::Listing { self.item.as_str() } else { "" }),
            arg(self.names.clone()),
            arg(suffixes),
        ];
        value(NEXT_AGGREGATE, &args)
    }

    /// The metric whose events are conversions, or why there is none.
    fn conversions(&self) -> Result<Result<String, String>, spi::Error> {
        let name = self.options.conversion_metric.as_str();
        let mut found = Vec::new();
        rows(CONVERSIONS, &[arg(self.account.as_str()), arg(name)], |row| found.push(column(row, 1)))?;
        let what = match found.len() {
            1 => return Ok(Ok(found.remove(0))),
            0 => "no metric",
            _ => "several metrics",
        };
        Ok(Err(format!("Klaviyo has {what} of this name or id, whose events would be conversions: {name}")))
    }

    /// That some of what was to be read is not there, once all else is.
    fn unknown(&self) -> Result<Option<String>, spi::Error> {
        let (statement, what) = match self.kind {
            Job::Events | Job::Aggregates => (UNKNOWN_METRICS, "metric"),
            Job::Lists => (UNKNOWN_LISTS, "list"),
            Job::Segments => (UNKNOWN_SEGMENTS, "segment"),
            _ => return Ok(None),
        };
        let Some(names) = self.names.clone() else { return Ok(None) };
        let unknown = value::<String>(statement, &[arg(self.account.as_str()), arg(names)])?;
        Ok(unknown
            .map(|names| format!("Klaviyo has no {what} of these names or ids: {names}; all else was read")))
    }

    /// Begins with something.
    fn enter(&mut self, step: Step, item: &str) -> Result<(), spi::Error> {
        (self.step, self.item, self.cursor, self.read_until) = (step, item.to_owned(), None, None);
        (self.step_started_at, self.lacks_rows, self.is_gone) = (pg::now(), false, false);
        let marked = match self.kind.goes_by_time() && step == Step::Listing {
            true => value::<TimestampWithTimeZone>(MARKED, &self.ids())?,
            false => None,
        };
        let marked = marked.map(|time| pg::micros(i64::from(time)));
        if self.kind.is_counted() && step == Step::Listing {
            let (job, options, days) = (self.kind, &self.options, self.days());
            let span = window::first(job, options, self.since, marked, self.started_at, days)?;
            self.enter_window(span);
            return Ok(());
        }
        let marked = marked.map(|marked| marked - settings::pull_overlap_us());
        // Older ones would not be kept.
        let kept = settings::retention().event.filter(|_| self.kind == Job::Events && step == Step::Listing);
        let kept = kept.map(|minutes| self.started_at - i64::from(minutes) * 60_000_000);
        self.read_from = marked.max(self.since).max(kept);
        Ok(())
    }

    /// Begins with a stretch of time.
    fn enter_window(&mut self, Span { from, until }: Span) {
        (self.read_from, self.read_until, self.cursor) = (Some(from), Some(until), None);
        (self.step_started_at, self.lacks_rows) = (pg::now(), false);
    }

    /// Days that a report by the day is of at a time.
    fn days(&self) -> usize {
        self.page_size.min(DAYS)
    }

    /// Has what is asked about be as long as there is room for the answer, where it is that which makes it long.
    fn shorten(&mut self) -> Result<(), spi::Error> {
        if let (Job::Report(_), Some(from)) = (self.kind, self.read_from) {
            let span = window::of(self.kind, &self.options, from, self.started_at, self.days())?;
            self.enter_window(span);
        }
        Ok(())
    }

    /// The stretch of time behind the one that was read.
    fn next_window(&self) -> Result<Option<Span>, spi::Error> {
        let ended =
            self.read_until.filter(|_| self.kind.is_counted() && self.step == Step::Listing && !self.is_gone);
        match ended {
            Some(ended) => window::next(self.kind, &self.options, ended, self.started_at, self.days()),
            None => Ok(None),
        }
    }

    /// Begins anew with what is being read, as far as it has come.
    fn restart(&mut self) -> Result<(), spi::Error> {
        self.restarts += 1;
        self.mark_pages()?;
        mirror::unsee(&self.account, &self.job)?;
        let item = std::mem::take(&mut self.item);
        self.enter(self.step, &item)?;
        self.store(&Counts::default(), None)
    }

    /// What was read of some pages is read, where they go by time. Of numbers it is all of a stretch of time that counts.
    fn mark_pages(&self) -> Result<(), spi::Error> {
        if self.kind.is_counted() { Ok(()) } else { self.mark() }
    }

    /// All is read up to that. What will happen only, or has in a clock that goes before ours, is read again.
    fn mark(&self) -> Result<(), spi::Error> {
        if !self.kind.goes_by_time() || self.step != Step::Listing {
            return Ok(());
        }
        let Some(until) = self.read_until.map(|until| until.min(self.started_at)) else { return Ok(()) };
        let [account, job, item] = self.ids();
        run(MARK, &[account, job, item, arg(pg::timestamp(until))]).map(drop)
    }

    fn ids(&self) -> [pgrx::datum::DatumWithOid<'static>; 3] {
        [arg(self.account.clone()), arg(self.job.clone()), arg(self.item.clone())]
    }

    fn listing(&self) -> delivery::klaviyo::pull::Listing<'_> {
        let Self { item, read_from, read_until, options, .. } = self;
        let scope = Scope { item, from: *read_from, until: *read_until, options };
        self.kind.listing(self.step, &scope)
    }

    /// Asks for the next page, unless it has ended or is paused.
    fn ask(&self) -> Result<(), spi::Error> {
        if self.over {
            return Ok(());
        }
        due::ask(&self.account, &self.job, self.listing().page(self.cursor.as_deref(), self.page_size))
    }

    fn fail_again(&mut self, reason: &str, backoff: Backoff) -> Result<(), spi::Error> {
        self.failures = self.failures.saturating_add(1);
        let wait = backoff.delay(self.failures.unsigned_abs());
        self.store(&Counts::default(), Some((wait.as_secs_f64(), reason)))
    }

    fn store(&self, counts: &Counts, failed: Option<(f64, &str)>) -> Result<(), spi::Error> {
        let Counts { pages, read, changed, removed, unreadable } = *counts;
        let time = |time: Option<i64>| arg(time.map(pg::timestamp));
        let [account, job, item] = self.ids();
        let args = [
            account,
            job,
            arg(self.step.name()),
            item,
            time(self.read_from),
            arg(self.cursor.clone()),
            time(self.read_until),
            arg(i32::try_from(self.page_size).ok().filter(|_| self.page_size < MOST)),
            arg(self.restarts),
            arg(self.failures),
            arg(failed.map(|(wait, _)| wait)),
            arg(failed.map(|(_, reason)| reason)),
            arg(pages),
            arg(read),
            arg(changed),
            arg(removed),
            arg(unreadable),
            arg(self.lacks_rows),
            arg(pg::timestamp(self.step_started_at)),
            arg(self.refusal.clone()),
        ];
        run(STORE, &args).map(drop)
    }

    /// It has read all, or cannot.
    fn end(&mut self, failure: Option<&str>) -> Result<(), spi::Error> {
        self.over = true;
        if failure.is_some() {
            self.mark_pages()?;
        }
        mirror::unsee(&self.account, &self.job)?;
        let outcome = if failure.is_some() { "failed" } else { "complete" };
        run(END, &[arg(self.account.as_str()), arg(self.job.as_str()), arg(outcome), arg(failure)]).map(drop)
    }
}
