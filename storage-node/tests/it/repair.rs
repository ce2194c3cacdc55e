//! Repair against a metadata service that a test plays, on six drives of one node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stele_chunker::shards::Coder;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{Command, MetaReply, MetaRequest};
use stele_rpc::storage::{PgRef, StorageReply, StorageRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_storage_node::config::{NodeConfig, Sabotage};
use stele_storage_node::exec::Executor;
use stele_storage_node::media::model::ModelDisk;
use stele_storage_node::metrics::Metrics;
use stele_storage_node::node::{DriveSpec, StorageNode};
use stele_storage_node::repair::{RepairConfig, RepairReport, RepairWorker};
use stele_types::ids::{Epoch, NodeId, PackId, PgEpoch, PgId, TreeHash};
use stele_types::map::{ClusterMap, PgRow, Slot};
use stele_types::pack::{Encoding, PackPreimage, PackRow};
use stele_types::scheme::Scheme;
use stele_types::seam::Rng;

use crate::world::{drive_id, formatted_disk, map, node_config, small_drive, virtual_time};

const DRIVES: u8 = 6;
/// A drive that no group uses.
const SPARE: u8 = 6;
const PG: PgId = PgId(1);
const EPOCH: PgEpoch = PgEpoch(4);

#[derive(Debug)]
struct FixedRng;

impl Rng for FixedRng {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

fn scheme() -> Scheme {
    "rs-4-2".parse().unwrap()
}

fn one_pg() -> ClusterMap {
    let slots = (0..DRIVES).map(|n| Slot { drive: drive_id(n), incoming: None }).collect();
    ClusterMap { pgs: vec![PgRow { id: PG, epoch: EPOCH, scheme: scheme(), slots }], ..map(DRIVES + 1) }
}

/// A pack with all its shards.
struct Whole {
    row: PackRow,
    preimage: PackPreimage,
    encoding: Encoding,
    shards: Vec<Bytes>,
}

fn whole(n: u8) -> Whole {
    // The largest is more than one window of a source.
    let len = 300_000 + usize::from(n) * 900_000;
    let mut payload = vec![0u8; len];
    blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut payload);
    let coded = Coder::new(scheme()).unwrap().encode_payload(&payload.into(), len).unwrap();
    let preimage = PackPreimage {
        start_epoch: Epoch(u64::from(n)),
        nonce: [n; 16],
        payload_len: u32::try_from(len).unwrap(),
        chunk_list_offset: u32::try_from(len).unwrap(),
        chunk_list_hash: TreeHash::from_bytes([9; 32]),
    };
    let slots: Vec<u8> = (0..DRIVES).map(|slot| (slot + n) % DRIVES).collect();
    let encoding = Encoding { generation: 0, scheme: scheme(), slots: slots.clone(), roots: coded.roots };
    let row = PackRow {
        pack: preimage.pack_id(),
        pg: PG,
        scheme: scheme(),
        generation: 0,
        payload_len: preimage.payload_len,
        slots,
        start_epoch: preimage.start_epoch,
    };
    Whole { row, preimage, encoding, shards: coded.shards }
}

/// Metadata as far as repair asks.
struct Metadata {
    map: Mutex<ClusterMap>,
    referenced: Mutex<BTreeMap<PackId, PackRow>>,
    epoch: Mutex<u64>,
    fence: Mutex<u64>,
    /// Start epoch of a write that is open.
    open: Mutex<Option<u64>>,
}

impl Metadata {
    fn new() -> Self {
        let (referenced, open) = (Mutex::default(), Mutex::default());
        Self { map: Mutex::new(one_pg()), referenced, epoch: Mutex::new(9), fence: Mutex::new(8), open }
    }

    fn command(&self, command: Command) -> Result<MetaReply, RpcError> {
        let (mut epoch, mut fence) = (self.epoch.lock().unwrap(), self.fence.lock().unwrap());
        match command {
            Command::AdvanceEpoch => *epoch += 1,
            Command::Fence { limit } => {
                let admitted = self.open.lock().unwrap().unwrap_or(*epoch) - 1;
                *fence = (*fence).max(admitted.min(limit.0));
            }
            Command::FlipSlot { pg, epoch, slot, to } => {
                let mut map = self.map.lock().unwrap();
                let row = map.pgs.iter_mut().find(|row| row.id == pg).unwrap();
                if row.epoch != epoch {
                    return Err(RpcError::new(Code::StalePg, "another epoch"));
                }
                assert_eq!(row.slots[usize::from(slot)].incoming, Some(to));
                row.slots[usize::from(slot)] = Slot { drive: to, incoming: None };
                row.epoch = PgEpoch(epoch.0 + 1);
                map.epoch.0 += 1;
                return Ok(MetaReply::Done);
            }
            other => panic!("repair never sends {other:?}"),
        }
        Ok(MetaReply::Epochs { fence: Epoch(*fence), epoch: Epoch(*epoch) })
    }
}

#[async_trait]
impl Service for Metadata {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Meta(message) = request.message else { panic!("not for metadata") };
        let rows = self.referenced.lock().unwrap().clone();
        let reply = match message {
            MetaRequest::ClusterMap { .. } => MetaReply::ClusterMap(Some(Box::new(self.map.lock().unwrap().clone()))),
            MetaRequest::ReferencedPacks { after, max, pg, .. } => {
                assert_eq!(pg, PG);
                let mut behind = rows.into_keys().filter(|pack| Some(*pack) > after);
                let packs: Vec<PackId> = behind.by_ref().take(max as usize).collect();
                MetaReply::Referenced { packs, more: behind.next().is_some() }
            }
            MetaRequest::Packs { packs } => {
                MetaReply::Packs(packs.iter().filter_map(|pack| rows.get(pack)).cloned().collect())
            }
            MetaRequest::Command(envelope) => {
                assert!(envelope.salt.is_some() || !matches!(envelope.command, Command::FlipSlot { .. }));
                self.command(envelope.command)?
            }
            other => panic!("repair never asks {other:?}"),
        };
        Ok(Response { reply: Reply::Meta(reply), body: Bytes::new() })
    }
}

struct Stage {
    disks: Vec<ModelDisk>,
    node: Arc<StorageNode>,
    metadata: Arc<Metadata>,
    packs: Vec<Whole>,
}

impl Stage {
    /// Six drives with four packs, the first three of them referred to.
    async fn new() -> Self {
        let mut disks = Vec::new();
        for n in 0..=SPARE {
            disks.push(formatted_disk(n, 1 << 30, u64::from(n)).await);
        }
        let packs: Vec<Whole> = (0..4).map(whole).collect();
        let metadata = Arc::new(Metadata::new());
        metadata.referenced.lock().unwrap().extend(packs[..3].iter().map(|pack| (pack.row.pack, pack.row.clone())));
        let node = open(&disks, node_config(small_drive())).await;
        for pack in &packs {
            for shard in 0..DRIVES {
                store(&node, pack, shard, pack.shards[usize::from(shard)].clone()).await.unwrap();
            }
        }
        Self { disks, node, metadata, packs }
    }

    /// The drive is empty, as a new one with the same identity.
    async fn lose(&mut self, drives: &[u8]) {
        self.node.close().await;
        for n in drives {
            self.disks[usize::from(*n)] = formatted_disk(*n, 1 << 30, 77).await;
        }
        self.node = open(&self.disks, node_config(small_drive())).await;
    }

    async fn repair(&self) -> RepairReport {
        self.worker(Sabotage::default()).run_once().await.unwrap()
    }

    fn worker(&self, sabotage: Sabotage) -> RepairWorker {
        let network = Arc::new(MemoryNetwork::default());
        network.bind(NodeId(1), Arc::clone(&self.node) as Arc<dyn Service>);
        network.bind(NodeId(2), Arc::clone(&self.metadata) as Arc<dyn Service>);
        let transport = Arc::new(network.transport(NodeId(1)));
        let clients = (MetaClient::new(transport.clone(), NodeId(2)), StorageClient::new(transport));
        let config = RepairConfig { page: 2, sabotage, ..RepairConfig::default() };
        RepairWorker::new(NodeId(1), clients, Arc::new(FixedRng), config, Metrics::default())
    }

    /// Slot 2 of the group moves to the spare drive; the node is told.
    fn move_slot(&self) -> PgRow {
        let mut map = self.metadata.map.lock().unwrap();
        let row = &mut map.pgs[0];
        row.slots[2].incoming = Some(drive_id(SPARE));
        row.epoch = PgEpoch(row.epoch.0 + 1);
        let row = row.clone();
        map.epoch.0 += 1;
        row
    }

    fn tell_map(&self) {
        self.node.set_map(self.metadata.map.lock().unwrap().clone());
    }

    fn row(&self) -> PgRow {
        self.metadata.map.lock().unwrap().pgs[0].clone()
    }

    /// Shards of referenced packs that the spare drive lacks, of those that belong in slot 2.
    async fn spare_lacks(&self) -> usize {
        let request = StorageRequest::Inventory { drive: drive_id(SPARE), pg: PG, after: None, max: 100 };
        let request = Request::storage(request, Bytes::new(), std::time::Duration::from_secs(10));
        let answer = self.node.serve(NodeId(9), request).await.unwrap();
        let Reply::Storage(StorageReply::Inventory { rows, .. }) = answer.reply else { panic!("no inventory") };
        let referenced = self.metadata.referenced.lock().unwrap();
        referenced.keys().filter(|pack| rows.iter().all(|row| row.pack != **pack)).count()
    }

    /// Shards of a pack that are on their drives, byte for byte.
    async fn held(&self, pack: &Whole) -> usize {
        let mut count = 0;
        for (shard, bytes) in (0u8..).zip(&pack.shards) {
            let request = StorageRequest::ReadShard {
                drive: drive_id(pack.row.slots[usize::from(shard)]),
                pack: pack.row.pack,
                generation: 0,
                shard,
                offset: 0,
                len: u32::try_from(bytes.len()).unwrap(),
            };
            match ask(&self.node, request, Bytes::new()).await {
                Ok(found) if found == *bytes => count += 1,
                Ok(_) => panic!("shard {shard} has other bytes"),
                Err(error) => assert_eq!(error.code, Code::NoSuchPack),
            }
        }
        count
    }
}

async fn open(disks: &[ModelDisk], config: NodeConfig) -> Arc<StorageNode> {
    let spec = |(n, disk): (u8, &ModelDisk)| DriveSpec { media: disk.media(), expect: Some(drive_id(n)) };
    let specs = (0..).zip(disks).map(spec).collect();
    let node = StorageNode::open(config, specs, Executor::Tasks, Metrics::default()).await;
    node.set_map(one_pg());
    node
}

async fn ask(node: &StorageNode, message: StorageRequest, body: Bytes) -> Result<Bytes, RpcError> {
    let request = Request::storage(message, body, std::time::Duration::from_secs(10));
    node.serve(NodeId(9), request).await.map(|response| response.body)
}

async fn store(node: &StorageNode, pack: &Whole, shard: u8, body: Bytes) -> Result<(), RpcError> {
    let request = StorageRequest::StoreShard {
        drive: drive_id(pack.row.slots[usize::from(shard)]),
        pg: PgRef { pg: PG, epoch: EPOCH },
        pack: pack.row.pack,
        preimage: pack.preimage.clone(),
        encoding: pack.encoding.clone(),
        shard,
    };
    ask(node, request, body).await.map(drop)
}

#[test]
fn drives_that_lost_their_shards_get_them_back_and_only_referenced_packs() {
    virtual_time(async {
        let mut stage = Stage::new().await;
        let report = stage.repair().await;
        assert_eq!((report.pgs, report.examined, report.rebuilt, report.read_bytes), (1, 3, 0, 0));
        stage.lose(&[1, 4]).await;
        for pack in &stage.packs {
            assert_eq!(stage.held(pack).await, 4);
        }
        let report = stage.repair().await;
        assert_eq!((report.rebuilt, report.waiting), (6, 0));
        assert!(report.failed.is_empty() && report.unreadable.is_empty() && report.skipped.is_empty(), "{report:?}");
        let shards: u64 = stage.packs[..3].iter().map(|pack| pack.shards[0].len() as u64).sum();
        assert_eq!((report.written_bytes, report.read_bytes), (2 * shards, 8 * shards));
        for pack in &stage.packs[..3] {
            assert_eq!(stage.held(pack).await, 6);
        }
        assert_eq!(stage.held(&stage.packs[3]).await, 4, "nobody refers to it");
        assert_eq!(stage.repair().await.rebuilt, 0);
    });
}

#[test]
fn what_is_lost_beyond_the_scheme_is_told_and_nothing_is_made_up() {
    virtual_time(async {
        let mut stage = Stage::new().await;
        stage.lose(&[0, 2, 5]).await;
        let report = stage.repair().await;
        let mut lost: Vec<PackId> = stage.packs[..3].iter().map(|pack| pack.row.pack).collect();
        lost.sort();
        assert_eq!((report.unreadable, report.rebuilt), (lost, 0));
        for pack in &stage.packs {
            assert_eq!(stage.held(pack).await, 3);
        }
    });
}

/// A drive that returns other bytes than it was given, with right checksums.
#[test]
fn a_source_that_is_not_what_its_header_says_is_left_out() {
    virtual_time(async {
        let mut stage = Stage::new().await;
        stage.lose(&[3, 5]).await;
        stage.node.close().await;
        let trusting = NodeConfig { verify_shard_roots: false, ..node_config(small_drive()) };
        stage.node = open(&stage.disks, trusting).await;
        // Drive 5 gets its shards back, but of the first pack with a byte changed.
        for pack in &stage.packs {
            let shard = u8::try_from(pack.row.slots.iter().position(|slot| *slot == 5).unwrap()).unwrap();
            let mut bytes = pack.shards[usize::from(shard)].to_vec();
            if pack.row.pack == stage.packs[0].row.pack {
                bytes[1000] ^= 1;
            }
            store(&stage.node, pack, shard, bytes.into()).await.unwrap();
        }
        let report = stage.repair().await;
        assert_eq!((report.rebuilt, report.failed.len()), (3, 0), "{report:?}");
        for pack in &stage.packs[1..3] {
            assert_eq!(stage.held(pack).await, 6);
        }
        // With one more drive gone, four shards of the first pack are left, and one of them lies.
        stage.lose(&[0]).await;
        stage.node.close().await;
        stage.node = open(&stage.disks, trusting).await;
        let first = stage.packs[0].row.pack;
        let before = stage.metadata.referenced.lock().unwrap().len();
        stage.metadata.referenced.lock().unwrap().retain(|pack, _| *pack == first);
        stage.lose(&[1]).await;
        let report = stage.repair().await;
        assert_eq!((before, report.rebuilt, report.failed.len()), (3, 0, 2), "{report:?}");
    });
}

#[test]
fn a_slot_is_handed_over_once_its_new_drive_has_everything() {
    virtual_time(async {
        let stage = Stage::new().await;
        let row = stage.move_slot();
        let mut worker = stage.worker(Sabotage::default());
        let report = worker.run_once().await.unwrap();
        assert_eq!((report.failed.len(), report.moved), (3, 0), "the node does not know the row");
        stage.tell_map();
        let report = worker.run_once().await.unwrap();
        let shards: u64 = stage.packs[..3].iter().map(|pack| pack.shards[0].len() as u64).sum();
        assert_eq!((report.rebuilt, report.read_bytes), (3, shards), "each is read once, from the drive that goes");
        assert_eq!((report.moved, stage.spare_lacks().await), (1, 0), "{report:?}");
        let flipped = stage.row();
        assert_eq!(flipped.slots[2], Slot { drive: drive_id(SPARE), incoming: None });
        assert_eq!(flipped.epoch.0, row.epoch.0 + 1);
        assert_eq!(worker.run_once().await.unwrap().moved, 0);
    });
}

/// A write stores at the row from before the move, and commits after everything that was referenced has been copied.
async fn late_write(sabotage: Sabotage) -> (usize, usize) {
    let stage = Stage::new().await;
    let late = &stage.packs[3];
    *stage.metadata.open.lock().unwrap() = Some(9);
    stage.move_slot();
    stage.tell_map();
    let mut worker = stage.worker(sabotage);
    let first = worker.run_once().await.unwrap();
    assert_eq!(first.rebuilt, 3);
    stage.metadata.referenced.lock().unwrap().insert(late.row.pack, late.row.clone());
    let before = stage.spare_lacks().await;
    *stage.metadata.open.lock().unwrap() = None;
    for _ in 0..3 {
        if stage.row().slots[2].incoming.is_some() {
            worker.run_once().await.unwrap();
        }
    }
    assert_eq!(stage.row().slots[2].drive, drive_id(SPARE), "it is handed over in the end");
    (before, stage.spare_lacks().await)
}

#[test]
fn a_write_that_began_before_the_move_is_waited_for() {
    virtual_time(async {
        assert_eq!(
            late_write(Sabotage::default()).await,
            (1, 0),
            "the late pack is copied before the slot is handed over"
        );
    });
}

#[cfg(feature = "sabotage")]
#[test]
fn handing_a_slot_over_under_an_open_write_is_found() {
    virtual_time(async {
        let sabotage = Sabotage { flip_without_a_fence: true, ..Sabotage::default() };
        assert_eq!(late_write(sabotage).await, (1, 1), "the late pack has one shard less");
    });
}
