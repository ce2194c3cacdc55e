//! Repair: shards that a drive should hold and does not are made anew from others of the pack. DESIGN.md section 7.
//!
//! | step | does |
//! |---|---|
//! | R1 list | what the drives of a PG hold; only the PG's primary does, the first of its drives that serves |
//! | R2 ask | the packs that a group refers to, and their rows: nothing else is repaired |
//! | R3 decide | what is missing, most endangered first: [`plan`] |
//! | R4 rebuild | k' shards, each checked against its root, give the missing one, checked against its own |
//! | R5 store | at the PG's epoch, so that a drive that lost its slot meanwhile refuses |
//!
//! A pack whose sources are too few is reported; nothing is ever deleted here.

mod plan;
mod rebuild;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_types::ids::{DriveId, Epoch, MapEpoch, NodeId, PackId, PgId};
use stele_types::map::{ClusterMap, PgRow};
use stele_types::pack::PackRow;
use tokio::time::Instant;

use crate::metrics::Metrics;

use self::plan::{Held, Inventories, Plan, decide, primary};

/// Between two looks at whether the cluster map changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Settings of repair.
#[derive(Clone, Copy, Debug)]
pub struct RepairConfig {
    /// Rows per question.
    pub page: u32,
    /// Patience with one answer.
    pub timeout: Duration,
    /// Bytes per second that are read and written for it, by this node; 0: as fast as it goes.
    pub rate: u64,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self { page: 1000, timeout: Duration::from_secs(30), rate: 64 << 20 }
    }
}

/// What one run did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairReport {
    /// PGs that this node looked after.
    pub pgs: u64,
    /// PGs that could not be looked at, and why.
    pub skipped: Vec<(PgId, String)>,
    /// Referenced packs looked at.
    pub examined: u64,
    /// Shards made and stored.
    pub rebuilt: u64,
    /// Missing shards whose drive takes no writes now.
    pub waiting: u64,
    /// Shards that could not be made, and why.
    pub failed: Vec<(PackId, u8, String)>,
    /// Referenced packs of which too few shards were found, on the drives that answered.
    pub unreadable: Vec<PackId>,
    /// Bytes read for it.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// The cluster as one run sees it.
#[derive(Debug)]
struct Cluster {
    map: Box<ClusterMap>,
    /// Drives that serve and take writes.
    serving: BTreeSet<DriveId>,
}

/// Repairs the PGs of which a node is the primary. One at a time.
#[derive(Debug)]
pub struct RepairWorker {
    node: NodeId,
    meta: MetaClient,
    storage: StorageClient,
    config: RepairConfig,
    metrics: Metrics,
}

impl RepairWorker {
    /// A worker of one storage node.
    pub fn new(node: NodeId, clients: (MetaClient, StorageClient), config: RepairConfig, metrics: Metrics) -> Self {
        let (meta, storage) = clients;
        Self { node, meta, storage, config, metrics }
    }

    /// Runs for ever: every `interval`, and soon after the cluster map changed. Reports go to `tell`.
    pub async fn run(self, interval: Duration, tell: impl Fn(Result<RepairReport, RpcError>) + Send) {
        let (mut known, mut last) = (None, Instant::now());
        loop {
            tokio::time::sleep(LOOK_EVERY.min(interval)).await;
            let newer = self.epoch_beyond(known.unwrap_or_default()).await;
            // A node that was just started has other things to do than to look at what it found.
            let changed = newer.is_some() && known.is_some();
            known = newer.or(known);
            if !changed && last.elapsed() < interval {
                continue;
            }
            tell(self.run_once().await);
            last = Instant::now();
        }
    }

    async fn epoch_beyond(&self, known: MapEpoch) -> Option<MapEpoch> {
        match self.meta.call(MetaRequest::ClusterMap { known }, self.config.timeout).await {
            Ok(MetaReply::ClusterMap(map)) => map.map(|map| map.epoch),
            _ => None,
        }
    }

    /// Looks at every PG of this node once.
    ///
    /// # Errors
    /// There is no map. Trouble with one PG or pack is in the report.
    pub async fn run_once(&self) -> Result<RepairReport, RpcError> {
        let map = self.map().await?;
        let cluster = Cluster { serving: self.serving_drives(&map).await, map };
        let mut report = RepairReport::default();
        for pg in &cluster.map.pgs {
            let mine = primary(pg, &cluster.serving).and_then(|drive| cluster.map.drive(drive));
            if mine.is_none_or(|drive| drive.node != self.node) {
                continue;
            }
            match self.repair_pg(&cluster, pg, &mut report).await {
                Ok(()) => report.pgs += 1,
                Err(error) => report.skipped.push((pg.id, error.to_string())),
            }
        }
        self.metrics.unreadable.set(i64::try_from(report.unreadable.len()).unwrap_or(i64::MAX));
        Ok(report)
    }

    async fn map(&self) -> Result<Box<ClusterMap>, RpcError> {
        match self.meta.call(MetaRequest::ClusterMap { known: MapEpoch(0) }, self.config.timeout).await? {
            MetaReply::ClusterMap(Some(map)) => Ok(map),
            _ => Err(unexpected("no cluster map")),
        }
    }

    async fn serving_drives(&self, map: &ClusterMap) -> BTreeSet<DriveId> {
        let nodes: BTreeSet<NodeId> = map.drives.iter().map(|row| row.node).collect();
        let ask = |node| self.storage.call(node, StorageRequest::Drives, Bytes::new(), self.config.timeout);
        let answers = futures::future::join_all(nodes.into_iter().map(ask)).await;
        let drives = answers.into_iter().flatten().filter_map(|(reply, _)| match reply {
            StorageReply::Drives(drives) => Some(drives),
            _ => None,
        });
        drives.flatten().filter(|drive| drive.healthy).map(|drive| drive.id).collect()
    }

    async fn repair_pg(&self, cluster: &Cluster, pg: &PgRow, report: &mut RepairReport) -> Result<(), RpcError> {
        // The packs first: one that is referred to has all its shards, so what is not listed then is missing.
        let rows = self.referenced(pg.id).await?;
        let held = self.inventories(cluster, pg).await;
        let Plan { jobs, unreadable, waiting } = decide(pg, &rows, &held, &cluster.serving);
        report.examined += rows.len() as u64;
        report.waiting += waiting;
        report.unreadable.extend(unreadable);
        for job in jobs {
            for missing in &job.missing {
                let begun = Instant::now();
                match self.rebuild(cluster, pg, &job, *missing).await {
                    Ok(moved) => {
                        report.rebuilt += 1;
                        report.read_bytes += moved.read;
                        report.written_bytes += moved.written;
                        self.metrics.rebuilt.inc();
                        self.metrics.repair_bytes.inc_by(moved.read + moved.written);
                        self.throttle(begun, moved.read + moved.written).await;
                    }
                    Err(error) => report.failed.push((job.row.pack, missing.0, error.to_string())),
                }
            }
        }
        Ok(())
    }

    /// Waits as long as so many bytes take at the rate, from `begun` on.
    async fn throttle(&self, begun: Instant, bytes: u64) {
        if let Some(micros) = bytes.saturating_mul(1_000_000).checked_div(self.config.rate) {
            tokio::time::sleep_until(begun + Duration::from_micros(micros)).await;
        }
    }

    /// R1. A drive that does not answer is left out.
    async fn inventories(&self, cluster: &Cluster, pg: &PgRow) -> Inventories {
        let mut held = Inventories::new();
        for drive in pg.slots.iter().flat_map(|slot| std::iter::once(slot.drive).chain(slot.incoming)) {
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
