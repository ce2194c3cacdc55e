//! Read cache of verified chunks and manifest pages, in memory, keyed by chunk id.
//!
//! The key is the BLAKE3 of the value, so an entry can't be old. Only bytes that were verified go in.

use std::sync::Arc;

use bytes::Bytes;
use foyer::{Cache, CacheBuilder};
use stele_types::ids::ChunkId;

/// Chunks below this are copied into the cache: a slice would keep the larger buffer it came from.
const COPY_BELOW_BYTES: usize = 256 * 1024;
/// Rough cost of an entry besides its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// Bytes of one chunk, in order: several pieces where it lies across shards.
pub(crate) type Pieces = Arc<[Bytes]>;

/// Bytes of all pieces together.
pub(crate) fn len_of(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// The cache; without capacity it keeps nothing.
pub(crate) struct ChunkCache {
    cache: Option<Cache<ChunkId, Pieces>>,
    entry_bytes_max: usize,
}

impl std::fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkCache").field("on", &self.cache.is_some()).finish_non_exhaustive()
    }
}

impl ChunkCache {
    /// A cache of about `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self { cache: None, entry_bytes_max: 0 };
        }
        // Few shards, so that one shard's share holds several of the largest chunks.
        let shards = (capacity / (64 * 1024 * 1024)).clamp(1, 8);
        let cache = CacheBuilder::new(capacity)
            .with_shards(shards)
            .with_weighter(|_: &ChunkId, pieces: &Pieces| len_of(pieces) + ENTRY_OVERHEAD_BYTES)
            .build();
        Self { cache: Some(cache), entry_bytes_max: capacity / shards / 2 }
    }

    pub(crate) fn get(&self, id: &ChunkId) -> Option<Pieces> {
        Some(Arc::clone(self.cache.as_ref()?.get(id)?.value()))
    }

    /// Keeps verified bytes.
    pub(crate) fn put(&self, id: ChunkId, pieces: &Pieces) {
        let Some(cache) = &self.cache else { return };
        let len = len_of(pieces);
        if len > self.entry_bytes_max {
            return;
        }
        let kept: Pieces =
            if len < COPY_BELOW_BYTES { Arc::from([Bytes::from(pieces.concat())]) } else { Arc::clone(pieces) };
        cache.insert(id, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_within_capacity_and_none_without() {
        let pieces: Pieces = Arc::from([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let id = |n: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            ChunkId::from_bytes(bytes)
        };
        let off = ChunkCache::new(0);
        off.put(id(0), &pieces);
        assert!(off.get(&id(0)).is_none());
        let cache = ChunkCache::new(64 * 1024);
        for n in 0..5000 {
            cache.put(id(n), &pieces);
        }
        let kept = (0..5000).filter(|n| cache.get(&id(*n)).is_some()).count();
        assert!(kept > 0 && kept <= 64 * 1024 / ENTRY_OVERHEAD_BYTES, "{kept}");
        assert_eq!(cache.get(&id(4999)).unwrap().concat(), b"abc");
    }
}
