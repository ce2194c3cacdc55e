//! All drives of one node as a [`Service`]: finds the drive, checks what a caller believes about
//! the placement group, and answers. A drive that can't be opened is listed with its reason; the
//! others serve.

mod answers;
mod checks;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{DriveStatus, PgRef, StorageReply, StorageRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::{DriveId, MapEpoch, NodeId};
use stele_types::map::{ClusterMap, DriveState};
use tokio::sync::watch;

pub use self::answers::Answers;
use crate::config::NodeConfig;
use crate::drive::{Drive, DriveOptions, Range};
use crate::exec::Executor;
use crate::media::Media;
use crate::metrics::Metrics;

/// Most rows of one inventory page.
const INVENTORY_MAX: usize = 10_000;
/// Most packs of one sweep request.
const SWEEP_PACKS_MAX: usize = 10_000;

/// A directory that this node is to serve.
#[derive(Clone, Debug)]
pub struct DriveSpec {
    /// The directory.
    pub media: Arc<dyn Media>,
    /// Which drive it must be, if that is known (from the cluster map). Without it a directory
    /// whose identity can't be read is listed under the zero id.
    pub expect: Option<DriveId>,
}

/// A drive's state as its node tells it to the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriveHealth {
    /// The drive.
    pub id: DriveId,
    /// Its directory.
    pub name: String,
    /// What it may be used for.
    pub state: DriveState,
    /// Why it is not `Ok`; empty otherwise.
    pub reason: String,
}

#[derive(Debug)]
enum Seat {
    Serving(Arc<Drive>),
    Unserved(DriveHealth),
}

/// A storage node.
#[derive(Debug)]
pub struct StorageNode {
    config: NodeConfig,
    seats: Vec<(DriveId, Seat)>,
    drives: BTreeMap<DriveId, Arc<Drive>>,
    map: RwLock<Arc<ClusterMap>>,
    states: watch::Sender<Vec<DriveHealth>>,
    /// How often a caller named a PG row that this node does not have yet.
    behind: watch::Sender<u64>,
    /// What possession audits are answered with.
    answers: OnceLock<Answers>,
}

impl StorageNode {
    /// Opens the drives, all at once. Must run on a tokio runtime.
    pub async fn open(config: NodeConfig, specs: Vec<DriveSpec>, executor: Executor, metrics: Metrics) -> Arc<Self> {
        let open = |spec: DriveSpec| {
            let options = DriveOptions {
                cluster: config.cluster,
                expect: spec.expect,
                config: config.drive,
                executor,
                metrics: metrics.clone(),
            };
            async move {
                let name = spec.media.name();
                let drive = Drive::open(spec.media, options).await;
                (name, spec.expect, drive.map_err(|e| e.to_string()))
            }
        };
        let opened = futures::future::join_all(specs.into_iter().map(open)).await;
        let mut drives: BTreeMap<DriveId, Arc<Drive>> = BTreeMap::new();
        let mut seats = Vec::new();
        for (name, expect, outcome) in opened {
            let (id, seat) = take_seat(&mut drives, name, expect, outcome);
            seats.push((id, seat));
        }
        let node = Self {
            config,
            seats,
            drives,
            map: RwLock::new(Arc::new(ClusterMap::default())),
            states: watch::Sender::new(Vec::new()),
            behind: watch::Sender::new(0),
            answers: OnceLock::new(),
        };
        node.states.send_replace(node.current_states());
        let node = Arc::new(node);
        for drive in node.drives.values() {
            tokio::spawn(supervise(Arc::downgrade(&node), Arc::downgrade(drive)));
        }
        node
    }

    /// Takes a newer cluster map; an older one is ignored. A PG row never goes back to an older
    /// epoch, whatever the map says: what was refused stays refused.
    pub fn set_map(&self, mut map: ClusterMap) {
        let mut held = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if map.epoch < held.epoch {
            return;
        }
        for row in &mut map.pgs {
            if let Some(newer) = held.pg(row.id).filter(|known| known.epoch > row.epoch) {
                *row = newer.clone();
            }
        }
        *held = Arc::new(map);
    }

    /// Answers possession audits from now on. Only the first call counts.
    pub fn answer_audits(&self, answers: Answers) {
        self.answers.get_or_init(|| answers);
    }

    /// Epoch of the map in use.
    pub fn map_epoch(&self) -> MapEpoch {
        self.map.read().unwrap_or_else(PoisonError::into_inner).epoch
    }

    /// Changes when a caller named a newer PG row than this node has: fetch the map now rather than
    /// at the next poll.
    pub fn watch_behind(&self) -> watch::Receiver<u64> {
        self.behind.subscribe()
    }

    /// Tells the state of every drive, now and at each change.
    pub fn watch_drives(&self) -> watch::Receiver<Vec<DriveHealth>> {
        self.states.subscribe()
    }

    /// State of every drive.
    pub fn drives(&self) -> Vec<DriveStatus> {
        let status = |(id, seat): &(DriveId, Seat)| match seat {
            Seat::Serving(drive) => drive.status(),
            Seat::Unserved(health) => DriveStatus {
                id: *id,
                name: health.name.clone(),
                healthy: false,
                reason: health.reason.clone(),
                capacity_bytes: 0,
                used_bytes: 0,
                live_bytes: 0,
                packs: 0,
            },
        };
        self.seats.iter().map(status).collect()
    }

    /// One drive in service.
    pub fn drive(&self, id: DriveId) -> Option<&Arc<Drive>> {
        self.drives.get(&id)
    }

    /// Ends service of every drive, in order.
    pub async fn close(&self) {
        for drive in self.drives.values() {
            drive.close().await;
        }
    }

    fn current_states(&self) -> Vec<DriveHealth> {
        let state = |(id, seat): &(DriveId, Seat)| match seat {
            Seat::Serving(drive) => {
                let health = drive.health();
                let name = drive.status().name;
                DriveHealth { id: *id, name, state: health.state, reason: health.reason }
            }
            Seat::Unserved(health) => health.clone(),
        };
        self.seats.iter().map(state).collect()
    }

    fn find(&self, id: DriveId) -> Result<&Arc<Drive>, RpcError> {
        if let Some(drive) = self.drives.get(&id) {
            return Ok(drive);
        }
        let unserved = self.seats.iter().find_map(|(seat, state)| match state {
            Seat::Unserved(health) if *seat == id => Some(health),
            _ => None,
        });
        Err(match unserved {
            Some(health) => {
                RpcError::new(Code::DriveFailed, format!("drive {} is out of service: {}", health.name, health.reason))
            }
            None => RpcError::new(Code::NoSuchDrive, format!("node {} does not serve drive {id}", self.config.node)),
        })
    }

    fn answers(&self) -> Result<&Answers, RpcError> {
        let none = || RpcError::new(Code::Unreachable, format!("node {} is still starting", self.config.node));
        self.answers.get().ok_or_else(none)
    }

    /// A caller that names a newer row than this node has is a reason to fetch the map.
    fn note_newer(&self, map: &ClusterMap, pg: PgRef) {
        if map.pg(pg.pg).is_none_or(|row| row.epoch < pg.epoch) {
            self.behind.send_modify(|times| *times += 1);
        }
    }

    async fn answer(&self, request: StorageRequest, body: Bytes) -> Result<(StorageReply, Bytes), RpcError> {
        let plain = |reply| Ok((reply, Bytes::new()));
        match request {
            StorageRequest::StoreShard { drive, pg, pack, preimage, encoding, shard } => {
                let map = Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner));
                let target = self.find(drive)?;
                let accept_stale = self.config.drive.sabotage.accepts_stale_pg_epoch();
                let placed = checks::placement(&map, pg, drive, (&encoding, shard), accept_stale);
                self.note_newer(&map, pg);
                placed?;
                let header = checks::header(pg, pack, (preimage, encoding), (shard, &body))?;
                if self.config.verify_shard_roots {
                    checks::root(&header, &body)?;
                }
                target.store(header, body).await?;
                plain(StorageReply::Done)
            }
            StorageRequest::ReadShard { drive, pack, generation, shard, offset, len } => {
                let bytes = self.find(drive)?.read(Range { pack, generation, shard, offset, len }).await?;
                Ok((StorageReply::Bytes, bytes))
            }
            StorageRequest::DescribePack { drive, pack } => plain(self.find(drive)?.describe(pack).await?),
            StorageRequest::Inventory { drive, pg, after, max } => {
                let max = (max as usize).clamp(1, INVENTORY_MAX);
                let (rows, more) = self.find(drive)?.inventory(pg, after, max)?;
                plain(StorageReply::Inventory { rows, more })
            }
            StorageRequest::Condemn { drive, epoch, packs } => {
                checks::few("Condemn", packs.len(), SWEEP_PACKS_MAX)?;
                plain(StorageReply::Packs(self.find(drive)?.condemn(epoch, packs).await?))
            }
            StorageRequest::Pardon { drive, packs } => {
                checks::few("Pardon", packs.len(), SWEEP_PACKS_MAX)?;
                self.find(drive)?.pardon(packs).await?;
                plain(StorageReply::Done)
            }
            StorageRequest::Delete { drive, packs } => {
                checks::few("Delete", packs.len(), SWEEP_PACKS_MAX)?;
                plain(StorageReply::Packs(self.find(drive)?.delete(packs).await?))
            }
            StorageRequest::Drives => plain(StorageReply::Drives(self.drives())),
            StorageRequest::AcknowledgePg(pg) => {
                let map = Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner));
                self.note_newer(&map, pg);
                checks::knows(&map, pg)?;
                plain(StorageReply::Done)
            }
            StorageRequest::Encodings { drive, pg, after, max } => {
                let (rows, next) = self.find(drive)?.encodings(pg, after, max as usize).await?;
                plain(StorageReply::Encodings { rows, next })
            }
            StorageRequest::Groups { drive, after, max } => {
                let (rows, more) = self.find(drive)?.groups(after, (max as usize).clamp(1, INVENTORY_MAX))?;
                plain(StorageReply::Groups { rows, more })
            }
            StorageRequest::Holds { drive, packs } => {
                checks::few("Holds", packs.len(), INVENTORY_MAX)?;
                plain(StorageReply::Inventory { rows: self.find(drive)?.holds(&packs)?, more: false })
            }
            StorageRequest::DeleteStrays { drive, pg, packs } => {
                checks::few("DeleteStrays", packs.len(), SWEEP_PACKS_MAX)?;
                let map = Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner));
                checks::stray(&map, pg, drive)?;
                plain(StorageReply::Packs(self.find(drive)?.delete(packs).await?))
            }
            StorageRequest::TakeChallenge(_) => self.answers().and_then(|_| plain(StorageReply::Done)),
            StorageRequest::Challenge(challenge) => self.answers()?.answer(self, challenge).await,
        }
    }
}

fn take_seat(
    drives: &mut BTreeMap<DriveId, Arc<Drive>>,
    name: String,
    expect: Option<DriveId>,
    outcome: Result<Drive, String>,
) -> (DriveId, Seat) {
    let unserved = |id, name, reason| {
        tracing::error!(drive = %name, %reason, "drive not served");
        (id, Seat::Unserved(DriveHealth { id, name, state: DriveState::Failed, reason }))
    };
    match outcome {
        Err(reason) => unserved(expect.unwrap_or(DriveId::from_bytes([0; 16])), name, reason),
        Ok(drive) => {
            let id = drive.identity().drive;
            if drives.contains_key(&id) {
                let reason = format!("another directory of this node is drive {id} too; remove the copy");
                return unserved(DriveId::from_bytes([0; 16]), name, reason);
            }
            let drive = Arc::new(drive);
            drives.insert(id, Arc::clone(&drive));
            (id, Seat::Serving(drive))
        }
    }
}

/// Probes one drive and passes changes of its health on, until the node is dropped.
async fn supervise(node: Weak<StorageNode>, drive: Weak<Drive>) {
    let Some(mut health) = drive.upgrade().map(|d| d.watch_health()) else { return };
    loop {
        let Some((interval, patience)) = node.upgrade().map(|n| (n.config.probe_interval, n.config.probe_timeout))
        else {
            return;
        };
        tokio::select! {
            biased;
            changed = health.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(interval) => {
                let Some(drive) = drive.upgrade() else { return };
                if drive.health().readable() {
                    drive.probe(patience).await;
                }
            }
        }
        let Some(node) = node.upgrade() else { return };
        let states = node.current_states();
        node.states.send_if_modified(|held| {
            let differs = *held != states;
            *held = states;
            differs
        });
    }
}

#[async_trait]
impl Service for StorageNode {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Storage(message) = request.message else {
            return Err(RpcError::new(Code::Malformed, "a storage node answers storage requests only"));
        };
        let (reply, body) = self.answer(message, request.body).await?;
        Ok(Response { reply: Reply::Storage(reply), body })
    }
}
