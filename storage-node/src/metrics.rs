//! Counters of a node's drives. Named after the steps they count (P6 store, G5 fetch).

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters of all drives of a node; cheap to clone, all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Shards stored.
    pub stores: Counter,
    /// fdatasync calls on segments.
    pub fsyncs: Counter,
    /// Vectored writes to segments.
    pub writes: Counter,
    /// Bytes written to segments, headers included.
    pub written_bytes: Counter,
    /// Bytes copied into aligned memory before they were written.
    pub copied_bytes: Counter,
    /// Operations per group commit.
    pub batch: Histogram,
    /// Seconds from the first write of a group commit to the end of its sync.
    pub commit_seconds: Histogram,
    /// Shard reads.
    pub reads: Counter,
    /// Bytes read for them, headers and CRC blocks included.
    pub read_bytes: Counter,
    /// Reads and scans that met bytes which fail their CRC.
    pub corrupt: Counter,
    /// Segments that will never be written again after an IO error.
    pub poisoned: Counter,
    /// Blocks that a scan could not make sense of.
    pub skipped_blocks: Counter,
    /// Segments emptied and removed.
    pub reclaimed_segments: Counter,
    /// Bytes of live records copied for it.
    pub carried_bytes: Counter,
    /// Packs condemned, pardoned or deleted.
    pub swept: Counter,
    /// Shards made anew from others.
    pub rebuilt: Counter,
    /// Bytes read and written for it.
    pub repair_bytes: Counter,
    /// Slots handed over to their incoming drive.
    pub moved_slots: Counter,
    /// Referenced packs of which too few shards were found in the newest run.
    pub unreadable: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            stores: Counter::default(),
            fsyncs: Counter::default(),
            writes: Counter::default(),
            written_bytes: Counter::default(),
            copied_bytes: Counter::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 18)),
            reads: Counter::default(),
            read_bytes: Counter::default(),
            corrupt: Counter::default(),
            poisoned: Counter::default(),
            skipped_blocks: Counter::default(),
            reclaimed_segments: Counter::default(),
            carried_bytes: Counter::default(),
            swept: Counter::default(),
            rebuilt: Counter::default(),
            repair_bytes: Counter::default(),
            moved_slots: Counter::default(),
            unreadable: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Shows every counter in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let mut count = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        count("p6_shards_stored", "Shards stored", &self.stores);
        count("p6_drive_fsyncs", "fdatasync calls on segments", &self.fsyncs);
        count("p6_drive_writes", "Vectored writes to segments", &self.writes);
        count("p6_drive_written_bytes", "Bytes written to segments", &self.written_bytes);
        count("p6_drive_copied_bytes", "Bytes copied into aligned memory before writing", &self.copied_bytes);
        count("g5_shard_reads", "Shard range reads", &self.reads);
        count("g5_drive_read_bytes", "Bytes read from segments for them", &self.read_bytes);
        count("drive_corrupt_records", "Stored bytes that failed their CRC", &self.corrupt);
        count("drive_poisoned_segments", "Segments closed for ever by an IO error", &self.poisoned);
        count("drive_skipped_blocks", "Blocks a scan could not make sense of", &self.skipped_blocks);
        count("reclaim_segments", "Segments emptied and removed", &self.reclaimed_segments);
        count("reclaim_carried_bytes", "Live bytes copied to empty segments", &self.carried_bytes);
        count("sweep_packs", "Packs condemned, pardoned or deleted on drives", &self.swept);
        count("repair_shards", "Shards made anew from others", &self.rebuilt);
        count("repair_moved_bytes", "Bytes read and written to make shards anew", &self.repair_bytes);
        count("repair_moved_slots", "Slots handed over to their incoming drive", &self.moved_slots);
        let help = "Referenced packs of which this node's last look at its placement groups found too few shards";
        registry.register("repair_unreadable_packs", help, self.unreadable.clone());
        registry.register("p6_drive_batch_operations", "Operations per group commit", self.batch.clone());
        let help = "Write and sync of one group commit";
        registry.register_with_unit("p6_drive_commit", help, Unit::Seconds, self.commit_seconds.clone());
    }
}
