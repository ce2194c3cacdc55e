//! A sweep on a node with model drives, and a metadata service that a test plays.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{
    BackupCommand, Command, GcBegun, GcCommand, GcRun, GcStatus, MetaReply, MetaRequest, TrashCommand,
};
use stele_rpc::storage::{PgRef, StorageRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_storage_node::exec::Executor;
use stele_storage_node::media::model::ModelDisk;
use stele_storage_node::sweep::{SweepConfig, SweepWorker};
use stele_types::ids::{Epoch, MapEpoch, NodeId, PackId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, PgRow, Slot};
use stele_types::pack::{Encoding, PackRow};
use stele_types::seam::{Clock, UnixMillis};

use crate::world::{TestPack, World, drive_id, formatted_disk, map, small_drive, test_pack_at};

/// Metadata as far as a sweep asks.
pub(crate) struct Metadata {
    pub(crate) clock: TokioClock,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) epoch: u64,
    /// Fences and when they were made.
    fences: Vec<(Epoch, UnixMillis)>,
    pub(crate) last: Option<GcRun>,
    last_begun: Option<UnixMillis>,
    pub(crate) map: ClusterMap,
    pub(crate) referenced: BTreeSet<PackId>,
    pub(crate) packs: Vec<PackRow>,
    pub(crate) silent: bool,
    /// Becomes the map once references were asked for.
    pub(crate) next_map: Option<ClusterMap>,
    /// Largest answer to a question about references.
    pub(crate) largest_page: usize,
    /// Condemnations above this epoch are in no backup.
    pub(crate) backed_up: Option<Epoch>,
}

impl Metadata {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn gc(&self, command: GcCommand) -> MetaReply {
        let (now, mut state) = (self.clock.unix_millis(), self.state());
        match command {
            GcCommand::Begin { grace_ms } => {
                state.epoch += 1;
                let fence = Epoch(state.epoch - 1);
                let ripe =
                    state.fences.iter().filter(|(_, made)| now - made >= grace_ms).map(|(fence, _)| *fence).max();
                state.fences.push((fence, now));
                state.last_begun = Some(now);
                let number = state.fences.len() as u64;
                MetaReply::GcBegun(GcBegun { number, fence, ripe: ripe.filter(|ripe| *ripe < fence), began: now })
            }
            GcCommand::Finish(run) => {
                state.last = Some(*run);
                MetaReply::Done
            }
        }
    }
}

#[async_trait]
impl Service for Metadata {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Meta(message) = request.message else { panic!("not for metadata") };
        let reply = match message {
            MetaRequest::ClusterMap { known } => {
                let map = self.state().map.clone();
                MetaReply::ClusterMap((map.epoch != known).then(|| Box::new(map)))
            }
            MetaRequest::Command(envelope) => match envelope.command {
                Command::Gc(command) => self.gc(command),
                Command::Trash(TrashCommand::Expire { .. }) => MetaReply::Purged(0),
                Command::Backup(BackupCommand::AdmitDeletion { condemned }) => {
                    let state = self.state();
                    let admitted = state.backed_up.map_or(condemned, |newest| newest.min(condemned));
                    MetaReply::Epochs { fence: admitted, epoch: Epoch(state.epoch) }
                }
                other => panic!("a sweep never sends {other:?}"),
            },
            MetaRequest::GcStatus => {
                let state = self.state();
                let (last_begun, last) = (state.last_begun, state.last.clone());
                MetaReply::GcStatus(Box::new(GcStatus { last_begun, last, ..GcStatus::default() }))
            }
            MetaRequest::ReferencedPacks { after, max, .. } => {
                let mut state = self.state();
                if state.silent {
                    return Err(RpcError::new(Code::Unreachable, "the group is away"));
                }
                let mut behind = state.referenced.iter().filter(|p| Some(**p) > after).copied();
                let packs: Vec<PackId> = behind.by_ref().take(max as usize).collect();
                let more = behind.next().is_some();
                state.largest_page = state.largest_page.max(packs.len());
                if let Some(next) = state.next_map.take() {
                    state.map = next;
                }
                MetaReply::Referenced { packs, more }
            }
            MetaRequest::Packs { packs } => {
                let rows = self.state().packs.clone();
                MetaReply::Packs(rows.into_iter().filter(|row| packs.contains(&row.pack)).collect())
            }
            other => panic!("a sweep never asks {other:?}"),
        };
        Ok(Response { reply: Reply::Meta(reply), body: bytes::Bytes::new() })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn unix_millis(&self) -> UnixMillis {
        self.monotonic_micros() / 1000
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

pub(crate) struct Stage {
    pub(crate) disks: Vec<ModelDisk>,
    pub(crate) world: World,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) worker: SweepWorker,
    pub(crate) packs: Vec<TestPack>,
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

impl Stage {
    /// Twenty packs on one drive, every second one referenced.
    pub(crate) async fn new(config: SweepConfig) -> Self {
        let mut stage = Self::with_drives(config, 1).await;
        stage.packs = (0..20).map(|n| test_pack_at(n, 1000, Epoch(3))).collect();
        for pack in &stage.packs {
            stage.world.store(pack).await.unwrap();
        }
        stage.metadata.state().referenced.extend(stage.packs.iter().step_by(2).map(|p| p.id));
        stage
    }

    /// Empty drives of one node, a placement group on each.
    pub(crate) async fn with_drives(config: SweepConfig, drives: u8) -> Self {
        let mut disks = Vec::new();
        for n in 0..drives {
            disks.push(formatted_disk(n, 1 << 30, 1).await);
        }
        let media = disks.iter().map(ModelDisk::media).collect();
        let world = World::open(media, small_drive(), Executor::Tasks).await;
        let state = State { epoch: 10, map: map(drives), ..State::default() };
        let clock = TokioClock(tokio::time::Instant::now());
        let metadata = Arc::new(Metadata { clock, state: Mutex::new(state) });
        let worker = worker(&world, &metadata, config);
        Self { disks, world, metadata, worker, packs: Vec::new() }
    }

    pub(crate) async fn run(&self) -> GcRun {
        let run = self.worker.run_once().await.unwrap();
        assert_eq!(self.metadata.state().last.as_ref(), Some(&run), "what was done is told");
        run
    }

    pub(crate) async fn held(&self) -> BTreeSet<PackId> {
        self.world.inventory().await.into_iter().map(|row| row.pack).collect()
    }

    /// Everyone learns that placement group 0 is on these drives.
    pub(crate) fn place(&self, epoch: u64, slots: &[(u8, Option<u8>)]) {
        let mut map = self.metadata.state().map.clone();
        map.epoch = MapEpoch(map.epoch.0 + 1);
        map.pgs = vec![group(epoch, slots)];
        self.metadata.state().map = map.clone();
        self.world.node.set_map(map);
    }

    /// Stores shard `shard` of a pack that has two, on a drive that group 0 names for it.
    pub(crate) async fn store_shard(&self, pack: &TestPack, (shard, drive): (u8, u8), epoch: u64) {
        let scheme = "rs-1-1".parse().unwrap();
        let root = pack.encoding.roots[0];
        let encoding = Encoding { generation: 0, scheme, slots: vec![0, 1], roots: vec![root, root] };
        let request = StorageRequest::StoreShard {
            drive: drive_id(drive),
            pg: PgRef { pg: PgId(0), epoch: PgEpoch(epoch) },
            pack: pack.id,
            preimage: pack.preimage.clone(),
            encoding,
            shard,
        };
        self.world.ask(request, pack.shard.clone()).await.unwrap();
    }

    /// Something refers to a pack of two shards.
    pub(crate) fn refer(&self, pack: &TestPack) {
        let row = PackRow {
            pack: pack.id,
            pg: PgId(0),
            scheme: "rs-1-1".parse().unwrap(),
            generation: 0,
            payload_len: pack.preimage.payload_len,
            slots: vec![0, 1],
            start_epoch: Epoch(3),
        };
        let mut state = self.metadata.state();
        state.referenced.insert(pack.id);
        state.packs.push(row);
    }

    /// Packs of group 0 on a drive, and whether it condemns them.
    pub(crate) fn on(&self, drive: u8) -> Vec<(PackId, bool)> {
        let rows = self.world.node.drive(drive_id(drive)).unwrap().inventory(PgId(0), None, 1000).unwrap().0;
        rows.into_iter().map(|row| (row.pack, row.condemned.is_some())).collect()
    }
}

/// A worker that knows nothing of runs before it.
pub(crate) fn worker(world: &World, metadata: &Arc<Metadata>, config: SweepConfig) -> SweepWorker {
    let network = Arc::new(MemoryNetwork::default());
    network.bind(NodeId(1), Arc::clone(&world.node) as Arc<dyn Service>);
    network.bind(NodeId(2), Arc::clone(metadata) as Arc<dyn Service>);
    let transport = Arc::new(network.transport(NodeId(1)));
    let meta = MetaClient::new(transport.clone(), NodeId(2));
    SweepWorker::new(meta, StorageClient::new(transport), Arc::new(metadata.clock), config)
}

/// Placement group 0, `rs-1-1`.
pub(crate) fn group(epoch: u64, slots: &[(u8, Option<u8>)]) -> PgRow {
    let slot =
        |(drive, incoming): &(u8, Option<u8>)| Slot { drive: drive_id(*drive), incoming: incoming.map(drive_id) };
    let slots = slots.iter().map(slot).collect();
    PgRow { id: PgId(0), epoch: PgEpoch(epoch), scheme: "rs-1-1".parse().unwrap(), slots }
}

pub(crate) fn day() -> SweepConfig {
    SweepConfig { grace: 24 * HOUR, page: 3, ..SweepConfig::default() }
}
