//! Erasure of what the log says of removed versions, once the evidence retention period is over: record and salt go,
//! the entry stays, so that nobody can tell any more what it was, and everybody can still compute the tree.
//!
//! A cursor walks the records upwards. Where it meets a removal that lies back far enough, the chain of the key's
//! events is followed backwards from there to the creation that the removal ended, and what is of this version on the
//! way is erased. A version that exists has had no removal, so nothing of it is touched. One command does a bounded
//! number of steps; the row remembers where it stopped.

use std::collections::BTreeSet;

use stele_evidence::record::{Entry, Event, Record, Run};
use stele_rpc::error::Code;
use stele_rpc::meta::{ERASED_ENTRIES_MAX, MetaReply};
use stele_types::ids::LogIndex;
use stele_types::seam::UnixMillis;

use super::ClusterEvent;
use super::lock::date;
use crate::apply::acts::CLUSTER_SUBJECT;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, CHECKPOINT, RETENTION, Tag};
use crate::kv::{KvRead, KvResult};
use crate::rows::{CheckpointRow, ErasedRow, HashRow, KeyRow, RecordRow, RetentionRow, WalkRow, corrupt, load};

/// Subject of erasures in the log.
const ERASURE_SUBJECT: &str = "erasure";
const DAY_MS: u64 = 86_400_000;
/// Records that [`is_due`] looks at.
const LOOKED_AT: u64 = 4096;

/// Entries below it are under the newest signed checkpoint.
fn published(rows: &(impl KvRead + ?Sized)) -> KvResult<u64> {
    let row: Option<CheckpointRow> = load(rows, &CHECKPOINT)?;
    Ok(row.and_then(|row| row.published).map_or(0, |published| published.size))
}

/// A record that was not erased.
fn record_at(rows: &(impl KvRead + ?Sized), index: LogIndex) -> KvResult<Option<(Record, RecordRow)>> {
    let at = keyspace::record(index);
    let row: RecordRow = load(rows, &at)?.ok_or_else(|| corrupt(&at, "an entry of the log has no record"))?;
    if row.erased.is_some() {
        return Ok(None);
    }
    let record = Record::decode(&row.record).map_err(|error| corrupt(&at, error.to_string()))?;
    Ok(Some((record, row)))
}

/// The entry before this one of the same key.
fn previous(rows: &(impl KvRead + ?Sized), index: LogIndex) -> KvResult<Option<LogIndex>> {
    let at = keyspace::record(index);
    let row: Option<RecordRow> = load(rows, &at)?;
    Ok(row.and_then(|row| row.erased).and_then(|erased| erased.previous))
}

fn is_removal(record: &Record) -> bool {
    matches!(record.event, Event::Delete | Event::Overwrite)
}

fn is_over(removed: UnixMillis, keep_ms: u64, now: UnixMillis) -> bool {
    removed.saturating_add(keep_ms) <= now
}

/// Whether a step would get anywhere, from a look at a bounded number of records.
///
/// # Errors
/// The store failed.
pub(crate) fn is_due(rows: &(impl KvRead + ?Sized), now: UnixMillis) -> KvResult<bool> {
    let row: RetentionRow = load(rows, &RETENTION)?.unwrap_or_default();
    let Some(keep_ms) = row.keep_ms else { return Ok(false) };
    if let Some(walk) = row.walk {
        return Ok(is_over(walk.removed, keep_ms, now));
    }
    let end = published(rows)?;
    for index in row.cursor.0..end.min(row.cursor.0.saturating_add(LOOKED_AT)) {
        if let Some((record, _)) = record_at(rows, LogIndex(index))?
            && is_removal(&record)
        {
            return Ok(is_over(record.time, keep_ms, now));
        }
    }
    // Nothing is to be erased so far: the cursor moves on once it would be a long way to look.
    Ok(end.saturating_sub(row.cursor.0) > LOOKED_AT)
}

fn period(keep_ms: Option<u64>) -> String {
    match keep_ms {
        None => "for ever".to_owned(),
        Some(ms) if ms.is_multiple_of(DAY_MS) => format!("for {} days", ms / DAY_MS),
        Some(ms) => format!("for {ms} ms"),
    }
}

/// What one step does.
struct Step {
    row: RetentionRow,
    now: UnixMillis,
    /// Index that the event about it gets.
    by: LogIndex,
    erased: BTreeSet<LogIndex>,
}

impl Batch<'_> {
    pub(crate) fn set_evidence_retention(&mut self, cx: Context<'_>, keep_ms: Option<u64>) -> Outcome<MetaReply> {
        let mut row: RetentionRow = load(self.rows, &RETENTION)?.unwrap_or_default();
        if row.keep_ms == keep_ms {
            return Ok(MetaReply::Done);
        }
        let (is, was) = (period(keep_ms), period(row.keep_ms));
        row.keep_ms = keep_ms;
        self.put_row(&RETENTION, &row)?;
        let detail = format!("evidence of removed versions is kept {is} after the removal; it was kept {was}");
        self.log_act(cx, CLUSTER_SUBJECT, &detail)?;
        Ok(MetaReply::Done)
    }

    /// One step of at most `max` records.
    pub(crate) fn erase(&mut self, cx: Context<'_>, max: u32) -> Outcome<MetaReply> {
        if !(1..=ERASED_ENTRIES_MAX).contains(&max) {
            return refuse(Code::Malformed, format!("a step looks at 1 to {ERASED_ENTRIES_MAX} records, not {max}"));
        }
        let row: RetentionRow = load(self.rows, &RETENTION)?.unwrap_or_default();
        let Some(keep_ms) = row.keep_ms else { return Ok(MetaReply::Done) };
        let (before, end, by) = (row, published(self.rows)?, self.next_log_index()?);
        let mut step = Step { row: before, now: cx.now, by, erased: BTreeSet::new() };
        for _ in 0..max {
            let goes_on = match step.row.walk {
                // The period may have become longer since the walk began.
                Some(walk) if !is_over(walk.removed, keep_ms, cx.now) && !self.options.erases_early() => false,
                Some(walk) => self.walk_back(&mut step, walk)?,
                None => self.look_at_next(&mut step, keep_ms, end)?,
            };
            if !goes_on {
                break;
            }
        }
        if step.row != before {
            self.put_row(&RETENTION, &step.row)?;
        }
        if !step.erased.is_empty() {
            self.log_erasure(cx, &step)?;
        }
        Ok(MetaReply::Done)
    }

    /// Passes one record, or begins a walk there. False: nothing more is due.
    fn look_at_next(&mut self, step: &mut Step, keep_ms: u64, end: u64) -> Outcome<bool> {
        let index = step.row.cursor;
        if index.0 >= end {
            return Ok(false);
        }
        if let Some((record, row)) = record_at(self.rows, index)?
            && is_removal(&record)
        {
            if !is_over(record.time, keep_ms, step.now) && !self.options.erases_early() {
                return Ok(false);
            }
            step.row.walk = record.previous.map(|at| WalkRow { at, version: record.version, removed: record.time });
            self.erase_record(step, index, (&record, &row))?;
        }
        step.row.cursor = LogIndex(index.0 + 1);
        Ok(true)
    }

    /// Goes one event back; the walk ends with the creation.
    fn walk_back(&mut self, step: &mut Step, walk: WalkRow) -> Outcome<bool> {
        let next = match record_at(self.rows, walk.at)? {
            Some((record, row)) => {
                let mine = record.version == walk.version;
                if mine {
                    self.erase_record(step, walk.at, (&record, &row))?;
                }
                let created = mine && matches!(record.event, Event::Put | Event::DeleteMarker);
                record.previous.filter(|_| !created)
            }
            None => previous(self.rows, walk.at)?,
        };
        step.row.walk = next.map(|at| WalkRow { at, ..walk });
        Ok(true)
    }

    /// Leaves the entry and the way to the one before it. The last event of a key that has no version takes the key's
    /// row with it: names say something of people.
    fn erase_record(&mut self, step: &mut Step, index: LogIndex, of: (&Record, &RecordRow)) -> KvResult<()> {
        let (record, row) = of;
        let at = keyspace::record(index);
        let Some(salt) = row.salt else { return Err(corrupt(&at, "a record without its salt")) };
        let entry = HashRow(Entry::new(&salt, &row.record).0);
        let erased = ErasedRow { entry, previous: record.previous, by: step.by };
        self.put_row(&at, &RecordRow { record: bytes::Bytes::new(), salt: None, erased: Some(erased) })?;
        step.erased.insert(index);
        let key_at = keyspace::named(Tag::Key, record.bucket_id, &record.key);
        let Some(mut key) = load::<KeyRow>(self.rows, &key_at)? else { return Ok(()) };
        key.erased += 1;
        if key.erased >= key.events && key.newest.is_none() {
            return self.rows.delete(&key_at);
        }
        self.put_row(&key_at, &key)
    }

    fn log_erasure(&mut self, cx: Context<'_>, step: &Step) -> Outcome<()> {
        let detail = format!(
            "records and salts of {} entries about removed versions were erased at {}, after the evidence retention \
             period",
            step.erased.len(),
            date(step.now)
        );
        let (event, subject, digest) = (Event::Erasure, ERASURE_SUBJECT, None);
        let logged = ClusterEvent { event, subject, digest, detail, erased: runs(&step.erased) };
        self.log_cluster_event(cx, logged).map(drop)
    }
}

/// Runs that ascend and don't touch.
fn runs(indexes: &BTreeSet<LogIndex>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some(run) if run.first.0 + run.count == index.0 => run.count += 1,
            _ => runs.push(Run { first: *index, count: 1 }),
        }
    }
    runs
}
