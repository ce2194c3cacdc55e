//! After a restore: every reference is compared with what the drives hold, before a sweep may condemn or delete anything.
//! The leader does it again and again until nothing is missing; then it has the comparison ended, and sweeps go on.
//!
//! Packs that were condemned after the backup, and that the restored rows refer to, are pardoned here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::Bytes;
use stele_metadata::MetadataNode;
use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::meta::{BackupCommand, Command, Compared, MetaReply, MetaRequest};
use stele_rpc::storage::{InventoryRow, StorageReply, StorageRequest};
use stele_types::ids::{DriveId, Epoch, PackId, PgId};
use stele_types::map::{ClusterMap, PgRow};
use stele_types::pack::PackRow;

use crate::dev::watch::{cluster_command, cluster_map};

/// Between two comparisons.
const PAUSE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Rows of one question.
const PAGE: u32 = 1000;

/// Packs on the drives of one placement group: which drives hold which shards of which generation.
type Held = BTreeMap<PackId, Vec<(DriveId, InventoryRow)>>;

/// Compares while its node leads.
pub(super) struct Comparer {
    meta: MetaClient,
    storage: StorageClient,
    node: Arc<MetadataNode>,
}

impl Comparer {
    pub(super) fn new(meta: MetaClient, storage: StorageClient, node: Arc<MetadataNode>) -> Self {
        Self { meta, storage, node }
    }

    /// Until nothing is to be compared any more: a restored cluster is restored once.
    pub(super) async fn run(self) {
        let mut said = None;
        loop {
            tokio::time::sleep(PAUSE).await;
            if !self.node.leads() {
                continue;
            }
            match self.step().await {
                Ok(None) => return,
                Ok(Some(found)) => {
                    if said.replace(found) != Some(found) {
                        let Compared { packs, degraded, lost, silent, pardoned, .. } = found;
                        tracing::warn!(
                            packs,
                            degraded,
                            lost,
                            silent,
                            pardoned,
                            "references were compared with drives after the restore; sweeps stay off while packs are lost or drives silent"
                        );
                    }
                }
                Err(error) => tracing::warn!("references could not be compared with drives: {error:#}; trying again"),
            }
        }
    }

    /// Compares once; `None`: that is done.
    async fn step(&self) -> anyhow::Result<Option<Compared>> {
        let MetaReply::Status(status) = self.meta.call(MetaRequest::Status, TIMEOUT).await? else {
            bail!(unexpected("to Status"))
        };
        let Some(restored) = status.backups.restored.filter(|restored| restored.compared.is_none()) else {
            return Ok(None);
        };
        let map = cluster_map(&self.meta).await?;
        let mut found = Compared::default();
        let mut silent = BTreeSet::new();
        for pg in &map.pgs {
            // References first: what they name was on the drives by then, and nothing is deleted meanwhile.
            let referenced = self.referenced(pg.id).await?;
            let held = self.held(&map, pg, &mut silent).await;
            check_epochs(&held, restored.epoch)?;
            found.surplus += held.keys().filter(|pack| !referenced.contains_key(*pack)).count() as u64;
            for (pack, row) in &referenced {
                judge(row, held.get(pack).map_or(&[], Vec::as_slice), &mut found);
            }
            found.pardoned += self.pardon(&map, &held, &referenced).await?;
        }
        found.silent = silent.len() as u64;
        if found.lost > 0 || found.silent > 0 {
            return Ok(Some(found));
        }
        let command = Command::Backup(BackupCommand::EndComparison(found));
        self.meta.command(cluster_command(command, self.node.id()), TIMEOUT).await?;
        let Compared { packs, degraded, surplus, pardoned, .. } = found;
        tracing::info!(packs, degraded, surplus, pardoned, "every reference is on its drives: sweeps go on");
        Ok(None)
    }

    /// What the drives of a placement group hold. Those that do not answer are noted.
    async fn held(&self, map: &ClusterMap, pg: &PgRow, silent: &mut BTreeSet<DriveId>) -> Held {
        let mut held = Held::new();
        for drive in pg.slots.iter().flat_map(|slot| slot.holders()) {
            match self.inventory(map, drive, pg.id).await {
                Ok(rows) => rows.into_iter().for_each(|row| held.entry(row.pack).or_default().push((drive, row))),
                Err(error) => {
                    tracing::debug!(%drive, "not compared: {error:#}");
                    silent.insert(drive);
                }
            }
        }
        held
    }

    async fn inventory(&self, map: &ClusterMap, drive: DriveId, pg: PgId) -> anyhow::Result<Vec<InventoryRow>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = StorageRequest::Inventory { drive, pg, after, max: PAGE };
            let StorageReply::Inventory { rows, more } = self.send(map, drive, request).await? else {
                bail!(unexpected("to Inventory"))
            };
            ensure!(!more || rows.last().map(|row| row.pack) > after, "an inventory that does not advance");
            after = rows.last().map(|row| row.pack).or(after);
            all.extend(rows);
            if !more {
                return Ok(all);
            }
        }
    }

    async fn send(&self, map: &ClusterMap, drive: DriveId, request: StorageRequest) -> anyhow::Result<StorageReply> {
        let Some(row) = map.drive(drive) else { bail!("drive {drive} is not in the cluster map") };
        Ok(self.storage.call(row.node, request, Bytes::new(), TIMEOUT).await?.0)
    }

    /// Rows of the packs of a placement group that something refers to.
    async fn referenced(&self, pg: PgId) -> anyhow::Result<BTreeMap<PackId, PackRow>> {
        let (mut found, mut after) = (BTreeMap::new(), None);
        loop {
            let question = MetaRequest::ReferencedPacks { pg, fence: Epoch(0), after, max: PAGE };
            let MetaReply::Referenced { packs, more } = self.meta.call(question, TIMEOUT).await? else {
                bail!(unexpected("to ReferencedPacks"))
            };
            ensure!(!more || packs.last().copied() > after, "referenced packs that do not advance");
            after = packs.last().copied().or(after);
            let asked = packs.len();
            let MetaReply::Packs(rows) = self.meta.call(MetaRequest::Packs { packs }, TIMEOUT).await? else {
                bail!(unexpected("to Packs"))
            };
            // A reference may go between the two questions; nothing is decided then.
            ensure!(rows.len() == asked, "references changed meanwhile");
            found.extend(rows.into_iter().map(|row| (row.pack, row)));
            if !more {
                return Ok(found);
            }
        }
    }

    async fn pardon(
        &self,
        map: &ClusterMap,
        held: &Held,
        referenced: &BTreeMap<PackId, PackRow>,
    ) -> anyhow::Result<u64> {
        let mut condemned: BTreeMap<DriveId, Vec<PackId>> = BTreeMap::new();
        let mut packs = BTreeSet::new();
        for (pack, holders) in held.iter().filter(|(pack, _)| referenced.contains_key(*pack)) {
            for (drive, _) in holders.iter().filter(|(_, row)| row.condemned.is_some()) {
                condemned.entry(*drive).or_default().push(*pack);
                packs.insert(*pack);
            }
        }
        for (drive, packs) in condemned {
            for packs in packs.chunks(PAGE as usize) {
                self.send(map, drive, StorageRequest::Pardon { drive, packs: packs.to_vec() }).await?;
            }
        }
        Ok(packs.len() as u64)
    }
}

/// The restored epoch must be above all that the drives have seen: else a sweep could take new packs for old ones.
fn check_epochs(held: &Held, epoch: Epoch) -> anyhow::Result<()> {
    for (pack, holders) in held {
        for (drive, row) in holders {
            // No sweep ran since, so that whatever is condemned was so before.
            if let Some(condemned) = row.condemned.filter(|condemned| *condemned >= epoch) {
                bail!("drive {drive} condemned pack {pack} at epoch {condemned}, and the cluster restarted at {epoch}");
            }
        }
    }
    Ok(())
}

/// Counts a pack by the shards that are there, of the generation that its row says.
fn judge(row: &PackRow, holders: &[(DriveId, InventoryRow)], found: &mut Compared) {
    let current = holders.iter().filter(|(_, held)| held.generation >= row.generation);
    let shards: BTreeSet<u8> = current.flat_map(|(_, held)| held.shards.iter().copied()).collect();
    found.packs += 1;
    if shards.len() < row.scheme.k() {
        found.lost += 1;
    } else if shards.len() < row.scheme.shards() {
        found.degraded += 1;
    }
}
