//! Slots for drives that came: every group as it would be placed now, with the fewest moves.

use std::collections::BTreeSet;

use stele_types::ids::{ClusterId, DriveId};
use stele_types::map::{ClusterMap, PgRow, SlotMove};

use super::outlook::Outlook;
use super::replace::{choose, rows_by_id, used_by_others};
use super::{Candidate, Flights, candidates, is_usable, slots};

/// Moves that bring groups nearer to where they would be placed now, as far as groups and drives may move more at once.
/// None while a drive that holds a slot is not in use: then what is lost or leaves goes first, and a drive that is
/// away for a moment does not make everything move.
pub fn rebalance(map: &ClusterMap) -> Vec<SlotMove> {
    let in_use = |drive| map.drive(drive).is_some_and(|row| is_usable(map, row));
    let holders: BTreeSet<DriveId> = map.pgs.iter().flat_map(|pg| &pg.slots).flat_map(|slot| slot.holders()).collect();
    if !holders.into_iter().all(in_use) {
        return Vec::new();
    }
    planned(map, &mut Flights::of(map), true)
}

fn planned(map: &ClusterMap, flights: &mut Flights, gently: bool) -> Vec<SlotMove> {
    let cluster = map.cluster.unwrap_or(ClusterId::from_bytes([0; 16]));
    let (rows, usable) = (rows_by_id(map), candidates(map));
    let mut moves = Vec::new();
    for pg in map.pgs.iter().filter(|pg| usable.len() >= pg.slots.len()) {
        if gently && pg.moving() >= pg.moving_max() {
            continue;
        }
        let wanted: BTreeSet<DriveId> =
            slots(cluster, pg.id, &usable, pg.slots.len()).iter().map(|slot| slot.drive).collect();
        let mut row = pg.clone();
        for at in 0..row.slots.len() {
            if gently && row.moving() >= row.moving_max() {
                break;
            }
            if row.slots.get(at).is_none_or(|slot| slot.incoming.is_some() || wanted.contains(&slot.drive)) {
                continue;
            }
            let used = used_by_others(map, &rows, &row, at);
            let missing = usable.iter().filter(|candidate| fits(&row, &wanted, candidate));
            let room = missing.filter(|candidate| !gently || flights.has_room(candidate.drive));
            let Some(to) = choose(cluster, &row, room, &used) else { continue };
            if let (Some(slot), Ok(index)) = (row.slots.get_mut(at), u8::try_from(at)) {
                slot.incoming = Some(to);
                flights.add(to);
                moves.push(SlotMove { pg: pg.id, epoch: pg.epoch, slot: index, to });
            }
        }
    }
    moves
}

fn fits(row: &PgRow, wanted: &BTreeSet<DriveId>, candidate: &Candidate<'_>) -> bool {
    wanted.contains(&candidate.drive) && !row.uses(candidate.drive)
}

/// What rebalancing `map` leads to in the end.
pub fn balanced(map: &ClusterMap) -> Outlook {
    let mut after = map.clone();
    super::arrive(&mut after);
    let before = after.clone();
    for moved in planned(&before, &mut Flights::default(), false) {
        super::put(&mut after, moved);
    }
    Outlook::new(&before, &after, 0)
}

#[cfg(test)]
mod tests;
