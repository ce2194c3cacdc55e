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
//! A pack whose sources are too few is reported; nothing is ever deleted here. Slots whose incoming drive holds
//! everything are handed over to it: [`finish`].

mod finish;
mod look;
mod plan;
mod rebuild;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_types::ids::{DriveId, MapEpoch, NodeId, PackId, PgId};
use stele_types::map::{ClusterMap, PgRow};
use stele_types::seam::Rng;
use tokio::time::Instant;

use self::finish::Ready;
use self::plan::{Plan, primary};
use crate::config::Sabotage;
use crate::metrics::Metrics;

/// A node that takes longer to say how its drives are counts as silent.
const AWAKE_WITHIN: Duration = Duration::from_secs(5);
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
    /// Broken on purpose.
    pub sabotage: Sabotage,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self { page: 1000, timeout: Duration::from_secs(30), rate: 64 << 20, sabotage: Sabotage::default() }
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
    /// Slots that moved: the incoming drive has them alone now.
    pub moved: u64,
    /// Slots whose incoming drive holds everything, as far as is known, and that were not handed over yet; why not.
    pub unfinished: Vec<(PgId, u8, String)>,
}

/// The cluster as one look sees it.
#[derive(Debug)]
struct Cluster {
    map: Box<ClusterMap>,
    /// Nodes that answered. The others are not asked for anything: each question would take its whole time.
    awake: BTreeSet<NodeId>,
    /// Drives that serve and take writes.
    serving: BTreeSet<DriveId>,
}

impl Cluster {
    fn is_awake(&self, drive: DriveId) -> bool {
        self.map.drive(drive).is_some_and(|row| self.awake.contains(&row.node))
    }

    /// The node whose drive is the first of the PG that serves looks after it.
    fn is_of(&self, pg: &PgRow, node: NodeId) -> bool {
        primary(pg, &self.serving).and_then(|drive| self.map.drive(drive)).is_some_and(|drive| drive.node == node)
    }
}

/// Repairs the PGs of which a node is the primary. One at a time.
#[derive(Debug)]
pub struct RepairWorker {
    node: NodeId,
    meta: MetaClient,
    storage: StorageClient,
    rng: Arc<dyn Rng>,
    config: RepairConfig,
    metrics: Metrics,
    /// Slots to be handed over.
    ready: BTreeMap<(PgId, u8), Ready>,
}

impl RepairWorker {
    /// A worker of one storage node. `rng`: salts of what the evidence log says of moved slots.
    pub fn new(
        node: NodeId,
        clients: (MetaClient, StorageClient),
        rng: Arc<dyn Rng>,
        config: RepairConfig,
        metrics: Metrics,
    ) -> Self {
        let (meta, storage) = clients;
        Self { node, meta, storage, rng, config, metrics, ready: BTreeMap::new() }
    }

    /// Runs for ever: every `interval` it looks at all PGs of this node, and at those that a change of the cluster map
    /// concerns soon after it. Reports go to `tell`.
    pub async fn run(mut self, interval: Duration, tell: impl Fn(Result<RepairReport, RpcError>) + Send) {
        let mut known: Option<Box<ClusterMap>> = None;
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY.min(interval)).await;
            let newer = self.newer_map(known.as_ref().map_or(MapEpoch(0), |map| map.epoch)).await;
            let changed = match (&known, &newer) {
                (Some(old), Some(new)) => plan::changed(old, new),
                // A node that was just started has other things to do than to look at what it found.
                _ => BTreeSet::new(),
            };
            known = newer.or(known);
            if last.elapsed() >= interval {
                tell(self.run_once().await);
                last = Instant::now();
            } else if !changed.is_empty() || !self.ready.is_empty() {
                tell(self.run_for(|pg| changed.contains(&pg.id)).await);
            }
        }
    }

    async fn newer_map(&self, known: MapEpoch) -> Option<Box<ClusterMap>> {
        match self.meta.call(MetaRequest::ClusterMap { known }, self.config.timeout).await {
            Ok(MetaReply::ClusterMap(map)) => map,
            _ => None,
        }
    }

    /// Looks at every PG of this node once, and hands over slots that have moved.
    ///
    /// # Errors
    /// There is no map. Trouble with one PG or pack is in the report.
    pub async fn run_once(&mut self) -> Result<RepairReport, RpcError> {
        let report = self.run_for(|_| true).await?;
        self.metrics.unreadable.set(i64::try_from(report.unreadable.len()).unwrap_or(i64::MAX));
        Ok(report)
    }

    async fn run_for(&mut self, wanted: impl Fn(&PgRow) -> bool) -> Result<RepairReport, RpcError> {
        let cluster = self.cluster().await?;
        let mut report = RepairReport::default();
        for pg in cluster.map.pgs.iter().filter(|pg| wanted(pg)) {
            if !cluster.is_of(pg, self.node) {
                continue;
            }
            match self.repair_pg(&cluster, pg, &mut report).await {
                Ok(()) => report.pgs += 1,
                Err(error) => report.skipped.push((pg.id, error.to_string())),
            }
        }
        self.finish_moves(&cluster, &mut report).await;
        Ok(report)
    }

    async fn map(&self) -> Result<Box<ClusterMap>, RpcError> {
        match self.meta.call(MetaRequest::ClusterMap { known: MapEpoch(0) }, self.config.timeout).await? {
            MetaReply::ClusterMap(Some(map)) => Ok(map),
            _ => Err(unexpected("no cluster map")),
        }
    }

    async fn cluster(&self) -> Result<Cluster, RpcError> {
        let map = self.map().await?;
        let nodes: BTreeSet<NodeId> = map.drives.iter().map(|row| row.node).collect();
        let patience = self.config.timeout.min(AWAKE_WITHIN);
        let ask =
            |node| async move { (node, self.storage.call(node, StorageRequest::Drives, Bytes::new(), patience).await) };
        let mut cluster = Cluster { map, awake: BTreeSet::new(), serving: BTreeSet::new() };
        for (node, answer) in futures::future::join_all(nodes.into_iter().map(ask)).await {
            if let Ok((StorageReply::Drives(drives), _)) = answer {
                cluster.awake.insert(node);
                cluster.serving.extend(drives.iter().filter(|drive| drive.healthy).map(|drive| drive.id));
            }
        }
        Ok(cluster)
    }

    async fn repair_pg(&mut self, cluster: &Cluster, pg: &PgRow, report: &mut RepairReport) -> Result<(), RpcError> {
        let (Plan { jobs, unreadable, waiting, filled }, examined) = self.look(cluster, pg).await?;
        report.examined += examined;
        report.waiting += waiting;
        report.unreadable.extend(unreadable);
        let mut left: BTreeSet<DriveId> = BTreeSet::new();
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
                    Err(error) => {
                        left.insert(missing.1);
                        report.failed.push((job.row.pack, missing.0, error.to_string()));
                    }
                }
            }
        }
        for (slot, to) in filled.into_iter().filter(|(_, to)| !left.contains(to)) {
            self.ready.entry((pg.id, slot)).or_insert(Ready { to, barrier: None });
        }
        Ok(())
    }

    /// Waits as long as so many bytes take at the rate, from `begun` on.
    async fn throttle(&self, begun: Instant, bytes: u64) {
        if let Some(micros) = bytes.saturating_mul(1_000_000).checked_div(self.config.rate) {
            tokio::time::sleep_until(begun + Duration::from_micros(micros)).await;
        }
    }
}
