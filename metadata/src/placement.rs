//! Placement: which drives the slots of each placement group are. Pure; used once, when a cluster is
//! founded. Rendezvous hashing: every (PG, drive) pair has a score that depends on nothing else, so
//! that a drive that comes or goes moves only its own share.

use std::collections::BTreeMap;

use stele_types::ids::{ClusterId, DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, PgRow, Slot};
use stele_types::scheme::Scheme;

/// Slots per drive that the number of PGs aims at.
const SLOTS_PER_DRIVE: usize = 100;

/// A scheme needs more drives than there are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{scheme} needs {needed} drives, {drives} are usable: add drives or choose a smaller scheme")]
pub struct TooFewDrives {
    scheme: Scheme,
    needed: usize,
    drives: usize,
}

/// The map of a new cluster: as many PGs as give each drive about 100 slots.
///
/// # Errors
/// There are fewer usable drives than the scheme has shards.
pub fn initial_map(cluster: ClusterId, drives: &[DriveRow], scheme: Scheme) -> Result<ClusterMap, TooFewDrives> {
    let mut drives = drives.to_vec();
    drives.sort_by_key(|drive| drive.id);
    let usable: Vec<&DriveRow> = drives.iter().filter(|drive| drive.state == DriveState::Ok).collect();
    let needed = scheme.shards();
    if usable.len() < needed {
        return Err(TooFewDrives { scheme, needed, drives: usable.len() });
    }
    let count = u32::try_from((SLOTS_PER_DRIVE * usable.len()).div_ceil(needed)).unwrap_or(u32::MAX);
    let pgs = (0..count)
        .map(|id| PgRow { id: PgId(id), epoch: PgEpoch(1), scheme, slots: slots(cluster, PgId(id), &usable, needed) })
        .collect();
    Ok(ClusterMap { cluster: Some(cluster), epoch: MapEpoch(1), drives, pgs })
}

fn score(cluster: ClusterId, pg: PgId, drive: DriveId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(cluster.as_bytes()).update(&pg.0.to_le_bytes()).update(drive.as_bytes());
    let mut first = [0u8; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

/// The best-scored drives, spread over nodes as evenly as their number allows.
fn slots(cluster: ClusterId, pg: PgId, drives: &[&DriveRow], needed: usize) -> Vec<Slot> {
    let mut ranked: Vec<&DriveRow> = drives.to_vec();
    ranked.sort_by_key(|drive| (std::cmp::Reverse(score(cluster, pg, drive.id)), drive.id));
    let mut chosen: Vec<DriveId> = Vec::with_capacity(needed);
    let mut per_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    // Each round admits one more drive per node, so no node gets two while another still has none.
    for limit in 1..=needed {
        for drive in &ranked {
            let taken = per_node.entry(drive.node).or_default();
            if chosen.len() < needed && *taken < limit && !chosen.contains(&drive.id) {
                *taken += 1;
                chosen.push(drive.id);
            }
        }
    }
    chosen.into_iter().map(|drive| Slot { drive, incoming: None }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drives(nodes: u64, per_node: u8) -> Vec<DriveRow> {
        (1..=nodes)
            .flat_map(|node| {
                (0..per_node).map(move |n| DriveRow {
                    id: DriveId::from_bytes([u8::try_from(node).unwrap() * 16 + n; 16]),
                    node: NodeId(node),
                    name: format!("{node}/{n}"),
                    state: DriveState::Ok,
                    reason: String::new(),
                })
            })
            .collect()
    }

    fn map(drives: &[DriveRow], scheme: &str) -> ClusterMap {
        initial_map(ClusterId::from_bytes([7; 16]), drives, scheme.parse().unwrap()).unwrap()
    }

    #[test]
    fn six_drives_of_one_node() {
        let map = map(&drives(1, 6), "rs-4-2");
        assert_eq!(map.pgs.len(), 100);
        let mut first = BTreeMap::<DriveId, usize>::new();
        for pg in &map.pgs {
            assert_eq!(pg.slots.iter().map(|slot| slot.drive).collect::<BTreeSet<_>>().len(), 6);
            *first.entry(pg.slots[0].drive).or_default() += 1;
        }
        assert_eq!(first.len(), 6, "the order of drives differs between PGs");
    }

    #[test]
    fn nodes_are_used_evenly_and_slots_spread() {
        let map = map(&drives(8, 3), "rs-4-2");
        let mut slots = BTreeMap::<DriveId, usize>::new();
        for pg in &map.pgs {
            let nodes: BTreeSet<_> = pg.slots.iter().map(|slot| map.drive(slot.drive).unwrap().node).collect();
            assert_eq!(nodes.len(), 6, "no two shards on one node while there are enough nodes");
            for slot in &pg.slots {
                *slots.entry(slot.drive).or_default() += 1;
            }
        }
        assert!(slots.values().all(|n| (60..=140).contains(n)), "{slots:?}");
    }

    #[test]
    fn a_lost_drive_moves_only_its_own_slots() {
        let all = drives(10, 1);
        let before = map(&all, "rs-4-2");
        let after = map(&all[1..], "rs-4-2");
        for (old, new) in before.pgs.iter().zip(&after.pgs) {
            let set = |pg: &PgRow| pg.slots.iter().map(|slot| slot.drive).collect::<BTreeSet<_>>();
            let kept = set(old).intersection(&set(new)).count();
            assert!(kept >= 5, "at most one slot of a PG moves");
        }
    }

    #[test]
    fn too_few_drives() {
        let error = initial_map(ClusterId::from_bytes([7; 16]), &drives(1, 5), "rs-4-2".parse().unwrap());
        assert!(error.unwrap_err().to_string().contains("needs 6 drives, 5 are usable"));
    }
}
