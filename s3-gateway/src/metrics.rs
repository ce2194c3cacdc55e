//! Step seconds and counters. Step ids are the same words as in the tables of put.rs and get.rs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use stele_types::seam::Clock;

/// A step of PUT or GET.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    P1Admit,
    P2Lease,
    P3Plan,
    P4Chunk,
    P5Pack,
    P6Store,
    P7Check,
    P8Commit,
    P9Answer,
    G1Resolve,
    G2Range,
    G3Manifest,
    G4Plan,
    G5Fetch,
    G6Verify,
    G7Stream,
}

impl Step {
    /// All steps with their names, in the order of their declaration.
    const ALL: [(Self, &'static str); 16] = [
        (Self::P1Admit, "put.p1_admit"),
        (Self::P2Lease, "put.p2_lease"),
        (Self::P3Plan, "put.p3_plan"),
        (Self::P4Chunk, "put.p4_chunk"),
        (Self::P5Pack, "put.p5_pack"),
        (Self::P6Store, "put.p6_store"),
        (Self::P7Check, "put.p7_check"),
        (Self::P8Commit, "put.p8_commit"),
        (Self::P9Answer, "put.p9_answer"),
        (Self::G1Resolve, "get.g1_resolve"),
        (Self::G2Range, "get.g2_range"),
        (Self::G3Manifest, "get.g3_manifest"),
        (Self::G4Plan, "get.g4_plan"),
        (Self::G5Fetch, "get.g5_fetch"),
        (Self::G6Verify, "get.g6_verify"),
        (Self::G7Stream, "get.g7_stream"),
    ];
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// The gateway's metrics. Counters are public to the crate; each says what it counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    clock: Arc<dyn Clock>,
    family: Family<StepLabel, Histogram, fn() -> Histogram>,
    steps: Vec<Histogram>,
    /// Body bytes accepted by PUT and UploadPart.
    pub(crate) bytes_in: Counter,
    /// Body bytes streamed by GET.
    pub(crate) bytes_out: Counter,
    /// Packs stored, shared ones included.
    pub(crate) packs_stored: Counter,
    /// Bodies that travelled in shared packs.
    pub(crate) shared_members: Counter,
    /// Packs that had to be encoded again because a slot did not take its shard.
    pub(crate) packs_reencoded: Counter,
    /// Shard reads that were hedged because they were slow.
    pub(crate) hedged: Counter,
    /// Chunks rebuilt from other shards.
    pub(crate) rebuilt: Counter,
    /// Shards whose bytes were missing or wrong; see `Gateway::repair_reports`.
    pub(crate) mismatches: Counter,
    /// Chunks served from the cache.
    pub(crate) cache_hits: Counter,
    /// Chunks that had to be fetched.
    pub(crate) cache_misses: Counter,
    /// Reads that resolved their version again because a pack had gone.
    pub(crate) re_resolved: Counter,
    /// Possession audits that ran by themselves.
    pub(crate) audits: Counter,
    /// Challenges that failed in them.
    pub(crate) audit_failures: Counter,
    /// Challenges that nobody answered in them.
    pub(crate) audit_silences: Counter,
    /// Bytes of the memory budget in use, as of the last request.
    pub(crate) memory_used: Gauge,
    /// Drives avoided at the moment.
    pub(crate) drives_avoided: Gauge<i64>,
    /// Leases taken.
    pub(crate) leases: Counter<u64, AtomicU64>,
}

fn step_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

/// Observes a step's seconds when dropped.
pub(crate) struct StepTimer<'a> {
    metrics: &'a Metrics,
    step: Step,
    start: u64,
}

impl Drop for StepTimer<'_> {
    fn drop(&mut self) {
        let micros = self.metrics.clock.monotonic_micros().saturating_sub(self.start);
        if let Some(histogram) = self.metrics.steps.get(self.step as usize) {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a histogram")]
            histogram.observe(micros as f64 / 1e6);
        }
    }
}

impl Metrics {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let family = Family::<StepLabel, Histogram, fn() -> Histogram>::new_with_constructor(step_histogram);
        let steps = Step::ALL.iter().map(|(_, name)| family.get_or_create_owned(&StepLabel { step: name })).collect();
        Self {
            clock,
            family,
            steps,
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            packs_stored: Counter::default(),
            shared_members: Counter::default(),
            packs_reencoded: Counter::default(),
            hedged: Counter::default(),
            rebuilt: Counter::default(),
            mismatches: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            re_resolved: Counter::default(),
            audits: Counter::default(),
            audit_failures: Counter::default(),
            audit_silences: Counter::default(),
            memory_used: Gauge::default(),
            drives_avoided: Gauge::default(),
            leases: Counter::default(),
        }
    }

    /// Times a step until the result is dropped.
    pub(crate) fn time(&self, step: Step) -> StepTimer<'_> {
        StepTimer { metrics: self, step, start: self.clock.monotonic_micros() }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let gateway = registry.sub_registry_with_prefix("gateway");
        gateway.register("step_seconds", "Seconds per step of PUT and GET", self.family.clone());
        let counters = [
            ("body_bytes_in", "Body bytes accepted", &self.bytes_in),
            ("body_bytes_out", "Body bytes streamed", &self.bytes_out),
            ("packs_stored", "Packs stored", &self.packs_stored),
            ("shared_pack_members", "Bodies that travelled in shared packs", &self.shared_members),
            ("packs_reencoded", "Packs encoded again around a failed slot", &self.packs_reencoded),
            ("reads_hedged", "Shard reads hedged because they were slow", &self.hedged),
            ("chunks_rebuilt", "Chunks rebuilt from other shards", &self.rebuilt),
            ("shard_mismatches", "Shards whose bytes were missing or wrong", &self.mismatches),
            ("cache_hits", "Chunks served from the cache", &self.cache_hits),
            ("cache_misses", "Chunks fetched from drives", &self.cache_misses),
            ("reads_resolved_again", "Reads whose pack had gone", &self.re_resolved),
            ("possession_audits", "Possession audits that ran by themselves", &self.audits),
            ("possession_failures", "Challenges of those audits that failed", &self.audit_failures),
            ("possession_silences", "Challenges of those audits that nobody answered", &self.audit_silences),
            ("leases_taken", "Leases taken", &self.leases),
        ];
        for (name, help, counter) in counters {
            gateway.register(name, help, counter.clone());
        }
        gateway.register("memory_used_bytes", "Bytes of the memory budget in use", self.memory_used.clone());
        gateway.register("drives_avoided", "Drives avoided at the moment", self.drives_avoided.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_names_stand_at_their_own_index() {
        for (index, (step, name)) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, index, "{name}");
        }
    }
}
