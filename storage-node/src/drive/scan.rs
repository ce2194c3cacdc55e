//! Reading a segment back from its first byte: at open, and where a summary is missing.
//!
//! Every payload is checked too: in a segment that was open at a crash a header may have survived
//! without its payload, and a shard counts as held only if it can be read. What is not a record
//! is stepped over block by block up to the next valid header of this drive and segment.

use bytes::Bytes;
use stele_types::ids::DriveId;
use stele_types::limits::{SEGMENT_ALIGN, SHARD_CRC_BYTES};
use stele_types::segment::{RECORD_HEADER_BYTES_MAX, RecordBody, RecordHeader, SegmentHeader, SegmentNumber};

use super::row::Row;
use crate::media::{MediaError, MediaFile};

/// Bytes read at once: long enough to go past the page cache.
const WINDOW: usize = 1024 * 1024;
/// After this many read errors the rest of the segment is left unread.
const READ_ERRORS_MAX: u32 = 64;
const BLOCK: u64 = SEGMENT_ALIGN as u64;

/// What is in a segment.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) rows: Vec<Row>,
    /// End of the last valid record.
    pub(crate) end: u64,
    /// End of the last block that is not zero.
    pub(crate) used: u64,
    /// Blocks that hold something, but no valid record.
    pub(crate) skipped: u64,
    /// Text of the first read error, if there was one.
    pub(crate) unreadable: Option<String>,
}

struct Window<'a> {
    file: &'a dyn MediaFile,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    async fn get(&mut self, at: u64, len: usize) -> Result<Bytes, MediaError> {
        let inside = |w: &Self| {
            let skip = usize::try_from(at.checked_sub(w.start)?).ok()?;
            w.bytes.get(skip..skip + len).map(|_| w.bytes.slice(skip..skip + len))
        };
        if let Some(found) = inside(self) {
            return Ok(found);
        }
        match self.file.read_at(at, WINDOW.max(len)).await {
            Ok(bytes) => {
                (self.start, self.bytes) = (at, bytes);
                Ok(self.bytes.slice(..len))
            }
            // One bad place must not hide what is around it.
            Err(_) => self.file.read_at(at, len).await,
        }
    }
}

enum Found {
    Record {
        rows: Vec<Row>,
        len: u64,
    },
    /// A valid header whose payload is not what was written.
    Damaged {
        len: u64,
    },
    /// No record; explained if the block is zero or the segment's own header.
    Nothing {
        explained: bool,
    },
}

/// Reads the whole segment.
pub(crate) async fn scan(file: &dyn MediaFile, drive: DriveId, number: SegmentNumber) -> Result<Scanned, MediaError> {
    let len = file.size().await?;
    let mut out = Scanned { end: BLOCK.min(len), ..Scanned::default() };
    let mut window = Window { file, start: 0, bytes: Bytes::new() };
    let (mut at, mut errors) = (0u64, 0u32);
    while at < len {
        let step = match inspect(&mut window, (drive, number), at, len).await {
            Ok(Found::Record { rows, len }) => {
                out.rows.extend(rows);
                out.end = at + len;
                out.used = at + len;
                len
            }
            Ok(Found::Damaged { len }) => {
                out.skipped += len / BLOCK;
                out.used = at + len;
                len
            }
            Ok(Found::Nothing { explained: true }) => BLOCK,
            Ok(Found::Nothing { explained: false }) => {
                out.skipped += 1;
                out.used = at + BLOCK;
                BLOCK
            }
            Err(error) => {
                errors += 1;
                out.unreadable.get_or_insert_with(|| error.to_string());
                out.used = at + BLOCK;
                if errors >= READ_ERRORS_MAX {
                    out.used = len;
                    break;
                }
                BLOCK
            }
        };
        at += step;
    }
    out.used = out.used.max(out.end);
    Ok(out)
}

/// The segment's first block is what this drive wrote there.
pub(crate) async fn has_header(file: &dyn MediaFile, drive: DriveId, number: SegmentNumber) -> bool {
    let Ok(block) = file.read_at(0, SEGMENT_ALIGN).await else { return false };
    SegmentHeader::decode(&block).is_ok_and(|h| h.drive == drive && h.number == number)
}

async fn inspect(
    window: &mut Window<'_>,
    (drive, number): (DriveId, SegmentNumber),
    at: u64,
    end: u64,
) -> Result<Found, MediaError> {
    let first = window.get(at, SEGMENT_ALIGN).await?;
    let nothing = || {
        let own = || SegmentHeader::decode(&first).is_ok_and(|h| h.drive == drive && h.number == number);
        Found::Nothing { explained: first.iter().all(|b| *b == 0) || (at == 0 && own()) }
    };
    let Ok(header_len) = RecordHeader::peek_len(&first) else { return Ok(nothing()) };
    debug_assert!(header_len <= RECORD_HEADER_BYTES_MAX);
    let bytes = window.get(at, header_len).await?;
    let Ok(header) = RecordHeader::decode(&bytes) else { return Ok(nothing()) };
    let len = header_len as u64 + u64::from(header.payload_len());
    if header.drive != drive || header.segment != number || at + len > end {
        return Ok(nothing());
    }
    if let RecordBody::Shard(shard) = &header.body {
        let mut left = shard.payload_len as usize;
        let mut from = at + header_len as u64;
        for crc in &shard.crcs {
            let piece = window.get(from, left.min(SHARD_CRC_BYTES)).await?;
            if crc32c::crc32c(&piece) != *crc {
                return Ok(Found::Damaged { len });
            }
            from += piece.len() as u64;
            left -= piece.len();
        }
    }
    let header_len = u32::try_from(header_len).unwrap_or(u32::MAX);
    Ok(Found::Record { rows: Row::of_record(&header, number, at, header_len), len })
}
