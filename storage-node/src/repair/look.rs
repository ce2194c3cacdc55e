//! R1 and R2: what drives hold of a placement group, and what must be there.

use std::collections::BTreeMap;

use bytes::Bytes;
use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_types::ids::{DriveId, Epoch, PackId, PgId};
use stele_types::map::PgRow;
use stele_types::pack::PackRow;

use super::plan::{Held, Inventories, Plan, decide};
use super::{Cluster, RepairWorker};

impl RepairWorker {
    /// What is missing of a placement group, and how many packs were looked at. The packs first: one that is referred
    /// to has all its shards, so what is not listed then is missing.
    pub(super) async fn look(&self, cluster: &Cluster, pg: &PgRow) -> Result<(Plan, u64), RpcError> {
        let rows = self.referenced(pg.id).await?;
        let held = self.inventories(cluster, pg).await;
        Ok((decide(pg, &rows, &held, &cluster.serving), rows.len() as u64))
    }

    /// R1. A drive that does not answer is left out.
    async fn inventories(&self, cluster: &Cluster, pg: &PgRow) -> Inventories {
        let mut held = Inventories::new();
        for drive in pg.slots.iter().flat_map(|slot| slot.holders()).filter(|drive| cluster.is_awake(*drive)) {
            match self.inventory(cluster, drive, pg.id).await {
                Ok(packs) => drop(held.insert(drive, packs)),
                Err(error) => tracing::debug!(%drive, pg = %pg.id, %error, "what a drive holds is not known"),
            }
        }
        held
    }

    async fn inventory(&self, cluster: &Cluster, drive: DriveId, pg: PgId) -> Result<BTreeMap<PackId, Held>, RpcError> {
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            let request = StorageRequest::Inventory { drive, pg, after, max: self.config.page };
            let (reply, _) = self.send(cluster, drive, request, Bytes::new()).await?;
            let StorageReply::Inventory { rows, more } = reply else { return Err(unexpected("to Inventory")) };
            if more && rows.last().map(|row| row.pack) <= after {
                return Err(unexpected("an inventory that does not advance"));
            }
            after = rows.last().map(|row| row.pack).or(after);
            all.extend(rows.into_iter().map(|row| (row.pack, Held { generation: row.generation, shards: row.shards })));
            if !more {
                return Ok(all);
            }
        }
    }

    /// R2.
    async fn referenced(&self, pg: PgId) -> Result<Vec<PackRow>, RpcError> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let question = MetaRequest::ReferencedPacks { pg, fence: Epoch(0), after, max: self.config.page };
            let reply = self.meta.call(question, self.config.timeout).await?;
            let MetaReply::Referenced { packs, more } = reply else { return Err(unexpected("to ReferencedPacks")) };
            if packs.first().is_some_and(|first| Some(*first) <= after) || (more && packs.is_empty()) {
                return Err(unexpected("referenced packs that do not advance"));
            }
            after = packs.last().copied().or(after);
            if !packs.is_empty() {
                match self.meta.call(MetaRequest::Packs { packs }, self.config.timeout).await? {
                    MetaReply::Packs(found) => rows.extend(found.into_iter().filter(|row| row.pg == pg)),
                    _ => return Err(unexpected("to Packs")),
                }
            }
            if !more {
                return Ok(rows);
            }
        }
    }
}
