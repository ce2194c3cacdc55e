//! A node with drives on model devices, one placement group per drive, and packs to store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::error::RpcError;
use stele_rpc::storage::{InventoryRow, PgRef, StorageReply, StorageRequest};
use stele_rpc::transport::{Reply, Request, Service};
use stele_storage_node::config::{DriveConfig, NodeConfig};
use stele_storage_node::exec::Executor;
use stele_storage_node::identity::{DriveIdentity, format};
use stele_storage_node::media::Media;
use stele_storage_node::media::model::ModelDisk;
use stele_storage_node::metrics::Metrics;
use stele_storage_node::node::{DriveSpec, StorageNode};
use stele_types::ids::{ClusterId, DriveId, Epoch, MapEpoch, NodeId, PackId, PgEpoch, PgId, ShardRoot, TreeHash};
use stele_types::map::{ClusterMap, DriveRow, DriveState, PgRow, Slot};
use stele_types::pack::{Encoding, PackPreimage};

pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([0xC1; 16]);
pub(crate) const MIB: u64 = 1024 * 1024;

pub(crate) fn drive_id(n: u8) -> DriveId {
    DriveId::from_bytes([n + 1; 16])
}

/// Runs a test on a single-threaded runtime with virtual time.
pub(crate) fn virtual_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

pub(crate) fn small_drive() -> DriveConfig {
    DriveConfig { segment_bytes: MIB, reserve_bytes: MIB, ..DriveConfig::default() }
}

/// One shard of a pack `rs-1-0`, made from a number.
#[derive(Clone)]
pub(crate) struct TestPack {
    pub(crate) id: PackId,
    pub(crate) preimage: PackPreimage,
    pub(crate) encoding: Encoding,
    pub(crate) shard: Bytes,
}

pub(crate) fn test_pack(number: u64, payload_len: usize) -> TestPack {
    test_pack_at(number, payload_len, Epoch(1))
}

pub(crate) fn test_pack_at(number: u64, payload_len: usize, start_epoch: Epoch) -> TestPack {
    let scheme = "rs-1-0".parse::<stele_types::scheme::Scheme>().unwrap();
    let mut shard = vec![0u8; scheme.shard_len(payload_len)];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut shard[..payload_len]);
    let mut nonce = [0u8; 16];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let preimage = PackPreimage {
        start_epoch,
        nonce,
        payload_len: u32::try_from(payload_len).unwrap(),
        chunk_list_offset: u32::try_from(payload_len).unwrap(),
        chunk_list_hash: TreeHash::from_bytes([9; 32]),
    };
    let root = ShardRoot::from_bytes(*blake3::hash(&shard).as_bytes());
    let encoding = Encoding { generation: 0, scheme, slots: vec![0], roots: vec![root] };
    TestPack { id: preimage.pack_id(), preimage, encoding, shard: Bytes::from(shard) }
}

/// A map with one PG of one slot per drive: PG n is on drive n.
pub(crate) fn map(drives: u8) -> ClusterMap {
    let scheme = "rs-1-0".parse().unwrap();
    let row = |n: u8| DriveRow {
        id: drive_id(n),
        node: NodeId(1),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let pg = |n: u8| PgRow {
        id: PgId(u32::from(n)),
        epoch: PgEpoch(3),
        scheme,
        slots: vec![Slot { drive: drive_id(n), incoming: None }],
    };
    ClusterMap {
        rebalancing_paused: false,
        cluster: Some(CLUSTER),
        epoch: MapEpoch(1),
        drives: (0..drives).map(row).collect(),
        pgs: (0..drives).map(pg).collect(),
        nodes: Vec::new(),
    }
}

pub(crate) async fn formatted_disk(n: u8, capacity: u64, seed: u64) -> ModelDisk {
    let disk = ModelDisk::new(format!("drive-{n}"), capacity, seed);
    let identity = DriveIdentity { drive: drive_id(n), cluster: CLUSTER };
    format(&*disk.media(), identity).await.unwrap();
    disk
}

pub(crate) fn node_config(drive: DriveConfig) -> NodeConfig {
    NodeConfig { drive, verify_shard_roots: true, ..NodeConfig::new(NodeId(1), CLUSTER) }
}

/// A running node with what a test asks of it.
pub(crate) struct World {
    pub(crate) node: Arc<StorageNode>,
    pub(crate) metrics: Metrics,
}

impl World {
    pub(crate) async fn open(media: Vec<Arc<dyn Media>>, config: DriveConfig, executor: Executor) -> Self {
        let metrics = Metrics::default();
        let drives = u8::try_from(media.len()).unwrap();
        let specs = (0..).zip(media).map(|(n, media)| DriveSpec { media, expect: Some(drive_id(n)) }).collect();
        let node = StorageNode::open(node_config(config), specs, executor, metrics.clone()).await;
        node.set_map(map(drives));
        Self { node, metrics }
    }

    pub(crate) async fn on(disk: &ModelDisk, config: DriveConfig) -> Self {
        Self::open(vec![disk.media()], config, Executor::Tasks).await
    }

    pub(crate) async fn ask(&self, message: StorageRequest, body: Bytes) -> Result<(StorageReply, Bytes), RpcError> {
        let request = Request::storage(message, body, Duration::from_secs(10));
        let response = self.node.serve(NodeId(9), request).await?;
        let Reply::Storage(reply) = response.reply else { panic!("a metadata reply from a storage node") };
        Ok((reply, response.body))
    }

    pub(crate) fn store_request(drive: u8, pack: &TestPack) -> StorageRequest {
        StorageRequest::StoreShard {
            drive: drive_id(drive),
            pg: PgRef { pg: PgId(u32::from(drive)), epoch: PgEpoch(3) },
            pack: pack.id,
            preimage: pack.preimage.clone(),
            encoding: pack.encoding.clone(),
            shard: 0,
        }
    }

    pub(crate) async fn store(&self, pack: &TestPack) -> Result<(), RpcError> {
        self.ask(Self::store_request(0, pack), pack.shard.clone()).await.map(|_| ())
    }

    pub(crate) async fn read(&self, pack: &TestPack, offset: usize, len: usize) -> Result<Bytes, RpcError> {
        let request = StorageRequest::ReadShard {
            drive: drive_id(0),
            pack: pack.id,
            generation: 0,
            shard: 0,
            offset: u32::try_from(offset).unwrap(),
            len: u32::try_from(len).unwrap(),
        };
        self.ask(request, Bytes::new()).await.map(|(_, body)| body)
    }

    pub(crate) async fn read_all(&self, pack: &TestPack) -> Result<Bytes, RpcError> {
        self.read(pack, 0, pack.shard.len()).await
    }

    pub(crate) async fn inventory(&self) -> Vec<InventoryRow> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = StorageRequest::Inventory { drive: drive_id(0), pg: PgId(0), after, max: 7 };
            let (StorageReply::Inventory { rows, more }, _) = self.ask(request, Bytes::new()).await.unwrap() else {
                panic!("not an inventory")
            };
            after = rows.last().map(|row| row.pack).or(after);
            all.extend(rows);
            if !more {
                return all;
            }
        }
    }

    pub(crate) async fn inventory_error(&self) -> RpcError {
        let request = StorageRequest::Inventory { drive: drive_id(0), pg: PgId(0), after: None, max: 7 };
        self.ask(request, Bytes::new()).await.unwrap_err()
    }

    async fn packs(&self, request: StorageRequest) -> Result<Vec<PackId>, RpcError> {
        match self.ask(request, Bytes::new()).await? {
            (StorageReply::Packs(packs), _) => Ok(packs),
            other => panic!("not a list of packs: {other:?}"),
        }
    }

    pub(crate) async fn condemn(&self, epoch: Epoch, packs: Vec<PackId>) -> Result<Vec<PackId>, RpcError> {
        self.packs(StorageRequest::Condemn { drive: drive_id(0), epoch, packs }).await
    }

    pub(crate) async fn delete(&self, packs: Vec<PackId>) -> Result<Vec<PackId>, RpcError> {
        self.packs(StorageRequest::Delete { drive: drive_id(0), packs }).await
    }

    pub(crate) async fn pardon(&self, packs: Vec<PackId>) -> Result<(), RpcError> {
        self.ask(StorageRequest::Pardon { drive: drive_id(0), packs }, Bytes::new()).await.map(|_| ())
    }

    /// Condemns and deletes.
    pub(crate) async fn destroy(&self, packs: Vec<PackId>) -> Result<Vec<PackId>, RpcError> {
        let condemned = self.condemn(Epoch(100), packs).await?;
        self.delete(condemned).await
    }

    pub(crate) async fn reclaim(&self) {
        self.node.drive(drive_id(0)).unwrap().reclaim().await.unwrap();
    }
}
