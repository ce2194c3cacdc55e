//! Rows as a byte stream: what a backup holds and what a peer is sent. Frames of rows in key order,
//! each with its BLAKE3, and an end frame that counts the rows, so that a cut, flipped or reordered
//! stream is refused before it replaces anything.
//!
//! Frame: u32le length of the body (0 ends the stream) | body | 32-byte BLAKE3 over frame number, then
//! body. Body: rows, each u32le key length | key | u32le value length | value. The end frame's body
//! is replaced by u64le row count.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::kv::{KEYS_END, KvError, KvRead, KvResult, View, Visit};

/// First bytes of a stream: magic and version.
const MAGIC: &[u8; 8] = b"STELESN1";
/// Body bytes after which a frame is closed.
const FRAME_BYTES: usize = 1 << 20;
/// Largest body a reader accepts: one frame and one largest row.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// A stream can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] KvError),
    /// The other end failed.
    #[error("snapshot stream: {0}")]
    Io(#[from] std::io::Error),
    /// The stream is not what was written.
    #[error("snapshot stream: {0}; fetch it again")]
    Damaged(&'static str),
}

/// Writes all rows of a view; returns how many.
///
/// # Errors
/// The store or the sink failed.
pub fn write(rows: &dyn KvRead, sink: &mut dyn Write) -> Result<u64, SnapshotError> {
    sink.write_all(MAGIC)?;
    let mut frames = Frames { sink, number: 0, body: Vec::with_capacity(FRAME_BYTES + 4096) };
    let mut count = 0u64;
    let mut failed = None;
    rows.scan(&[], &KEYS_END, &mut |key, value| {
        count += 1;
        match frames.row(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    frames.end(count)?;
    Ok(count)
}

struct Frames<'a> {
    sink: &'a mut dyn Write,
    number: u64,
    body: Vec<u8>,
}

fn frame_hash(number: u64, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(body);
    hasher.finalize()
}

fn length(bytes: &[u8]) -> Result<[u8; 4], std::io::Error> {
    let len = u32::try_from(bytes.len()).map_err(|_| std::io::Error::other("a row is larger than 4 GiB"))?;
    Ok(len.to_le_bytes())
}

impl Frames<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        for part in [key, value] {
            self.body.extend_from_slice(&length(part)?);
            self.body.extend_from_slice(part);
        }
        if self.body.len() >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.sink.write_all(&length(&self.body)?)?;
        self.sink.write_all(&self.body)?;
        self.sink.write_all(frame_hash(self.number, &self.body).as_bytes())?;
        self.number += 1;
        self.body.clear();
        Ok(())
    }

    fn end(mut self, count: u64) -> std::io::Result<()> {
        self.flush()?;
        let body = count.to_le_bytes();
        self.sink.write_all(&0u32.to_le_bytes())?;
        self.sink.write_all(&body)?;
        self.sink.write_all(frame_hash(self.number, &body).as_bytes())?;
        self.sink.flush()
    }
}

/// One frame as a peer is sent it.
#[derive(Debug)]
pub(crate) struct CutFrame {
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
    /// BLAKE3 over the number, then the body.
    pub(crate) hash: [u8; 32],
}

/// Cuts a view into frames, one at a time.
pub(crate) struct FrameCutter {
    view: Arc<View>,
    from: Vec<u8>,
    frames: u64,
    rows: u64,
    limit: usize,
}

impl FrameCutter {
    /// Frames of at most `limit` bytes of rows; a single larger row is a frame of its own.
    pub(crate) fn new(view: Arc<View>, limit: usize) -> Self {
        Self { view, from: Vec::new(), frames: 0, rows: 0, limit }
    }

    /// Frames and rows cut so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.frames, self.rows)
    }

    /// The next frame; `None` after the last row.
    pub(crate) fn cut(&mut self) -> Result<Option<CutFrame>, SnapshotError> {
        let mut body = Vec::new();
        let (limit, mut last, mut rows, mut failed) = (self.limit, Vec::new(), 0u64, None);
        self.view.scan(&self.from, &KEYS_END, &mut |key, value| {
            if !body.is_empty() && body.len() + key.len() + value.len() + 8 > limit {
                return ControlFlow::Break(());
            }
            for part in [key, value] {
                match length(part) {
                    Ok(len) => body.extend_from_slice(&len),
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                body.extend_from_slice(part);
            }
            rows += 1;
            last.clear();
            last.extend_from_slice(key);
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)?;
        if rows == 0 {
            return Ok(None);
        }
        // The smallest key behind the last one.
        last.push(0);
        self.from = last;
        self.rows += rows;
        let number = self.frames;
        self.frames += 1;
        let hash = *frame_hash(number, &body).as_bytes();
        Ok(Some(CutFrame { number, body, hash }))
    }
}

/// Key and value of a row.
type RowBytes<'a> = (&'a [u8], &'a [u8]);

/// Rows of one frame, in order, as parts of its body. The hash is checked first.
pub(crate) fn frame_rows(number: u64, hash: [u8; 32], body: &[u8]) -> Result<Vec<RowBytes<'_>>, SnapshotError> {
    if frame_hash(number, body) != blake3::Hash::from_bytes(hash) {
        return Err(SnapshotError::Damaged("a frame's hash differs"));
    }
    let mut rows: Vec<RowBytes<'_>> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let row = part(&mut rest).and_then(|key| Some((key, part(&mut rest)?)));
        let row = row.ok_or(SnapshotError::Damaged("a row is cut"))?;
        if rows.last().is_some_and(|(last, _)| *last >= row.0) {
            return Err(SnapshotError::Damaged("rows are out of order"));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn part<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = body.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    *body = rest;
    Some(part)
}

/// Rows of a stream that was read and checked to its end.
#[derive(Debug, Default)]
pub struct Restored(BTreeMap<Vec<u8>, Vec<u8>>);

impl Restored {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.0.len()
    }
}

impl KvRead for Restored {
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self.0.range(from.to_vec()..to.to_vec()) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Takes the rows of one frame.
pub type TakeRows<'a> = dyn FnMut(&[(&[u8], &[u8])]) -> Result<(), SnapshotError> + 'a;

/// Reads a whole stream and checks it, and gives its rows to `take`, a frame at a time; returns how many. Nothing of
/// what `take` got may be used before this has returned.
///
/// # Errors
/// The source or `take` failed, or the stream is not what [`write`] wrote.
pub fn stream(source: &mut dyn Read, take: &mut TakeRows<'_>) -> Result<u64, SnapshotError> {
    let mut magic = [0u8; 8];
    source.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(SnapshotError::Damaged("it does not begin like a snapshot of this version"));
    }
    let (mut count, mut last) = (0, Vec::new());
    for number in 0u64.. {
        let mut len = [0u8; 4];
        source.read_exact(&mut len)?;
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len == 0 {
            check_end(number, source, count)?;
            break;
        }
        if len > FRAME_BYTES_MAX {
            return Err(SnapshotError::Damaged("a frame is too long"));
        }
        let (mut body, mut hash) = (vec![0u8; len], [0u8; 32]);
        source.read_exact(&mut body)?;
        source.read_exact(&mut hash)?;
        let rows = frame_rows(number, hash, &body)?;
        if let (Some((first, _)), true) = (rows.first(), number > 0)
            && last.as_slice() >= *first
        {
            return Err(SnapshotError::Damaged("rows are out of order"));
        }
        if let Some((key, _)) = rows.last() {
            last = key.to_vec();
        }
        count += rows.len() as u64;
        take(&rows)?;
    }
    Ok(count)
}

/// Reads a whole stream into memory and checks it; install it with
/// [`crate::kv::MetaKv::replace_all`].
///
/// # Errors
/// The source failed, or the stream is not what [`write`] wrote.
pub fn read(source: &mut dyn Read) -> Result<Restored, SnapshotError> {
    let mut restored = Restored::default();
    stream(source, &mut |rows| {
        restored.0.extend(rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        Ok(())
    })?;
    Ok(restored)
}

/// Rows of a view.
///
/// # Errors
/// The store failed.
pub fn count(rows: &dyn KvRead) -> KvResult<u64> {
    let mut count = 0;
    rows.scan(&[], &KEYS_END, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// A stream of one frame with any body at all, for the fuzz target.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut stream = MAGIC.to_vec();
    let mut frames = Frames { sink: &mut stream, number: 0, body: body.to_vec() };
    let count = u64::from(!body.is_empty());
    frames.flush().and_then(|()| frames.end(count)).expect("memory takes it");
    stream
}

fn check_hash(number: u64, body: &[u8], source: &mut dyn Read) -> Result<(), SnapshotError> {
    let mut hash = [0u8; 32];
    source.read_exact(&mut hash)?;
    if frame_hash(number, body) == blake3::Hash::from_bytes(hash) {
        Ok(())
    } else {
        Err(SnapshotError::Damaged("a frame's hash differs"))
    }
}

fn check_end(number: u64, source: &mut dyn Read, rows: u64) -> Result<(), SnapshotError> {
    let mut count = [0u8; 8];
    source.read_exact(&mut count)?;
    check_hash(number, &count, source)?;
    if u64::from_le_bytes(count) == rows { Ok(()) } else { Err(SnapshotError::Damaged("the number of rows differs")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{MemoryKv, MetaKv};

    fn filled() -> MemoryKv {
        let kv = MemoryKv::default();
        kv.write(&mut |txn| {
            for i in 0..3000u32 {
                txn.put(&[&[0x20], i.to_be_bytes().as_slice()].concat(), &vec![7; 500 + i as usize % 300])?;
            }
            Ok(())
        })
        .unwrap();
        kv
    }

    #[test]
    fn round_trip_into_an_empty_store() {
        let mut stream = Vec::new();
        let count = write(&*filled().view().unwrap(), &mut stream).unwrap();
        assert_eq!(count, 3000);
        let fresh = MemoryKv::default();
        fresh.replace_all(&read(&mut stream.as_slice()).unwrap()).unwrap();
        let mut again = Vec::new();
        write(&*fresh.view().unwrap(), &mut again).unwrap();
        assert_eq!(stream, again);
    }

    #[test]
    fn cut_flipped_and_reordered_streams_are_refused() {
        let mut stream = Vec::new();
        write(&*filled().view().unwrap(), &mut stream).unwrap();
        for cut in (0..stream.len()).step_by(4099) {
            assert!(read(&mut &stream[..cut]).is_err(), "cut at {cut}");
        }
        for at in (0..stream.len()).step_by(4099) {
            let mut flipped = stream.clone();
            flipped[at] ^= 0x10;
            assert!(read(&mut flipped.as_slice()).is_err(), "flipped at {at}");
        }
        let first = 8 + 4 + usize::try_from(u32::from_le_bytes(stream[8..12].try_into().unwrap())).unwrap() + 32;
        let mut dropped = stream[..8].to_vec();
        dropped.extend_from_slice(&stream[first..]);
        assert!(read(&mut dropped.as_slice()).is_err(), "first frame dropped");
    }
}
