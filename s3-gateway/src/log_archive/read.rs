//! The one place where a gateway reads the evidence log. The metadata service is asked first: of an archived entry it
//! knows whether it was erased since. Where it answers that an archive holds the entry, the archive is read.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stele_evidence::log_archive::{Height, Item, leaves};
use stele_evidence::record::Record;
use stele_evidence::tiles::TILE_WIDTH;
use stele_rpc::meta::{KEY_EVENTS_MAX, KeyEvent, LogRead, LogRecord, LogReply, MetaReply, MetaRequest, RangeRef};
use stele_types::ids::LogIndex;

use super::anchors;
use super::object::{height, info, section_with, tiles};
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;

/// How often rows may become an archive while they are read.
const MOVES_MAX: usize = 4;

/// Answers a question about the log, wherever its entries are.
///
/// # Errors
/// `Unavailable` or `Corrupt` if an archive can't be read; the error names it and its object.
pub(crate) async fn ask(gw: &Arc<Gateway>, asked: LogRead) -> Result<LogReply, GatewayError> {
    let reply = ask_metadata(gw, asked.clone()).await?;
    resolve(gw, &asked, reply).await
}

/// What the metadata service holds itself: of questions that no archive has a part in, all there is.
pub(crate) async fn ask_metadata(gw: &Gateway, asked: LogRead) -> Result<LogReply, GatewayError> {
    match gw.read(MetaRequest::Log(asked)).await.map_err(|error| GatewayError::from_meta(error, ""))? {
        MetaReply::Log(reply) => Ok(reply),
        _ => Err(unexpected_reply("Log")),
    }
}

/// Finishes an answer of the metadata service with what archives hold.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn resolve(gw: &Arc<Gateway>, asked: &LogRead, reply: LogReply) -> Result<LogReply, GatewayError> {
    match (asked, reply) {
        (LogRead::Tile { level, index }, LogReply::Archived(_)) => tile(gw, *level, *index).await,
        (LogRead::Entries { from, max }, LogReply::Archived(_)) => entries(gw, *from, *max).await,
        (LogRead::Record { index }, LogReply::Archived(_)) => {
            Ok(LogReply::Record(Some(archived_record(gw, *index).await?)))
        }
        (LogRead::KeyEvents { range, key, max, .. }, LogReply::Archived(before)) => {
            let record = record(gw, before).await?;
            let next = step_back((*range, key), before, &record)?;
            events(gw, (*range, key, *max), Vec::new(), next).await
        }
        (LogRead::KeyEvents { range, key, max, .. }, LogReply::KeyEventsToArchive { events: found, next }) => {
            events(gw, (*range, key, *max), found, Some(next)).await
        }
        (LogRead::Anchors { size }, LogReply::AnchorsToArchive { kept, archived }) => {
            anchors::find(gw, *size, kept, archived).await.map(LogReply::Anchors)
        }
        (_, LogReply::Archived(_) | LogReply::KeyEventsToArchive { .. } | LogReply::AnchorsToArchive { .. }) => {
            Err(unexpected_reply("Log"))
        }
        (_, reply) => Ok(reply),
    }
}

async fn tile(gw: &Arc<Gateway>, level: u8, index: u64) -> Result<LogReply, GatewayError> {
    let hashes = match (level, height(gw).await?) {
        (0, _) => {
            let first = index.checked_mul(TILE_WIDTH as u64).map(LogIndex);
            let (items, at) = section_with(gw, first.ok_or_else(|| unexpected_reply("Tile"))?).await?;
            leaves(items.get(at..at.saturating_add(TILE_WIDTH)).unwrap_or_default())
        }
        (1, Height::TileOfTiles) => tiles(gw, index).await?.tiles.clone(),
        _ => return Err(unexpected_reply("Tile")),
    };
    Ok(LogReply::Tile(Bytes::copy_from_slice(hashes.as_flattened())))
}

/// Entries of which some are archived; the last ones may be rows still.
async fn entries(gw: &Arc<Gateway>, from: LogIndex, max: u32) -> Result<LogReply, GatewayError> {
    let height = height(gw).await?;
    let end = from.0.saturating_add(u64::from(max));
    let (mut at, mut found, mut moves) = (from.0, BytesMut::new(), 0);
    while at < end {
        let (number, section) = height.place(LogIndex(at));
        if info(gw, number).await?.is_some_and(|info| info.moved as usize > section) {
            let (items, place) = section_with(gw, LogIndex(at)).await?;
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let inside = items.get(place..).unwrap_or_default();
            for item in inside.iter().take(wanted) {
                found.extend_from_slice(&item.entry().0);
            }
            at += inside.len().clamp(1, wanted) as u64;
            continue;
        }
        let rest = LogRead::Entries { from: LogIndex(at), max: u32::try_from(end - at).unwrap_or(u32::MAX) };
        match ask_metadata(gw, rest).await? {
            LogReply::Entries(rest) => {
                found.extend_from_slice(&rest);
                break;
            }
            // They were moved between the two questions.
            LogReply::Archived(_) if moves < MOVES_MAX => moves += 1,
            _ => return Err(unexpected_reply("Entries")),
        }
    }
    Ok(LogReply::Entries(found.freeze()))
}

async fn archived_record(gw: &Arc<Gateway>, index: LogIndex) -> Result<LogRecord, GatewayError> {
    let (items, at) = section_with(gw, index).await?;
    let item = items.get(at).ok_or_else(|| unexpected_reply("Record"))?;
    Ok(match item {
        Item::Kept { salt, record } => {
            LogRecord { record: Bytes::copy_from_slice(record), salt: Some(*salt), erased_by: None, previous: None }
        }
        Item::Erased { previous, by, .. } => {
            LogRecord { record: Bytes::new(), salt: None, erased_by: Some(*by), previous: *previous }
        }
    })
}

/// A record that must be there.
pub(super) async fn record(gw: &Arc<Gateway>, index: LogIndex) -> Result<LogRecord, GatewayError> {
    match ask_metadata(gw, LogRead::Record { index }).await? {
        LogReply::Record(Some(record)) => Ok(record),
        LogReply::Archived(_) => archived_record(gw, index).await,
        LogReply::Record(None) => {
            Err(GatewayError::Corrupt { what: format!("record {} of the evidence log is not there", index.0) })
        }
        _ => Err(unexpected_reply("Record")),
    }
}

/// Goes on from `next`, from record to record, as the metadata service does with rows.
async fn events(
    gw: &Arc<Gateway>,
    (range, key, max): (RangeRef, &str, u32),
    mut found: Vec<KeyEvent>,
    mut next: Option<LogIndex>,
) -> Result<LogReply, GatewayError> {
    let max = max.min(KEY_EVENTS_MAX) as usize;
    while let Some(index) = next.filter(|_| found.len() < max) {
        let record = record(gw, index).await?;
        next = step_back((range, key), index, &record)?;
        found.push(KeyEvent { index, record });
    }
    Ok(LogReply::KeyEvents(found))
}

/// The event before this one of the same key. Of an erased one nobody can tell whose it was.
fn step_back(
    (range, key): (RangeRef, &str),
    index: LogIndex,
    record: &LogRecord,
) -> Result<Option<LogIndex>, GatewayError> {
    if record.erased_by.is_some() {
        return Ok(record.previous);
    }
    let read = Record::decode(&record.record)
        .map_err(|error| GatewayError::Corrupt { what: format!("record {} of the evidence log: {error}", index.0) })?;
    if read.bucket_id != range.bucket || read.key != key {
        let what = format!("entry {} of the log is no event of this key", index.0);
        return Err(GatewayError::InvalidArgument { what });
    }
    Ok(read.previous)
}
