//! Content-defined chunk boundaries: FastCDC v2020 with the gear table, masks and limits of
//! docs/formats/chunking.md, scanned as bytes arrive.
//!
//! The `fastcdc` crate scans a whole window per call, so a stream fed to it in small pieces would be
//! scanned many times over. This cutter keeps its place between pieces. It uses the crate's tables
//! and masks, and a test holds its boundaries equal to the crate's for arbitrary bytes and pieces.

use std::borrow::Cow;
use std::ops::Range;

use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};
use stele_types::limits::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};

/// Name of the chunker and its parameters. A change of any of them needs a new name: boundaries
/// decide what deduplicates.
pub const CHUNKER: &str = "fastcdc-v2020-256k-1m-4m-n1";

const NORMALIZATION: Normalization = Normalization::Level1;

/// Finds the end of one chunk after another.
#[derive(Debug)]
pub struct Cutter {
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
    strict: u64,
    relaxed: u64,
    /// Bytes of the current chunk that were judged. Even, because bytes are judged in pairs.
    scanned: usize,
    hash: u64,
}

impl Default for Cutter {
    fn default() -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(0);
        let (strict, relaxed) = select_masks(CHUNK_BYTES_AVERAGE, NORMALIZATION);
        Self { gear, gear_shifted, strict, relaxed, scanned: CHUNK_BYTES_MIN, hash: 0 }
    }
}

impl Cutter {
    /// Looks for the end of the chunk whose bytes so far are `chunk`; every call for one chunk
    /// passes the same bytes and possibly more. `Some(len)`: the chunk ends after `len` bytes, and
    /// the next call is about the chunk that begins there. `None`: more bytes are needed; if there
    /// are none, the rest is the last chunk and [`Self::reset`] is called.
    pub fn scan(&mut self, chunk: &[u8]) -> Option<usize> {
        let window = chunk.get(..CHUNK_BYTES_MAX).unwrap_or(chunk);
        let center = window.len().min(CHUNK_BYTES_AVERAGE);
        let found = self
            .scan_with(window, self.scanned..center, self.strict)
            .or_else(|| self.scan_with(window, self.scanned..window.len(), self.relaxed));
        let cut = found.or((window.len() == CHUNK_BYTES_MAX).then_some(CHUNK_BYTES_MAX));
        if cut.is_some() {
            self.reset();
        }
        cut
    }

    /// Forgets the current chunk: the next call of [`Self::scan`] begins a new one.
    pub fn reset(&mut self) {
        self.scanned = CHUNK_BYTES_MIN;
        self.hash = 0;
    }

    /// Judges whole pairs within `range`. The first byte of a pair is added shifted by one and
    /// judged with a shifted mask, which saves a shift per byte.
    fn scan_with(&mut self, window: &[u8], range: Range<usize>, mask: u64) -> Option<usize> {
        let bytes = window.get(range.clone())?;
        let gear: &[u64; 256] = self.gear.as_ref().try_into().ok()?;
        let shifted: &[u64; 256] = self.gear_shifted.as_ref().try_into().ok()?;
        let mask_shifted = mask << 1;
        let mut hash = self.hash;
        let pairs = bytes.chunks_exact(2);
        let judged = bytes.len() - pairs.remainder().len();
        for (at, pair) in pairs.enumerate() {
            hash = (hash << 2).wrapping_add(shifted[usize::from(pair[0])]);
            if hash & mask_shifted == 0 {
                return Some(range.start + 2 * at);
            }
            hash = hash.wrapping_add(gear[usize::from(pair[1])]);
            if hash & mask == 0 {
                return Some(range.start + 2 * at + 1);
            }
        }
        self.hash = hash;
        self.scanned = range.start + judged;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lumpy, noise};
    use fastcdc::v2020::FastCDC;
    use proptest::prelude::*;

    /// Chunk lengths of `data` when it arrives in pieces of the given lengths, over and over.
    fn lengths(data: &[u8], pieces: &[usize]) -> Vec<usize> {
        let mut cutter = Cutter::default();
        let (mut start, mut seen) = (0, 0);
        let mut out = Vec::new();
        for piece in pieces.iter().cycle() {
            if seen == data.len() {
                break;
            }
            seen = data.len().min(seen + piece);
            while let Some(len) = cutter.scan(&data[start..seen]) {
                out.push(len);
                start += len;
            }
        }
        if start < data.len() {
            out.push(data.len() - start);
        }
        out
    }

    fn crate_lengths(data: &[u8]) -> Vec<usize> {
        let chunks = FastCDC::with_level(data, CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, NORMALIZATION);
        chunks.map(|chunk| chunk.length).collect()
    }

    #[test]
    fn golden_cut_points() {
        let golden = [491_952, 1_049_634, 651_579, 532_654, 3_140_351, 1_903_252, 1_268_433, 1_766_743, 1_778_314];
        assert_eq!(lengths(&noise(1, 12 << 20), &[65_536]), golden);
        let golden = [3_131_433, 2_086_938, 4_194_304, 1_398_116, 1_772_121];
        assert_eq!(lengths(&lumpy(2, 12 << 20), &[65_536]), golden);
        assert_eq!(lengths(&vec![0; 9 << 20], &[65_536]), [4 << 20, 4 << 20, 1 << 20]);
    }

    #[test]
    fn bodies_up_to_the_minimum_are_one_chunk() {
        for len in [1, 2, 1000, CHUNK_BYTES_MIN - 1, CHUNK_BYTES_MIN] {
            assert_eq!(lengths(&noise(3, len), &[999]), [len]);
        }
        assert!(lengths(&[], &[10]).is_empty());
    }

    #[test]
    fn average_is_near_its_name() {
        let cuts = lengths(&noise(4, 64 << 20), &[1 << 20]);
        // Nothing is cut before the minimum, so the mean lies above the nominal average.
        let mean = (64 << 20) / cuts.len();
        assert!((CHUNK_BYTES_AVERAGE..CHUNK_BYTES_AVERAGE * 3 / 2).contains(&mean), "{mean}");
        let inner = &cuts[..cuts.len() - 1];
        assert!(inner.iter().all(|len| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(len)));
    }

    #[test]
    fn an_edit_moves_only_the_boundaries_around_it() {
        let before = noise(5, 16 << 20);
        let mut after = before.clone();
        after.splice(7 << 20..7 << 20, *b"eleven more");
        let ends = |data: &[u8]| {
            let cuts = lengths(data, &[1 << 16]).into_iter();
            cuts.scan(0, |end, len| {
                *end += len;
                Some(data.len() - *end)
            })
            .collect::<Vec<usize>>()
        };
        let (old, new) = (ends(&before), ends(&after));
        let tail = 7 << 20;
        let kept = |from_end: &&usize| **from_end < tail;
        let same = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(same + 2 >= old.iter().filter(kept).count(), "{same} boundaries behind the edit stayed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn boundaries_are_those_of_the_crate_for_any_pieces(
            seed in 0u64..1000, len in 0usize..10_000_000, smooth: bool,
            pieces in prop::collection::vec(prop_oneof![1usize..100_000, Just(1), Just(4 << 20)], 4..20),
        ) {
            let data = if smooth { lumpy(seed, len) } else { noise(seed, len) };
            prop_assume!(pieces.iter().sum::<usize>() > 50_000);
            prop_assert_eq!(lengths(&data, &pieces), crate_lengths(&data));
        }
    }
}
