//! Placement: which drives the slots of each placement group are. Pure. Every (PG, drive) pair has a score
//! that depends on nothing else, so that a drive that comes or goes moves only its own share; failure domains
//! decide first, scores break the tie.

mod depart;
mod outlook;
mod rebalance;
mod replace;
mod score;

use std::collections::{BTreeMap, BTreeSet};

use stele_types::ids::{ClusterId, DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeState, PgRow, Slot, SlotMove};
use stele_types::scheme::Scheme;

use score::score;

pub use depart::{departure, departures};
pub use outlook::{Outlook, Tolerance};
pub use rebalance::{balanced, rebalance};
pub use replace::replacements;

/// Slots per drive that the number of PGs aims at.
const SLOTS_PER_DRIVE: usize = 100;
/// Slots that move to a drive at once, unless they replace a lost one: a move that has ended is worth more than many that
/// have begun, and it is what a pause waits for.
const FLIGHTS_MAX: usize = 16;
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

/// Drives that may be given slots.
pub(crate) fn usable(map: &ClusterMap) -> BTreeSet<DriveId> {
    map.drives.iter().filter(|drive| is_usable(map, drive)).map(|drive| drive.id).collect()
}

/// Whether a drive may be given slots: it serves, on a node that is in use.
pub(crate) fn is_usable(map: &ClusterMap, drive: &DriveRow) -> bool {
    let in_use = |id| map.node(id).is_none_or(|node| matches!(node.state, NodeState::Active | NodeState::Joining));
    drive.state == DriveState::Ok && in_use(drive.node)
}

/// Zone and rack of a drive.
fn domains<'a>(map: &'a ClusterMap, drive: &DriveRow) -> (&'a str, &'a str) {
    map.node(drive.node).map_or(("", ""), |node| (node.zone.as_str(), node.rack.as_str()))
}

/// Slots on their way to each drive.
#[derive(Default)]
struct Flights(BTreeMap<DriveId, usize>);

impl Flights {
    fn of(map: &ClusterMap) -> Self {
        let mut flights = Self::default();
        for to in map.pgs.iter().flat_map(|pg| &pg.slots).filter_map(|slot| slot.incoming) {
            flights.add(to);
        }
        flights
    }

    fn add(&mut self, to: DriveId) {
        *self.0.entry(to).or_default() += 1;
    }

    fn has_room(&self, to: DriveId) -> bool {
        self.0.get(&to).is_none_or(|flights| *flights < FLIGHTS_MAX)
    }
}

/// The map once every slot that moves has moved.
fn arrive(map: &mut ClusterMap) {
    for slot in map.pgs.iter_mut().flat_map(|pg| &mut pg.slots) {
        *slot = Slot { drive: slot.takes(), incoming: None };
    }
}

/// The slot on the drive that it moves to.
fn put(map: &mut ClusterMap, moved: SlotMove) {
    let Ok(at) = map.pgs.binary_search_by_key(&moved.pg, |pg| pg.id) else { return };
    if let Some(slot) = map.pgs.get_mut(at).and_then(|pg| pg.slots.get_mut(usize::from(moved.slot))) {
        *slot = Slot { drive: moved.to, incoming: None };
    }
}

/// Slots of one PG in each domain.
#[derive(Default)]
struct Used<'a> {
    nodes: BTreeMap<NodeId, usize>,
    racks: BTreeMap<(&'a str, &'a str), usize>,
    zones: BTreeMap<&'a str, usize>,
}

impl<'a> Used<'a> {
    fn add(&mut self, node: NodeId, rack: (&'a str, &'a str)) {
        *self.nodes.entry(node).or_default() += 1;
        *self.racks.entry(rack).or_default() += 1;
        *self.zones.entry(rack.0).or_default() += 1;
    }

    /// How much the domains of a drive are used. The least goes first.
    fn by(&self, candidate: &Candidate<'_>) -> (usize, usize, usize) {
        let count = |of: Option<&usize>| of.copied().unwrap_or(0);
        let (zone, rack) = (self.zones.get(candidate.rack.0), self.racks.get(&candidate.rack));
        (count(self.nodes.get(&candidate.node)), count(rack), count(zone))
    }
}

/// Drives that serve, on nodes that are in use.
fn candidates(map: &ClusterMap) -> Vec<Candidate<'_>> {
    let usable: Vec<&DriveRow> = map.drives.iter().filter(|drive| is_usable(map, drive)).collect();
    let mut known: Vec<u64> = usable.iter().map(|drive| drive.capacity).filter(|capacity| *capacity > 0).collect();
    known.sort_unstable();
    let median = known.get(known.len() / 2).copied().unwrap_or(1);
    let candidate = |drive: &DriveRow| {
        let rack = domains(map, drive);
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
    let mut used = Used::default();
    while chosen.len() < needed {
        // The first of the least used ones: `ranked` is in order of scores.
        let Some(at) = (0..ranked.len()).min_by_key(|at| ranked.get(*at).map(|(_, c)| used.by(c))) else { break };
        let (_, next) = ranked.remove(at);
        used.add(next.node, next.rack);
        chosen.push(Slot { drive: next.drive, incoming: None });
    }
    chosen
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
