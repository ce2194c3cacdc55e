//! Repair against a metadata service that a test plays, on six drives of one node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stele_chunker::shards::Coder;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{PgRef, StorageRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_storage_node::config::NodeConfig;
use stele_storage_node::exec::Executor;
use stele_storage_node::media::model::ModelDisk;
use stele_storage_node::metrics::Metrics;
use stele_storage_node::node::{DriveSpec, StorageNode};
use stele_storage_node::repair::{RepairConfig, RepairReport, RepairWorker};
use stele_types::ids::{Epoch, NodeId, PackId, PgEpoch, PgId, TreeHash};
use stele_types::map::{ClusterMap, PgRow, Slot};
use stele_types::pack::{Encoding, PackPreimage, PackRow};
use stele_types::scheme::Scheme;

use crate::world::{drive_id, formatted_disk, map, node_config, small_drive, virtual_time};

const DRIVES: u8 = 6;
const PG: PgId = PgId(1);
const EPOCH: PgEpoch = PgEpoch(4);

fn scheme() -> Scheme {
    "rs-4-2".parse().unwrap()
}

fn one_pg() -> ClusterMap {
    let slots = (0..DRIVES).map(|n| Slot { drive: drive_id(n), incoming: None }).collect();
    ClusterMap { pgs: vec![PgRow { id: PG, epoch: EPOCH, scheme: scheme(), slots }], ..map(DRIVES) }
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
#[derive(Default)]
struct Metadata {
    referenced: Mutex<BTreeMap<PackId, PackRow>>,
}

#[async_trait]
impl Service for Metadata {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Meta(message) = request.message else { panic!("not for metadata") };
        let rows = self.referenced.lock().unwrap().clone();
        let reply = match message {
            MetaRequest::ClusterMap { .. } => MetaReply::ClusterMap(Some(Box::new(one_pg()))),
            MetaRequest::ReferencedPacks { after, max, pg, .. } => {
                assert_eq!(pg, PG);
                let mut behind = rows.into_keys().filter(|pack| Some(*pack) > after);
                let packs: Vec<PackId> = behind.by_ref().take(max as usize).collect();
                MetaReply::Referenced { packs, more: behind.next().is_some() }
            }
            MetaRequest::Packs { packs } => {
                MetaReply::Packs(packs.iter().filter_map(|pack| rows.get(pack)).cloned().collect())
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
        for n in 0..DRIVES {
            disks.push(formatted_disk(n, 1 << 30, u64::from(n)).await);
        }
        let packs: Vec<Whole> = (0..4).map(whole).collect();
        let metadata = Arc::new(Metadata::default());
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
        let network = Arc::new(MemoryNetwork::default());
        network.bind(NodeId(1), Arc::clone(&self.node) as Arc<dyn Service>);
        network.bind(NodeId(2), Arc::clone(&self.metadata) as Arc<dyn Service>);
        let transport = Arc::new(network.transport(NodeId(1)));
        let clients = (MetaClient::new(transport.clone(), NodeId(2)), StorageClient::new(transport));
        let config = RepairConfig { page: 2, ..RepairConfig::default() };
        RepairWorker::new(NodeId(1), clients, config, Metrics::default()).run_once().await.unwrap()
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
