//! Clusters that shrink: everything leaves, only what must moves, and what would break the scheme is refused.

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;

use super::*;
use crate::placement::arrive;
use crate::placement::rebalance::rebalance;
use crate::placement::testing::{apply, cluster};

fn nodes(count: u8, drives: u8) -> Vec<(u8, u8, u8)> {
    (0..count).flat_map(|node| (0..drives).map(move |_| (node, 0, node))).collect()
}

fn drain(map: &mut ClusterMap, nodes: &[u64]) {
    for node in map.nodes.iter_mut().filter(|node| nodes.contains(&node.id.0)) {
        node.state = NodeState::Draining;
    }
}

fn held(map: &ClusterMap) -> usize {
    let gone = leaving(map);
    map.pgs.iter().flat_map(|pg| &pg.slots).filter(|slot| slot.holders().any(|on| gone.contains(&on))).count()
}

#[test]
fn everything_leaves_in_bounded_rounds_and_nothing_else_moves() {
    let mut map = cluster(&nodes(9, 2));
    drain(&mut map, &[2, 5, 9]);
    let (before, outlook) = (held(&map), departure(&map, &BTreeSet::new()));
    let (mut moved, mut rounds) = (0, 0);
    loop {
        let moves = departures(&map);
        if moves.is_empty() {
            break;
        }
        for one in &moves {
            let row = map.pg(one.pg).unwrap();
            assert!(leaving(&map).contains(&row.slots[usize::from(one.slot)].drive), "a slot that stays");
        }
        (moved, rounds) = (moved + moves.len(), rounds + 1);
        apply(&mut map, &moves);
        assert_eq!(departures(&map), [], "once is enough");
        arrive(&mut map);
    }
    assert_eq!((held(&map), moved, outlook.slots(), outlook.stuck), (0, before, before, 0));
    assert!(rounds < 10, "{rounds}");
    assert_eq!((outlook.before.nodes, outlook.after.nodes, outlook.refusal()), (2, 2, None));
    assert_eq!(rebalance(&map), [], "nothing moves again afterwards");
}

#[test]
fn a_node_too_many_is_refused_with_what_to_do() {
    let one_drive = cluster(&nodes(6, 1));
    let why = departure(&one_drive, &BTreeSet::from([NodeId(1)])).refusal().unwrap();
    assert!(why.contains("of the 5 nodes") && why.contains("add drives or a storage node first"), "{why}");
    let two_drives = cluster(&nodes(6, 2));
    let why = departure(&two_drives, &BTreeSet::from([NodeId(1)])).refusal().unwrap();
    assert!(why.contains("5 storage nodes would be left") && why.contains("add a storage node first"), "{why}");
    assert_eq!(departure(&cluster(&nodes(7, 1)), &BTreeSet::from([NodeId(1)])).refusal(), None);
    // One that is draining already counts.
    let mut seven = cluster(&nodes(7, 1));
    drain(&mut seven, &[7]);
    assert!(departure(&seven, &BTreeSet::from([NodeId(1)])).refusal().is_some());
}

#[test]
fn a_slot_on_its_way_to_a_node_that_is_to_leave_moves_on_once_it_has_arrived() {
    let mut map = cluster(&nodes(8, 1));
    map.pgs.truncate(1);
    let unused: Vec<u64> = (1..=8)
        .filter(|n| {
            let drive = map.drives.iter().find(|drive| drive.node == NodeId(*n)).unwrap().id;
            !map.pgs[0].uses(drive)
        })
        .collect();
    let to = map.drives.iter().find(|drive| drive.node == NodeId(unused[0])).unwrap().id;
    map.pgs[0].slots[2].incoming = Some(to);
    drain(&mut map, &[unused[0]]);
    assert_eq!(departures(&map), []);
    arrive(&mut map);
    assert_eq!(departures(&map).iter().map(|moved| moved.slot).collect::<Vec<_>>(), [2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(6), ..ProptestConfig::default() })]

    /// What is not refused keeps as many nodes expendable as before, and leaves nothing behind.
    #[test]
    fn what_is_not_refused_is_done_in_full(count in 3u8..10, drives in 1u8..3, zones in 1u8..4, gone in proptest::collection::btree_set(1u64..10, 1..4)) {
        let of: Vec<(u8, u8, u8)> =
            (0..count).flat_map(|node| (0..drives).map(move |_| (node, node % zones, node / zones))).collect();
        let mut map = cluster(&of);
        let ids: BTreeSet<NodeId> = gone.iter().copied().map(NodeId).filter(|id| map.node(*id).is_some()).collect();
        let outlook = departure(&map, &ids);
        drain(&mut map, &gone.iter().copied().collect::<Vec<_>>());
        for _ in 0..100 {
            let moves = departures(&map);
            apply(&mut map, &moves);
            arrive(&mut map);
        }
        prop_assert_eq!(held(&map), outlook.stuck);
        if outlook.refusal().is_none() {
            prop_assert_eq!(outlook.stuck, 0);
            prop_assert!(outlook.after.nodes >= outlook.before.nodes);
        }
    }
}
