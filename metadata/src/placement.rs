//! Placement: which drives the slots of each placement group are. Pure. Every (PG, drive) pair has a score
//! that depends on nothing else, so that a drive that comes or goes moves only its own share; failure domains
//! decide first, scores break the tie.

mod score;

use std::collections::{BTreeMap, BTreeSet};

use stele_types::ids::{ClusterId, DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeState, PgRow, Slot};
use stele_types::scheme::Scheme;

use score::score;

/// Slots per drive that the number of PGs aims at.
const SLOTS_PER_DRIVE: usize = 100;
/// Most PGs of a cluster: the map is one row, and one raft entry when it is founded.
const PGS_MAX: usize = 4096;

/// A scheme needs more drives than there are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{scheme} needs {needed} drives, {drives} are usable: add drives or choose a smaller scheme")]
pub struct TooFewDrives {
    scheme: Scheme,
    needed: usize,
    drives: usize,
}

/// A drive that may be given slots, with the domains it is in.
struct Candidate<'a> {
    drive: DriveId,
    node: NodeId,
    rack: (&'a str, &'a str),
    weight: u64,
}

/// The map of a new store of one process: as many PGs as give each drive about 100 slots.
///
/// # Errors
/// There are fewer usable drives than the scheme has shards.
pub fn initial_map(cluster: ClusterId, drives: &[DriveRow], scheme: Scheme) -> Result<ClusterMap, TooFewDrives> {
    let mut drives = drives.to_vec();
    drives.sort_by_key(|drive| drive.id);
    let map = ClusterMap { cluster: Some(cluster), epoch: MapEpoch(1), drives, ..ClusterMap::default() };
    let pgs = plan(&map, Some(scheme))?;
    Ok(ClusterMap { pgs, ..map })
}

/// The PGs that the usable drives call for besides those of `map`, which stay as they are. Without a scheme
/// the number of failure domains chooses it: nodes, or the drives of an only node.
///
/// # Errors
/// There are fewer usable drives than the scheme has shards.
pub fn plan(map: &ClusterMap, scheme: Option<Scheme>) -> Result<Vec<PgRow>, TooFewDrives> {
    let usable = candidates(map);
    let nodes: BTreeSet<NodeId> = usable.iter().map(|candidate| candidate.node).collect();
    let domains = if nodes.len() > 1 { nodes.len() } else { usable.len() };
    let scheme = scheme.unwrap_or_else(|| Scheme::for_domains(domains));
    let needed = scheme.shards();
    if usable.len() < needed {
        return Err(TooFewDrives { scheme, needed, drives: usable.len() });
    }
    let slots_now: usize = map.pgs.iter().map(|pg| pg.slots.len()).sum();
    let wanted = (SLOTS_PER_DRIVE * usable.len()).saturating_sub(slots_now).div_ceil(needed);
    let count = u32::try_from(wanted.min(PGS_MAX.saturating_sub(map.pgs.len()))).unwrap_or(0);
    let first = map.pgs.iter().map(|pg| pg.id.0.saturating_add(1)).max().unwrap_or(0);
    let cluster = map.cluster.unwrap_or(ClusterId::from_bytes([0; 16]));
    let row = |id| PgRow { id, epoch: PgEpoch(1), scheme, slots: slots(cluster, id, &usable, needed) };
    Ok((0..count).map(|n| row(PgId(first.saturating_add(n)))).collect())
}

/// Drives that serve, on nodes that are in use.
fn candidates(map: &ClusterMap) -> Vec<Candidate<'_>> {
    let in_use = |id| map.node(id).is_none_or(|node| matches!(node.state, NodeState::Active | NodeState::Joining));
    let usable: Vec<&DriveRow> =
        map.drives.iter().filter(|drive| drive.state == DriveState::Ok && in_use(drive.node)).collect();
    let mut known: Vec<u64> = usable.iter().map(|drive| drive.capacity).filter(|capacity| *capacity > 0).collect();
    known.sort_unstable();
    let median = known.get(known.len() / 2).copied().unwrap_or(1);
    let candidate = |drive: &DriveRow| {
        let rack = map.node(drive.node).map_or(("", ""), |node| (node.zone.as_str(), node.rack.as_str()));
        let weight = if drive.capacity == 0 { median } else { drive.capacity };
        Candidate { drive: drive.id, node: drive.node, rack, weight }
    };
    usable.into_iter().map(candidate).collect()
}

/// One drive after the other, each from the least used node, of those in the least used rack, of those in the
/// least used zone. So no two shards share a node, rack or zone while there are enough of these.
fn slots(cluster: ClusterId, pg: PgId, usable: &[Candidate<'_>], needed: usize) -> Vec<Slot> {
    let mut ranked: Vec<(u128, &Candidate<'_>)> =
        usable.iter().map(|c| (score(cluster, pg, c.drive, c.weight), c)).collect();
    ranked.sort_by_key(|(score, candidate)| (*score, candidate.drive));
    let mut chosen: Vec<Slot> = Vec::with_capacity(needed);
    let mut nodes: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut racks: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < needed {
        let used = |c: &Candidate<'_>| {
            let count = |of: Option<&usize>| of.copied().unwrap_or(0);
            (count(nodes.get(&c.node)), count(racks.get(&c.rack)), count(zones.get(c.rack.0)))
        };
        // The first of the least used ones: `ranked` is in order of scores.
        let Some(at) = (0..ranked.len()).min_by_key(|at| ranked.get(*at).map(|(_, c)| used(c))) else { break };
        let (_, next) = ranked.remove(at);
        *nodes.entry(next.node).or_default() += 1;
        *racks.entry(next.rack).or_default() += 1;
        *zones.entry(next.rack.0).or_default() += 1;
        chosen.push(Slot { drive: next.drive, incoming: None });
    }
    chosen
}

#[cfg(test)]
mod tests;
