//! `stele plan`: what a change of the storage nodes would move, how long that takes, and what may be lost afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use serde_json::{Value, json};
use stele_metadata::placement::{Outlook, Tolerance, balanced, departure};
use stele_rpc::storage::DriveStatus;
use stele_types::ids::{DriveId, NodeId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeRow, NodeState};
use stele_types::role::Role;

use super::command::AdminArgs;
use crate::config::{ByteSize, Repair};
use crate::status_command::human;

/// Part of a drive that a plan fills at most, percent.
const FULL_PERCENT: u64 = 90;
/// Exit code of a plan that is refused.
const EXIT_REFUSED: u8 = 1;

/// `stele plan`.
#[derive(Subcommand)]
pub(crate) enum PlanCommand {
    /// What draining storage nodes would move, and what could be lost afterwards.
    #[command(visible_alias = "remove")]
    Drain {
        #[command(flatten)]
        admin: AdminArgs,
        /// Their ids, as `stele cluster status` prints them.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<u64>,
        #[command(flatten)]
        rate: RateArgs,
    },
    /// What new storage nodes would be given.
    Add {
        #[command(flatten)]
        admin: AdminArgs,
        /// How many nodes come.
        #[arg(long, value_name = "N")]
        nodes: u64,
        /// Drives of each.
        #[arg(long, value_name = "N", default_value_t = 1)]
        drives: u8,
        /// Bytes of each drive [default: as the others].
        #[arg(long, value_name = "SIZE")]
        capacity: Option<ByteSize>,
        /// Their zone.
        #[arg(long, value_name = "ZONE", default_value = "")]
        zone: String,
        /// Their rack [default: one of its own for each, if racks are named at all].
        #[arg(long, value_name = "RACK")]
        rack: Option<String>,
        #[command(flatten)]
        rate: RateArgs,
    },
}

/// How fast shards move.
#[derive(clap::Args)]
pub(crate) struct RateArgs {
    /// What `repair.rate` is on the storage nodes [default: 64MiB].
    #[arg(long, value_name = "SIZE")]
    rate: Option<ByteSize>,
}

/// What a change leads to, with the bytes that drives hold now.
#[derive(Debug)]
pub(crate) struct Prospect {
    outlook: Outlook,
    /// Bytes that move.
    bytes: u64,
    /// Drives that would be too full, as sentences.
    full: Vec<String>,
    /// Drives that leave and do not say what they hold: it is taken for the mean of the others.
    unknown: usize,
}

impl Prospect {
    /// Of nodes that leave.
    ///
    /// # Errors
    /// One of them is no storage node in use.
    pub(crate) fn drain(map: &ClusterMap, drives: &[DriveStatus], nodes: &BTreeSet<NodeId>) -> anyhow::Result<Self> {
        for id in nodes {
            let row = map.node(*id).with_context(|| format!("node {id} is not part of this cluster"))?;
            ensure!(row.role == Role::StorageNode, "node {id} is a {}: only storage nodes hold shards", row.role);
            ensure!(row.state != NodeState::Removed, "node {id} was removed for good");
        }
        Ok(Self::new(departure(map, nodes), map, drives))
    }

    fn new(outlook: Outlook, map: &ClusterMap, drives: &[DriveStatus]) -> Self {
        let mut slots: BTreeMap<DriveId, u64> = BTreeMap::new();
        for slot in map.pgs.iter().flat_map(|pg| &pg.slots) {
            *slots.entry(slot.drive).or_default() += 1;
        }
        let seen: BTreeMap<DriveId, &DriveStatus> = drives.iter().map(|drive| (drive.id, drive)).collect();
        // Bytes of one slot, by drive.
        let share = |drive: &DriveId| Some(seen.get(drive)?.live_bytes / slots.get(drive)?.max(&1));
        let known: Vec<u64> = slots.keys().filter_map(share).collect();
        let mean = known.iter().sum::<u64>().checked_div(known.len() as u64).unwrap_or(0);
        let of = |(drive, count): (&DriveId, &usize)| share(drive).unwrap_or(mean).saturating_mul(*count as u64);
        let bytes = outlook.from.iter().map(of).sum();
        let moved = outlook.slots() as u64;
        let full = outlook.to.iter().filter_map(|(drive, count)| {
            let status = seen.get(drive)?;
            let more = (*count as u64).saturating_mul(bytes).checked_div(moved)?;
            let then = status.used_bytes.saturating_add(more);
            let percent = then.saturating_mul(100).checked_div(status.capacity_bytes)?;
            (percent > FULL_PERCENT).then(|| {
                let name = map.drive(*drive).map_or("", |row| row.name.as_str());
                format!("drive {name} would be {percent} % full: add drives or a storage node first")
            })
        });
        let full = full.collect();
        let unknown = outlook.from.keys().filter(|drive| share(drive).is_none()).count();
        Self { outlook, bytes, full, unknown }
    }

    /// Why the change must not be made, and what to do instead.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.outlook.refusal().or_else(|| self.full.first().cloned())
    }

    /// Racks or zones of which fewer may be lost afterwards.
    pub(crate) fn lower(&self) -> Option<String> {
        let Outlook { before, after, .. } = &self.outlook;
        let lower = |kind: &str, was: usize, is: usize| {
            (is < was).then(|| format!("{is} {kind} instead of {was} could be lost afterwards"))
        };
        lower("racks", before.racks, after.racks).or_else(|| lower("zones", before.zones, after.zones))
    }

    /// Hours at `rate` bytes per second on each node: every byte is read once and written once.
    fn hours(&self, rate: u64) -> f64 {
        let nodes = self.outlook.nodes.max(1) as f64;
        2.0 * self.bytes as f64 / (rate.max(1) as f64 * nodes) / 3600.0
    }

    fn json(&self, rate: u64) -> Value {
        let tolerance =
            |t: Tolerance| json!({ "drives": t.drives, "nodes": t.nodes, "racks": t.racks, "zones": t.zones });
        json!({
            "slots": self.outlook.slots(),
            "bytes": self.bytes,
            "hours": self.hours(rate),
            "nodes_left": self.outlook.nodes,
            "tolerance_now": tolerance(self.outlook.before),
            "tolerance_then": tolerance(self.outlook.after),
            "silent_drives": self.unknown,
            "refused": self.refusal(),
            "lower_tolerance": self.lower(),
        })
    }

    /// For people.
    pub(crate) fn render(&self, rate: u64) -> String {
        let Outlook { before, after, nodes, .. } = &self.outlook;
        let mut out = String::new();
        let mut line = |text: String| {
            let written = writeln!(out, "{text}");
            debug_assert!(written.is_ok(), "writing to a String can't fail");
        };
        line(format!("moves     {} slots of placement groups, {}", self.outlook.slots(), human(self.bytes)));
        let rate_text = human(rate);
        line(format!("takes     {:.1} hours at {rate_text}/s (repair.rate) on {nodes} nodes", self.hours(rate)));
        let told =
            |t: &Tolerance| format!("{} drives, {} nodes, {} racks, {} zones", t.drives, t.nodes, t.racks, t.zones);
        line(format!("now       any {} may be lost", told(before)));
        line(format!("then      any {} may be lost", told(after)));
        if self.unknown > 0 {
            line(format!("! {} drives that leave do not answer: their bytes are estimated", self.unknown));
        }
        if let Some(lower) = self.lower() {
            line(format!("! {lower}"));
        }
        match self.refusal() {
            Some(why) => line(format!("! refused: {why}")),
            None => line("this can be done".to_owned()),
        }
        out.trim_end().to_owned()
    }
}

/// Nodes to come.
struct Arrivals {
    nodes: u64,
    drives: u8,
    capacity: u64,
    zone: String,
    rack: Option<String>,
}

impl Arrivals {
    /// The map with them.
    fn join(&self, map: &ClusterMap) -> ClusterMap {
        let mut map = map.clone();
        let first = map.nodes.last().map_or(0, |node| node.id.0) + 1;
        // Where racks are not named, one that is would be taken for a better place.
        let named = map.nodes.iter().any(|node| node.role == Role::StorageNode && !node.rack.is_empty());
        for n in 0..self.nodes {
            let id = NodeId(first + n);
            let name = format!("new-{}", n + 1);
            let own = if named { name.clone() } else { String::new() };
            let rack = self.rack.clone().unwrap_or(own);
            map.nodes.push(NodeRow {
                id,
                role: Role::StorageNode,
                name,
                addresses: Vec::new(),
                zone: self.zone.clone(),
                rack,
                state: NodeState::Active,
                key: [0; 32],
                maintenance_until: 0,
            });
            for drive in 0..self.drives {
                let mut bytes = [0xff; 16];
                bytes[..8].copy_from_slice(&id.0.to_be_bytes());
                bytes[8] = drive;
                let (state, reason) = (DriveState::Ok, String::new());
                let (id, node, capacity) = (DriveId::from_bytes(bytes), id, self.capacity);
                map.drives.push(DriveRow { id, node, name: String::new(), state, reason, capacity });
            }
        }
        map.drives.sort_by_key(|drive| drive.id);
        map
    }
}

impl PlanCommand {
    /// Prints the plan. Exit code 0: it can be done, 1: it is refused.
    ///
    /// # Errors
    /// No metadata node answers, or a node is not one that can be planned with.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (admin, rate) = match &self {
            Self::Drain { admin, rate, .. } | Self::Add { admin, rate, .. } => (admin, rate),
        };
        let rate = rate.rate.map_or(Repair::default().rate.0, |rate| rate.0);
        let (operator, as_json) = (admin.open()?, admin.json);
        let gathered = operator.holdings().await;
        operator.close().await;
        let (map, drives) = gathered?;
        let prospect = match self {
            Self::Drain { nodes, .. } => Prospect::drain(&map, &drives, &nodes.into_iter().map(NodeId).collect())?,
            Self::Add { nodes, drives: each, capacity, zone, rack, .. } => {
                let capacity = capacity.map_or(0, |capacity| capacity.0);
                let arrivals = Arrivals { nodes, drives: each, capacity, zone, rack };
                Prospect::new(balanced(&arrivals.join(&map)), &map, &drives)
            }
        };
        crate::print(if as_json { prospect.json(rate).to_string() } else { prospect.render(rate) });
        Ok(if prospect.refusal().is_some() { ExitCode::from(EXIT_REFUSED) } else { ExitCode::SUCCESS })
    }
}

#[cfg(test)]
mod tests {
    use stele_metadata::placement::plan;
    use stele_types::ids::{ClusterId, MapEpoch};

    use super::*;

    const GIB: u64 = 1 << 30;

    /// Storage nodes in racks of their own with one drive each, which holds 1 GiB.
    fn site(nodes: u64, scheme: &str) -> (ClusterMap, Vec<DriveStatus>) {
        let empty =
            ClusterMap { cluster: Some(ClusterId::from_bytes([5; 16])), epoch: MapEpoch(1), ..ClusterMap::default() };
        let arrivals = Arrivals { nodes, drives: 1, capacity: 100 * GIB, zone: String::new(), rack: None };
        let map = arrivals.join(&empty);
        let pgs = plan(&map, Some(scheme.parse().unwrap())).unwrap();
        let status = |row: &DriveRow| DriveStatus {
            id: row.id,
            name: String::new(),
            healthy: true,
            reason: String::new(),
            capacity_bytes: 100 * GIB,
            used_bytes: GIB,
            live_bytes: GIB,
            packs: 1,
        };
        let drives = map.drives.iter().map(status).collect();
        (ClusterMap { pgs, ..map }, drives)
    }

    fn node(n: u64) -> BTreeSet<NodeId> {
        BTreeSet::from([NodeId(n)])
    }

    #[test]
    fn a_drain_moves_what_the_node_holds_and_is_refused_where_the_scheme_breaks() {
        let (map, drives) = site(7, "rs-4-2");
        let prospect = Prospect::drain(&map, &drives, &node(3)).unwrap();
        assert_eq!(prospect.refusal(), None);
        assert!(prospect.bytes > GIB * 99 / 100 && prospect.bytes <= GIB, "{}", prospect.bytes);
        assert_eq!((prospect.outlook.before.nodes, prospect.outlook.after.nodes), (2, 2));
        let expected = 2.0 * prospect.bytes as f64 / (6.0 * (64u64 << 20) as f64) / 3600.0;
        assert!((prospect.hours(64 << 20) - expected).abs() < 1e-9);
        let (map, drives) = site(6, "rs-4-2");
        let refusal = Prospect::drain(&map, &drives, &node(3)).unwrap().refusal().unwrap();
        assert!(refusal.contains("nowhere to go") && refusal.contains("add drives or a storage node"), "{refusal}");
        assert!(Prospect::drain(&map, &drives, &node(77)).is_err());
    }

    #[test]
    fn a_drain_that_would_fill_the_others_is_refused() {
        let (map, mut drives) = site(7, "rs-4-2");
        for drive in &mut drives {
            (drive.used_bytes, drive.live_bytes) = (85 * GIB, 85 * GIB);
        }
        let refusal = Prospect::drain(&map, &drives, &node(3)).unwrap().refusal().unwrap();
        assert!(refusal.contains("% full"), "{refusal}");
    }

    #[test]
    fn nodes_that_come_get_their_share_and_no_more() {
        let (map, drives) = site(6, "rs-4-2");
        let arrivals = Arrivals { nodes: 3, drives: 1, capacity: 100 * GIB, zone: String::new(), rack: None };
        let prospect = Prospect::new(balanced(&arrivals.join(&map)), &map, &drives);
        let share = prospect.bytes as f64 / (2.0 * GIB as f64);
        assert!((0.85..1.15).contains(&share), "a third of 6 GiB, not {share} of it");
        assert_eq!(prospect.outlook.to.len(), 3, "nothing moves between drives that were there");
    }
}
