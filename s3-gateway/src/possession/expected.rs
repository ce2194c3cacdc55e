//! A1 for shards: what each storage node should hold. Which packs there are, and where, the metadata says; the roots of
//! their shards stand in the header of every shard, so that those who still have a pack speak for those who lost it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stele_evidence::audit::challenge::Scope;
use stele_evidence::audit::inventory::{Inventory, Row};
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_types::ids::{DriveId, Epoch, NodeId, PackId, PgId, ShardRoot};
use stele_types::map::{ClusterMap, DriveRow, PgRow, Slot};
use stele_types::pack::{Encoding, PackRow};

use super::{Cursor, Found, Holder, keys, objects, refused, rows_per_audit};
use crate::budget::Charge;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;

/// Packs of one question to the metadata.
const PACKS_PER_CALL: u32 = 4096;
/// Packs of one question to a drive.
const ENCODINGS_PER_CALL: u32 = 256;
/// Rows of all inventories of one audit: each node draws from its own.
const ROWS_MAX: usize = 400_000;
/// Memory of a row: itself, its place in the tree, and the header that it was made of.
const ROW_BYTES: usize = 300;

/// Every storage node's rows, of as many placement groups as one audit can hold, from a random one on.
pub(super) async fn sample(gw: &Gateway, rows: u64, groups_per_row: u8) -> Result<Found, GatewayError> {
    let view = gw.placement.view();
    let groups = view.map().pgs.as_slice();
    let first = usize::try_from(gw.random_u64() % groups.len().max(1) as u64).unwrap_or(0);
    let mut collected = Collected::default();
    for pg in groups.iter().cycle().skip(first).take(groups.len()) {
        if collected.count >= ROWS_MAX {
            break;
        }
        collected.take(of_group(gw, view.map(), pg).await?);
    }
    let nodes = collected.rows.len().max(1) as u64;
    let scope = Scope::Sample(rows.min(rows_per_audit(groups_per_row) / nodes));
    collected.found(gw, scope, None).await
}

/// All shards, from a place on, as many as one audit can ask for. A placement group that alone has more is asked for
/// in several audits over successive rows.
pub(super) async fn shards(gw: &Gateway, from: Cursor, groups_per_row: u8) -> Result<Found, GatewayError> {
    let view = gw.placement.view();
    let groups = view.map().pgs.as_slice();
    let most = rows_per_audit(groups_per_row);
    let mut collected = Collected::default();
    let mut at = usize::try_from(from.group).unwrap_or(usize::MAX);
    while let Some(pg) = groups.get(at) {
        let group = of_group(gw, view.map(), pg).await?;
        let with = (collected.count + group.rows.len()) as u64;
        if with > most && collected.count > 0 {
            break;
        }
        at += 1;
        collected.take(group);
        if with > most {
            let count = most / collected.rows.len().max(1) as u64;
            let largest = collected.rows.values().map(Vec::len).max().unwrap_or(0) as u64;
            let behind = from.row.saturating_add(count);
            let here = (behind < largest).then_some(Cursor { row: behind, ..from });
            let scope = Scope::Rows { first: from.row, count };
            return collected.found(gw, scope, here.or_else(|| cursor(groups, at))).await;
        }
    }
    collected.found(gw, Scope::Rows { first: 0, count: u64::MAX }, cursor(groups, at)).await
}

fn cursor(groups: &[PgRow], at: usize) -> Option<Cursor> {
    (at < groups.len()).then_some(Cursor { group: at as u64, row: 0 })
}

/// Rows of one placement group.
struct Group {
    rows: Vec<(NodeId, Row)>,
    charge: Charge,
}

/// What was collected so far.
#[derive(Debug, Default)]
struct Collected {
    /// By node.
    rows: BTreeMap<NodeId, Vec<Row>>,
    count: usize,
    charges: Vec<Charge>,
}

impl Collected {
    fn take(&mut self, group: Group) {
        self.count += group.rows.len();
        self.charges.push(group.charge);
        for (node, row) in group.rows {
            self.rows.entry(node).or_default().push(row);
        }
    }

    async fn found(self, gw: &Gateway, scope: Scope, next: Option<Cursor>) -> Result<Found, GatewayError> {
        let mut keys = keys(gw).await?;
        let mut holders = Vec::new();
        for (node, mut rows) in self.rows {
            let Some(key) = keys.remove(&node) else {
                let what = format!("node {node} has not told yet which key it signs answers with; start it once");
                return Err(GatewayError::Unavailable { what });
            };
            rows.sort_by_key(Row::place);
            let inventory = Inventory::new(node, rows).map_err(|error| refused(&error))?;
            holders.push(Holder { inventory, key });
        }
        Ok(Found { holders, scope, next, objects: objects::Places::default(), _charges: self.charges })
    }
}

async fn of_group(gw: &Gateway, map: &ClusterMap, pg: &PgRow) -> Result<Group, GatewayError> {
    let packs = referenced(gw, pg.id).await?;
    let shards: usize = packs.iter().map(|row| row.slots.len()).sum();
    let charge = gw.budget.charge(shards * ROW_BYTES).await?;
    let votes = encodings(gw, map, pg).await;
    let moving = moving(gw, map, pg).await;
    let mut nowhere = 0usize;
    let mut rows = Vec::with_capacity(shards);
    for row in packs {
        let encoding = votes.get(&row.pack).and_then(|votes| elect(votes, row.generation));
        for (shard, slot) in (0u8..).zip(&row.slots) {
            let drive = match moving.get(slot) {
                None => pg.slots.get(usize::from(*slot)).map(|slot| slot.drive),
                Some(places) => match places.holder((row.pack, row.generation, shard)) {
                    None => {
                        nowhere += 1;
                        continue;
                    }
                    holder => holder,
                },
            };
            let Some(drive) = drive.and_then(|drive| map.drive(drive)) else {
                let what =
                    format!("the row of pack {} names a slot that placement group {} does not have", row.pack, pg.id);
                return Err(GatewayError::Corrupt { what });
            };
            let root = encoding.and_then(|encoding| encoding.roots.get(usize::from(shard)));
            rows.push((drive.node, expected(&row, shard, drive.id, root)));
        }
    }
    if nowhere > 0 {
        tracing::info!(pg = %pg.id, shards = nowhere, "not audited: their slot moves, and neither of its drives lists them");
    }
    Ok(Group { rows, charge })
}

/// Shards that the drives of a slot list while it moves, the one that takes new shards first; `None` where a drive does
/// not answer. Which of the two should have a shard is known to them alone: new ones go to the first, old ones stay on the
/// second until they are there.
struct Places(Vec<(DriveId, Option<BTreeSet<Place>>)>);

/// Pack, generation and shard.
type Place = (PackId, u32, u8);

impl Places {
    /// The drive to ask for a shard: one that lists it, else one that does not say what it holds. None if both say and
    /// neither lists it: it was not rebuilt yet, or who lost it can't be known.
    fn holder(&self, place: Place) -> Option<DriveId> {
        let lists = |held: &Option<BTreeSet<Place>>| held.as_ref().is_some_and(|held| held.contains(&place));
        let found = self.0.iter().find(|(_, held)| lists(held));
        found.or_else(|| self.0.iter().find(|(_, held)| held.is_none())).map(|(drive, _)| *drive)
    }
}

/// By slot, for those that move.
async fn moving(gw: &Gateway, map: &ClusterMap, pg: &PgRow) -> BTreeMap<u8, Places> {
    let mut moving = BTreeMap::new();
    for (at, slot) in (0u8..).zip(&pg.slots).filter(|(_, slot)| slot.incoming.is_some()) {
        let mut places = Vec::new();
        for drive in slot.holders().filter_map(|drive| map.drive(drive)) {
            places.push((drive.id, listed(gw, drive, pg.id).await));
        }
        moving.insert(at, Places(places));
    }
    moving
}

/// Shards of a placement group that a drive lists; `None` if it does not answer.
async fn listed(gw: &Gateway, drive: &DriveRow, pg: PgId) -> Option<BTreeSet<Place>> {
    let (mut listed, mut after) = (BTreeSet::new(), None);
    loop {
        let asked = StorageRequest::Inventory { drive: drive.id, pg, after, max: PACKS_PER_CALL };
        let (rows, more) = match gw.nodes.call(drive.node, asked, Bytes::new(), gw.config.audit_timeout).await {
            Ok((StorageReply::Inventory { rows, more }, _)) => (rows, more),
            Ok(_) => return None,
            Err(error) => {
                tracing::warn!(drive = %drive.id, %error, "a drive does not say what it holds; the audit goes on");
                return None;
            }
        };
        let last = rows.last().map(|row| row.pack);
        for row in rows {
            listed.extend(row.shards.iter().map(|shard| (row.pack, row.generation, *shard)));
        }
        if !more || last <= after {
            return Some(listed);
        }
        after = last;
    }
}

/// A shard that should be there. Where nobody has a header of the pack any more, nobody can have its bytes: the root of
/// zeros is the root of nothing.
fn expected(row: &PackRow, slot: u8, drive: DriveId, root: Option<&ShardRoot>) -> Row {
    let len = row.scheme.shard_len(row.payload_len as usize);
    Row::Shard {
        pack: row.pack,
        generation: row.generation,
        slot,
        drive,
        root: root.map_or_else(|| ShardRoot::from_bytes([0; 32]), |root| ShardRoot::from_bytes(*root.as_bytes())),
        len: u32::try_from(len).unwrap_or(u32::MAX),
    }
}

/// What most of those who have the pack say of its encoding; of as many on both sides, what the first one says.
fn elect(votes: &[Encoding], generation: u32) -> Option<&Encoding> {
    let current = || votes.iter().filter(|vote| vote.generation == generation);
    let count = |vote: &Encoding| current().filter(|other| *other == vote).count();
    let mut elected = None;
    for vote in current() {
        if elected.is_none_or(|other| count(vote) > count(other)) {
            elected = Some(vote);
        }
    }
    elected
}

/// Rows of the packs of a placement group that something refers to.
async fn referenced(gw: &Gateway, pg: PgId) -> Result<Vec<PackRow>, GatewayError> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let asked = MetaRequest::ReferencedPacks { pg, fence: Epoch(0), after, max: PACKS_PER_CALL };
        let reply = gw.read(asked).await.map_err(|error| GatewayError::from_meta(error, ""))?;
        let MetaReply::Referenced { packs, more } = reply else { return Err(unexpected_reply("ReferencedPacks")) };
        after = packs.last().copied();
        let reply = gw.read(MetaRequest::Packs { packs }).await.map_err(|error| GatewayError::from_meta(error, ""))?;
        let MetaReply::Packs(found) = reply else { return Err(unexpected_reply("Packs")) };
        rows.extend(found.into_iter().filter(|row| row.pg == pg));
        if !more || after.is_none() {
            return Ok(rows);
        }
    }
}

/// How the drives of a placement group say that they keep each pack. A drive that says nothing has no vote.
async fn encodings(gw: &Gateway, map: &ClusterMap, pg: &PgRow) -> BTreeMap<PackId, Vec<Encoding>> {
    let mut votes: BTreeMap<PackId, Vec<Encoding>> = BTreeMap::new();
    for drive in pg.slots.iter().flat_map(Slot::holders).filter_map(|drive| map.drive(drive)) {
        let mut after = None;
        loop {
            let asked = StorageRequest::Encodings { drive: drive.id, pg: pg.id, after, max: ENCODINGS_PER_CALL };
            let answer = gw.nodes.call(drive.node, asked, Bytes::new(), gw.config.audit_timeout).await;
            let (rows, next) = match answer {
                Ok((StorageReply::Encodings { rows, next }, _)) => (rows, next),
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(drive = %drive.id, %error, "a drive does not say what it holds; the audit goes on");
                    break;
                }
            };
            for row in rows {
                votes.entry(row.pack).or_default().push(row.encoding);
            }
            let Some(behind) = next.filter(|next| Some(*next) > after) else { break };
            after = Some(behind);
        }
    }
    votes
}

#[cfg(test)]
mod tests {
    use stele_types::scheme::Scheme;

    use super::*;

    fn encoding(generation: u32, root: u8) -> Encoding {
        let scheme = Scheme::for_domains(1);
        Encoding { generation, scheme, slots: vec![0], roots: vec![ShardRoot::from_bytes([root; 32])] }
    }

    #[test]
    fn most_of_those_who_have_the_current_generation_decide() {
        let root = |votes: &[Encoding]| elect(votes, 1).map(|elected| elected.roots[0].as_bytes()[0]);
        assert_eq!(root(&[]), None);
        assert_eq!(root(&[encoding(0, 7), encoding(2, 7)]), None);
        assert_eq!(root(&[encoding(1, 7), encoding(1, 8), encoding(1, 8)]), Some(8));
        assert_eq!(root(&[encoding(1, 7), encoding(1, 8)]), Some(7));
        assert_eq!(root(&[encoding(0, 9), encoding(0, 9), encoding(1, 8)]), Some(8));
    }

    #[test]
    fn a_shard_of_a_slot_that_moves_is_asked_of_the_drive_that_lists_it() {
        let (incoming, old) = (DriveId::from_bytes([1; 16]), DriveId::from_bytes([2; 16]));
        let place = |pack: u8| (PackId::from_bytes([pack; 32]), 0, 3);
        let places = Places(vec![
            (incoming, Some(BTreeSet::from([place(1), place(2)]))),
            (old, Some(BTreeSet::from([place(2), place(3)]))),
        ]);
        assert_eq!(places.holder(place(1)), Some(incoming), "written since");
        assert_eq!(places.holder(place(2)), Some(incoming), "copied");
        assert_eq!(places.holder(place(3)), Some(old), "not copied yet");
        assert_eq!(places.holder(place(4)), None, "not rebuilt yet");
        let (pack, generation, shard) = place(1);
        assert_eq!(places.holder((pack, generation + 1, shard)), None);
        assert_eq!(places.holder((pack, generation, shard + 1)), None, "a shard of another slot");
        let places = Places(vec![(incoming, Some(BTreeSet::from([place(1)]))), (old, None)]);
        assert_eq!((places.holder(place(1)), places.holder(place(3))), (Some(incoming), Some(old)), "asked as ever");
    }
}
