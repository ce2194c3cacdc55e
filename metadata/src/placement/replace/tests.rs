//! Replacements of random clusters: domains, no drive twice, nothing that need not move, no matter in which order.

use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::{RngSeed, TestCaseError};
use stele_types::ids::{PgEpoch, PgId};
use stele_types::map::{DriveState, NodeState};

use super::*;
use crate::placement::arrive;
use crate::placement::testing::{apply, cluster, id};

/// Whether the node, rack and zone of `a` hold fewer shards of the row, its slot `except` left out, than those of `b`; the
/// node decides, then the rack, then the zone.
fn less_used(map: &ClusterMap, row: &PgRow, except: usize, (a, b): (DriveId, DriveId)) -> bool {
    let node = |drive| map.node(map.drive(drive).unwrap().node).unwrap();
    let shares = |of: DriveId| {
        let others =
            || row.slots.iter().enumerate().filter(|(at, _)| *at != except).map(|(_, slot)| node(slot.takes()));
        let one = node(of);
        (
            others().filter(|other| other.id == one.id).count(),
            others().filter(|other| (&other.zone, &other.rack) == (&one.zone, &one.rack)).count(),
            others().filter(|other| other.zone == one.zone).count(),
        )
    };
    shares(a) < shares(b)
}

/// What must hold of one round of moves.
fn check(map: &ClusterMap, lost: &BTreeSet<DriveId>, moves: &[SlotMove]) -> Result<(), TestCaseError> {
    let mut now = map.clone();
    for moved in moves {
        let at = usize::from(moved.slot);
        let before = now.pg(moved.pg).unwrap().clone();
        prop_assert_eq!(moved.epoch, before.epoch);
        prop_assert!(lost.contains(&before.slots[at].takes()), "a slot that is well stays");
        prop_assert!(!lost.contains(&moved.to));
        prop_assert!(!before.uses(moved.to), "a drive twice");
        for other in map.drives.iter().map(|drive| drive.id).filter(|drive| !lost.contains(drive)) {
            let better = !before.uses(other) && less_used(map, &before, at, (other, moved.to));
            prop_assert!(!better, "{moved:?}: {other} would keep the domains apart");
        }
        apply(&mut now, &[*moved]);
    }
    for row in &now.pgs {
        prop_assert!(row.moving() <= (row.scheme.m() / 2).max(1));
        // What could move and does not has nowhere to go, or comes later.
        let waits = row.slots.iter().any(|slot| slot.incoming.is_none() && lost.contains(&slot.drive));
        let free = map.drives.iter().any(|drive| !lost.contains(&drive.id) && !row.uses(drive.id));
        prop_assert!(!waits || !free || row.moving() == row.moving_max());
    }
    Ok(())
}

fn drives() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    // Zone and rack hang on the node, so that a node is in one place only.
    (1..12u8, 1..4u8, 1..4u8, 1..40usize).prop_map(|(nodes, zones, racks, count)| {
        let drive = |n: usize| {
            let node = u8::try_from(n % usize::from(nodes)).unwrap();
            (node, node % zones, node / zones % racks)
        };
        (0..count).map(drive).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default() })]

    #[test]
    fn lost_drives_are_replaced_and_nothing_else_moves(
        drives in drives(),
        draws in proptest::collection::vec(0..40u8, 1..8),
        back in any::<bool>(),
    ) {
        let mut map = cluster(&drives);
        let mut lost: BTreeSet<DriveId> = BTreeSet::new();
        for draw in draws {
            // Drives are lost one after the other, with moves under way; at times an earlier one is back.
            if back && lost.len() > 2 {
                lost.pop_first();
            }
            lost.insert(map.drives[usize::from(draw) % map.drives.len()].id);
            let moves = replacements(&map, &lost);
            check(&map, &lost, &moves)?;
            let mut shuffled = map.clone();
            shuffled.drives.reverse();
            prop_assert_eq!(&replacements(&shuffled, &lost), &moves);
            apply(&mut map, &moves);
            prop_assert!(replacements(&map, &lost).is_empty(), "once is enough");
        }
        for _ in 0..40 {
            arrive(&mut map);
            let moves = replacements(&map, &lost);
            check(&map, &lost, &moves)?;
            apply(&mut map, &moves);
        }
        for row in &map.pgs {
            let stays = row.slots.iter().any(|slot| lost.contains(&slot.takes()));
            let free = map.drives.iter().any(|drive| !lost.contains(&drive.id) && !row.uses(drive.id));
            prop_assert!(!stays || !free, "in the end every slot that can be elsewhere is");
        }
    }
}

#[test]
fn a_drive_that_may_not_be_used_is_given_nothing() {
    let mut map = cluster(&[(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)]);
    map.pgs.truncate(1);
    map.pgs[0].slots = (1..=3).map(|n| Slot { drive: id(n), incoming: None }).collect();
    let lost = BTreeSet::from([id(2)]);
    let to = |map: &ClusterMap| replacements(map, &lost).iter().map(|moved| moved.to).collect::<Vec<_>>();
    map.drives[3].state = DriveState::Suspect;
    assert_eq!(to(&map), [id(5)]);
    map.nodes[4].state = NodeState::Draining;
    assert_eq!(to(&map), []);
    map.drives[3].state = DriveState::Ok;
    assert_eq!(to(&map), [id(4)]);
}

#[test]
fn half_of_what_may_be_lost_moves_at_once_and_a_move_to_a_lost_drive_is_planned_anew() {
    let all: Vec<(u8, u8, u8)> = (0..16).map(|n| (n, 0, 0)).collect();
    let slots = |n: u8| -> Vec<Slot> { (1..=n).map(|n| Slot { drive: id(n), incoming: None }).collect() };
    let row =
        |scheme: &str, n| PgRow { id: PgId(0), epoch: PgEpoch(3), scheme: scheme.parse().unwrap(), slots: slots(n) };
    let moved = |row: PgRow, lost: &[u8]| {
        let map = ClusterMap { pgs: vec![row], ..cluster(&all) };
        let moves = replacements(&map, &lost.iter().copied().map(id).collect());
        moves.iter().map(|moved| moved.slot).collect::<Vec<_>>()
    };
    assert_eq!(moved(row("rs-8-4", 12), &[2, 5, 9]), [1, 4]);
    assert_eq!(moved(row("rs-4-2", 6), &[2, 5]), [1]);
    assert_eq!(moved(row("rs-1-1", 2), &[1, 2]), [0]);
    assert_eq!(moved(row("rs-1-0", 1), &[1]), [0]);
    let mut moving = row("rs-4-2", 6);
    moving.slots[1].incoming = Some(id(12));
    assert_eq!(moved(moving.clone(), &[2, 5]), [0u8; 0], "another slot moves");
    assert_eq!(moved(moving.clone(), &[2, 12]), [1]);
    assert_eq!(moved(moving, &[12]), [1], "its old drive is back, and new packs need a place");
}
