//! The chunks file: length and id of each chunk of an object, in order. It may have gigabytes, so it is
//! written and read as a stream. Layout: docs/formats/bundle.md.

use std::io::{self, BufReader, Read};

use stele_chunker::tree::Leaf;
use stele_types::ids::ChunkId;
use stele_types::limits::{CHUNK_BYTES_MAX, OBJECT_BYTES_MAX};

use super::BUFFER;
use super::files::read_full;

const MAGIC: &[u8; 8] = b"stelebch";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const ROW_BYTES: usize = 36;

/// The first bytes of every chunks file.
pub const HEADER: [u8; HEADER_BYTES] = {
    let mut header = [0; HEADER_BYTES];
    let (mut at, version) = (0, VERSION.to_le_bytes());
    while at < MAGIC.len() {
        header[at] = MAGIC[at];
        at += 1;
    }
    [header[at], header[at + 1]] = version;
    header
};

/// Bytes of a chunks file with this many chunks; `None` if no file is that long.
pub const fn chunks_file_len(chunks: u64) -> Option<u64> {
    match chunks.checked_mul(ROW_BYTES as u64) {
        Some(rows) => rows.checked_add(HEADER_BYTES as u64),
        None => None,
    }
}

/// Why bytes are not a chunks file.
#[derive(Debug, thiserror::Error)]
pub enum ChunksFileError {
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// Another magic, version, or bits that are not zero.
    #[error("does not begin as a chunks file of version {VERSION} does")]
    Header,
    /// The file ends inside a row.
    #[error("ends inside the row of chunk {index}")]
    Short {
        /// Which chunk, from 0.
        index: u64,
    },
    /// A length that no chunk has, or the sum of lengths is longer than any object.
    #[error("chunk {index} has a length that no chunk has")]
    Length {
        /// Which chunk, from 0.
        index: u64,
    },
}

/// One row.
///
/// # Errors
/// [`ChunksFileError::Length`], with index 0, for a length that no chunk has.
pub fn encode_row(leaf: &Leaf) -> Result<[u8; ROW_BYTES], ChunksFileError> {
    let len = u32::try_from(leaf.len).ok().filter(|len| (1..=CHUNK_BYTES_MAX).contains(&(*len as usize)));
    let mut row = [0; ROW_BYTES];
    let (head, id) = row.split_at_mut(4);
    head.copy_from_slice(&len.ok_or(ChunksFileError::Length { index: 0 })?.to_le_bytes());
    id.copy_from_slice(leaf.id.as_bytes());
    Ok(row)
}

/// Reads a chunks file row by row, holding one buffer.
#[derive(Debug)]
pub struct ChunksFile<R> {
    reader: BufReader<R>,
    index: u64,
    bytes: u64,
}

impl<R: Read> ChunksFile<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ChunksFileError::Header`], [`ChunksFileError::Io`].
    pub fn open(reader: R) -> Result<Self, ChunksFileError> {
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        let mut header = [0; HEADER_BYTES];
        if read_full(&mut reader, &mut header)? != HEADER_BYTES || header != HEADER {
            return Err(ChunksFileError::Header);
        }
        Ok(Self { reader, index: 0, bytes: 0 })
    }

    /// The next chunk; `None` behind the last.
    ///
    /// # Errors
    /// [`ChunksFileError`].
    pub fn next_leaf(&mut self) -> Result<Option<Leaf>, ChunksFileError> {
        let mut row = [0; ROW_BYTES];
        match read_full(&mut self.reader, &mut row)? {
            0 => return Ok(None),
            ROW_BYTES => {}
            _ => return Err(ChunksFileError::Short { index: self.index }),
        }
        let wrong = ChunksFileError::Length { index: self.index };
        let Some((head, id)) = row.split_first_chunk::<4>() else { return Err(wrong) };
        let (len, Ok(id)) = (u32::from_le_bytes(*head), <[u8; 32]>::try_from(id)) else { return Err(wrong) };
        self.bytes = self.bytes.saturating_add(u64::from(len));
        if !(1..=CHUNK_BYTES_MAX).contains(&(len as usize)) || self.bytes > OBJECT_BYTES_MAX {
            return Err(wrong);
        }
        self.index += 1;
        Ok(Some(Leaf { id: ChunkId::from_bytes(id), len: u64::from(len) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(bytes: &[u8]) -> Result<Vec<Leaf>, ChunksFileError> {
        let mut file = ChunksFile::open(bytes)?;
        let mut leaves = Vec::new();
        while let Some(leaf) = file.next_leaf()? {
            leaves.push(leaf);
        }
        Ok(leaves)
    }

    fn leaf(n: u8, len: u64) -> Leaf {
        Leaf { id: ChunkId::from_bytes([n; 32]), len }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = HEADER.to_vec();
        bytes.extend(encode_row(&leaf(0x11, 0x0102)).unwrap());
        bytes.extend(encode_row(&leaf(0x22, CHUNK_BYTES_MAX as u64)).unwrap());
        let expected =
            ["7374656c65626368", "0100", "000000000000", "02010000", &"11".repeat(32), "00004000", &"22".repeat(32)];
        assert_eq!(hex::encode(&bytes), expected.concat());
        assert_eq!(chunks_file_len(2), Some(bytes.len() as u64));
        assert_eq!(leaves(&bytes).unwrap(), [leaf(0x11, 0x0102), leaf(0x22, CHUNK_BYTES_MAX as u64)]);
        assert_eq!(leaves(&HEADER).unwrap(), []);
        assert_eq!(chunks_file_len(u64::MAX / 36 + 1), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        let mut bytes = HEADER.to_vec();
        bytes.extend(encode_row(&leaf(0x11, 5)).unwrap());
        for at in 0..HEADER_BYTES {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(matches!(leaves(&changed), Err(ChunksFileError::Header)), "byte {at}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(leaves(&bytes[..cut]).is_err(), cut != HEADER_BYTES, "cut to {cut}");
        }
        for len in [0, CHUNK_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut changed = bytes.clone();
            changed[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&len.to_le_bytes());
            assert!(matches!(leaves(&changed), Err(ChunksFileError::Length { index: 0 })), "{len}");
            assert!(encode_row(&leaf(1, u64::from(len))).is_err());
        }
    }
}
