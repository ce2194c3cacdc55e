//! Erasure of what the log says of removed versions, once the evidence retention period is over: record and salt go,
//! the entry stays, so that nobody can tell any more what it was, and everybody can still compute the tree.
//!
//! A cursor walks the records upwards. Where it meets a removal that lies back far enough, the chain of the key's
//! events is followed backwards from there to the creation that the removal ended, and what is of this version on the
//! way is erased. A version that exists has had no removal, so nothing of it is touched. One command does a bounded
//! number of steps; the row remembers where it stopped.
//!
//! An archived record has no row. Whoever sends the command brings a copy of it and the way to the hash of its archive;
//! without a copy the step ends there. What is erased of it is a row again, until the archive is made anew.

use std::collections::{BTreeMap, BTreeSet};

use stele_evidence::proof::verify_inclusion;
use stele_evidence::record::{Entry, Event, Record, Run};
use stele_evidence::tree::leaf_hash;
use stele_rpc::error::Code;
use stele_rpc::meta::{COPIES_MAX, COPY_PATH_MAX, ERASED_ENTRIES_MAX, LogItem, MetaReply, RecordCopy};
use stele_types::ids::{LogIndex, Salt};
use stele_types::seam::UnixMillis;

use super::ClusterEvent;
use super::lock::date;
use crate::apply::acts::CLUSTER_SUBJECT;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::archives::{Archives, item_of};
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

/// What there is of an entry.
enum Found {
    /// It was not erased: the record, its bytes and its salt.
    Kept(Box<(Record, bytes::Bytes, Salt)>),
    /// Erased; the entry before it of the same key.
    Erased(Option<LogIndex>),
    /// An archive has it, and nobody brought a copy.
    Archived,
}

fn found(item: LogItem, at: &[u8]) -> KvResult<Found> {
    match item {
        LogItem::Erased { previous, .. } => Ok(Found::Erased(previous)),
        LogItem::Kept { record, salt } => {
            let decoded = Record::decode(&record).map_err(|error| corrupt(at, error.to_string()))?;
            Ok(Found::Kept(Box::new((decoded, record, salt))))
        }
    }
}

/// Where records are read.
struct Source<'a> {
    archives: Archives,
    /// Of archived entries: all of them are proven.
    copies: BTreeMap<LogIndex, &'a LogItem>,
}

impl<'a> Source<'a> {
    fn rows_only(rows: &(impl KvRead + ?Sized)) -> KvResult<Self> {
        Ok(Self { archives: Archives::load(rows)?, copies: BTreeMap::new() })
    }

    /// Refuses copies that are not the log's.
    fn with_copies(rows: &(impl KvRead + ?Sized), copies: &'a [RecordCopy]) -> Outcome<Self> {
        let mut source = Self::rows_only(rows)?;
        if copies.len() > COPIES_MAX {
            return refuse(Code::Malformed, format!("{} copies of records; the limit is {COPIES_MAX}", copies.len()));
        }
        let entries = source.archives.height.entries();
        for copy in copies {
            let entry = match &copy.item {
                LogItem::Kept { record, salt } => Entry::new(salt, record),
                LogItem::Erased { entry, .. } => Entry(*entry),
            };
            let row = match copy.path.len() <= COPY_PATH_MAX {
                true => Archives::one(rows, copy.index.0 / entries)?,
                false => None,
            };
            let leaf = leaf_hash(&entry.0);
            let proven = row.is_some_and(|row| {
                verify_inclusion(leaf, copy.index.0 % entries, entries, &row.root.0, &copy.path).is_ok()
            });
            if !proven {
                return refuse(Code::Malformed, format!("the copy of entry {} is not the log's", copy.index.0));
            }
            source.copies.insert(copy.index, &copy.item);
        }
        Ok(source)
    }

    fn at(&self, rows: &(impl KvRead + ?Sized), index: LogIndex) -> KvResult<Found> {
        let at = keyspace::record(index);
        match (load::<RecordRow>(rows, &at)?, self.copies.get(&index)) {
            (Some(row), _) => found(item_of(&at, row)?, &at),
            (None, Some(item)) if self.archives.hold(index) => found((*item).clone(), &at),
            (None, None) if self.archives.hold(index) => Ok(Found::Archived),
            (None, _) => Err(corrupt(&at, "an entry of the log has no record")),
        }
    }
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
    let (end, source) = (published(rows)?, Source::rows_only(rows)?);
    for index in row.cursor.0..end.min(row.cursor.0.saturating_add(LOOKED_AT)) {
        match source.at(rows, LogIndex(index))? {
            Found::Kept(of) if is_removal(&of.0) => return Ok(is_over(of.0.time, keep_ms, now)),
            // A gateway goes on from here.
            Found::Archived => return Ok(false),
            Found::Kept(_) | Found::Erased(_) => {}
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
struct Step<'a> {
    row: RetentionRow,
    source: Source<'a>,
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
    pub(crate) fn erase(&mut self, cx: Context<'_>, max: u32, copies: &[RecordCopy]) -> Outcome<MetaReply> {
        if !(1..=ERASED_ENTRIES_MAX).contains(&max) {
            return refuse(Code::Malformed, format!("a step looks at 1 to {ERASED_ENTRIES_MAX} records, not {max}"));
        }
        let row: RetentionRow = load(self.rows, &RETENTION)?.unwrap_or_default();
        let Some(keep_ms) = row.keep_ms else { return Ok(MetaReply::Done) };
        let source = Source::with_copies(self.rows, copies)?;
        let (before, end, by) = (row, published(self.rows)?, self.next_log_index()?);
        let mut step = Step { row: before, source, now: cx.now, by, erased: BTreeSet::new() };
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
    fn look_at_next(&mut self, step: &mut Step<'_>, keep_ms: u64, end: u64) -> Outcome<bool> {
        let index = step.row.cursor;
        if index.0 >= end {
            return Ok(false);
        }
        match step.source.at(self.rows, index)? {
            Found::Archived => return Ok(false),
            Found::Kept(of) if is_removal(&of.0) => {
                let (record, bytes, salt) = *of;
                if !is_over(record.time, keep_ms, step.now) && !self.options.erases_early() {
                    return Ok(false);
                }
                step.row.walk = record.previous.map(|at| WalkRow { at, version: record.version, removed: record.time });
                self.erase_record(step, index, (&record, Entry::new(&salt, &bytes)))?;
            }
            Found::Kept(_) | Found::Erased(_) => {}
        }
        step.row.cursor = LogIndex(index.0 + 1);
        Ok(true)
    }

    /// Goes one event back; the walk ends with the creation.
    fn walk_back(&mut self, step: &mut Step<'_>, walk: WalkRow) -> Outcome<bool> {
        let next = match step.source.at(self.rows, walk.at)? {
            Found::Kept(of) => {
                let (record, bytes, salt) = *of;
                let mine = record.version == walk.version;
                if mine {
                    self.erase_record(step, walk.at, (&record, Entry::new(&salt, &bytes)))?;
                }
                let created = mine && matches!(record.event, Event::Put | Event::DeleteMarker);
                record.previous.filter(|_| !created)
            }
            Found::Erased(previous) => previous,
            Found::Archived => return Ok(false),
        };
        step.row.walk = next.map(|at| WalkRow { at, ..walk });
        Ok(true)
    }

    /// Leaves the entry and the way to the one before it. The last event of a key that has no version takes the key's
    /// row with it: names say something of people.
    fn erase_record(&mut self, step: &mut Step<'_>, index: LogIndex, of: (&Record, Entry)) -> KvResult<()> {
        let (record, entry) = of;
        let at = keyspace::record(index);
        let erased = ErasedRow { entry: HashRow(entry.0), previous: record.previous, by: step.by };
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

    fn log_erasure(&mut self, cx: Context<'_>, step: &Step<'_>) -> Outcome<()> {
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
