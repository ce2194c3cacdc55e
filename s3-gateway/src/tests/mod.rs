//! Flows against metadata and storage in memory.

mod appends;
pub(crate) mod archives;
mod copies;
mod fake_meta;
pub(crate) mod fake_storage;
mod faults;
mod flows;
mod hung;
mod moving;
mod properties;
mod several;
mod stale;
mod uploads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::Origin;
use stele_types::ids::{DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, PgRow, Slot};
use stele_types::object::{Lock, Precondition, StoredHeaders, Tags};
use stele_types::seam::{Clock, Rng};

use crate::api::{BodyRequest, ByteRange, Cpu, GatewayConfig, GatewayDeps, GetRequest, PutReply, PutRequest};
use crate::bucket::create_bucket;
use crate::error::{BodyError, GatewayError};
use crate::gateway::Gateway;
use crate::get::get_object;
use crate::put::put_object;

use fake_meta::FakeMeta;
use fake_storage::FakeStorage;

const META: NodeId = NodeId(1);
const STORAGE: NodeId = NodeId(2);
const GATEWAY: NodeId = NodeId(3);

#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn unix_millis(&self) -> u64 {
        1_700_000_000_000 + self.monotonic_micros() / 1000
    }

    fn monotonic_micros(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// A clock for what needs only some clock.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock(tokio::time::Instant::now()))
}

impl Cluster {
    /// Requests to the metadata service wait until the guard is dropped.
    pub(crate) async fn hold_metadata(&self) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        self.meta.hold().await
    }
}

#[derive(Debug)]
struct SeededRng(AtomicU64);

impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let mut xof = blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof();
        xof.fill(out);
    }
}

/// Bytes that no two seeds share.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(b"noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    Bytes::from(out)
}

pub(crate) struct Cluster {
    pub(crate) gw: Arc<Gateway>,
    network: Arc<MemoryNetwork>,
    meta: FakeMeta,
    pub(crate) storage: FakeStorage,
    drives: Vec<DriveId>,
}

fn drive(n: u8) -> DriveId {
    DriveId::from_bytes([n; 16])
}

/// Node `n` of several.
pub(crate) fn storage_node(n: u8) -> NodeId {
    NodeId(100 + u64::from(n))
}

/// Drive n is on node n modulo `nodes`; with none, all are on [`STORAGE`].
fn map_of(scheme: &str, drives: u8, nodes: u8) -> ClusterMap {
    let row = |n: u8| DriveRow {
        id: drive(n),
        node: n.checked_rem(nodes).map_or(STORAGE, storage_node),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let scheme: stele_types::scheme::Scheme = scheme.parse().unwrap();
    let pg = |id: u8| PgRow {
        id: PgId(u32::from(id)),
        epoch: PgEpoch(1),
        scheme,
        slots: (0..scheme.shards() as u8).map(|s| Slot { drive: drive((s + id) % drives), incoming: None }).collect(),
    };
    ClusterMap {
        rebalancing_paused: false,
        cluster: None,
        epoch: MapEpoch(1),
        drives: (0..drives).map(row).collect(),
        pgs: (0..4).map(pg).collect(),
        nodes: Vec::new(),
    }
}

pub(crate) fn small_config() -> GatewayConfig {
    GatewayConfig { cache_bytes: 0, store_timeout: Duration::from_secs(1), ..GatewayConfig::default() }
}

async fn cluster_with(config: GatewayConfig, scheme: &str, drives: u8) -> Cluster {
    cluster_on(config, scheme, drives, 0).await
}

pub(crate) async fn cluster_on(config: GatewayConfig, scheme: &str, drives: u8, nodes: u8) -> Cluster {
    let network = Arc::new(MemoryNetwork::default());
    let meta = FakeMeta::new(map_of(scheme, drives, nodes));
    let storage = FakeStorage::default();
    network.bind(META, Arc::new(meta.clone()));
    network.bind(STORAGE, Arc::new(storage.clone()));
    for n in 0..nodes {
        network.bind(storage_node(n), storage.node(storage_node(n)));
    }
    let gw = start_gateway(&network, config, GATEWAY).await;
    create_bucket(&gw, "b", false, Origin::default()).await.unwrap();
    Cluster { gw, network, meta, storage, drives: (0..drives).map(drive).collect() }
}

async fn start_gateway(network: &Arc<MemoryNetwork>, config: GatewayConfig, node: NodeId) -> Arc<Gateway> {
    let transport = Arc::new(network.transport(node));
    let deps = GatewayDeps {
        node,
        meta: MetaClient::new(transport.clone(), META),
        storage: StorageClient::new(transport),
        clock: clock(),
        rng: Arc::new(SeededRng(AtomicU64::new(1 + ((node.0 - GATEWAY.0) << 32)))),
        cpu: Cpu::Inline,
    };
    Gateway::start(config, deps).await.unwrap()
}

pub(crate) async fn cluster() -> Cluster {
    cluster_of(|_| {}).await
}

/// With other settings than usual.
pub(crate) async fn cluster_of(change: impl FnOnce(&mut GatewayConfig)) -> Cluster {
    let mut config = small_config();
    change(&mut config);
    cluster_with(config, "rs-4-2", 6).await
}

/// A body that arrives in pieces of `piece` bytes.
fn body_in_pieces(bytes: &Bytes, piece: usize) -> BodyRequest {
    let pieces: Vec<Result<Bytes, BodyError>> =
        (0..bytes.len()).step_by(piece).map(|at| Ok(bytes.slice(at..(at + piece).min(bytes.len())))).collect();
    BodyRequest { stream: Box::pin(futures::stream::iter(pieces)), ..BodyRequest::from_bytes(bytes.clone()) }
}

fn put_request(key: &str, body: BodyRequest) -> PutRequest {
    PutRequest {
        bucket: "b".into(),
        key: key.into(),
        body,
        headers: StoredHeaders::default(),
        tags: Tags::default(),
        lock: Lock::default(),
        precondition: Precondition::None,
        origin: Origin::default(),
    }
}

async fn read_all(gw: &Arc<Gateway>, request: GetRequest) -> Result<Bytes, GatewayError> {
    let reply = get_object(gw, request).await?;
    let mut bytes = Vec::new();
    let mut body = reply.body;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(BodyError::Store(error)) => return Err(*error),
            Err(BodyError::Incoming(error)) => panic!("{error}"),
        }
    }
    assert_eq!(bytes.len() as u64, reply.head.range.len);
    Ok(bytes.into())
}

impl Cluster {
    /// Another gateway of the same cluster.
    async fn another_gateway(&self, node: u64) -> Arc<Gateway> {
        start_gateway(&self.network, self.gw.config.clone(), NodeId(node)).await
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Result<PutReply, GatewayError> {
        put_object(&self.gw, put_request(key, body_in_pieces(bytes, 50_000))).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, GatewayError> {
        self.get_range(key, None).await
    }

    async fn get_range(&self, key: &str, range: Option<ByteRange>) -> Result<Bytes, GatewayError> {
        read_all(&self.gw, GetRequest { range, ..GetRequest::current("b", key) }).await
    }
}
