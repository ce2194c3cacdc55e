//! Draining, maintenance and pausing: who may go where, and what the log says.

use std::collections::BTreeSet;

use stele_types::ids::PgEpoch;
use stele_types::map::{NodeRow, NodeState, PgRow, Slot};
use stele_types::role::Role;

use super::*;
use crate::placement::departures;

fn drive(n: u64) -> DriveId {
    DriveId::from_bytes([u8::try_from(n).unwrap(); 16])
}

/// Metadata node 1, storage nodes 2 to 6 with a drive each, an rs-1-2 group on the first three of them.
fn founded() -> Machine {
    let node = |n: u64| NodeRow {
        id: NodeId(n),
        role: if n == 1 { Role::Metadata } else { Role::StorageNode },
        name: format!("n{n}"),
        addresses: vec![format!("n{n}:9100")],
        zone: String::new(),
        rack: format!("r{n}"),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    };
    let row = |n: u64| DriveRow {
        id: drive(n),
        node: NodeId(n),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let slots = (2..=4).map(|n| Slot { drive: drive(n), incoming: None }).collect();
    let pg = PgRow { id: PgId(0), epoch: PgEpoch(1), scheme: "rs-1-2".parse().unwrap(), slots };
    let map = ClusterMap { nodes: (1..=6).map(node).collect(), pgs: vec![pg], ..ClusterMap::default() };
    let mut m = Machine::new();
    let cluster = ClusterId::from_bytes([1; 16]);
    m.cluster(Command::InitCluster { cluster, drives: (2..=6).map(row).collect(), map: Box::new(map) }).unwrap();
    m
}

fn map(m: &Machine) -> ClusterMap {
    match m.read(&MetaRequest::ClusterMap { known: MapEpoch(0) }) {
        Ok(MetaReply::ClusterMap(Some(map))) => *map,
        other => panic!("{other:?}"),
    }
}

fn state(node: u64, state: NodeState) -> Command {
    Command::SetNodeState { node: NodeId(node), state }
}

fn refused(m: &mut Machine, command: Command, needle: &str) {
    let before = map(m);
    let error = m.cluster(command).unwrap_err();
    assert_eq!(error.code, Code::Malformed);
    assert!(error.detail.contains(needle), "{}", error.detail);
    assert_eq!(map(m), before);
}

fn log_size(m: &Machine) -> usize {
    m.table(Tag::Record).len()
}

#[test]
fn a_node_is_drained_when_nothing_is_on_it_and_only_then_removed() {
    use NodeState::{Active, Drained, Draining, Joining, Removed};
    let mut m = founded();
    refused(&mut m, state(1, Draining), "holds no shards");
    refused(&mut m, state(2, Drained), "not draining");
    refused(&mut m, state(2, Removed), "stele cluster drain 2");
    refused(&mut m, state(2, Joining), "has joined already");
    refused(&mut m, state(9, Draining), "not part of this cluster");
    let before = log_size(&m);
    m.cluster(state(2, Draining)).unwrap();
    m.cluster(state(2, Draining)).unwrap();
    assert_eq!(log_size(&m), before + 1, "a repeat is no act");
    refused(&mut m, state(2, Drained), "still has 1 slots");
    let moves = departures(&map(&m));
    assert_eq!(moves.len(), 1);
    m.cluster(Command::MoveSlots { moves: moves.clone() }).unwrap();
    refused(&mut m, state(2, Drained), "still has 1 slots");
    let (pg, epoch, slot, to) = (moves[0].pg, map(&m).pgs[0].epoch, moves[0].slot, moves[0].to);
    m.cluster(Command::FlipSlot { pg, epoch, slot, to }).unwrap();
    m.cluster(state(2, Drained)).unwrap();
    m.cluster(state(2, Draining)).unwrap();
    assert_eq!(map(&m).node(NodeId(2)).unwrap().state, Drained, "it stays so");
    m.cluster(state(2, Active)).unwrap();
    m.cluster(state(2, Draining)).unwrap();
    m.cluster(state(2, Drained)).unwrap();
    m.cluster(state(2, Removed)).unwrap();
    refused(&mut m, state(2, Active), "removed for good");
    assert_eq!(map(&m).drive(drive(2)).unwrap().state, DriveState::Removed);
}

#[test]
fn the_last_nodes_that_the_scheme_needs_are_not_drained() {
    let mut m = founded();
    for node in [5, 6] {
        m.cluster(state(node, NodeState::Draining)).unwrap();
    }
    refused(&mut m, state(2, NodeState::Draining), "add drives or a storage node first");
    m.cluster(state(6, NodeState::Active)).unwrap();
    m.cluster(state(2, NodeState::Draining)).unwrap();
    refused(&mut m, state(3, NodeState::Draining), "have nowhere to go");
}

#[test]
fn maintenance_ends_by_the_commit_time_and_pausing_is_logged_once() {
    let mut m = founded();
    let until = |m: &Machine| map(m).node(NodeId(3)).unwrap().maintenance_until;
    refused(&mut m, Command::SetMaintenance { node: NodeId(3), ttl_ms: 8 * 24 * 3_600_000 }, "a week");
    refused(&mut m, Command::SetMaintenance { node: NodeId(9), ttl_ms: 1 }, "not part of this cluster");
    m.cluster(Command::SetMaintenance { node: NodeId(3), ttl_ms: 60_000 }).unwrap();
    assert!(until(&m) >= 60_000);
    m.cluster(Command::SetMaintenance { node: NodeId(3), ttl_ms: 0 }).unwrap();
    assert_eq!(until(&m), 0);
    let before = log_size(&m);
    for paused in [true, true, false, false] {
        m.cluster(Command::PauseRebalancing { paused }).unwrap();
        assert_eq!(map(&m).rebalancing_paused, paused);
    }
    assert_eq!(log_size(&m), before + 2);
}

#[test]
fn rows_of_before_maintenance_and_pausing_are_read() {
    let (now, set) = (map(&founded()), BTreeSet::from([0u64]));
    let mut bytes = rmp_serde::to_vec(&now).unwrap();
    // The last field of the map is the newest: without it the array is one shorter.
    assert_eq!(bytes.pop(), Some(0xc2));
    bytes[0] -= 1;
    let old: ClusterMap = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(old, now);
    assert!(old.nodes.iter().all(|node| set.contains(&node.maintenance_until)));
}
