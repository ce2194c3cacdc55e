//! W6: strays, shards on drives that the row of their placement group does not name (any more): a slot moved away, or
//! a drive came back that was replaced. Each is condemned and, one run and a grace time later, looked at
//! again and deleted, if either
//!
//! - nothing refers to the pack, or
//! - the drive that the row names for that shard serves, and holds it and does not condemn it, at that moment. A slot
//!   that moves names nobody.
//!
//! Otherwise the stray stays, a condemnation is taken back, and status counts it: it may be all that is left
//! of the shard. The drive's node refuses to delete if it knows another row of the PG, so that a drive that just got the slot
//! keeps what it has. Should a slot move here between the node's look at its map and the deletion, then the
//! drive it moves from is a holder still, its shard stays by these same rules, and repair makes the missing one anew.

use std::collections::{BTreeMap, BTreeSet};

use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{InventoryRow, PgRef, StorageReply, StorageRequest};
use stele_types::ids::{DriveId, PackId, PgEpoch, PgId};
use stele_types::map::PgRow;
use stele_types::pack::PackRow;

use super::backups::Doomed;
use super::plan::{Held, Verdict, judge};
use super::sources::{References, Shelf};
use super::{Run, SweepWorker};

/// Where strays were found.
#[derive(Clone, Copy, Debug)]
struct Place {
    drive: DriveId,
    /// The PG, whose row does not name the drive; there may be none.
    pg: PgId,
}

impl SweepWorker {
    /// Sweeps what drives hold of PGs that don't name them.
    pub(super) async fn sweep_strays(&self, run: &mut Run) {
        let drives: Vec<DriveId> = run.cluster.map.drives.iter().map(|row| row.id).collect();
        for drive in drives {
            let groups = match self.groups(run, drive).await {
                Ok(groups) => groups,
                Err(error) => {
                    tracing::debug!(%drive, %error, "what a drive holds is not known");
                    run.report.strays.unasked += 1;
                    continue;
                }
            };
            for pg in groups {
                if run.cluster.map.pg(pg).is_some_and(|row| row.uses(drive)) {
                    continue;
                }
                if let Err(error) = self.sweep_place(run, Place { drive, pg }).await {
                    run.report.leave(pg, &format!("strays on drive {drive}: {error}"));
                }
            }
        }
    }

    async fn groups(&self, run: &Run, drive: DriveId) -> Result<Vec<PgId>, RpcError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = StorageRequest::Groups { drive, after, max: self.config.page };
            let reply = self.send(&run.cluster, drive, request).await?;
            let StorageReply::Groups { rows, more } = reply else { return Err(unexpected("to Groups")) };
            if more && rows.last().copied() <= after {
                return Err(unexpected("groups that do not advance"));
            }
            after = rows.last().copied().or(after);
            all.extend(rows);
            if !more {
                return Ok(all);
            }
        }
    }

    async fn sweep_place(&self, run: &mut Run, place: Place) -> Result<(), RpcError> {
        let mut shelf = Shelf::new(place.drive, place.pg);
        let mut references = References::new(place.pg, run.fence(), self.config.sabotage.deletes_without_asking());
        loop {
            self.fill(&run.cluster, &mut shelf).await?;
            let rows = shelf.take_all();
            if rows.is_empty() {
                return Ok(());
            }
            for row in &rows {
                run.report.strays.found.add(row.stored_bytes);
            }
            let fence = run.fence();
            let old: Vec<InventoryRow> =
                rows.into_iter().filter(|row| row.start_epoch <= fence && row.touched <= fence).collect();
            let mut needed = Vec::new();
            for row in &old {
                if self.is_referenced(&mut references, row.pack).await? {
                    needed.push(row.pack);
                }
            }
            let covered = self.covered(run, place, (&old, &needed)).await?;
            let kept = needed.into_iter().filter(|pack| !covered.contains(pack)).collect();
            self.judge_strays(run, place, (old, kept)).await?;
        }
    }

    /// Of the referenced packs those whose every shard that lies here is where it belongs.
    async fn covered(
        &self,
        run: &Run,
        place: Place,
        (rows, needed): (&[InventoryRow], &[PackId]),
    ) -> Result<BTreeSet<PackId>, RpcError> {
        if needed.is_empty() {
            return Ok(BTreeSet::new());
        }
        let asked = self.meta.call(MetaRequest::Packs { packs: needed.to_vec() }, self.config.timeout).await?;
        let MetaReply::Packs(known) = asked else { return Err(unexpected("to Packs")) };
        let Some(group) = run.cluster.map.pg(place.pg) else { return Ok(BTreeSet::new()) };
        let known: BTreeMap<PackId, PackRow> = known.into_iter().map(|row| (row.pack, row)).collect();
        // Drive -> packs it should hold, and which shard of each.
        let mut wanted: BTreeMap<DriveId, Vec<(PackId, u8)>> = BTreeMap::new();
        let mut covered = BTreeSet::new();
        for row in rows {
            let Some(pack) = known.get(&row.pack) else { continue };
            let named: Option<Vec<(DriveId, u8)>> =
                row.shards.iter().map(|shard| Some((named(group, pack, row, *shard)?, *shard))).collect();
            let Some(named) = named.filter(|named| !named.is_empty()) else { continue };
            covered.insert(row.pack);
            for (drive, shard) in named {
                wanted.entry(drive).or_default().push((row.pack, shard));
            }
        }
        for (drive, shards) in wanted {
            let packs = shards.iter().map(|(pack, _)| *pack).collect();
            let held = match self.send(&run.cluster, drive, StorageRequest::Holds { drive, packs }).await {
                Ok(StorageReply::Inventory { rows, .. }) => rows,
                // Then it does not serve, and covers nothing.
                _ => Vec::new(),
            };
            let held: BTreeMap<PackId, InventoryRow> = held.into_iter().map(|row| (row.pack, row)).collect();
            for (pack, shard) in shards {
                let generation = known.get(&pack).map(|row| row.generation);
                let holds = |row: &InventoryRow| {
                    Some(row.generation) == generation && row.shards.contains(&shard) && row.condemned.is_none()
                };
                if !held.get(&pack).is_some_and(holds) {
                    covered.remove(&pack);
                }
            }
        }
        Ok(covered)
    }

    /// Condemns, deletes, and takes back.
    async fn judge_strays(
        &self,
        run: &mut Run,
        place: Place,
        (rows, kept): (Vec<InventoryRow>, BTreeSet<PackId>),
    ) -> Result<(), RpcError> {
        let (drive, ripe) = (place.drive, run.begun.ripe);
        let (mut condemn, mut pardon, mut delete) = (Vec::new(), Vec::new(), Doomed::new());
        let bytes: BTreeMap<PackId, u64> = rows.iter().map(|row| (row.pack, row.stored_bytes)).collect();
        for row in rows {
            let held = Held { drive, condemned: row.condemned, bytes: row.stored_bytes };
            let strays = &mut run.report.strays;
            match judge(&[held], kept.contains(&row.pack), ripe) {
                Verdict::Keep => strays.kept.add(row.stored_bytes),
                Verdict::Pardon => {
                    strays.kept.add(row.stored_bytes);
                    pardon.push(row.pack);
                }
                Verdict::Wait => strays.waiting += 1,
                Verdict::Condemn => condemn.push(row.pack),
                Verdict::Delete => drop(delete.insert(row.pack, row.condemned.unwrap_or(run.begun.fence))),
            }
        }
        if condemn.is_empty() && pardon.is_empty() && delete.is_empty() {
            return Ok(());
        }
        self.still(run, place.pg).await?;
        self.pardon(run, [(drive, pardon)].into()).await?;
        let epoch = run.fence();
        let request = |drive, packs| StorageRequest::Condemn { drive, epoch, packs };
        run.report.strays.condemned += self.act(run, (drive, condemn), request).await?.len() as u64;
        let ripe = delete.len();
        self.as_backups_admit(&mut delete).await?;
        run.report.strays.waiting += (ripe - delete.len()) as u64;
        self.throttle(run, delete.len()).await;
        let epoch = run.cluster.map.pg(place.pg).map_or(PgEpoch(0), |row| row.epoch);
        let pg = PgRef { pg: place.pg, epoch };
        let request = |drive, packs| StorageRequest::DeleteStrays { drive, pg, packs };
        for pack in self.act(run, (drive, delete.into_keys().collect()), request).await? {
            run.report.strays.deleted.add(bytes.get(&pack).copied().unwrap_or_default());
        }
        Ok(())
    }
}

/// The drive that the PG's row names for a shard; none while its slot moves, and for a pack that is kept in another way
/// than its row says.
fn named(pg: &PgRow, pack: &PackRow, row: &InventoryRow, shard: u8) -> Option<DriveId> {
    if pack.pg != pg.id || pack.generation != row.generation {
        return None;
    }
    let slot = pg.slots.get(usize::from(*pack.slots.get(usize::from(shard))?))?;
    slot.incoming.is_none().then_some(slot.drive)
}
