//! The evidence log: where it stands, its tiles, entries and records.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use stele_evidence::record::{Entry, Record};
use stele_rpc::error::Code;
use stele_rpc::meta::{
    AnchorsArchive, ArchiveInfo, ArchiveObject, ChainRow, KEY_EVENTS_MAX, KeptAnchor, KeyEvent, LOG_ENTRIES_MAX,
    LogHead, LogItem, LogRead, LogRecord, LogReply, RangeRef, SignedNote, TreeHead,
};
use stele_types::ids::{BucketId, LogIndex};

use super::{ReadResult, admit, refuse};
use crate::apply::edge_of;
use crate::archives::{self, Archives, item_of};
use crate::keyspace::{self, CHECKPOINT, Tag};
use crate::kv::{KvError, KvRead};
use crate::rows::{
    AnchorArchiveRow, AnchorRow, ChainStateRow, CheckpointRow, DataRow, KeyRow, RecordRow, corrupt, decode, load,
};

pub(super) fn read(rows: &dyn KvRead, asked: &LogRead) -> ReadResult<LogReply> {
    match *asked {
        LogRead::Head => Ok(LogReply::Head(Box::new(head(rows)?))),
        LogRead::Tile { level, index } => {
            if let Some(hashes) = rows.get(&keyspace::tile(level, index))? {
                return Ok(LogReply::Tile(Bytes::from(hashes)));
            }
            let dropped = Archives::load(rows)?.dropped_tile(level, index);
            Ok(dropped.map_or(LogReply::Tile(Bytes::new()), LogReply::Archived))
        }
        LogRead::Entries { from, max } => entries(rows, from, max),
        LogRead::Record { index } => {
            let row: Option<RecordRow> = load(rows, &keyspace::record(index))?;
            match row {
                None if Archives::load(rows)?.hold(index) => Ok(LogReply::Archived(index)),
                row => Ok(LogReply::Record(row.map(logged))),
            }
        }
        LogRead::KeyEvents { range, ref key, before, max } => key_events(rows, (range, key), before, max),
        LogRead::Chain { ref chain } => {
            let row: Option<ChainStateRow> = load(rows, &keyspace::chain(chain))?;
            Ok(LogReply::Chain(row.map(|row| ChainRow { sequence: row.sequence, state: row.state })))
        }
        LogRead::Anchors { size } => anchors(rows, size),
        LogRead::Items { from, max } => items(rows, from, max),
        LogRead::KeptAnchors { ref chain, after } => kept_anchors(rows, chain, after),
        LogRead::ArchivePlan => Ok(LogReply::ArchivePlan(Box::new(archives::plan(rows)?))),
        LogRead::Archive { number } => archive(rows, number),
    }
}

fn logged(row: RecordRow) -> LogRecord {
    let (erased_by, previous) = row.erased.map_or((None, None), |erased| (Some(erased.by), erased.previous));
    LogRecord { record: row.record, salt: row.salt, erased_by, previous }
}

/// Follows the chain of a key's events backwards, from record to record, and through those that were erased.
fn key_events(
    rows: &dyn KvRead,
    (range, key): (RangeRef, &str),
    before: Option<LogIndex>,
    max: u32,
) -> ReadResult<LogReply> {
    let bucket = if range == RangeRef::CLUSTER { range.bucket } else { admit(rows, range)?.id };
    let mut next = match before {
        None => load::<KeyRow>(rows, &keyspace::named(Tag::Key, range.bucket, key))?.and_then(|row| row.last_entry),
        Some(index) => match step_back(rows, index, (bucket, key))? {
            Some((previous, _)) => previous,
            None if archived(rows, index)? => return Ok(LogReply::Archived(index)),
            None => return refuse(Code::Malformed, format!("entry {} of the log is no event of this key", index.0)),
        },
    };
    let mut found = Vec::new();
    while let Some(index) = next.filter(|_| found.len() < max.min(KEY_EVENTS_MAX) as usize) {
        // Whoever begins at an erased event of another key ends up here.
        let Some((previous, row)) = step_back(rows, index, (bucket, key))? else {
            if archived(rows, index)? {
                return Ok(LogReply::KeyEventsToArchive { events: found, next: index });
            }
            return refuse(Code::Malformed, format!("entry {} of the log is no event of this key", index.0));
        };
        next = previous;
        found.push(KeyEvent { index, record: logged(row) });
    }
    Ok(LogReply::KeyEvents(found))
}

/// Of every chain the first anchor of at least `size` entries.
fn anchors(rows: &dyn KvRead, size: u64) -> ReadResult<LogReply> {
    let mut names = BTreeSet::new();
    // Anchors of earlier versions were not counted.
    for table in [Tag::Chain, Tag::AnchorsKept] {
        let (from, to) = keyspace::table(table);
        rows.scan(&from, &to, &mut |key, _| {
            names.extend(keyspace::chain_name(key).map(str::to_owned));
            ControlFlow::Continue(())
        })?;
    }
    let (mut kept, mut archived) = (Vec::new(), Vec::new());
    for chain in names {
        // An archive holds smaller sizes than the rows.
        let (from, to) = (keyspace::anchor_archive(&chain, size), keyspace::anchor_archive(&chain, u64::MAX));
        if let Some((_, row)) = first_of::<AnchorArchiveRow>(rows, &from, &to)? {
            let object = ArchiveObject { bucket: row.bucket, key: row.key, version: row.version };
            archived.push(AnchorsArchive { chain, object, hash: row.hash.0 });
            continue;
        }
        let (from, to) = (keyspace::anchor(&chain, size), keyspace::anchor(&chain, u64::MAX));
        if let Some((Some(size), row)) = first_of::<AnchorRow>(rows, &from, &to)? {
            kept.push(KeptAnchor { chain, head: TreeHead { size, root: row.root.0 }, proof: row.proof });
        }
    }
    match archived.is_empty() {
        true => Ok(LogReply::Anchors(kept)),
        false => Ok(LogReply::AnchorsToArchive { kept, archived }),
    }
}

fn first_of<T: DeserializeOwned>(rows: &dyn KvRead, from: &[u8], to: &[u8]) -> ReadResult<Option<(Option<u64>, T)>> {
    let mut first = None;
    rows.scan(from, to, &mut |key, value| {
        first = Some((keyspace::anchor_size(key), decode::<T>(key, value)));
        ControlFlow::Break(())
    })?;
    Ok(first.map(|(size, row)| row.map(|row| (size, row))).transpose()?)
}

/// A page of a chain's anchors.
fn kept_anchors(rows: &dyn KvRead, chain: &str, after: u64) -> ReadResult<LogReply> {
    let (from, to) = (keyspace::anchor(chain, after.saturating_add(1)), keyspace::anchor(chain, u64::MAX));
    let (mut found, mut bytes, mut broken) = (Vec::new(), 0, None);
    rows.scan(&from, &to, &mut |key, value| {
        match (keyspace::anchor_size(key), decode::<AnchorRow>(key, value)) {
            (Some(size), Ok(AnchorRow { root, proof })) => {
                bytes += proof.len() + 64;
                found.push(KeptAnchor { chain: chain.to_owned(), head: TreeHead { size, root: root.0 }, proof });
            }
            (_, Err(error)) => broken = Some(error),
            (None, Ok(_)) => {}
        }
        if broken.is_some() || bytes > ITEMS_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match broken {
        Some(error) => Err(error.into()),
        None => Ok(LogReply::Anchors(found)),
    }
}

/// The event, and the index of the one before it of the same key. `None` if it is of another key: of an erased one nobody
/// can tell.
fn step_back(
    rows: &dyn KvRead,
    index: LogIndex,
    (bucket, key): (BucketId, &str),
) -> ReadResult<Option<(Option<LogIndex>, RecordRow)>> {
    let at = keyspace::record(index);
    let Some(row) = load::<RecordRow>(rows, &at)? else { return Ok(None) };
    if let Some(erased) = row.erased {
        return Ok(Some((erased.previous, row)));
    }
    let record = Record::decode(&row.record).map_err(|error| corrupt(&at, error.to_string()))?;
    Ok((record.bucket_id == bucket && record.key == key).then_some((record.previous, row)))
}

fn head(rows: &dyn KvRead) -> ReadResult<LogHead> {
    let data: DataRow = load(rows, &keyspace::DATA)?.unwrap_or_default();
    let row: Option<CheckpointRow> = load(rows, &CHECKPOINT)?;
    let checkpoint = row.as_ref().map(CheckpointRow::checkpoint);
    let published = row.and_then(|row| row.published).map(|published| SignedNote {
        head: TreeHead { size: published.size, root: published.root.0 },
        note: published.note,
        policy: published.policy,
    });
    let now = TreeHead { size: data.log_size, root: edge_of(&data)?.root() };
    Ok(LogHead { now, checkpoint, published })
}

/// Bytes of records after which an answer ends.
const ITEMS_BYTES: usize = 512 * 1024;

fn in_a_row(rows: &dyn KvRead, from: LogIndex, max: u32, visit: &mut dyn FnMut(LogItem) -> bool) -> ReadResult<()> {
    if max > LOG_ENTRIES_MAX {
        return refuse(Code::Malformed, format!("{max} entries of the log at once; the limit is {LOG_ENTRIES_MAX}"));
    }
    let end = LogIndex(from.0.saturating_add(u64::from(max)));
    let mut broken: Option<KvError> = None;
    rows.scan(
        &keyspace::record(from),
        &keyspace::record(end),
        &mut |key, value| match decode::<RecordRow>(key, value).and_then(|row| item_of(key, row)) {
            Ok(item) => match visit(item) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            },
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    broken.map_or(Ok(()), |error| Err(error.into()))
}

fn entries(rows: &dyn KvRead, from: LogIndex, max: u32) -> ReadResult<LogReply> {
    if archived(rows, from)? {
        return Ok(LogReply::Archived(from));
    }
    let mut found = BytesMut::new();
    in_a_row(rows, from, max, &mut |item| {
        let entry = match item {
            LogItem::Kept { record, salt } => Entry::new(&salt, &record).0,
            LogItem::Erased { entry, .. } => entry,
        };
        found.extend_from_slice(&entry);
        true
    })?;
    Ok(LogReply::Entries(found.freeze()))
}

fn items(rows: &dyn KvRead, from: LogIndex, max: u32) -> ReadResult<LogReply> {
    if archived(rows, from)? {
        return Ok(LogReply::Archived(from));
    }
    let (mut found, mut bytes) = (Vec::new(), 0);
    in_a_row(rows, from, max, &mut |item| {
        bytes += match &item {
            LogItem::Kept { record, .. } => record.len(),
            LogItem::Erased { .. } => 0,
        };
        found.push(item);
        bytes < ITEMS_BYTES
    })?;
    Ok(LogReply::Items(found))
}

fn archived(rows: &dyn KvRead, index: LogIndex) -> ReadResult<bool> {
    Ok(Archives::load(rows)?.hold(index))
}

fn archive(rows: &dyn KvRead, number: u64) -> ReadResult<LogReply> {
    let info = Archives::one(rows, number)?.map(|row| {
        let object = ArchiveObject { bucket: row.bucket, key: row.key, version: row.version };
        let sections = row.sections.iter().map(|hash| hash.0).collect();
        Box::new(ArchiveInfo { number, object, sections, moved: row.moved, root: row.root.0 })
    });
    Ok(LogReply::Archive(info))
}
