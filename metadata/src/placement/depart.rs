//! Slots of storage nodes that are to leave: each goes to where the group's other slots leave domains free.

use std::collections::BTreeSet;

use stele_types::ids::{ClusterId, DriveId, NodeId};
use stele_types::map::{ClusterMap, NodeState, Slot, SlotMove};

use super::outlook::Outlook;
use super::replace::{choose, rows_by_id, used_by_others};
use super::{Flights, candidates};

/// Drives of nodes that are draining or drained.
fn leaving(map: &ClusterMap) -> BTreeSet<DriveId> {
    let leaves = |node| map.node(node).is_some_and(|n| matches!(n.state, NodeState::Draining | NodeState::Drained));
    map.drives.iter().filter(|drive| leaves(drive.node)).map(|drive| drive.id).collect()
}

/// A drive for each slot on a node that is to leave, as far as the group and the drives that take over may move more at
/// once. A slot that moves already is left alone, even if it moves to such a node: what is written there meanwhile is
/// nowhere else, so it moves on once it has arrived.
pub fn departures(map: &ClusterMap) -> Vec<SlotMove> {
    planned(map, &mut Flights::of(map), true)
}

fn planned(map: &ClusterMap, flights: &mut Flights, gently: bool) -> Vec<SlotMove> {
    let leaving = leaving(map);
    let affected = |slot: &Slot| slot.incoming.is_none() && leaving.contains(&slot.drive);
    if leaving.is_empty() || !map.pgs.iter().any(|pg| pg.slots.iter().any(affected)) {
        return Vec::new();
    }
    let cluster = map.cluster.unwrap_or(ClusterId::from_bytes([0; 16]));
    let (rows, usable) = (rows_by_id(map), candidates(map));
    let mut moves = Vec::new();
    for pg in map.pgs.iter().filter(|pg| pg.slots.iter().any(affected)) {
        let mut row = pg.clone();
        for at in 0..row.slots.len() {
            if !row.slots.get(at).is_some_and(affected) || (gently && row.moving() >= row.moving_max()) {
                continue;
            }
            let used = used_by_others(map, &rows, &row, at);
            let Some(to) = choose(cluster, &row, usable.iter(), &used) else { continue };
            // Where too much is on its way to the best drive it is waited for: the next best would have to be left again.
            if gently && !flights.has_room(to) {
                continue;
            }
            if let (Some(slot), Ok(index)) = (row.slots.get_mut(at), u8::try_from(at)) {
                slot.incoming = Some(to);
                flights.add(to);
                moves.push(SlotMove { pg: pg.id, epoch: pg.epoch, slot: index, to });
            }
        }
    }
    moves
}

/// What the departure of storage nodes leads to, with those that are leaving already.
pub fn departure(map: &ClusterMap, nodes: &BTreeSet<NodeId>) -> Outlook {
    let mut after = map.clone();
    for node in after.nodes.iter_mut().filter(|node| nodes.contains(&node.id)) {
        node.state = NodeState::Draining;
    }
    super::arrive(&mut after);
    let before = after.clone();
    let moves = planned(&before, &mut Flights::default(), false);
    for moved in &moves {
        super::put(&mut after, *moved);
    }
    let gone = leaving(&after);
    let stuck = after.pgs.iter().flat_map(|pg| &pg.slots).filter(|slot| gone.contains(&slot.drive)).count();
    Outlook::new(&before, &after, stuck)
}

#[cfg(test)]
mod tests;
