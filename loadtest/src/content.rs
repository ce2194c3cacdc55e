//! Object contents derived from (seed, key, generation), so that any byte range of any read can be
//! checked without having stored what was written.
//!
//! Counter-based (SplitMix64 over the word index): random access, no state, several GB/s.

use bytes::{Bytes, BytesMut};

const WORD: u64 = 8;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bytes of one generation of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    base: u64,
}

impl Content {
    /// Contents of `key` at `generation` in the run with `seed`.
    pub(crate) fn new(seed: u64, key: &str, generation: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(&generation.to_le_bytes());
        hasher.update(key.as_bytes());
        let mut base = [0u8; 8];
        base.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self { base: u64::from_le_bytes(base) }
    }

    fn word(self, index: u64) -> [u8; 8] {
        let mut z = self.base.wrapping_add(index.wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }

    /// Bytes `[offset, offset + len)`.
    pub(crate) fn bytes(self, offset: u64, len: usize) -> Bytes {
        let skip = (offset % WORD) as usize;
        let words = (skip + len).div_ceil(WORD as usize);
        let mut out = BytesMut::with_capacity(words * WORD as usize);
        let first = offset / WORD;
        for index in 0..words as u64 {
            out.extend_from_slice(&self.word(first + index));
        }
        out.freeze().slice(skip..skip + len)
    }

    /// Where `data`, read at `offset`, first differs from what was written.
    pub(crate) fn first_difference(self, offset: u64, data: &[u8]) -> Option<u64> {
        const STEP: usize = 64 * 1024;
        let mut at = offset;
        for piece in data.chunks(STEP) {
            let expected = self.bytes(at, piece.len());
            if expected != piece {
                let same = expected.iter().zip(piece).take_while(|(a, b)| a == b).count();
                return Some(at + same as u64);
            }
            at += piece.len() as u64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_equals_the_same_range_of_the_whole() {
        let content = Content::new(7, "a/b", 3);
        let whole = content.bytes(0, 1000);
        for (offset, len) in [(0, 1), (1, 7), (7, 2), (8, 8), (993, 7), (500, 0), (3, 997)] {
            assert_eq!(content.bytes(offset as u64, len), whole.slice(offset..offset + len), "{offset}+{len}");
        }
    }

    #[test]
    fn every_flipped_byte_is_found_where_it_is() {
        let content = Content::new(7, "a/b", 3);
        for at in [0usize, 1, 65_535, 65_536, 99_999] {
            let mut data = content.bytes(10, 100_000).to_vec();
            assert_eq!(content.first_difference(10, &data), None);
            data[at] ^= 1;
            assert_eq!(content.first_difference(10, &data), Some(10 + at as u64));
        }
    }

    #[test]
    fn seed_key_and_generation_each_change_the_content() {
        let base = Content::new(1, "k", 1).bytes(0, 64);
        for other in [Content::new(2, "k", 1), Content::new(1, "l", 1), Content::new(1, "k", 2)] {
            assert_ne!(base, other.bytes(0, 64));
        }
    }
}
