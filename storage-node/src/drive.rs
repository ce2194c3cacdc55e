//! One drive: a directory of segments, with a committer that writes, readers, and an index.
//!
//! | module | holds |
//! |---|---|
//! | `open`, `scan`, `summary`, `row` | how a directory becomes an index |
//! | `index` | where shards are, what sweeps said, how much of a segment is live |
//! | `op`, `batch`, `room`, `committer` | group commit |
//! | `reader` | ranges with CRC, headers, the probe |
//! | `reclaim` | emptying segments |
//! | `health` | ok, suspect, failed |

mod batch;
mod committer;
mod health;
mod index;
mod op;
mod open;
mod reader;
mod reclaim;
mod room;
mod row;
mod scan;
mod shared;
mod summary;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{DriveStatus, EncodingRow, InventoryRow, StorageReply};
use stele_types::ids::{ClusterId, DriveId, Epoch, PackId, PgId};
use stele_types::segment::{ShardHeader, payload_crcs};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};

pub use self::health::Health;
use self::index::PackView;
use self::op::{Op, Outcome, Sequencer, Task, drive_failed};
pub(crate) use self::reader::Range;
use self::reader::ReadJob;
use self::reclaim::Kick;
pub use self::reclaim::Reclaimed;
use self::shared::Shared;
pub use self::summary::fuzz_summary;
use crate::config::DriveConfig;
use crate::exec::{Executor, SpawnError};
use crate::identity::{DriveIdentity, IdentityError};
use crate::media::Media;
use crate::metrics::Metrics;

/// Unit of the queue's byte budget, so that it fits a semaphore.
const CHARGE_UNIT: u64 = 1024;
/// Most rows of one answer about encodings: each takes a read.
const ENCODINGS_MAX: usize = 256;

/// Why a drive can't be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, not ours, or its device failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No thread for it.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The loop that opened it ended early.
    #[error("opening the drive was interrupted")]
    Interrupted,
}

/// How a drive is opened.
#[derive(Clone, Debug)]
pub struct DriveOptions {
    /// Its cluster; another one's is refused.
    pub cluster: ClusterId,
    /// Which drive it must be, if that is known.
    pub expect: Option<DriveId>,
    /// Its settings.
    pub config: DriveConfig,
    /// Where its loops run.
    pub executor: Executor,
    /// Its counters.
    pub metrics: Metrics,
}

/// One drive in service. Dropping it is like a crash of the process; see [`Drive::close`].
#[derive(Debug)]
pub struct Drive {
    shared: Arc<Shared>,
    ops: mpsc::Sender<Op>,
    reads: mpsc::Sender<ReadJob>,
    kicks: mpsc::Sender<Kick>,
    budget: Arc<Semaphore>,
    budget_units: u32,
}

impl Drive {
    /// Opens a formatted directory and starts its loops.
    ///
    /// # Errors
    /// If it is missing, foreign, in use, or its device fails; nothing was written then, except
    /// where the device failed.
    pub async fn open(media: Arc<dyn Media>, options: DriveOptions) -> Result<Self, OpenError> {
        let DriveOptions { cluster, expect, config, executor, metrics } = options;
        let work = open::open(media, (cluster, expect), config, metrics);
        let opened = executor.run("drive-open", work).await?.ok_or(OpenError::Interrupted)??;
        let shared = opened.shared;
        let label = shared.identity.drive.to_string();
        let label = label.get(..6).unwrap_or("drive").to_owned();
        let (ops, committer_ops) = mpsc::channel(config.queue.max(1));
        let (reads, reader_jobs) = mpsc::channel(256);
        let (kicks, reclaim_kicks) = mpsc::channel(1);
        let committer =
            committer::Committer::new(Arc::clone(&shared), committer_ops, opened.next_segment, Sequencer(opened.last));
        executor.spawn(&format!("commit-{label}"), committer.run())?;
        let reader_jobs = Arc::new(Mutex::new(reader_jobs));
        for n in 0..config.readers.max(1) {
            let work = reader::run(Arc::clone(&shared), Arc::clone(&reader_jobs));
            executor.spawn(&format!("read-{label}-{n}"), work)?;
        }
        let work = reclaim::run(Arc::clone(&shared), ops.downgrade(), reclaim_kicks);
        executor.spawn(&format!("tend-{label}"), work)?;
        let budget_units = u32::try_from(config.queue_bytes / CHARGE_UNIT).unwrap_or(u32::MAX >> 4).max(1);
        let budget = Arc::new(Semaphore::new(budget_units as usize));
        Ok(Self { shared, ops, reads, kicks, budget, budget_units })
    }

    /// Who it is.
    pub fn identity(&self) -> DriveIdentity {
        self.shared.identity
    }

    /// What it may be used for.
    pub fn health(&self) -> Health {
        self.shared.health.now()
    }

    /// Tells when its health changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.shared.health.watch()
    }

    /// Its state for people and repair.
    pub fn status(&self) -> DriveStatus {
        let health = self.health();
        let index = self.shared.index();
        let (used_bytes, live_bytes) = index.bytes();
        DriveStatus {
            id: self.shared.identity.drive,
            name: self.shared.name.clone(),
            healthy: health.writable(),
            reason: health.reason,
            capacity_bytes: self.capacity(),
            used_bytes,
            live_bytes,
            packs: index.packs(),
        }
    }

    fn capacity(&self) -> u64 {
        let total = self.shared.total_bytes.load(Ordering::Relaxed);
        self.shared.config.capacity_bytes.map_or(total, |c| c.min(total))
    }

    fn gone(&self) -> RpcError {
        drive_failed(&self.shared.name, "it is closed")
    }

    fn usable(&self) -> Result<(), RpcError> {
        let health = self.health();
        if health.readable() {
            return Ok(());
        }
        let text = format!("drive {} is out of service: {}; use other drives", self.shared.name, health.reason);
        Err(RpcError::new(Code::DriveFailed, text))
    }

    async fn submit(&self, task: Task) -> Outcome {
        let health = self.health();
        if !health.writable() {
            return Err(drive_failed(&self.shared.name, &health.reason));
        }
        let units = u32::try_from(task.bytes() / CHARGE_UNIT).unwrap_or(u32::MAX).clamp(1, self.budget_units);
        let charge = Arc::clone(&self.budget).acquire_many_owned(units).await.ok();
        let (answer, answered) = oneshot::channel();
        self.ops.send(Op { task, answer, charge }).await.map_err(|_| self.gone())?;
        answered.await.map_err(|_| self.gone())?
    }

    /// Appends a shard; durable when it returns. `header.crcs` is filled in here.
    ///
    /// # Errors
    /// `DriveFull`, `DriveFailed`, or `Malformed` if the header breaks the format's bounds.
    pub async fn store(&self, mut header: ShardHeader, payload: Bytes) -> Result<(), RpcError> {
        header.crcs = payload_crcs(&payload);
        self.submit(Task::Store { header: Box::new(header), payload }).await.map(|_| ())
    }

    /// Notes that writers of `epoch` use the packs again; returns those for which that is durable.
    /// Condemned and unknown packs are left out.
    ///
    /// # Errors
    /// `DriveFull` or `DriveFailed`.
    pub async fn touch(&self, epoch: Epoch, packs: Vec<PackId>) -> Outcome {
        self.submit(Task::Touch { epoch, packs }).await
    }

    /// Condemns packs at a fence; returns those that are condemned now. Packs started or touched
    /// above the fence, and unknown ones, are left out.
    ///
    /// # Errors
    /// `DriveFull` or `DriveFailed`.
    pub async fn condemn(&self, epoch: Epoch, packs: Vec<PackId>) -> Outcome {
        self.swept(self.submit(Task::Condemn { epoch, packs }).await)
    }

    /// Takes condemnations back; returns the packs that were condemned.
    ///
    /// # Errors
    /// `DriveFull` or `DriveFailed`.
    pub async fn pardon(&self, packs: Vec<PackId>) -> Outcome {
        self.swept(self.submit(Task::Pardon { packs }).await)
    }

    /// Deletes packs that are condemned; returns them. They never come back.
    ///
    /// # Errors
    /// `DriveFull` or `DriveFailed`.
    pub async fn delete(&self, packs: Vec<PackId>) -> Outcome {
        self.swept(self.submit(Task::Delete { packs }).await)
    }

    fn swept(&self, outcome: Outcome) -> Outcome {
        if let Ok(packs) = &outcome {
            self.shared.metrics.swept.inc_by(packs.len() as u64);
        }
        outcome
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> ReadJob) -> Result<T, RpcError> {
        let (answer, answered) = oneshot::channel();
        self.reads.send(job(answer)).await.map_err(|_| self.gone())?;
        answered.await.map_err(|_| self.gone())
    }

    /// Reads a range of a shard; every CRC block it touches was verified.
    ///
    /// # Errors
    /// `NoSuchPack`, `ShardCorrupt`, `DriveFailed`, or `Malformed` for a range outside the shard.
    pub(crate) async fn read(&self, range: Range) -> Result<Bytes, RpcError> {
        self.usable()?;
        self.ask(|answer| ReadJob::Range(range, answer)).await?
    }

    /// Everything about a pack besides its payload, from its newest header here.
    ///
    /// # Errors
    /// `NoSuchPack`, `ShardCorrupt` or `DriveFailed`.
    pub async fn describe(&self, pack: PackId) -> Result<StorageReply, RpcError> {
        self.usable()?;
        let header = self.ask(|answer| ReadJob::Header(pack, answer)).await??;
        let view = self.shared.index().pack(pack);
        let (pg, shards) = view.map_or((header.pg, Vec::new()), |(pg, view)| (pg, view.shards));
        Ok(StorageReply::Pack { preimage: header.preimage, encoding: header.encoding, pg, shards })
    }

    /// Packs of a PG behind `after`, and whether more follow.
    ///
    /// # Errors
    /// `DriveFailed` if the drive is out of service.
    pub fn inventory(
        &self,
        pg: PgId,
        after: Option<PackId>,
        max: usize,
    ) -> Result<(Vec<InventoryRow>, bool), RpcError> {
        self.usable()?;
        let (views, more) = self.shared.index().inventory(pg, after, max);
        Ok((views.into_iter().map(inventory_row).collect(), more))
    }

    /// Certain packs, as an inventory shows them; those that are not here are left out.
    ///
    /// # Errors
    /// `DriveFailed` if the drive is out of service.
    pub fn holds(&self, packs: &[PackId]) -> Result<Vec<InventoryRow>, RpcError> {
        self.usable()?;
        let index = self.shared.index();
        let views = packs.iter().filter_map(|pack| index.pack(*pack));
        Ok(views.map(|(_, view)| inventory_row(view)).collect())
    }

    /// PGs behind `after` of which there are packs here, and whether more follow.
    ///
    /// # Errors
    /// `DriveFailed` if the drive is out of service.
    pub fn groups(&self, after: Option<PgId>, max: usize) -> Result<(Vec<PgId>, bool), RpcError> {
        self.usable()?;
        Ok(self.shared.index().groups(after, max))
    }

    /// How packs of a PG behind `after` are kept, from one header each, and where to go on if more follow. Packs whose
    /// header can't be read are left out.
    ///
    /// # Errors
    /// `DriveFailed`.
    pub(crate) async fn encodings(
        &self,
        pg: PgId,
        after: Option<PackId>,
        max: usize,
    ) -> Result<(Vec<EncodingRow>, Option<PackId>), RpcError> {
        let (packs, more) = self.inventory(pg, after, max.clamp(1, ENCODINGS_MAX))?;
        let mut rows = Vec::with_capacity(packs.len());
        for InventoryRow { pack, .. } in &packs {
            match self.ask(|answer| ReadJob::Header(*pack, answer)).await? {
                Ok(header) => rows.push(EncodingRow { pack: *pack, encoding: header.encoding }),
                Err(error) if matches!(error.code, Code::NoSuchPack | Code::ShardCorrupt) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((rows, packs.last().filter(|_| more).map(|last| last.pack)))
    }

    /// Asks the device whether it is still there, for at most `patience`; health follows.
    pub async fn probe(&self, patience: std::time::Duration) {
        let health = &self.shared.health;
        match tokio::time::timeout(patience, self.ask(ReadJob::Probe)).await {
            Err(_) => health.silent(&format!("no answer for {} ms", patience.as_millis())),
            Ok(Ok(Ok(()))) => health.answered(),
            Ok(Ok(Err(reason))) => health.fail(&reason),
            Ok(Err(_)) => health.fail("closed"),
        }
    }

    /// Empties every segment that is due, now.
    ///
    /// # Errors
    /// `DriveFailed` if the drive is closed.
    pub async fn reclaim(&self) -> Result<Reclaimed, RpcError> {
        let (tell, told) = oneshot::channel();
        self.kicks.send(tell).await.map_err(|_| self.gone())?;
        told.await.map_err(|_| self.gone())
    }

    /// Ends service: closes the segment being written (which makes the next open fast) and lets
    /// the directory go. What was acknowledged is durable without this.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.ops.send(Op { task: Task::Close, answer, charge: None }).await.is_ok() {
            let _closed = answered.await;
        }
    }
}

fn inventory_row(view: PackView) -> InventoryRow {
    InventoryRow {
        pack: view.pack,
        start_epoch: view.start_epoch,
        touched: view.touched,
        condemned: view.condemned,
        generation: view.generation,
        shards: view.shards,
        stored_bytes: view.stored_bytes,
    }
}
