//! Garbage collection: packs that nothing refers to are condemned, and one run later, after a new
//! fence and a new question, deleted. DESIGN.md section 7, docs/gc.md.
//!
//! | step | does |
//! |---|---|
//! | W0 expire | removed versions that were kept for long enough lose their references |
//! | W1 fence | raises the epoch and fences G: no commit with a start epoch at or below G succeeds any more |
//! | W2 list | packs of a PG started and touched at or below G, from all its drives, page by page: `sources` |
//! | W3 ask | the group's referenced packs of the PG, at fence G, beside the lists and in the same order |
//! | W4 decide | condemn, pardon, wait, delete: `plan` |
//! | W5 act | on every drive that holds the pack; a refusal anywhere takes the condemnation back: `group` |
//! | W6 strays | shards on drives that the PG's row does not name: `strays` |
//! | W7 tell | what was done, to the metadata service |
//!
//! Any doubt leaves a PG as it is: a drive missing beyond the scheme's m, a group that does not
//! answer, a list that is not ordered, a PG whose row changed since its first question. Deleting less
//! than possible is always right. Nothing here is remembered from run to run: condemnations are on
//! the drives, and when which fence was made is in the metadata.

mod backups;
mod group;
mod plan;
mod sources;
mod strays;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    Command, CommandEnvelope, GcBegun, GcCommand, GcRun, GcStatus, MetaReply, MetaRequest, Origin, TRASH_PAGE_MAX,
    TrashCommand,
};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_types::ids::{CommandSequence, DriveId, Epoch, MapEpoch, NodeId, PackId, PgId};
use stele_types::map::ClusterMap;
use stele_types::seam::Clock;
use tokio::time::Instant;

use self::plan::ByDrive;
use crate::config::Sabotage;

/// Between two looks at whether a run is due, at most.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Settings of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct SweepConfig {
    /// Least time between condemnation and deletion.
    pub grace: Duration,
    /// Rows per question, and packs that are acted on at once. Memory grows with it and with the drives of a PG.
    pub page: u32,
    /// Patience with one answer.
    pub timeout: Duration,
    /// Packs deleted per second; 0: as fast as it goes. Space returns as drives empty their segments, which
    /// has limits of its own.
    pub deletes_per_second: u32,
    /// Broken on purpose.
    pub sabotage: Sabotage,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3600),
            page: 1000,
            timeout: Duration::from_secs(30),
            deletes_per_second: 500,
            sabotage: Sabotage::default(),
        }
    }
}

/// The cluster as one run sees it.
#[derive(Debug)]
struct Cluster {
    map: Box<ClusterMap>,
    /// Drives that take writes: the others can't be asked to condemn, so they count as silent.
    writable: BTreeSet<DriveId>,
}

/// One run.
#[derive(Debug)]
struct Run {
    begun: GcBegun,
    cluster: Cluster,
    report: GcRun,
    /// When the next deletion may be sent.
    next_delete: Instant,
}

impl Run {
    fn fence(&self) -> Epoch {
        self.begun.fence
    }
}

/// Sweeps a cluster. One at a time; should two do so at once, each deletes only what it found unreferenced itself.
#[derive(Debug)]
pub struct SweepWorker {
    meta: MetaClient,
    storage: StorageClient,
    clock: Arc<dyn Clock>,
    config: SweepConfig,
}

impl SweepWorker {
    /// A worker.
    pub fn new(meta: MetaClient, storage: StorageClient, clock: Arc<dyn Clock>, config: SweepConfig) -> Self {
        Self { meta, storage, clock, config }
    }

    /// Runs for ever, `interval` after the last run began, whoever ran it, and only while `mine`; reports go to `tell`.
    pub async fn run(
        self,
        interval: Duration,
        mine: impl Fn() -> bool + Send,
        tell: impl Fn(Result<GcRun, RpcError>) + Send,
    ) {
        loop {
            tokio::time::sleep((interval / 4).min(LOOK_EVERY)).await;
            if !mine() {
                continue;
            }
            match self.is_due(interval).await {
                Ok(false) => {}
                Ok(true) => tell(self.run_once().await),
                Err(error) => tell(Err(error)),
            }
        }
    }

    async fn is_due(&self, interval: Duration) -> Result<bool, RpcError> {
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let Some(last) = self.status().await?.last_begun else { return Ok(true) };
        // This machine's clock against commit time: being off makes a run early or late, and no worse.
        Ok(self.clock.unix_millis().saturating_sub(last) >= interval)
    }

    async fn status(&self) -> Result<Box<GcStatus>, RpcError> {
        match self.meta.call(MetaRequest::GcStatus, self.config.timeout).await? {
            MetaReply::GcStatus(status) => Ok(status),
            _ => Err(unexpected("to GcStatus")),
        }
    }

    /// Sweeps every PG once.
    ///
    /// # Errors
    /// If there is no fence or no map; nothing was swept then. Trouble with one PG is in the report.
    pub async fn run_once(&self) -> Result<GcRun, RpcError> {
        let map = self.map().await?;
        let expired = self.expire().await?;
        let begun = self.begin().await?;
        let GcBegun { number, fence, ripe, began } = begun;
        let report = GcRun { number, fence, ripe, began, expired, ..GcRun::default() };
        let cluster = Cluster { writable: self.writable_drives(&map).await, map };
        let mut run = Run { begun, cluster, report, next_delete: Instant::now() };
        for at in 0..run.cluster.map.pgs.len() {
            let Some(pg) = run.cluster.map.pgs.get(at).cloned() else { break };
            match self.sweep_group(&mut run, &pg).await {
                Ok(()) => run.report.pgs += 1,
                Err(error) => run.report.leave(pg.id, &error.to_string()),
            }
        }
        self.sweep_strays(&mut run).await;
        let report = Box::new(run.report);
        self.command(Command::Gc(GcCommand::Finish(report.clone()))).await?;
        Ok(*report)
    }

    async fn map(&self) -> Result<Box<ClusterMap>, RpcError> {
        match self.meta.call(MetaRequest::ClusterMap { known: MapEpoch(0) }, self.config.timeout).await? {
            MetaReply::ClusterMap(Some(map)) => Ok(map),
            _ => Err(unexpected("no cluster map")),
        }
    }

    async fn writable_drives(&self, map: &ClusterMap) -> BTreeSet<DriveId> {
        let nodes: BTreeSet<NodeId> = map.drives.iter().map(|row| row.node).collect();
        let ask = |node| self.storage.call(node, StorageRequest::Drives, Bytes::new(), self.config.timeout);
        let answers = futures::future::join_all(nodes.into_iter().map(ask)).await;
        let drives = answers.into_iter().flatten().filter_map(|(reply, _)| match reply {
            StorageReply::Drives(drives) => Some(drives),
            _ => None,
        });
        drives.flatten().filter(|drive| drive.healthy).map(|drive| drive.id).collect()
    }

    async fn command(&self, command: Command) -> Result<MetaReply, RpcError> {
        let envelope = CommandEnvelope {
            lease: None,
            sequence: CommandSequence(0),
            lowest_open: CommandSequence(0),
            origin: Origin::default(),
            salt: None,
            command,
        };
        self.meta.command(envelope, self.config.timeout).await
    }

    /// Gives up removed versions that were kept for long enough, so that this run finds their packs unreferenced.
    async fn expire(&self) -> Result<u64, RpcError> {
        let mut all = 0;
        loop {
            match self.command(Command::Trash(TrashCommand::Expire { max: TRASH_PAGE_MAX })).await? {
                MetaReply::Purged(0) => return Ok(all),
                MetaReply::Purged(some) => all += some,
                _ => return Err(unexpected("to Trash(Expire)")),
            }
        }
    }

    /// W1.
    async fn begin(&self) -> Result<GcBegun, RpcError> {
        let grace_ms = u64::try_from(self.config.grace.as_millis()).unwrap_or(u64::MAX);
        match self.command(Command::Gc(GcCommand::Begin { grace_ms })).await? {
            MetaReply::GcBegun(begun) => Ok(begun),
            _ => Err(unexpected("to Gc(Begin)")),
        }
    }

    /// The PG's row is still the one that the questions were asked with.
    ///
    /// # Errors
    /// It changed, so that what was found decides nothing, or nobody answers.
    async fn still(&self, run: &Run, pg: PgId) -> Result<(), RpcError> {
        let known = run.cluster.map.epoch;
        let reply = self.meta.call(MetaRequest::ClusterMap { known }, self.config.timeout).await?;
        let MetaReply::ClusterMap(newer) = reply else { return Err(unexpected("to ClusterMap")) };
        let Some(newer) = newer else { return Ok(()) };
        if newer.pg(pg) == run.cluster.map.pg(pg) {
            return Ok(());
        }
        Err(RpcError::new(Code::StalePg, format!("PG {pg} changed since it was first asked about")))
    }

    /// Sends packs to a drive, a page at a time; the packs for which it was done.
    async fn act(
        &self,
        run: &Run,
        (drive, packs): (DriveId, Vec<PackId>),
        request: impl Fn(DriveId, Vec<PackId>) -> StorageRequest,
    ) -> Result<Vec<PackId>, RpcError> {
        let mut done = Vec::new();
        for packs in packs.chunks(self.config.page.max(1) as usize) {
            match self.send(&run.cluster, drive, request(drive, packs.to_vec())).await? {
                StorageReply::Packs(packs) => done.extend(packs),
                StorageReply::Done => {}
                _ => return Err(unexpected("to a sweep request")),
            }
        }
        Ok(done)
    }

    async fn pardon(&self, run: &Run, packs: ByDrive<PackId>) -> Result<(), RpcError> {
        for on_drive in packs {
            self.act(run, on_drive, |drive, packs| StorageRequest::Pardon { drive, packs }).await?;
        }
        Ok(())
    }

    /// Waits until so many deletions fit the rate.
    async fn throttle(&self, run: &mut Run, packs: usize) {
        tokio::time::sleep_until(run.next_delete).await;
        if let Some(micros) =
            (packs as u64).saturating_mul(1_000_000).checked_div(self.config.deletes_per_second.into())
        {
            run.next_delete = Instant::now() + Duration::from_micros(micros);
        }
    }

    async fn send(&self, cluster: &Cluster, drive: DriveId, request: StorageRequest) -> Result<StorageReply, RpcError> {
        let Some(row) = cluster.map.drive(drive) else {
            return Err(RpcError::new(Code::NoSuchDrive, format!("drive {drive} is not in the cluster map")));
        };
        if !cluster.writable.contains(&drive) {
            return Err(RpcError::new(Code::DriveFailed, format!("drive {drive} ({}) takes no writes", row.name)));
        }
        self.storage.call(row.node, request, Bytes::new(), self.config.timeout).await.map(|(reply, _)| reply)
    }
}
