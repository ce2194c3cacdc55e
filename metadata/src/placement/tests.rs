//! Spread over domains, weights, and least movement.

use stele_types::map::NodeRow;
use stele_types::role::Role;

use super::*;

fn drive(node: u64, n: u8, capacity: u64) -> DriveRow {
    DriveRow {
        id: DriveId::from_bytes([u8::try_from(node).unwrap() * 8 + n; 16]),
        node: NodeId(node),
        name: format!("{node}/{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity,
    }
}

fn drives(nodes: u64, per_node: u8) -> Vec<DriveRow> {
    (1..=nodes).flat_map(|node| (0..per_node).map(move |n| drive(node, n, 0))).collect()
}

fn node(id: u64, zone: &str, rack: &str) -> NodeRow {
    NodeRow {
        id: NodeId(id),
        role: Role::StorageNode,
        name: format!("node-{id}"),
        addresses: Vec::new(),
        zone: zone.to_owned(),
        rack: rack.to_owned(),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    }
}

fn of(nodes: Vec<NodeRow>, drives: Vec<DriveRow>) -> ClusterMap {
    ClusterMap { cluster: Some(ClusterId::from_bytes([7; 16])), nodes, drives, ..ClusterMap::default() }
}

fn planned(map: &ClusterMap, scheme: &str) -> Vec<PgRow> {
    plan(map, Some(scheme.parse().unwrap())).unwrap()
}

fn map(drives: &[DriveRow], scheme: &str) -> ClusterMap {
    initial_map(ClusterId::from_bytes([7; 16]), drives, scheme.parse().unwrap()).unwrap()
}

fn set(pg: &PgRow) -> BTreeSet<DriveId> {
    pg.slots.iter().map(|slot| slot.drive).collect()
}

fn slots_of(pgs: &[PgRow]) -> BTreeMap<DriveId, usize> {
    let mut slots = BTreeMap::new();
    for slot in pgs.iter().flat_map(|pg| &pg.slots) {
        *slots.entry(slot.drive).or_default() += 1;
    }
    slots
}

#[test]
fn six_drives_of_one_node() {
    let map = map(&drives(1, 6), "rs-4-2");
    assert_eq!(map.pgs.len(), 100);
    let mut first = BTreeMap::<DriveId, usize>::new();
    for pg in &map.pgs {
        assert_eq!(set(pg).len(), 6);
        *first.entry(pg.slots[0].drive).or_default() += 1;
    }
    assert_eq!(first.len(), 6, "the order of drives differs between PGs");
}

#[test]
fn nodes_are_used_evenly_and_slots_spread() {
    let map = map(&drives(8, 3), "rs-4-2");
    for pg in &map.pgs {
        let nodes: BTreeSet<_> = pg.slots.iter().map(|slot| map.drive(slot.drive).unwrap().node).collect();
        assert_eq!(nodes.len(), 6, "no two shards on one node while there are enough nodes");
    }
    let slots = slots_of(&map.pgs);
    assert!(slots.values().all(|n| (60..=140).contains(n)), "{slots:?}");
}

/// How many shards of its worst PG are in one domain of each kind: zone, rack, node.
fn worst(map: &ClusterMap, pgs: &[PgRow]) -> (usize, usize, usize) {
    let mut worst = (0, 0, 0);
    for pg in pgs {
        let most = |domain: &dyn Fn(&NodeRow) -> String| {
            let mut counts = BTreeMap::<String, usize>::new();
            for slot in &pg.slots {
                let node = map.node(map.drive(slot.drive).unwrap().node).unwrap();
                *counts.entry(domain(node)).or_default() += 1;
            }
            counts.into_values().max().unwrap()
        };
        worst.0 = worst.0.max(most(&|node| node.zone.clone()));
        worst.1 = worst.1.max(most(&|node| format!("{}/{}", node.zone, node.rack)));
        worst.2 = worst.2.max(most(&|node| node.id.to_string()));
    }
    worst
}

#[test]
fn the_widest_domains_that_suffice_hold_one_shard_each() {
    // Three zones of two racks of two nodes of two drives.
    let nodes: Vec<NodeRow> = (1..=12).map(|n| node(n, &format!("z{}", n % 3), &format!("r{}", n / 3 % 2))).collect();
    let map = of(nodes, drives(12, 2));
    assert_eq!(worst(&map, &planned(&map, "rs-1-2")), (1, 1, 1), "three shards, three zones");
    assert_eq!(worst(&map, &planned(&map, "rs-4-2")), (2, 1, 1), "six shards, six racks, two in each zone");
    assert_eq!(worst(&map, &planned(&map, "rs-8-4")), (4, 2, 1), "twelve shards on twelve nodes");
    // One zone has a single node: it must not get more than its node's share.
    let nodes: Vec<NodeRow> = (1..=6).map(|n| node(n, if n == 1 { "a" } else { "b" }, "")).collect();
    let map = of(nodes, drives(6, 4));
    assert_eq!(worst(&map, &planned(&map, "rs-4-2")), (5, 5, 1));
    // Three nodes for six shards: two each.
    let map = of((1..=3).map(|n| node(n, "", "")).collect(), drives(3, 4));
    assert_eq!(worst(&map, &planned(&map, "rs-4-2")).2, 2);
}

#[test]
fn larger_drives_get_more() {
    // 40 nodes with one drive each, every second one of double size.
    let drives: Vec<DriveRow> =
        (0..30u64).map(|n| drive(n + 1, 0, if n % 2 == 0 { 4 << 40 } else { 8 << 40 })).collect();
    let map = of((1..=30).map(|n| node(n, "", "")).collect(), drives);
    let pgs = planned(&map, "rs-1-2");
    let slots = slots_of(&pgs);
    let total = |capacity: u64| -> usize {
        map.drives.iter().filter(|drive| drive.capacity == capacity).map(|drive| slots[&drive.id]).sum()
    };
    let ratio = total(8 << 40) as f64 / total(4 << 40) as f64;
    // Three draws without putting back favour the small ones a little.
    assert!((1.8..2.1).contains(&ratio), "{ratio}");
}

#[test]
fn a_lost_drive_moves_only_its_own_slots() {
    let all = drives(10, 1);
    let before = map(&all, "rs-4-2");
    let after = map(&all[1..], "rs-4-2");
    for (old, new) in before.pgs.iter().zip(&after.pgs) {
        assert!(set(old).intersection(&set(new)).count() >= 5, "at most one slot of a PG moves");
    }
}

#[test]
fn growth_adds_groups_and_leaves_the_others() {
    let mut grown = map(&drives(6, 1), "rs-4-2");
    assert_eq!(plan(&grown, None).unwrap(), [], "nothing is missing");
    grown.drives = drives(12, 1);
    let more = plan(&grown, None).unwrap();
    assert_eq!(more.len(), 50);
    assert_eq!((more[0].id, more[0].scheme.to_string()), (PgId(100), "rs-8-4".to_owned()));
    let out = ClusterMap {
        nodes: vec![NodeRow { state: NodeState::Removed, ..node(6, "", "") }],
        ..map(&drives(7, 1), "rs-4-2")
    };
    let out = ClusterMap { pgs: Vec::new(), ..out };
    let unused = DriveId::from_bytes([48; 16]);
    assert!(planned(&out, "rs-4-2").iter().all(|pg| !set(pg).contains(&unused)), "a removed node gets nothing");
}

#[test]
fn too_few_drives() {
    let error = initial_map(ClusterId::from_bytes([7; 16]), &drives(1, 5), "rs-4-2".parse().unwrap());
    assert!(error.unwrap_err().to_string().contains("needs 6 drives, 5 are usable"));
}
