//! W4 and W5: one placement group, as a merge of what its drives hold and what is referred to.

use std::collections::{BTreeMap, BTreeSet};

use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{InventoryRow, StorageRequest};
use stele_types::ids::{DriveId, PackId};
use stele_types::map::PgRow;

use super::backups::Doomed;
use super::plan::{ByDrive, Held, Verdict, judge};
use super::sources::{References, Shelf};
use super::{Run, SweepWorker};

/// Orders that are carried out together.
#[derive(Debug, Default)]
struct Orders {
    packs: usize,
    condemn: ByDrive<PackId>,
    pardon: ByDrive<PackId>,
    delete: ByDrive<PackId>,
    /// What `delete` names.
    doomed: Doomed,
    /// Bytes of the packs to be condemned or deleted.
    bytes: BTreeMap<PackId, u64>,
}

impl Orders {
    fn add(&mut self, pack: PackId, holders: &[Held], verdict: Verdict) {
        let list = match verdict {
            Verdict::Keep | Verdict::Wait => return,
            Verdict::Pardon => &mut self.pardon,
            Verdict::Condemn => &mut self.condemn,
            Verdict::Delete => &mut self.delete,
        };
        for held in holders.iter().filter(|held| verdict.concerns(held.condemned.is_some())) {
            list.entry(held.drive).or_default().push(pack);
        }
        if let (Verdict::Delete, Some(latest)) = (verdict, holders.iter().filter_map(|held| held.condemned).max()) {
            self.doomed.insert(pack, latest);
        }
        self.packs += 1;
        self.bytes.insert(pack, holders.iter().map(|held| held.bytes).sum());
    }
}

impl SweepWorker {
    pub(super) async fn sweep_group(&self, run: &mut Run, pg: &PgRow) -> Result<(), RpcError> {
        let mut shelves = self.shelves(run, pg).await?;
        let mut references = References::new(pg.id, run.fence(), self.config.sabotage.deletes_without_asking());
        let mut orders = Orders::default();
        while let Some((pack, rows)) = self.next_pack(run, &mut shelves).await? {
            let bytes = rows.iter().map(|(_, row)| row.stored_bytes).sum();
            let fence = run.fence();
            // One drive that knows of a younger touch speaks for all of them.
            if rows.iter().any(|(_, row)| row.start_epoch > fence || row.touched > fence) {
                run.report.young.add(bytes);
                continue;
            }
            let held = |(drive, row): &(DriveId, InventoryRow)| Held {
                drive: *drive,
                condemned: row.condemned,
                bytes: row.stored_bytes,
            };
            let holders: Vec<Held> = rows.iter().map(held).collect();
            let referenced = self.is_referenced(&mut references, pack).await?;
            let verdict = judge(&holders, referenced, run.begun.ripe);
            run.report.examined += 1;
            match verdict {
                Verdict::Keep | Verdict::Pardon => run.report.referenced.add(bytes),
                Verdict::Wait => run.report.waiting.add(bytes),
                Verdict::Condemn | Verdict::Delete => {}
            }
            orders.add(pack, &holders, verdict);
            if orders.packs >= self.config.page.max(1) as usize {
                self.carry_out(run, pg, std::mem::take(&mut orders)).await?;
            }
        }
        self.carry_out(run, pg, orders).await
    }

    /// What the drives of a PG hold. Those that don't answer are left out, at most m slots: a touch is durable on m + 1
    /// drives, so one of those that answer would refuse; and k slots or more condemn.
    async fn shelves(&self, run: &Run, pg: &PgRow) -> Result<Vec<Shelf>, RpcError> {
        let (mut shelves, mut silent) = (Vec::new(), Vec::new());
        for slot in &pg.slots {
            let mut of_slot = Vec::new();
            for drive in slot.holders() {
                let mut shelf = Shelf::new(drive, pg.id);
                of_slot.push(self.fill(&run.cluster, &mut shelf).await.map(|()| shelf));
            }
            match of_slot.into_iter().collect::<Result<Vec<_>, RpcError>>() {
                Ok(of_slot) => shelves.extend(of_slot),
                Err(error) => silent.push(error.to_string()),
            }
        }
        if silent.len() <= pg.scheme.m() {
            return Ok(shelves);
        }
        let (count, may) = (silent.len(), pg.scheme.m());
        let text = format!("PG {}: {count} slots did not answer, {may} may: {}", pg.id, silent.join("; "));
        Err(RpcError::new(Code::Unreachable, text))
    }

    /// The next pack in order, and what each drive that holds it says.
    async fn next_pack(
        &self,
        run: &Run,
        shelves: &mut [Shelf],
    ) -> Result<Option<(PackId, Vec<(DriveId, InventoryRow)>)>, RpcError> {
        for shelf in shelves.iter_mut() {
            self.fill(&run.cluster, shelf).await?;
        }
        let Some(pack) = shelves.iter().filter_map(|shelf| shelf.front().map(|row| row.pack)).min() else {
            return Ok(None);
        };
        let rows = shelves.iter_mut().filter_map(|shelf| shelf.take(pack).map(|row| (shelf.drive, row)));
        Ok(Some((pack, rows.collect())))
    }

    /// W5. The PG must be as it was when the first question was asked.
    async fn carry_out(&self, run: &mut Run, pg: &PgRow, orders: Orders) -> Result<(), RpcError> {
        if orders.packs == 0 {
            return Ok(());
        }
        self.still(run, pg.id).await?;
        let Orders { condemn, pardon, delete, mut doomed, bytes, .. } = orders;
        self.condemn(run, condemn, &bytes).await?;
        run.report.pardoned += distinct(&pardon).len() as u64;
        self.pardon(run, pardon).await?;
        let all = distinct(&delete);
        self.as_backups_admit(&mut doomed).await?;
        for pack in all.iter().filter(|pack| !doomed.contains_key(pack)) {
            run.report.waiting.add(bytes.get(pack).copied().unwrap_or_default());
        }
        let mut deleted = BTreeSet::new();
        for (drive, mut packs) in delete {
            packs.retain(|pack| doomed.contains_key(pack));
            if packs.is_empty() {
                continue;
            }
            self.throttle(run, packs.len()).await;
            let request = |drive, packs| StorageRequest::Delete { drive, packs };
            deleted.extend(self.act(run, (drive, packs), request).await?);
        }
        for pack in deleted {
            run.report.deleted.add(bytes.get(&pack).copied().unwrap_or_default());
        }
        Ok(())
    }

    /// Condemns; what any drive refuses is taken back on the others.
    async fn condemn(
        &self,
        run: &mut Run,
        wanted: ByDrive<PackId>,
        bytes: &BTreeMap<PackId, u64>,
    ) -> Result<(), RpcError> {
        let (mut done, mut refused) = (BTreeMap::<PackId, Vec<DriveId>>::new(), BTreeSet::new());
        let epoch = run.fence();
        for (drive, packs) in wanted {
            let request = |drive, packs| StorageRequest::Condemn { drive, epoch, packs };
            let condemned: BTreeSet<PackId> =
                self.act(run, (drive, packs.clone()), request).await?.into_iter().collect();
            refused.extend(packs.into_iter().filter(|pack| !condemned.contains(pack)));
            for pack in condemned {
                done.entry(pack).or_default().push(drive);
            }
        }
        let mut back = ByDrive::new();
        for pack in &refused {
            for drive in done.remove(pack).unwrap_or_default() {
                back.entry(drive).or_default().push(*pack);
            }
        }
        self.pardon(run, back).await?;
        for pack in done.into_keys() {
            run.report.condemned.add(bytes.get(&pack).copied().unwrap_or_default());
        }
        run.report.refused += refused.len() as u64;
        Ok(())
    }
}

fn distinct(by_drive: &ByDrive<PackId>) -> BTreeSet<PackId> {
    by_drive.values().flatten().copied().collect()
}
