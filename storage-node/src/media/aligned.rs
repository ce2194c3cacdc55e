//! Memory aligned for O_DIRECT, without unsafe code: a little too much is allocated and the
//! aligned part of it used.

use bytes::Bytes;
use stele_types::limits::SEGMENT_ALIGN;

/// A zeroed buffer whose first byte is 4 KiB aligned.
#[derive(Debug)]
pub struct AlignedBuf {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0u8; len + SEGMENT_ALIGN];
        let start = memory.as_ptr().align_offset(SEGMENT_ALIGN).min(SEGMENT_ALIGN);
        Self { memory, start, len }
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// Shared and immutable from here on; nothing is copied.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.memory).slice(self.start..self.start + self.len)
    }
}

/// The bytes begin at a 4 KiB boundary of memory.
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(SEGMENT_ALIGN) == 0
}

/// `value` rounded down to the alignment of segments.
pub const fn align_down(value: u64) -> u64 {
    value - value % SEGMENT_ALIGN as u64
}

/// `value` rounded up to the alignment of segments.
pub const fn align_up(value: u64) -> u64 {
    value.next_multiple_of(SEGMENT_ALIGN as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_stay_so_when_shared() {
        for len in [0usize, 1, 4096, 65_536, 1 << 20] {
            let mut buf = AlignedBuf::zeroed(len);
            assert!(is_aligned(buf.bytes_mut()) || len == 0);
            buf.bytes_mut().fill(7);
            let bytes = buf.into_bytes();
            assert_eq!(bytes.len(), len);
            assert!(is_aligned(&bytes) || len == 0);
        }
    }
}
