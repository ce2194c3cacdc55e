//! Metrics of the metadata service. Names carry no key, bucket or digest.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters, gauges and histograms of one node.
#[derive(Clone, Debug)]
pub struct MetadataMetrics {
    /// Commands proposed.
    pub commands: Counter,
    /// Commands that were refused or failed.
    pub command_errors: Counter,
    /// Reads answered.
    pub reads: Counter,
    /// From proposal to applied, seconds.
    pub command_seconds: Histogram,
    /// Last applied raft index.
    pub applied: Gauge,
    /// fdatasync calls of the raft log.
    pub raft_fsyncs: Gauge,
    /// Entries of the evidence log, as of the last status.
    pub log_size: Gauge,
}

impl Default for MetadataMetrics {
    fn default() -> Self {
        Self {
            commands: Counter::default(),
            command_errors: Counter::default(),
            reads: Counter::default(),
            command_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            applied: Gauge::default(),
            raft_fsyncs: Gauge::default(),
            log_size: Gauge::default(),
        }
    }
}

impl MetadataMetrics {
    /// Makes the metrics known to a registry, under the prefix `metadata`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("metadata");
        registry.register("commands", "Commands proposed", self.commands.clone());
        registry.register("command_errors", "Commands refused or failed", self.command_errors.clone());
        registry.register("reads", "Reads answered", self.reads.clone());
        registry.register_with_unit(
            "command",
            "From proposal to applied (P8)",
            Unit::Seconds,
            self.command_seconds.clone(),
        );
        registry.register("applied", "Last applied raft index", self.applied.clone());
        registry.register("raft_fsyncs", "fdatasync calls of the raft log", self.raft_fsyncs.clone());
        registry.register("log_size", "Entries of the evidence log", self.log_size.clone());
    }
}
