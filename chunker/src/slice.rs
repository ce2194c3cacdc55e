//! Proof for a range inside one chunk: a bao slice over 16 KiB groups, whose root is the chunk id.
//!
//! Made by whoever holds the whole chunk, checked by whoever holds only its id: ranged reads and
//! audits. A slice covers whole groups around the range. Shards of packs have the same kind of proof: a
//! shard root is BLAKE3 of the shard, as a chunk id is of the chunk.

use std::ops::Range;

use bao_tree::io::outboard::PreOrderMemOutboard;
use bao_tree::io::round_up_to_chunks;
use bao_tree::io::sync::{DecodeResponseIter, encode_ranges_validated};
use bao_tree::io::{BaoContentItem, EncodeError};
use bao_tree::{BaoTree, BlockSize, ByteRanges, ChunkRanges};
use bytes::Bytes;
use stele_types::ids::{ChunkId, ShardRoot};
use stele_types::limits::{CHUNK_BYTES_MAX, PACK_BYTES_MAX};

/// Bytes of one group: the smallest piece that a slice proves.
pub const GROUP_BYTES: u32 = 16 * 1024;
const BLOCK: BlockSize = BlockSize::from_chunk_log(4);

/// A slice can't be made, or does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SliceError {
    /// The range is empty or reaches behind the end, or no chunk or shard is that long.
    #[error("bytes {start}..{end} are not a range of a chunk or shard of {len} bytes")]
    Range {
        /// First byte.
        start: u32,
        /// Byte behind the last.
        end: u32,
        /// Bytes of the chunk or shard.
        len: u32,
    },
    /// The slice leads to another hash, or is cut short.
    #[error("the slice is not of this chunk or shard: {0}; read another copy")]
    Mismatch(String),
    /// Bytes behind the slice's end.
    #[error("{0} bytes behind the end of the slice")]
    Trailing(usize),
}

/// Longest input of one kind of slice, bytes.
#[derive(Clone, Copy)]
struct Longest(usize);
const CHUNK: Longest = Longest(CHUNK_BYTES_MAX);
const SHARD: Longest = Longest(PACK_BYTES_MAX);

fn group_ranges(len: u32, range: &Range<u32>, longest: Longest) -> Result<ChunkRanges, SliceError> {
    if range.start >= range.end || range.end > len || len as usize > longest.0 {
        return Err(SliceError::Range { start: range.start, end: range.end, len });
    }
    let start = u64::from(range.start / GROUP_BYTES) * u64::from(GROUP_BYTES);
    let end = u64::from(range.end.div_ceil(GROUP_BYTES)) * u64::from(GROUP_BYTES);
    Ok(round_up_to_chunks(&ByteRanges::from(start..end.min(u64::from(len)))))
}

fn prove(bytes: &[u8], range: Range<u32>, longest: Longest) -> Result<Vec<u8>, SliceError> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let ranges = group_ranges(len, &range, longest)?;
    let outboard = PreOrderMemOutboard::create(bytes, BLOCK);
    let mut out = Vec::new();
    encode_ranges_validated(bytes, &outboard, &ranges, &mut out)
        .map_err(|error: EncodeError| SliceError::Mismatch(error.to_string()))?;
    Ok(out)
}

/// The slice for `range` of a chunk.
///
/// # Errors
/// [`SliceError::Range`].
pub fn prove_slice(chunk: &[u8], range: Range<u32>) -> Result<Vec<u8>, SliceError> {
    prove(chunk, range, CHUNK)
}

/// The slice for `range` of a shard.
///
/// # Errors
/// [`SliceError::Range`].
pub fn prove_shard_slice(shard: &[u8], range: Range<u32>) -> Result<Vec<u8>, SliceError> {
    prove(shard, range, SHARD)
}

/// Checks a slice against the id and length of its chunk and returns exactly the bytes `range`.
/// The length is taken as known (the object tree proves it): a slice proves it only where it
/// reaches the chunk's end.
///
/// # Errors
/// [`SliceError`]: then none of the slice's bytes may be used.
pub fn verify_slice(id: &ChunkId, len: u32, range: Range<u32>, slice: &[u8]) -> Result<Bytes, SliceError> {
    let ranges = group_ranges(len, &range, CHUNK)?;
    verify(*id.as_bytes(), len, (range, &ranges), slice)
}

/// As [`verify_slice`], against the root and length of a shard.
///
/// # Errors
/// As [`verify_slice`].
pub fn verify_shard_slice(root: &ShardRoot, len: u32, range: Range<u32>, slice: &[u8]) -> Result<Bytes, SliceError> {
    let ranges = group_ranges(len, &range, SHARD)?;
    verify(*root.as_bytes(), len, (range, &ranges), slice)
}

fn verify(
    root: [u8; 32],
    len: u32,
    (range, ranges): (Range<u32>, &ChunkRanges),
    slice: &[u8],
) -> Result<Bytes, SliceError> {
    let tree = BaoTree::new(u64::from(len), BLOCK);
    let mut rest = slice;
    let mut out = Vec::with_capacity(slice.len().min((range.end - range.start) as usize));
    for item in DecodeResponseIter::new(blake3::Hash::from_bytes(root), tree, &mut rest, ranges) {
        let item = item.map_err(|error| SliceError::Mismatch(error.to_string()))?;
        if let BaoContentItem::Leaf(leaf) = item {
            // Groups come in order; only the first and the last reach out of the range.
            let begin = u64::from(range.start).saturating_sub(leaf.offset) as usize;
            let end = (u64::from(range.end).saturating_sub(leaf.offset) as usize).min(leaf.data.len());
            out.extend_from_slice(leaf.data.get(begin..end).unwrap_or_default());
        }
    }
    if !rest.is_empty() {
        return Err(SliceError::Trailing(rest.len()));
    }
    if out.len() != (range.end - range.start) as usize {
        return Err(SliceError::Mismatch("the slice does not hold the range".into()));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use proptest::prelude::*;
    use stele_types::limits::SHARD_ALIGN;

    fn id(chunk: &[u8]) -> ChunkId {
        ChunkId::from_bytes(*blake3::hash(chunk).as_bytes())
    }

    #[test]
    fn a_slice_of_a_large_chunk_is_small() {
        let chunk = noise(1, 4 << 20);
        let slice = prove_slice(&chunk, 2_000_000..2_000_100).unwrap();
        assert!(slice.len() < 16 * 1024 + 64 * 10, "{}", slice.len());
        assert_eq!(
            verify_slice(&id(&chunk), 4 << 20, 2_000_000..2_000_100, &slice).unwrap(),
            chunk[2_000_000..2_000_100]
        );
    }

    #[test]
    fn changed_cut_or_longer_slices_are_refused() {
        let chunk = noise(2, 100_000);
        let (id, len, range) = (id(&chunk), 100_000, 40_000..40_010);
        let slice = prove_slice(&chunk, range.clone()).unwrap();
        for at in (0..slice.len()).step_by(97) {
            let mut bad = slice.clone();
            bad[at] ^= 1;
            assert!(verify_slice(&id, len, range.clone(), &bad).is_err(), "flip at {at}");
            assert!(verify_slice(&id, len, range.clone(), &slice[..at]).is_err(), "cut to {at}");
        }
        let long = [&slice[..], &[0]].concat();
        assert_eq!(verify_slice(&id, len, range.clone(), &long), Err(SliceError::Trailing(1)));
        assert!(verify_slice(&id, len / 2, range.clone(), &slice).is_err(), "another length");
        assert!(verify_slice(&id, len, 60_000..60_010, &slice).is_err(), "another range");
        for (start, end) in [(5, 5), (7, 3), (0, 100_001)] {
            assert!(matches!(prove_slice(&chunk, start..end), Err(SliceError::Range { .. })));
        }
    }

    #[test]
    fn a_shard_may_be_longer_than_any_chunk() {
        let shard = noise(3, CHUNK_BYTES_MAX + SHARD_ALIGN);
        let (len, range) = ((CHUNK_BYTES_MAX + SHARD_ALIGN) as u32, CHUNK_BYTES_MAX as u32..CHUNK_BYTES_MAX as u32 + 9);
        let root = crate::shards::root_of(&shard);
        assert!(matches!(prove_slice(&shard, range.clone()), Err(SliceError::Range { .. })));
        let mut slice = prove_shard_slice(&shard, range.clone()).unwrap();
        assert_eq!(verify_shard_slice(&root, len, range.clone(), &slice).unwrap(), shard[CHUNK_BYTES_MAX..][..9]);
        assert!(verify_shard_slice(&crate::shards::root_of(b"another"), len, range.clone(), &slice).is_err());
        slice[100] ^= 1;
        assert!(verify_shard_slice(&root, len, range, &slice).is_err());
        let longer = PACK_BYTES_MAX as u32 + 1;
        assert!(matches!(verify_shard_slice(&root, longer, 0..9, &slice), Err(SliceError::Range { .. })));
    }

    proptest! {
        #[test]
        fn any_range_of_any_chunk(len in 1u32..300_000, a: prop::sample::Index, b: prop::sample::Index) {
            let chunk = noise(u64::from(len), len as usize);
            let (a, b) = (a.index(len as usize) as u32, b.index(len as usize) as u32);
            let range = a.min(b)..a.max(b) + 1;
            let slice = prove_slice(&chunk, range.clone()).unwrap();
            let got = verify_slice(&id(&chunk), len, range.clone(), &slice).unwrap();
            prop_assert_eq!(got, &chunk[range.start as usize..range.end as usize]);
        }
    }
}
