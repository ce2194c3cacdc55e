//! Weighted rendezvous hashing in whole numbers, so that every build of every platform ranks drives alike:
//! a drive's score is -log2(u) / weight with u drawn from (cluster, PG, drive). The lowest score wins.
//! Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005.

use stele_types::ids::{ClusterId, DriveId, PgId};

/// Fraction bits of the logarithm.
const FRACTION: u32 = 24;

/// -log2((draw + 1) / 2^64), as a fixed-point number with [`FRACTION`] fraction bits.
fn minus_log2(draw: u64) -> u64 {
    let value = u128::from(draw) + 1;
    let whole = 127 - value.leading_zeros();
    // The mantissa in [1, 2) with 63 fraction bits; squaring it gives one bit of the logarithm at a time.
    let mut mantissa = if whole >= 63 { value >> (whole - 63) } else { value << (63 - whole) };
    let mut log = u64::from(whole);
    for _ in 0..FRACTION {
        mantissa = (mantissa * mantissa) >> 63;
        log <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    (64 << FRACTION) - log
}

/// Score of a drive for a PG; `weight` is at least 1. Lower is better.
pub(super) fn score(cluster: ClusterId, pg: PgId, drive: DriveId, weight: u64) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(cluster.as_bytes()).update(&pg.0.to_le_bytes()).update(drive.as_bytes());
    let mut first = [0u8; 8];
    hasher.finalize_xof().fill(&mut first);
    (u128::from(minus_log2(u64::from_le_bytes(first))) << 64) / u128::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_its_last_bits() {
        for draw in [0, 1, 2, 3, 1 << 20, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let exact = 64.0 - ((draw as f64) + 1.0).log2();
            let ours = minus_log2(draw) as f64 / f64::from(1u32 << FRACTION);
            assert!((exact - ours).abs() < 1e-6, "{draw}: {ours} instead of {exact}");
        }
        assert_eq!(minus_log2(u64::MAX), 0);
        assert_eq!(minus_log2(0), 64 << FRACTION);
    }
}
