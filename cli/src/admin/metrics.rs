//! All metrics of the process: what the crates registered, and what only the whole store knows.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use stele_rpc::meta::GcStatus;

use super::gc::GcGauges;
use super::status::Status;
use crate::real;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DriveLabel {
    drive: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ChainLabel {
    chain: String,
}

/// Gauges that are set from the status at each scrape.
#[derive(Debug, Default)]
struct StoreGauges {
    ready: Gauge,
    min_fault_tolerance: Gauge,
    placement_groups: Gauge,
    placement_groups_writable: Gauge,
    placement_slots_moving: Gauge,
    drive_ok: Family<DriveLabel, Gauge>,
    evidence_log_entries: Gauge,
    evidence_log_signed: Gauge,
    evidence_log_archived: Gauge,
    evidence_log_anchored: Family<ChainLabel, Gauge>,
    versions: Gauge,
    logical_bytes: Gauge,
    live_bytes: Gauge,
    used_bytes: Gauge,
    process_cpu: Gauge<f64, AtomicU64>,
    process_resident: Gauge,
}

/// The registry and the store's own gauges.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    gauges: StoreGauges,
    gc: GcGauges,
}

/// Every metric's name begins with this.
const PREFIX: &str = "stele";

impl Metrics {
    /// A registry; `register` adds what the crates count.
    pub(crate) fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        register(&mut registry);
        let gauges = StoreGauges::default();
        let g = &gauges;
        registry.register("ready", "1 when requests are served", g.ready.clone());
        let help = "Drives the worst placement group may still lose; negative means data can't be read";
        registry.register("min_fault_tolerance", help, g.min_fault_tolerance.clone());
        registry.register("placement_groups", "Placement groups", g.placement_groups.clone());
        let help = "Placement groups that take writes";
        registry.register("placement_groups_writable", help, g.placement_groups_writable.clone());
        let help = "Slots of placement groups that move to another drive";
        registry.register("placement_slots_moving", help, g.placement_slots_moving.clone());
        registry.register("drive_ok", "1 when the drive serves", g.drive_ok.clone());
        registry.register("evidence_log_entries", "Entries of the evidence log", g.evidence_log_entries.clone());
        let help = "Entries that the newest signed checkpoint of the evidence log covers";
        registry.register("evidence_log_signed", help, g.evidence_log_signed.clone());
        let help = "Entries of the evidence log that stand in archives only";
        registry.register("evidence_log_archived", help, g.evidence_log_archived.clone());
        let help = "Entries that the newest anchor or time stamp covers, by chain";
        registry.register("evidence_log_anchored", help, g.evidence_log_anchored.clone());
        registry.register("versions", "Versions stored", g.versions.clone());
        registry.register_with_unit("logical", "Bytes of versions", Unit::Bytes, g.logical_bytes.clone());
        let help = "Bytes of living records on all drives";
        registry.register_with_unit("live", help, Unit::Bytes, g.live_bytes.clone());
        registry.register_with_unit("used", "Bytes of segments on all drives", Unit::Bytes, g.used_bytes.clone());
        registry.register_with_unit("process_cpu", "CPU time of this process", Unit::Seconds, g.process_cpu.clone());
        let help = "Resident memory of this process";
        registry.register_with_unit("process_resident", help, Unit::Bytes, g.process_resident.clone());
        let gc = GcGauges::default();
        gc.register(&mut registry);
        Self { registry, gauges, gc }
    }

    /// The page, with the store's gauges as `status` and `gc` say.
    ///
    /// # Errors
    /// If a value can't be written.
    pub(crate) fn encode(&self, status: &Status, gc: Option<&GcStatus>) -> Result<String, fmt::Error> {
        let as_i64 = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let g = &self.gauges;
        g.ready.set(i64::from(status.ready));
        g.min_fault_tolerance.set(status.placement.lowest_tolerance);
        g.placement_groups.set(as_i64(status.placement.groups));
        g.placement_groups_writable.set(as_i64(status.placement.writable));
        g.placement_slots_moving.set(as_i64(status.placement.moving_slots));
        for drive in &status.drives {
            let label = DriveLabel { drive: drive.name.clone() };
            g.drive_ok.get_or_create(&label).set(i64::from(drive.state == "ok"));
        }
        g.evidence_log_entries.set(as_i64(status.log.size));
        g.evidence_log_signed.set(as_i64(status.log.signed));
        g.evidence_log_archived.set(as_i64(status.log.archived));
        for (chain, size) in &status.log.anchored {
            g.evidence_log_anchored.get_or_create(&ChainLabel { chain: chain.clone() }).set(as_i64(*size));
        }
        g.versions.set(as_i64(status.versions));
        g.logical_bytes.set(as_i64(status.logical_bytes));
        g.live_bytes.set(as_i64(status.live_bytes));
        g.used_bytes.set(as_i64(status.used_bytes));
        if let Some(gc) = gc {
            self.gc.set(gc);
        }
        if let Some((cpu, resident)) = real::process_usage() {
            g.process_cpu.set(cpu);
            g.process_resident.set(as_i64(resident));
        }
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}
