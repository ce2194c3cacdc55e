//! Which entries of the evidence log stand in archives only, and what is to be done about archives. Archives are made in
//! the order of the log, so what they hold is its beginning; a row of a record there says that it was erased since.

use std::ops::ControlFlow;

use stele_evidence::anchor_archive::{ANCHORS_MAX, BYTES_SOFT_MAX};
use stele_evidence::log_archive::{Height, encode_erased, encode_kept};
use stele_evidence::record::{Entry, Record};
use stele_evidence::tree::Hash;
use stele_rpc::meta::{ArchivePlan, FOLDED_MAX, Fold, LogItem};
use stele_types::ids::LogIndex;
use stele_types::seam::UnixMillis;

use crate::keyspace::{self, ARCHIVES, CHECKPOINT, RETENTION, Tag};
use crate::kv::{KvError, KvRead, KvResult};
use crate::rows::{
    AnchorsKeptRow, ArchiveRow, ArchivesRow, CheckpointRow, ErasedRow, RecordRow, RetentionRow, corrupt, decode, load,
};

/// How long entries wait for the rule on erasing, which is cheap where they have rows.
pub(crate) const HELD_BACK_MS: u64 = 30 * 86_400_000;

/// Commit time of an entry; 0 of one that was erased.
fn written(rows: &(impl KvRead + ?Sized), index: LogIndex) -> KvResult<UnixMillis> {
    let at = keyspace::record(index);
    let row: RecordRow = load(rows, &at)?.ok_or_else(|| corrupt(&at, "an entry of the log has no record"))?;
    if row.erased.is_some() {
        return Ok(0);
    }
    Ok(Record::decode(&row.record).map_err(|error| corrupt(&at, error.to_string()))?.time)
}

/// What there is of archives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Archives {
    pub(crate) row: ArchivesRow,
    pub(crate) height: Height,
    /// The newest one.
    pub(crate) last: Option<ArchiveRow>,
}

impl Archives {
    pub(crate) fn load(rows: &(impl KvRead + ?Sized)) -> KvResult<Self> {
        let row: ArchivesRow = load(rows, &ARCHIVES)?.unwrap_or_default();
        let height =
            Height::from_level(row.level).ok_or_else(|| corrupt(&ARCHIVES, "archives of an unknown height"))?;
        let last = match row.count.checked_sub(1) {
            Some(number) => Some(Self::one(rows, number)?.ok_or_else(|| corrupt(&ARCHIVES, "an archive has no row"))?),
            None => None,
        };
        Ok(Self { row, height, last })
    }

    pub(crate) fn one(rows: &(impl KvRead + ?Sized), number: u64) -> KvResult<Option<ArchiveRow>> {
        load(rows, &keyspace::archive(number))
    }

    /// Index of the first entry that has its row.
    pub(crate) fn end(&self) -> LogIndex {
        let Some(last) = &self.last else { return LogIndex(0) };
        let (entries, section) = (self.height.entries(), self.height.section_entries() as u64);
        LogIndex((self.row.count - 1) * entries + u64::from(last.moved) * section)
    }

    /// Whether an entry stands in an archive only.
    pub(crate) fn hold(&self, index: LogIndex) -> bool {
        index < self.end()
    }

    /// First leaf of a tile whose row was dropped with the entries below it. The tile of level 1 stays until its
    /// archive is complete.
    pub(crate) fn dropped_tile(&self, level: u8, index: u64) -> Option<LogIndex> {
        if level >= self.height.level() {
            return None;
        }
        let leaves = 256u64.checked_pow(u32::from(level) + 1)?;
        let first = index.checked_mul(leaves)?;
        let end = first.checked_add(leaves)?;
        (end <= self.end().0).then_some(LogIndex(first))
    }

    /// The next section whose rows are to be dropped.
    pub(crate) fn moving(&self) -> Option<(u64, u32)> {
        let last = self.last.as_ref()?;
        ((last.moved as usize) < self.height.sections()).then_some((self.row.count - 1, last.moved))
    }

    /// The archive that may be made next: a published checkpoint covers it and as many entries again, so that nothing that
    /// the growing end needs is in it, and the rule on erasing has passed its entries, or will not for long.
    pub(crate) fn next(&self, rows: &(impl KvRead + ?Sized)) -> KvResult<Option<u64>> {
        if self.moving().is_some() {
            return Ok(None);
        }
        let Some(checkpoint) = load::<CheckpointRow>(rows, &CHECKPOINT)? else { return Ok(None) };
        let (entries, now) = (self.height.entries(), checkpoint.time);
        let end = (self.row.count + 1) * entries;
        if checkpoint.published.is_none_or(|published| published.size < end + entries) {
            return Ok(None);
        }
        let retention: RetentionRow = load(rows, &RETENTION)?.unwrap_or_default();
        let passed = retention.keep_ms.is_none() || retention.cursor.0 >= end;
        let ready = passed || written(rows, LogIndex(end - 1))?.saturating_add(HELD_BACK_MS) <= now;
        Ok(ready.then_some(self.row.count))
    }
}

/// What is to be done.
pub(crate) fn plan(rows: &dyn KvRead) -> KvResult<ArchivePlan> {
    let archives = Archives::load(rows)?;
    let retention: RetentionRow = load(rows, &RETENTION)?.unwrap_or_default();
    let at = retention.walk.map_or(retention.cursor, |walk| walk.at);
    let erasing = retention.keep_ms.is_some() && archives.hold(at) && rows.get(&keyspace::record(at))?.is_none();
    Ok(ArchivePlan {
        level: archives.height.level(),
        next: archives.next(rows)?,
        moving: archives.moving(),
        fold: fold(rows, &archives)?,
        wanted: archives.row.wanted.iter().filter(|(_, back)| !back).map(|(index, _)| *index).collect(),
        erasing: erasing.then_some(at),
        keep_ms: retention.keep_ms,
        anchors: crowded_chain(rows)?,
    })
}

/// Whether a chain has so many anchors that its oldest are archived: two files' worth, so that the newest always have
/// rows.
pub(crate) fn anchors_are_many(kept: AnchorsKeptRow) -> bool {
    kept.count >= 2 * ANCHORS_MAX as u64 || kept.bytes >= 2 * BYTES_SOFT_MAX as u64
}

fn crowded_chain(rows: &dyn KvRead) -> KvResult<Option<String>> {
    let (from, to) = keyspace::table(Tag::AnchorsKept);
    let mut found = None;
    let mut broken = None;
    rows.scan(&from, &to, &mut |key, value| {
        match decode::<AnchorsKeptRow>(key, value) {
            Ok(kept) if anchors_are_many(kept) => found = keyspace::chain_name(key).map(str::to_owned),
            Ok(_) => return ControlFlow::Continue(()),
            Err(error) => broken = Some(error),
        }
        ControlFlow::Break(())
    })?;
    broken.map_or(Ok(found), Err)
}

/// The first archive that still holds what was erased since.
fn fold(rows: &dyn KvRead, archives: &Archives) -> KvResult<Option<Fold>> {
    let mut found: Option<Fold> = None;
    let mut broken = None;
    rows.scan(&keyspace::record(LogIndex(0)), &keyspace::record(archives.end()), &mut |key, value| {
        let (index, item) = match (keyspace::record_index(key), decode::<RecordRow>(key, value)) {
            (Some(index), Ok(RecordRow { erased: Some(erased), .. })) => (index, left_of(erased)),
            (_, Err(error)) => {
                broken = Some(error);
                return ControlFlow::Break(());
            }
            _ => {
                broken = Some(corrupt(key, "the row of an archived record that was not erased"));
                return ControlFlow::Break(());
            }
        };
        let (number, _) = archives.height.place(index);
        let fold = found.get_or_insert_with(|| Fold { number, erased: Vec::new() });
        if fold.number != number || fold.erased.len() >= FOLDED_MAX {
            return ControlFlow::Break(());
        }
        fold.erased.push((index, item));
        ControlFlow::Continue(())
    })?;
    broken.map_or(Ok(found), Err)
}

pub(crate) fn left_of(erased: ErasedRow) -> LogItem {
    LogItem::Erased { entry: erased.entry.0, previous: erased.previous, by: erased.by }
}

/// What a row holds of an entry.
pub(crate) fn item_of(key: &[u8], row: RecordRow) -> KvResult<LogItem> {
    match row {
        RecordRow { erased: Some(erased), .. } => Ok(left_of(erased)),
        RecordRow { record, salt: Some(salt), .. } => Ok(LogItem::Kept { record, salt }),
        RecordRow { salt: None, erased: None, .. } => Err(corrupt(key, "neither a salt nor an entry")),
    }
}

/// BLAKE3 of a section as an archive holds it, computed from rows. `None` if a row is missing.
pub(crate) fn hash_section(rows: &(impl KvRead + ?Sized), first: LogIndex, entries: u64) -> KvResult<Option<Hash>> {
    let (mut hasher, mut bytes, mut count) = (blake3::Hasher::new(), Vec::new(), 0u64);
    let mut broken: Option<KvError> = None;
    let (from, to) = (keyspace::record(first), keyspace::record(LogIndex(first.0.saturating_add(entries))));
    rows.scan(&from, &to, &mut |key, value| {
        bytes.clear();
        match decode::<RecordRow>(key, value).and_then(|row| item_of(key, row)) {
            Ok(LogItem::Kept { record, salt }) => encode_kept(&salt, &record, &mut bytes),
            Ok(LogItem::Erased { entry, previous, by }) => encode_erased(&Entry(entry), (previous, by), &mut bytes),
            Err(error) => {
                broken = Some(error);
                return ControlFlow::Break(());
            }
        }
        hasher.update(&bytes);
        count += 1;
        ControlFlow::Continue(())
    })?;
    match broken {
        Some(error) => Err(error),
        None => Ok((count == entries).then(|| *hasher.finalize().as_bytes())),
    }
}
