//! A byte buffer whose first byte lies on a 4 KiB boundary, for O_DIRECT writes without a copy.
//!
//! Bodies are copied into it once; chunks, shards and what is sent to drives are slices of it. It
//! uses no unsafe code: a `Vec` is allocated 4 KiB too large and filled with that many zeros up to
//! the first boundary.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use stele_types::limits::{KIB, SEGMENT_ALIGN};

/// Buffers below this come from the allocator and go back to it: it is quick with those.
const POOLED_BYTES_MIN: usize = 128 * KIB;

/// Keeps the memory of dropped buffers for the next ones. Fresh memory costs a page fault for each
/// 4 KiB, several times as much as copying the bytes. Clones share one pool.
#[derive(Clone, Debug, Default)]
pub struct BufferPool {
    /// `None`: keeps nothing.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    idle_bytes_max: usize,
    /// Memory of dropped buffers, the oldest first.
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// A pool that keeps at most this many bytes of unused memory.
    pub fn new(idle_bytes_max: usize) -> Self {
        Self { shared: Some(Arc::new(Shared { idle_bytes_max, idle: Mutex::default() })) }
    }

    /// Bytes of unused memory it keeps now.
    pub fn idle_bytes(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| held(&shared.lock()))
    }

    /// Memory for at least `capacity` bytes, with whatever bytes an earlier owner left.
    fn take(&self, capacity: usize) -> Vec<u8> {
        let fits = |idle: &Vec<u8>| (capacity..=capacity.saturating_mul(2)).contains(&idle.capacity());
        if capacity >= POOLED_BYTES_MIN
            && let Some(shared) = &self.shared
        {
            let mut idle = shared.lock();
            // The newest first: its bytes are likelier to be in a cache.
            if let Some(at) = idle.iter().rposition(fits) {
                return idle.remove(at);
            }
        }
        Vec::with_capacity(capacity)
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let Some(shared) = &self.shared else { return };
        if bytes.capacity() < POOLED_BYTES_MIN || bytes.capacity() > shared.idle_bytes_max {
            return;
        }
        let mut idle = shared.lock();
        let mut spare = shared.idle_bytes_max.saturating_sub(held(&idle));
        let mut freed = Vec::new();
        while spare < bytes.capacity() && !idle.is_empty() {
            let oldest = idle.remove(0);
            spare += oldest.capacity();
            freed.push(oldest);
        }
        idle.push(bytes);
        // Giving memory back to the system takes long: not under the lock.
        drop(idle);
        drop(freed);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // A list of free memory is whole after any panic of another thread.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(idle: &[Vec<u8>]) -> usize {
    idle.iter().map(Vec::capacity).sum()
}

/// A growing buffer with an aligned start.
#[derive(Debug, Default)]
pub struct PackBuffer {
    /// `bytes[start..]` is the content. Never grown past its capacity, which would move it.
    bytes: Vec<u8>,
    start: usize,
    pool: BufferPool,
}

impl PackBuffer {
    /// An empty buffer with room for `capacity` bytes; growing past them costs a copy.
    pub fn with_capacity(capacity: usize, pool: &BufferPool) -> Self {
        if capacity == 0 {
            return Self { bytes: Vec::new(), start: 0, pool: pool.clone() };
        }
        let mut bytes = pool.take(capacity + SEGMENT_ALIGN);
        let start = bytes.as_ptr().align_offset(SEGMENT_ALIGN);
        bytes.resize(start, 0);
        Self { bytes, start, pool: pool.clone() }
    }

    /// A buffer of `len` bytes that the caller overwrites, all of them: they are zeros or what an
    /// earlier buffer of the pool held.
    pub fn to_overwrite(len: usize, pool: &BufferPool) -> Self {
        let mut bytes = pool.take(len + SEGMENT_ALIGN);
        if bytes.is_empty() {
            // Zeros come from the system for nothing.
            bytes = vec![0; len + SEGMENT_ALIGN];
        }
        let start = bytes.as_ptr().align_offset(SEGMENT_ALIGN);
        bytes.resize(start + len, 0);
        Self { bytes, start, pool: pool.clone() }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it can hold without moving.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() - self.start
    }

    /// The bytes held.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The bytes held, to change in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Appends `data`.
    pub fn extend_from_slice(&mut self, data: &[u8]) {
        self.reserve(data.len());
        self.bytes.extend_from_slice(data);
    }

    /// Zero-pads to `len` bytes; does nothing if it is longer.
    pub fn pad_to(&mut self, len: usize) {
        if let Some(more) = len.checked_sub(self.len()) {
            self.reserve(more);
            self.bytes.resize(self.start + len, 0);
        }
    }

    /// Drops everything behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    /// Makes room for `more` bytes, at least doubling a buffer that has to move.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.len() + more;
        if needed > self.capacity() {
            let mut larger = Self::with_capacity(needed.max(2 * self.len()), &self.pool);
            larger.bytes.extend_from_slice(self.as_slice());
            *self = larger;
        }
    }

    /// The bytes as `Bytes`, without a copy: the first one stays on its boundary. The memory goes
    /// back to the pool with the last slice of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for PackBuffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

impl AsRef<[u8]> for PackBuffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(bytes: &[u8]) -> bool {
        bytes.as_ptr().align_offset(SEGMENT_ALIGN) == 0
    }

    #[test]
    fn start_stays_aligned_through_growth_and_freeze() {
        for pool in [BufferPool::default(), BufferPool::new(1 << 20)] {
            let mut buffer = PackBuffer::with_capacity(10, &pool);
            let mut expected = Vec::new();
            for round in 0..200u32 {
                let piece = vec![round as u8; (round as usize * 37) % 5000];
                buffer.extend_from_slice(&piece);
                expected.extend_from_slice(&piece);
                assert!(aligned(buffer.as_slice()));
            }
            buffer.pad_to(expected.len() + 9000);
            expected.resize(expected.len() + 9000, 0);
            let at = buffer.as_slice().as_ptr();
            let frozen = buffer.freeze();
            assert!(aligned(&frozen));
            assert_eq!(frozen.as_ptr(), at, "freezing copies nothing");
            assert_eq!(frozen, expected);
        }
    }

    #[test]
    fn overwritten_and_truncated() {
        let mut buffer = PackBuffer::to_overwrite(5000, &BufferPool::default());
        assert!(aligned(buffer.as_slice()));
        assert_eq!(buffer.len(), 5000);
        buffer.as_mut_slice()[4] = 7;
        buffer.truncate(5);
        assert_eq!(buffer.as_slice()[4], 7);
        assert!(!buffer.is_empty());
        assert!(PackBuffer::default().is_empty());
    }

    #[test]
    fn memory_comes_back_with_the_last_slice_and_is_used_again() {
        let pool = BufferPool::new(10 << 20);
        let mut buffer = PackBuffer::with_capacity(1 << 20, &pool);
        buffer.extend_from_slice(&[7; 1000]);
        let frozen = buffer.freeze();
        let at = frozen.as_ptr();
        let slice = frozen.slice(10..20);
        drop(frozen);
        assert_eq!(pool.idle_bytes(), 0, "a slice still holds it");
        drop(slice);
        assert!(pool.idle_bytes() >= 1 << 20);
        let mut again = PackBuffer::with_capacity(1 << 20, &pool);
        assert_eq!(again.as_slice().as_ptr(), at);
        assert!(again.is_empty());
        again.pad_to(1 << 20);
        assert!(again.as_slice().iter().all(|byte| *byte == 0), "padding is zeros, not old bytes");
        let other = PackBuffer::to_overwrite(1 << 20, &pool);
        assert_ne!(other.as_slice().as_ptr(), at);
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_limit() {
        let pool = BufferPool::new(3 << 20);
        let buffers: Vec<PackBuffer> = (0..9).map(|_| PackBuffer::with_capacity(1 << 20, &pool)).collect();
        drop(buffers);
        assert!((1..=3 << 20).contains(&pool.idle_bytes()));
        drop(PackBuffer::with_capacity(8 << 20, &pool));
        drop(PackBuffer::with_capacity(100, &pool));
        assert!((1..=3 << 20).contains(&pool.idle_bytes()), "too large and too small ones are not kept");
        assert!(PackBuffer::with_capacity(300 << 10, &pool).capacity() < 1 << 20, "nor wasted on small ones");
    }
}
