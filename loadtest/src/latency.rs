//! Latencies in log-linear buckets: bounded memory, under 2 % error.

use std::time::Duration;

use serde::Serialize;

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;

/// A histogram of microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// What a report says of one operation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

fn bucket_of(micros: u64) -> usize {
    let power = (u64::BITS - (micros | 1).leading_zeros()).saturating_sub(SUB_BITS + 1);
    // Within one power of two the mantissa selects the sub-bucket.
    (u64::from(power) * SUB + (micros >> power)) as usize
}

fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket;
    }
    let power = bucket / SUB - 1;
    (bucket - power * SUB) << power
}

impl Latencies {
    /// Adds one.
    pub(crate) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 1);
        let at = bucket_of(micros);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return lower_bound(bucket);
            }
        }
        0
    }

    /// Median, 99th percentile and maximum.
    pub(crate) fn quantiles(&self) -> Quantiles {
        Quantiles { p50_us: self.quantile(500), p99_us: self.quantile(990), max_us: self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_ordered_and_close() {
        let mut last = 0;
        for micros in (0..5000).chain((5000..10_000_000).step_by(997)) {
            let bucket = bucket_of(micros);
            assert!(bucket >= last, "{micros}");
            last = bucket;
            let low = lower_bound(bucket);
            assert!(low <= micros && (micros - low) * 50 <= micros, "{micros} {low}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut latencies = Latencies::default();
        for micros in 1..=1000 {
            latencies.record(Duration::from_micros(micros));
        }
        let q = latencies.quantiles();
        assert!((490..=500).contains(&q.p50_us), "{q:?}");
        assert!((970..=990).contains(&q.p99_us), "{q:?}");
        assert_eq!(q.max_us, 1000);
    }
}
