//! What `/status` and `stele status` show, as data. Pure, apart from the gathering in `view.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stele_rpc::meta::{Liveness, MetaStatus};
use stele_rpc::storage::DriveStatus;
use stele_types::ids::DriveId;
use stele_types::map::{ClusterMap, DriveState, NodeRow, NodeState, PgRow};
use stele_types::role::Role;

use super::backups::Backups;

/// State of the whole store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) cluster: String,
    /// Takes requests.
    pub(crate) ready: bool,
    /// What is wrong; empty when all is well.
    pub(crate) problems: Vec<String>,
    /// Scheme of full-size packs.
    pub(crate) scheme: String,
    pub(crate) placement: Placement,
    pub(crate) drives: Vec<Drive>,
    pub(crate) log: Log,
    pub(crate) epoch: u64,
    pub(crate) fence: u64,
    pub(crate) leases: u64,
    pub(crate) buckets: u64,
    pub(crate) versions: u64,
    pub(crate) logical_bytes: u64,
    /// Bytes of living records on all drives, parity included.
    pub(crate) live_bytes: u64,
    /// Bytes of segments on all drives.
    pub(crate) used_bytes: u64,
    pub(crate) memory_used_bytes: u64,
    /// Processes of the cluster; none in a store of one process.
    #[serde(default)]
    pub(crate) nodes: Vec<Node>,
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) backups: Backups,
    /// When all this was so, milliseconds since 1970.
    #[serde(default)]
    pub(crate) now_ms: u64,
}

/// One process of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) role: String,
    /// `joining`, `active`, `draining`, `drained` or `removed`.
    pub(crate) state: String,
    pub(crate) zone: String,
    pub(crate) rack: String,
    pub(crate) addresses: Vec<String>,
    /// Since its last sign of life; `null` if the leader has not heard of it.
    pub(crate) silent_ms: Option<u64>,
    /// Its sign of life is recent.
    pub(crate) alive: bool,
    /// Its drives are not replaced before, milliseconds since 1970; 0: not under maintenance.
    #[serde(default)]
    pub(crate) maintenance_until: u64,
}

/// The metadata group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    /// Entries each peer of the leader lacks, by node id.
    pub(crate) lag: BTreeMap<u64, u64>,
}

/// Placement groups.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Placement {
    pub(crate) groups: u64,
    /// Groups that take writes.
    pub(crate) writable: u64,
    /// Drives that may still be lost in the worst group without losing data. Negative: so many
    /// drives too many are gone, and what lies there can't be read.
    pub(crate) lowest_tolerance: i64,
    /// The same with all drives serving.
    pub(crate) full_tolerance: i64,
    /// Slots that move to another drive.
    #[serde(default)]
    pub(crate) moving_slots: u64,
    /// Drives that came are given no slots, as an operator said.
    #[serde(default)]
    pub(crate) rebalancing_paused: bool,
}

/// The evidence log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) size: u64,
    pub(crate) root: String,
    /// Entries that the newest checkpoint covers, and those that the newest signed one covers.
    #[serde(default)]
    pub(crate) checkpoint: u64,
    #[serde(default)]
    pub(crate) signed: u64,
    /// By chain or time-stamping authority: entries that its newest anchor or time stamp covers.
    #[serde(default)]
    pub(crate) anchored: BTreeMap<String, u64>,
    /// So long after a removal it tells of the version; without it, for ever.
    #[serde(default)]
    pub(crate) evidence_kept_ms: Option<u64>,
    /// Entries that stand in archives only.
    #[serde(default)]
    pub(crate) archived: u64,
}

/// One drive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Drive {
    pub(crate) name: String,
    pub(crate) id: String,
    /// `ok`, `suspect`, `failed` or `removed`.
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) used_bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) packs: u64,
}

/// What the parts of the store said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) map: ClusterMap,
    pub(crate) meta: MetaStatus,
    pub(crate) drives: Vec<DriveStatus>,
    pub(crate) memory_used_bytes: u64,
    pub(crate) liveness: Vec<Liveness>,
    /// Problems that the gateway and the network name.
    pub(crate) gateway_problems: Vec<String>,
    /// Drives the gateway does not use at the moment, by name, with the reason.
    pub(crate) avoided: Vec<(String, String)>,
    /// Now, milliseconds since 1970.
    pub(crate) now: u64,
    /// Reading or writing is possible for the gateway at all.
    pub(crate) gateway_ready: bool,
}

const fn state_name(state: DriveState) -> &'static str {
    match state {
        DriveState::Ok => "ok",
        DriveState::Suspect => "suspect",
        DriveState::Failed => "failed",
        DriveState::Removed => "removed",
    }
}

/// Drives that may still fail in one group without losing data. While a slot moves, its new packs are on one drive
/// and its old ones, as far as anybody knows, on the other.
fn tolerance(pg: &PgRow, bad: &BTreeSet<DriveId>) -> i64 {
    let lost = pg.slots.iter().filter(|slot| slot.holders().any(|drive| bad.contains(&drive))).count();
    i64::try_from(pg.scheme.m()).unwrap_or(0) - i64::try_from(lost).unwrap_or(i64::MAX)
}

/// Whether a group takes writes: at least 1 + m slots serve.
fn writable(pg: &PgRow, bad: &BTreeSet<DriveId>) -> bool {
    let healthy = pg.slots.iter().filter(|slot| !bad.contains(&slot.takes())).count();
    pg.scheme.for_payload(usize::MAX / 2, healthy).is_some()
}

/// Drives that do not serve: by the map, or, sooner, by what the node says.
fn bad_drives(parts: &Parts) -> BTreeSet<DriveId> {
    let serving: BTreeSet<DriveId> = parts.drives.iter().filter(|d| d.healthy).map(|d| d.id).collect();
    let rows = parts.map.drives.iter();
    rows.filter(|row| row.state != DriveState::Ok || !serving.contains(&row.id)).map(|row| row.id).collect()
}

impl Status {
    /// Puts the parts together.
    pub(crate) fn new(parts: Parts) -> Self {
        let bad = bad_drives(&parts);
        let pgs = &parts.map.pgs;
        let placement = Placement {
            groups: pgs.len() as u64,
            writable: pgs.iter().filter(|pg| writable(pg, &bad)).count() as u64,
            lowest_tolerance: pgs.iter().map(|pg| tolerance(pg, &bad)).min().unwrap_or(0),
            full_tolerance: pgs.iter().map(|pg| tolerance(pg, &BTreeSet::new())).min().unwrap_or(0),
            moving_slots: pgs.iter().map(|pg| pg.moving() as u64).sum(),
            rebalancing_paused: parts.map.rebalancing_paused,
        };
        let drives = drive_lines(&parts, &bad);
        let nodes: Vec<Node> = parts.map.nodes.iter().map(|row| node_line(row, &parts.liveness)).collect();
        let metadata = metadata(&parts.meta);
        let mut problems = drive_problems(&drives, &placement);
        problems.extend(node_problems(&nodes, &metadata));
        let backups = Backups::new(&parts.meta.backups, parts.now);
        problems.extend(backups.problems());
        problems.extend(parts.gateway_problems.iter().cloned());
        // A drive the map already counts out needs no second line.
        let serving = |name: &str| drives.iter().any(|drive| drive.name == name && drive.state == "ok");
        let avoided = parts.avoided.iter().filter(|(name, _)| serving(name));
        problems.extend(avoided.map(|(name, reason)| format!("drive {name} is avoided at the moment: {reason}")));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: parts.map.cluster.map(|id| id.to_string()).unwrap_or_default(),
            ready: parts.gateway_ready,
            problems,
            scheme: pgs.first().map(|pg| pg.scheme.to_string()).unwrap_or_default(),
            placement,
            log: Log {
                size: parts.meta.log_size,
                root: hex::encode(parts.meta.log_root),
                checkpoint: parts.meta.checkpoint,
                signed: parts.meta.signed,
                anchored: parts.meta.anchored.iter().cloned().collect(),
                evidence_kept_ms: parts.meta.evidence_kept_ms,
                archived: parts.meta.archived,
            },
            epoch: parts.meta.epoch.0,
            fence: parts.meta.fence.0,
            leases: parts.meta.leases,
            buckets: parts.meta.buckets,
            versions: parts.meta.versions,
            logical_bytes: parts.meta.logical_bytes,
            live_bytes: drives.iter().map(|d| d.live_bytes).sum(),
            used_bytes: drives.iter().map(|d| d.used_bytes).sum(),
            memory_used_bytes: parts.memory_used_bytes,
            drives,
            nodes,
            metadata,
            backups,
            now_ms: parts.now,
        }
    }
}

/// Milliseconds after which a node is not called alive any more.
const SILENT_MS: u64 = 5000;

fn node_line(row: &NodeRow, liveness: &[Liveness]) -> Node {
    let silent_ms = liveness.iter().find(|one| one.node == row.id).and_then(|one| one.silent_ms);
    let state = match row.state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
        NodeState::Drained => "drained",
        NodeState::Removed => "removed",
    };
    Node {
        id: row.id.0,
        name: row.name.clone(),
        role: row.role.name().to_owned(),
        state: state.to_owned(),
        zone: row.zone.clone(),
        rack: row.rack.clone(),
        addresses: row.addresses.clone(),
        silent_ms,
        alive: silent_ms.is_some_and(|silent| silent < SILENT_MS),
        maintenance_until: row.maintenance_until,
    }
}

fn metadata(meta: &MetaStatus) -> Metadata {
    let ids = |nodes: &[stele_types::ids::NodeId]| nodes.iter().map(|node| node.0).collect();
    Metadata {
        leader: meta.leader_node.map(|node| node.0),
        term: meta.term,
        voters: ids(&meta.voters),
        learners: ids(&meta.learners),
        lag: meta.replication_lag.iter().map(|(node, lag)| (node.0, *lag)).collect(),
    }
}

fn node_problems(nodes: &[Node], metadata: &Metadata) -> Vec<String> {
    let silent = |node: &&Node| !node.alive && node.state != "removed" && node.state != "joining";
    let named = |node: &Node| match node.silent_ms {
        Some(ms) => format!("{} {} ({}) has been silent for {} s", node.role, node.id, node.name, ms / 1000),
        None => format!("{} {} ({}) was not heard of", node.role, node.id, node.name),
    };
    let mut problems: Vec<String> = nodes.iter().filter(silent).map(named).collect();
    let voters = metadata.voters.len();
    if !nodes.is_empty() && voters > 0 {
        let role = Role::Metadata.name();
        let down = nodes.iter().filter(silent).filter(|n| n.role == role && metadata.voters.contains(&n.id)).count();
        let spare = (voters - 1) / 2;
        if down > 0 && down >= spare {
            problems.push(format!(
                "{down} of {voters} voters are silent: if one more fails, nothing can be stored or read"
            ));
        } else if voters.is_multiple_of(2) {
            problems.push(format!("{voters} voters tolerate no more failures than {}: add or remove one", voters - 1));
        }
    }
    problems
}

fn drive_lines(parts: &Parts, bad: &BTreeSet<DriveId>) -> Vec<Drive> {
    let line = |row: &stele_types::map::DriveRow| {
        let seen = parts.drives.iter().find(|d| d.id == row.id);
        let reason = match (seen, row.reason.is_empty()) {
            (Some(seen), true) => seen.reason.clone(),
            (None, true) => "not served by any node".to_owned(),
            (_, false) => row.reason.clone(),
        };
        // The node knows before the map does.
        let late = row.state == DriveState::Ok && bad.contains(&row.id);
        let state = if late { DriveState::Suspect } else { row.state };
        Drive {
            name: row.name.clone(),
            id: row.id.to_string(),
            state: state_name(state).to_owned(),
            reason,
            used_bytes: seen.map_or(0, |d| d.used_bytes),
            live_bytes: seen.map_or(0, |d| d.live_bytes),
            capacity_bytes: seen.map_or(0, |d| d.capacity_bytes),
            packs: seen.map_or(0, |d| d.packs),
        }
    };
    let mut lines: Vec<Drive> = parts.map.drives.iter().map(line).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

fn drive_problems(drives: &[Drive], placement: &Placement) -> Vec<String> {
    let mut problems: Vec<String> = drives
        .iter()
        // What an operator took out is no problem.
        .filter(|drive| !matches!(drive.state.as_str(), "ok" | "removed"))
        .map(|drive| format!("drive {} is {}: {}", drive.name, drive.state, drive.reason))
        .collect();
    if placement.groups == 0 {
        problems
            .push("there are no placement groups yet: start storage nodes, then run stele cluster place".to_owned());
        return problems;
    }
    if placement.full_tolerance == 0 {
        problems.push("the store is unprotected: with one drive nothing may be lost".to_owned());
    } else if placement.lowest_tolerance < 0 {
        problems.push("more drives are gone than the scheme tolerates: some data can't be read".to_owned());
    } else if placement.lowest_tolerance == 0 {
        problems.push("no further drive may be lost: put the missing drives back".to_owned());
    }
    if placement.writable == 0 {
        problems.push("no placement group takes writes: too few drives serve".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::ids::{NodeId, PgEpoch, PgId};
    use stele_types::map::{DriveRow, Slot};

    fn id(n: usize) -> DriveId {
        DriveId::from_bytes([u8::try_from(n).unwrap(); 16])
    }

    fn parts(serving: usize) -> Parts {
        let row = |n| DriveRow {
            id: id(n),
            node: NodeId(1),
            name: format!("drive-{n}"),
            state: DriveState::Ok,
            reason: String::new(),
            capacity: 0,
        };
        let seen = |n| DriveStatus {
            id: id(n),
            name: format!("drive-{n}"),
            healthy: n < serving,
            reason: if n < serving { String::new() } else { "EIO".into() },
            capacity_bytes: 100,
            used_bytes: 10,
            live_bytes: 5,
            packs: 1,
        };
        let slots = (0..6).map(|n| Slot { drive: id(n), incoming: None }).collect();
        let pg = PgRow { id: PgId(0), epoch: PgEpoch(1), scheme: "rs-4-2".parse().unwrap(), slots };
        let map = ClusterMap { drives: (0..6).map(row).collect(), pgs: vec![pg], ..ClusterMap::default() };
        Parts { map, drives: (0..6).map(seen).collect(), gateway_ready: true, ..Parts::default() }
    }

    #[test]
    fn tolerance_and_writability_follow_the_drives() {
        for (serving, lowest, writable, problems) in
            [(6, 2, 1, 0), (5, 1, 1, 1), (4, 0, 1, 3), (3, -1, 1, 4), (2, -2, 0, 6)]
        {
            let status = Status::new(parts(serving));
            assert_eq!(status.placement.lowest_tolerance, lowest, "{serving}");
            assert_eq!(status.placement.writable, writable, "{serving}");
            assert_eq!(status.problems.len(), problems, "{serving}: {:?}", status.problems);
            assert_eq!(status.drives.iter().filter(|d| d.state == "ok").count(), serving);
        }
        assert!(
            Status::new(parts(5)).problems[0].contains("drive-5") && Status::new(parts(5)).problems[0].contains("EIO")
        );
    }

    #[test]
    fn a_slot_that_moves_takes_writes_and_counts_as_lost_until_it_has_moved() {
        let mut parts = parts(5);
        let mut spare = parts.map.drives[0].clone();
        (spare.id, spare.name) = (id(6), "drive-6".to_owned());
        parts.map.drives.push(spare);
        parts.drives.push(DriveStatus { id: id(6), ..parts.drives[0].clone() });
        parts.map.pgs[0].scheme = "rs-1-5".parse().unwrap();
        assert_eq!(Status::new(parts.clone()).placement.writable, 0, "all six slots are needed");
        parts.map.pgs[0].slots[5].incoming = Some(id(6));
        let placement = Status::new(parts.clone()).placement;
        assert_eq!((placement.writable, placement.lowest_tolerance, placement.moving_slots), (1, 4, 1));
        parts.drives[5].healthy = true;
        assert_eq!(Status::new(parts.clone()).placement.lowest_tolerance, 5, "the old drive is back");
        parts.drives[6].healthy = false;
        let placement = Status::new(parts.clone()).placement;
        assert_eq!((placement.writable, placement.lowest_tolerance), (0, 4), "new packs are on the new drive only");
        parts.map.pgs[0].slots[5] = Slot { drive: id(6), incoming: None };
        parts.drives[6].healthy = true;
        parts.drives[5].healthy = false;
        let placement = Status::new(parts).placement;
        assert_eq!((placement.lowest_tolerance, placement.moving_slots), (5, 0));
    }

    #[test]
    fn status_survives_json() {
        let status = Status::new(parts(4));
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
