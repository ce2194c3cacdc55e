//! Metrics of garbage collection and space, from what the metadata service keeps of them.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use stele_rpc::meta::GcStatus;

/// Gauges that are set at each scrape. What all runs did only ever grows, but is the cluster's, not this process's.
#[derive(Debug, Default)]
pub(super) struct GcGauges {
    runs: Gauge,
    last_ended: Gauge,
    void_groups: Gauge,
    waiting_packs: Gauge,
    waiting_bytes: Gauge,
    deleted_packs: Gauge,
    deleted_bytes: Gauge,
    pardoned_packs: Gauge,
    strays: Gauge,
    strays_kept: Gauge,
    unique_bytes: Gauge,
    stored_bytes: Gauge,
    uploads: Gauge,
}

impl GcGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("gc_runs", "Runs of garbage collection that ended", &self.runs);
        add("gc_void_groups", "Placement groups that the last run left as they were", &self.void_groups);
        add("gc_waiting_packs", "Packs that the last run condemned or found condemned", &self.waiting_packs);
        add("gc_deleted_packs", "Packs deleted by all runs", &self.deleted_packs);
        add("gc_pardoned_packs", "Condemned packs that were found referenced, by all runs", &self.pardoned_packs);
        add("gc_strays", "Shards that the last run found on drives that their group does not name", &self.strays);
        let help = "Of these: kept, because the drive that should hold the shard does not";
        add("gc_strays_kept", help, &self.strays_kept);
        add("uploads_open", "Multipart uploads that were neither completed nor aborted", &self.uploads);
        let mut add = |name: &str, help: &str, unit, gauge: &Gauge| {
            registry.register_with_unit(name, help, unit, gauge.clone());
        };
        add("gc_last_run_ended", "When the last run ended, since 1970", Unit::Seconds, &self.last_ended);
        add("gc_waiting", "Their shards on drives", Unit::Bytes, &self.waiting_bytes);
        add("gc_deleted", "Shards deleted by all runs", Unit::Bytes, &self.deleted_bytes);
        add("unique", "Payload of packs that something refers to", Unit::Bytes, &self.unique_bytes);
        add("stored", "Shards of these packs, parity included", Unit::Bytes, &self.stored_bytes);
    }

    pub(super) fn set(&self, gc: &GcStatus) {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.runs, gc.totals.runs);
        set(&self.deleted_packs, gc.totals.deleted.packs);
        set(&self.deleted_bytes, gc.totals.deleted.bytes);
        set(&self.pardoned_packs, gc.totals.pardoned);
        set(&self.unique_bytes, gc.unique.bytes);
        set(&self.stored_bytes, gc.stored_bytes);
        set(&self.uploads, gc.uploads);
        let Some(run) = &gc.last else { return };
        set(&self.last_ended, run.ended / 1000);
        set(&self.void_groups, run.void);
        set(&self.waiting_packs, run.waiting.packs.saturating_add(run.condemned.packs));
        set(&self.waiting_bytes, run.waiting.bytes.saturating_add(run.condemned.bytes));
        set(&self.strays, run.strays.found.packs);
        set(&self.strays_kept, run.strays.kept.packs);
    }
}
