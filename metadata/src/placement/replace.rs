//! Drives for slots whose drive is lost: only those slots move, to where the PG's other slots leave domains free.

use std::collections::{BTreeMap, BTreeSet};

use stele_types::ids::{ClusterId, DriveId};
use stele_types::map::{ClusterMap, DriveRow, PgRow, Slot, SlotMove};

use super::score::score;
use super::{Candidate, Used, candidates, domains};

/// A drive for each slot whose new shards go to a drive of `lost`: the one that failure domains, then scores
/// choose among usable drives that the PG does not use. Slots for which there is none are left out, and so
/// are those above [`PgRow::moving_max`]: they come later. A slot whose incoming drive is lost moves already.
pub fn replacements(map: &ClusterMap, lost: &BTreeSet<DriveId>) -> Vec<SlotMove> {
    let affected = |slot: &Slot| lost.contains(&slot.takes());
    if !map.pgs.iter().any(|pg| pg.slots.iter().any(affected)) {
        return Vec::new();
    }
    let cluster = map.cluster.unwrap_or(ClusterId::from_bytes([0; 16]));
    let rows = rows_by_id(map);
    let usable: Vec<Candidate<'_>> =
        candidates(map).into_iter().filter(|candidate| !lost.contains(&candidate.drive)).collect();
    let mut moves = Vec::new();
    for pg in map.pgs.iter().filter(|pg| pg.slots.iter().any(affected)) {
        let mut row = pg.clone();
        for at in 0..row.slots.len() {
            let Some(slot) = row.slots.get(at).filter(|slot| affected(slot)) else { continue };
            if slot.incoming.is_none() && row.moving() >= row.moving_max() {
                continue;
            }
            let used = used_by_others(map, &rows, &row, at);
            let Some(to) = choose(cluster, &row, usable.iter(), &used) else { continue };
            if let (Some(slot), Ok(index)) = (row.slots.get_mut(at), u8::try_from(at)) {
                slot.incoming = Some(to);
                moves.push(SlotMove { pg: pg.id, epoch: pg.epoch, slot: index, to });
            }
        }
    }
    moves
}

pub(super) fn rows_by_id(map: &ClusterMap) -> BTreeMap<DriveId, &DriveRow> {
    map.drives.iter().map(|drive| (drive.id, drive)).collect()
}

/// Domains of all slots but one. A lost drive that was not replaced yet counts too: it may come back, and
/// its own replacement finds its domain free.
pub(super) fn used_by_others<'a>(
    map: &'a ClusterMap,
    rows: &BTreeMap<DriveId, &'a DriveRow>,
    row: &PgRow,
    except: usize,
) -> Used<'a> {
    let mut used = Used::default();
    let others = row.slots.iter().enumerate().filter(|(at, _)| *at != except);
    for drive in others.filter_map(|(_, slot)| rows.get(&slot.takes())) {
        used.add(drive.node, domains(map, drive));
    }
    used
}

/// The best of `usable` for a slot of the row whose other slots are `used`.
pub(super) fn choose<'a>(
    cluster: ClusterId,
    row: &PgRow,
    usable: impl Iterator<Item = &'a Candidate<'a>> + Clone,
    used: &Used<'_>,
) -> Option<DriveId> {
    let free = || usable.clone().filter(|candidate| !row.uses(candidate.drive));
    let least = free().map(|candidate| used.by(candidate)).min()?;
    let best = free().filter(|candidate| used.by(candidate) == least);
    best.min_by_key(|c| (score(cluster, row.id, c.drive, c.weight), c.drive)).map(|candidate| candidate.drive)
}

#[cfg(test)]
mod tests;
