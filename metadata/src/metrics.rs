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
    /// Backups made and read back by this node.
    pub backups: Counter,
    /// Backups that failed.
    pub backup_errors: Counter,
    /// Commit time of the newest backup, seconds since 1970, as the leader knows it.
    pub backup_time: Gauge,
    /// Its bytes.
    pub backup_bytes: Gauge,
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
            backups: Counter::default(),
            backup_errors: Counter::default(),
            backup_time: Gauge::default(),
            backup_bytes: Gauge::default(),
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
        registry.register("backups", "Backups made and read back", self.backups.clone());
        registry.register("backup_errors", "Backups that failed", self.backup_errors.clone());
        registry.register_with_unit(
            "backup_time",
            "Commit time of the newest backup, since 1970; the leader says it",
            Unit::Seconds,
            self.backup_time.clone(),
        );
        registry.register("backup_bytes", "Bytes of the newest backup", self.backup_bytes.clone());
        registry.register("log_size", "Entries of the evidence log", self.log_size.clone());
    }
}
