//! Clusters for tests of placement.

use std::collections::BTreeMap;

use stele_types::ids::{ClusterId, DriveId, MapEpoch, NodeId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeRow, NodeState, SlotMove};
use stele_types::role::Role;

use super::plan;

pub(super) fn id(n: u8) -> DriveId {
    DriveId::from_bytes([n; 16])
}

/// A drive per entry: its node, and that node's zone and rack.
pub(super) fn cluster(drives: &[(u8, u8, u8)]) -> ClusterMap {
    let mut nodes = BTreeMap::new();
    let mut rows = Vec::new();
    for (n, (node, zone, rack)) in (1u8..).zip(drives) {
        let number = NodeId(u64::from(*node) + 1);
        let row = NodeRow {
            id: number,
            role: Role::StorageNode,
            name: String::new(),
            addresses: Vec::new(),
            zone: format!("z{zone}"),
            rack: format!("r{rack}"),
            state: NodeState::Active,
            key: [0; 32],
            maintenance_until: 0,
        };
        nodes.entry(number).or_insert(row);
        let (name, reason) = (format!("d{n}"), String::new());
        rows.push(DriveRow { id: id(n), node: number, name, state: DriveState::Ok, reason, capacity: 0 });
    }
    let map = ClusterMap {
        cluster: Some(ClusterId::from_bytes([9; 16])),
        epoch: MapEpoch(1),
        drives: rows,
        pgs: Vec::new(),
        nodes: nodes.into_values().collect(),
        rebalancing_paused: false,
    };
    let mut pgs = plan(&map, None).unwrap();
    pgs.truncate(20);
    ClusterMap { pgs, ..map }
}

pub(super) fn apply(map: &mut ClusterMap, moves: &[SlotMove]) {
    for moved in moves {
        let row = map.pgs.iter_mut().find(|pg| pg.id == moved.pg).unwrap();
        row.slots[usize::from(moved.slot)].incoming = Some(moved.to);
    }
}
