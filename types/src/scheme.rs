//! Erasure-coding schemes: `rs-K-M`, and how a pack's shards are sized.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{SHARD_ALIGN, SHARD_BYTES_MIN_FOR_SPLIT, SHARDS_MAX};

/// k data shards and m parity shards. `rs-1-m` is replication through the same code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Scheme {
    k: u8,
    m: u8,
}

impl Scheme {
    /// `None` unless 1 <= k, and k + m fits a placement group.
    pub const fn new(k: u8, m: u8) -> Option<Self> {
        if k == 0 || k as usize + m as usize > SHARDS_MAX { None } else { Some(Self { k, m }) }
    }

    /// Default scheme for a number of failure domains (DESIGN.md section 6).
    pub const fn for_domains(domains: usize) -> Self {
        let (k, m) = match domains {
            0 | 1 => (1, 0),
            2 => (1, 1),
            3..=5 => (1, 2),
            6..=11 => (4, 2),
            _ => (8, 4),
        };
        Self { k, m }
    }

    /// Data shards.
    pub const fn k(self) -> usize {
        self.k as usize
    }

    /// Parity shards: how many shards may be lost.
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// All shards.
    pub const fn shards(self) -> usize {
        self.k as usize + self.m as usize
    }

    /// The scheme a pack of `payload_len` bytes gets in a PG of scheme `self` when `healthy` of its
    /// slots answer: the largest k' in {1, 2, 4, .., k} with shards of at least
    /// [`SHARD_BYTES_MIN_FOR_SPLIT`] that the healthy slots allow, m unchanged. `None` if fewer than
    /// 1 + m slots are healthy.
    pub const fn for_payload(self, payload_len: usize, healthy: usize) -> Option<Self> {
        if healthy < 1 + self.m() {
            return None;
        }
        let mut best = 1u8;
        let mut candidate = 1u8;
        while candidate <= self.k {
            let fits = candidate as usize + self.m() <= healthy;
            let splits = payload_len.div_ceil(candidate as usize) >= SHARD_BYTES_MIN_FOR_SPLIT;
            if fits && (splits || candidate == 1) {
                best = candidate;
            }
            // k itself need not be a power of two; it is tried last.
            candidate = if candidate < self.k && candidate * 2 > self.k { self.k } else { candidate.saturating_mul(2) };
        }
        Some(Self { k: best, m: self.m })
    }

    /// Shard length for a payload: ceil(payload / k) rounded up to [`SHARD_ALIGN`].
    pub const fn shard_len(self, payload_len: usize) -> usize {
        payload_len.div_ceil(self.k()).div_ceil(SHARD_ALIGN) * SHARD_ALIGN
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rs-{}-{}", self.k, self.m)
    }
}

/// A text is not `rs-K-M` with 1 <= K and K + M within the limit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a scheme: {0:?}; write rs-K-M, for example rs-4-2")]
pub struct NotAScheme(pub String);

impl FromStr for Scheme {
    type Err = NotAScheme;

    fn from_str(text: &str) -> Result<Self, NotAScheme> {
        let parse = || {
            let (k, m) = text.strip_prefix("rs-")?.split_once('-')?;
            let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok())?;
            Self::new(digits(k)?, digits(m)?)
        };
        parse().ok_or_else(|| NotAScheme(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KIB, MIB};

    fn scheme(text: &str) -> Scheme {
        text.parse().unwrap()
    }

    #[test]
    fn payload_scheme_is_the_largest_that_splits_and_fits() {
        let pg = scheme("rs-4-2");
        assert_eq!(pg.for_payload(4 * KIB, 6), Some(scheme("rs-1-2")));
        assert_eq!(pg.for_payload(512 * KIB, 6), Some(scheme("rs-2-2")));
        assert_eq!(pg.for_payload(8 * MIB, 6), Some(scheme("rs-4-2")));
        assert_eq!(pg.for_payload(8 * MIB, 5), Some(scheme("rs-2-2")));
        assert_eq!(pg.for_payload(8 * MIB, 3), Some(scheme("rs-1-2")));
        assert_eq!(pg.for_payload(8 * MIB, 2), None);
        assert_eq!(scheme("rs-6-3").for_payload(8 * MIB, 9), Some(scheme("rs-6-3")));
        assert_eq!(scheme("rs-6-3").for_payload(8 * MIB, 8), Some(scheme("rs-4-3")));
    }

    #[test]
    fn texts_round_trip_and_bad_ones_are_refused() {
        for text in ["rs-1-0", "rs-4-2", "rs-8-4"] {
            assert_eq!(scheme(text).to_string(), text);
        }
        for text in ["", "rs", "rs-0-1", "rs-+1-1", "rs-4", "rs-30-9", "ec-4-2"] {
            assert!(text.parse::<Scheme>().is_err(), "{text}");
        }
    }
}
