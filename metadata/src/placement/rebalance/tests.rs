//! Clusters that grow: what comes gets its share, little else moves, and it ends.

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;
use stele_types::map::{DriveState, Slot};

use super::*;
use crate::placement::testing::{apply, cluster, id};
use crate::placement::{arrive, plan};

fn nodes(count: u8, drives: u8) -> Vec<(u8, u8, u8)> {
    (0..count).flat_map(|node| (0..drives).map(move |_| (node, 0, node))).collect()
}

/// The groups of a smaller cluster on the drives of a larger one, whose first drives are the same.
fn grown(from: &[(u8, u8, u8)], to: &[(u8, u8, u8)]) -> ClusterMap {
    let small = cluster(from);
    let pgs = plan(&ClusterMap { pgs: Vec::new(), ..small }, None).unwrap();
    ClusterMap { pgs, ..cluster(to) }
}

/// Rounds of moves until there are none. Returns how many slots moved.
fn settle(map: &mut ClusterMap) -> usize {
    let mut moved = 0;
    for _ in 0..400 {
        let moves = rebalance(map);
        if moves.is_empty() {
            return moved;
        }
        moved += moves.len();
        apply(map, &moves);
        for pg in &map.pgs {
            assert!(pg.moving() <= pg.moving_max());
        }
        arrive(map);
    }
    panic!("it does not end");
}

#[test]
fn nodes_that_come_get_their_share_and_nothing_else_moves() {
    let mut map = grown(&nodes(6, 2), &nodes(9, 2));
    let slots: usize = map.pgs.iter().map(|pg| pg.slots.len()).sum();
    let outlook = balanced(&map);
    let moved = settle(&mut map);
    assert_eq!(moved, outlook.slots(), "the plan told it");
    let share = moved as f64 / (slots as f64 / 3.0);
    assert!((0.9..1.1).contains(&share), "{moved} of {slots} slots for a third of the drives");
    assert_eq!(outlook.to.keys().min(), Some(&id(13)), "drives that were there get nothing");
    assert_eq!((outlook.before, outlook.after), (outlook.after, outlook.before), "as much may be lost as before");
    assert_eq!(settle(&mut map), 0);
    for pg in &map.pgs {
        let on: BTreeSet<_> = pg.slots.iter().map(|slot| map.drive(slot.drive).unwrap().node).collect();
        assert_eq!(on.len(), 6, "two shards on a node");
    }
}

#[test]
fn few_slots_move_to_a_drive_at_once() {
    let map = grown(&nodes(6, 1), &nodes(7, 1));
    let first = rebalance(&map);
    assert_eq!(first.len(), crate::placement::FLIGHTS_MAX);
    let mut moving = map;
    apply(&mut moving, &first);
    assert_eq!(rebalance(&moving), [], "the others wait until these have arrived");
}

#[test]
fn nothing_is_rebalanced_while_a_drive_that_holds_slots_is_away() {
    let mut map = grown(&nodes(6, 1), &nodes(9, 1));
    map.drives[2].state = DriveState::Suspect;
    assert_eq!(rebalance(&map), []);
    map.drives[2].state = DriveState::Ok;
    map.drives[8].state = DriveState::Suspect;
    assert!(!rebalance(&map).is_empty(), "a drive without slots is left out");
    assert!(rebalance(&map).iter().all(|moved| moved.to != id(9)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    /// Whatever comes: it ends, with the groups as they would be placed now.
    #[test]
    fn it_ends_where_a_new_cluster_would_begin(before in 3u8..8, more in 1u8..5, drives in 1u8..3, zones in 1u8..4) {
        let of = |count: u8| -> Vec<(u8, u8, u8)> {
            (0..count).flat_map(|node| (0..drives).map(move |_| (node, node % zones, node / zones))).collect()
        };
        let mut map = grown(&of(before), &of(before + more));
        map.pgs.truncate(12);
        settle(&mut map);
        let usable = candidates(&map);
        for pg in &map.pgs {
            let set = |slots: &[Slot]| slots.iter().map(|slot| slot.drive).collect::<BTreeSet<_>>();
            let wanted = slots(map.cluster.unwrap(), pg.id, &usable, pg.slots.len());
            prop_assert_eq!(set(&pg.slots), set(&wanted));
            prop_assert!(pg.slots.iter().all(|slot| slot.incoming.is_none()));
        }
    }
}
