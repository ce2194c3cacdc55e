//! Slots of placement groups that move to other drives. A command of many moves is refused whole, as every command
//! is: the leader, who sends it, plans anew from the newer map at its next look.

use std::collections::BTreeSet;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{MetaReply, SLOT_MOVES_MAX};
use stele_types::ids::{PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveState, PgRow, Slot, SlotMove};

use super::acts::{self, CLUSTER_SUBJECT};
use crate::apply::{Batch, Context, Failure, Outcome, refuse};
use crate::placement;

fn stale<T>(row: &PgRow, epoch: PgEpoch) -> Outcome<T> {
    let text = format!(
        "placement group {} is at epoch {}, not at {epoch}, as the move supposes: plan it with the newer row",
        row.id, row.epoch
    );
    let newer_pg = Some(Box::new(row.clone()));
    Err(Failure::Refused(RpcError { newer_pg, ..RpcError::new(Code::StalePg, text) }))
}

/// The row and the slot that a move names.
fn find(map: &ClusterMap, moved: SlotMove) -> Outcome<(&PgRow, &Slot)> {
    let row = map.pg(moved.pg);
    match row.and_then(|row| Some((row, row.slots.get(usize::from(moved.slot))?))) {
        Some(found) => Ok(found),
        None => refuse(Code::Malformed, format!("there is no slot {} of placement group {}", moved.slot, moved.pg)),
    }
}

fn row_of(map: &mut ClusterMap, pg: PgId) -> Option<&mut PgRow> {
    let at = map.pgs.binary_search_by_key(&pg, |row| row.id).ok()?;
    map.pgs.get_mut(at)
}

/// The slot has the drive as its incoming one, or had it and was flipped since.
fn is_done(row: &PgRow, slot: &Slot, moved: SlotMove) -> bool {
    slot.incoming == Some(moved.to) || is_flipped(row, slot, moved)
}

fn is_flipped(row: &PgRow, slot: &Slot, moved: SlotMove) -> bool {
    slot.drive == moved.to && row.epoch > moved.epoch
}

/// Makes one move in `map`, which was `before` when the command came.
fn begin(before: &ClusterMap, map: &mut ClusterMap, moved: SlotMove) -> Outcome<()> {
    let SlotMove { pg, epoch, slot: at, to } = moved;
    let (was, slot) = find(before, moved)?;
    if is_done(was, slot, moved) {
        return Ok(());
    }
    if was.epoch != epoch {
        return stale(was, epoch);
    }
    let Some(drive) = before.drive(to) else {
        return refuse(Code::NoSuchDrive, format!("drive {to} is not part of this cluster"));
    };
    if !placement::is_usable(before, drive) {
        let text = format!("drive {} of node {} is not in use: slots can't move there", drive.name, drive.node);
        return refuse(Code::Malformed, text);
    }
    let serves = |incoming| before.drive(incoming).is_some_and(|drive| drive.state == DriveState::Ok);
    if slot.incoming.is_some_and(serves) {
        let text = format!(
            "slot {at} of placement group {pg} moves to a drive that serves: what was written there is nowhere else"
        );
        return refuse(Code::Malformed, text);
    }
    let Some(row) = row_of(map, pg) else { return refuse(Code::Internal, "a placement group went") };
    if row.uses(to) {
        let text = format!("drive {to} is in placement group {pg} already: it may hold one shard of a pack only");
        return refuse(Code::Malformed, text);
    }
    row.epoch = PgEpoch(epoch.0.saturating_add(1));
    if let Some(slot) = row.slots.get_mut(usize::from(at)) {
        slot.incoming = Some(to);
    }
    let (moving, most) = (row.moving(), row.moving_max());
    if moving > most {
        let text = format!("{moving} slots of placement group {pg} would move at once; at most {most} may");
        return refuse(Code::Malformed, text);
    }
    Ok(())
}

impl Batch<'_> {
    pub(crate) fn move_slots(&mut self, cx: Context<'_>, moves: &[SlotMove]) -> Outcome<MetaReply> {
        self.refuse_while_comparing()?;
        if moves.len() > SLOT_MOVES_MAX {
            let text = format!("{} slots are too many for one command: {SLOT_MOVES_MAX} fit", moves.len());
            return refuse(Code::Malformed, text);
        }
        let distinct: BTreeSet<_> = moves.iter().map(|moved| (moved.pg, moved.slot)).collect();
        if distinct.len() < moves.len() {
            return refuse(Code::Malformed, "a slot is named twice: name each once");
        }
        let before = self.founded_map()?;
        let mut map = before.clone();
        for moved in moves {
            begin(&before, &mut map, *moved)?;
        }
        if self.save_map(&before, &mut map)? {
            self.log_act(cx, CLUSTER_SUBJECT, &acts::slots_move(&before, &map))?;
        }
        Ok(MetaReply::Done)
    }

    /// The incoming drive must serve: a proof that it holds everything says nothing once it failed.
    pub(crate) fn flip_slot(&mut self, cx: Context<'_>, moved: SlotMove) -> Outcome<MetaReply> {
        let before = self.founded_map()?;
        let (row, slot) = find(&before, moved)?;
        if is_flipped(row, slot, moved) {
            return Ok(MetaReply::Done);
        }
        if row.epoch != moved.epoch {
            return stale(row, moved.epoch);
        }
        if slot.incoming != Some(moved.to) {
            let text =
                format!("slot {} of placement group {} does not move to drive {}", moved.slot, moved.pg, moved.to);
            return refuse(Code::Malformed, text);
        }
        if before.drive(moved.to).is_none_or(|drive| drive.state != DriveState::Ok) {
            let text = format!("drive {} does not serve now: the slot stays on both", moved.to);
            return refuse(Code::DriveFailed, text);
        }
        let (mut map, was) = (before.clone(), slot.drive);
        if let Some(row) = row_of(&mut map, moved.pg) {
            row.epoch = PgEpoch(row.epoch.0.saturating_add(1));
            if let Some(slot) = row.slots.get_mut(usize::from(moved.slot)) {
                *slot = Slot { drive: moved.to, incoming: None };
            }
        }
        if self.save_map(&before, &mut map)? {
            self.log_act(cx, CLUSTER_SUBJECT, &acts::slot_moved(&before, moved, was))?;
        }
        Ok(MetaReply::Done)
    }
}
