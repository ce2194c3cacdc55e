//! The evidence log: where it stands, its tiles, entries and records.

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use stele_evidence::record::Entry;
use stele_rpc::error::Code;
use stele_rpc::meta::{LOG_ENTRIES_MAX, LogHead, LogRead, LogRecord, LogReply, SignedNote, TreeHead};
use stele_types::ids::LogIndex;

use super::{ReadResult, refuse};
use crate::apply::edge_of;
use crate::keyspace::{self, CHECKPOINT};
use crate::kv::{KvError, KvRead};
use crate::rows::{CheckpointRow, DataRow, RecordRow, decode, load};

pub(super) fn read(rows: &dyn KvRead, asked: LogRead) -> ReadResult<LogReply> {
    match asked {
        LogRead::Head => Ok(LogReply::Head(Box::new(head(rows)?))),
        LogRead::Tile { level, index } => {
            let hashes = rows.get(&keyspace::tile(level, index))?.unwrap_or_default();
            Ok(LogReply::Tile(Bytes::from(hashes)))
        }
        LogRead::Entries { from, max } => entries(rows, from, max),
        LogRead::Record { index } => {
            let row: Option<RecordRow> = load(rows, &keyspace::record(index))?;
            Ok(LogReply::Record(row.map(|row| LogRecord { record: row.record, salt: row.salt })))
        }
    }
}

fn head(rows: &dyn KvRead) -> ReadResult<LogHead> {
    let data: DataRow = load(rows, &keyspace::DATA)?.unwrap_or_default();
    let row: Option<CheckpointRow> = load(rows, &CHECKPOINT)?;
    let checkpoint = row.as_ref().map(CheckpointRow::checkpoint);
    let published = row.and_then(|row| row.published).map(|published| SignedNote {
        head: TreeHead { size: published.size, root: published.root.0 },
        note: published.note,
    });
    let now = TreeHead { size: data.log_size, root: edge_of(&data)?.root() };
    Ok(LogHead { now, checkpoint, published })
}

fn entries(rows: &dyn KvRead, from: LogIndex, max: u32) -> ReadResult<LogReply> {
    if max > LOG_ENTRIES_MAX {
        return refuse(Code::Malformed, format!("{max} entries of the log at once; the limit is {LOG_ENTRIES_MAX}"));
    }
    let end = LogIndex(from.0.saturating_add(u64::from(max)));
    let mut found = BytesMut::new();
    let mut broken: Option<KvError> = None;
    rows.scan(&keyspace::record(from), &keyspace::record(end), &mut |key, value| {
        match decode::<RecordRow>(key, value) {
            Ok(RecordRow { record, salt: Some(salt) }) => {
                found.extend_from_slice(&Entry::new(&salt, &record).0);
                ControlFlow::Continue(())
            }
            // Without its salt nobody can compute the entry; its leaf is in the tiles.
            Ok(RecordRow { salt: None, .. }) => ControlFlow::Break(()),
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match broken {
        Some(error) => Err(error.into()),
        None => Ok(LogReply::Entries(found.freeze())),
    }
}
