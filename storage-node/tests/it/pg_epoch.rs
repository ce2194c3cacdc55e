//! Epochs of placement groups, over several nodes: a writer with an old row must not put a shard where
//! nobody will look for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::client::StorageClient;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::storage::{PgRef, StorageReply, StorageRequest};
use stele_storage_node::config::{NodeConfig, Sabotage};
use stele_storage_node::exec::Executor;
use stele_storage_node::metrics::Metrics;
use stele_storage_node::node::{DriveSpec, StorageNode};
use stele_types::ids::{DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, PgRow, Slot};

use crate::world::{CLUSTER, TestPack, drive_id, formatted_disk, node_config, small_drive, test_pack, virtual_time};

const PG: PgId = PgId(0);

/// Three nodes with one drive each, and one PG with one slot.
struct Nodes {
    nodes: Vec<Arc<StorageNode>>,
    client: StorageClient,
}

fn node_of(drive: u8) -> NodeId {
    NodeId(u64::from(drive) + 1)
}

fn row(epoch: u64, drive: u8, incoming: Option<u8>) -> PgRow {
    let slots = vec![Slot { drive: drive_id(drive), incoming: incoming.map(drive_id) }];
    PgRow { id: PG, epoch: PgEpoch(epoch), scheme: "rs-1-0".parse().unwrap(), slots }
}

/// The map at the epoch of its only PG row.
fn map_with(pg: PgRow) -> ClusterMap {
    let drive = |n| DriveRow {
        id: drive_id(n),
        node: node_of(n),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let drives = (0..3).map(drive).collect();
    let epoch = MapEpoch(pg.epoch.0);
    ClusterMap { cluster: Some(CLUSTER), epoch, drives, pgs: vec![pg], ..ClusterMap::default() }
}

fn store_at(pg: &PgRow, drive: u8, pack: &TestPack) -> StorageRequest {
    StorageRequest::StoreShard {
        drive: drive_id(drive),
        pg: PgRef { pg: pg.id, epoch: pg.epoch },
        pack: pack.id,
        preimage: pack.preimage.clone(),
        encoding: pack.encoding.clone(),
        shard: 0,
    }
}

impl Nodes {
    async fn start(sabotage: Sabotage) -> Self {
        let network = Arc::new(MemoryNetwork::default());
        let mut nodes = Vec::new();
        for n in 0..3 {
            let disk = formatted_disk(n, 1 << 30, u64::from(n)).await;
            let mut drive = small_drive();
            drive.sabotage = sabotage;
            let config = NodeConfig { node: node_of(n), ..node_config(drive) };
            let spec = DriveSpec { media: disk.media(), expect: Some(drive_id(n)) };
            let node = StorageNode::open(config, vec![spec], Executor::Tasks, Metrics::default()).await;
            network.bind(node_of(n), Arc::clone(&node) as Arc<_>);
            nodes.push(node);
        }
        Self { nodes, client: StorageClient::new(Arc::new(network.transport(NodeId(9)))) }
    }

    /// Every node polls this map.
    fn acknowledge(&self, pg: &PgRow) {
        self.nodes.iter().for_each(|node| node.set_map(map_with(pg.clone())));
    }

    async fn ask(&self, drive: u8, request: StorageRequest, body: Bytes) -> Result<(StorageReply, Bytes), RpcError> {
        self.client.call(node_of(drive), request, body, Duration::from_secs(10)).await
    }

    async fn store(&self, pg: &PgRow, drive: u8, pack: &TestPack) -> Result<(), RpcError> {
        self.ask(drive, store_at(pg, drive, pack), pack.shard.clone()).await.map(drop)
    }

    async fn read(&self, drive: u8, pack: &TestPack) -> Result<Bytes, RpcError> {
        let len = u32::try_from(pack.shard.len()).unwrap();
        let request = StorageRequest::ReadShard {
            drive: drive_id(drive),
            pack: pack.id,
            generation: 0,
            shard: 0,
            offset: 0,
            len,
        };
        self.ask(drive, request, Bytes::new()).await.map(|(_, body)| body)
    }
}

fn number_of(drive: DriveId) -> u8 {
    (0..3).find(|n| drive_id(*n) == drive).unwrap()
}

/// A writer: knows a row, and takes a newer one from whoever refuses it.
struct Writer {
    row: PgRow,
    stored: Vec<TestPack>,
}

impl Writer {
    async fn put(&mut self, nodes: &Nodes, pack: TestPack) {
        for _ in 0..3 {
            let slot = &self.row.slots[0];
            let drive = number_of(slot.incoming.unwrap_or(slot.drive));
            match nodes.store(&self.row, drive, &pack).await {
                Ok(()) => return self.stored.push(pack),
                Err(error) => {
                    assert_eq!(error.code, Code::StalePg);
                    self.row = *error.newer_pg.expect("the newer row");
                }
            }
        }
        panic!("the newer row did not help");
    }
}

/// A slot moves from drive 0 to drive 1 while a writer that never hears of it goes on. Returns how many
/// of the acknowledged packs nobody finds by the newest row.
async fn lost_by_a_move(sabotage: Sabotage) -> usize {
    let nodes = Nodes::start(sabotage).await;
    nodes.acknowledge(&row(3, 0, None));
    let mut writer = Writer { row: row(3, 0, None), stored: Vec::new() };
    writer.put(&nodes, test_pack(1, 1000)).await;

    let moving = row(4, 0, Some(1));
    nodes.acknowledge(&moving);
    // Whoever moves the slot copies what `current` holds, once all members know of the move.
    let held: BTreeMap<_, _> = writer.stored.iter().map(|pack| (pack.id, pack.clone())).collect();
    for pack in held.values() {
        nodes.store(&moving, 1, pack).await.unwrap();
    }
    writer.put(&nodes, test_pack(2, 1000)).await;
    nodes.acknowledge(&row(5, 1, None));
    writer.put(&nodes, test_pack(3, 1000)).await;

    let mut lost = 0;
    for pack in &writer.stored {
        match nodes.read(1, pack).await {
            Ok(bytes) => assert_eq!(bytes, pack.shard),
            Err(error) => {
                assert_eq!(error.code, Code::NoSuchPack);
                lost += 1;
            }
        }
    }
    lost
}

#[test]
fn a_writer_with_an_old_row_is_refused_and_finds_the_new_place() {
    assert_eq!(virtual_time(lost_by_a_move(Sabotage::default())), 0);
}

#[cfg(feature = "sabotage")]
#[test]
fn accepting_an_old_epoch_loses_acknowledged_packs() {
    let sabotage = Sabotage { accepts_stale_pg_epoch: true, ..Sabotage::default() };
    assert_eq!(virtual_time(lost_by_a_move(sabotage)), 2);
}

#[test]
fn a_caller_that_is_ahead_is_believed_only_about_slots_that_did_not_change() {
    virtual_time(async {
        let nodes = Nodes::start(Sabotage::default()).await;
        let pack = test_pack(1, 1000);
        let known = row(3, 0, None);
        // A node without a map may have acknowledged epochs that it forgot when it stopped.
        let error = nodes.store(&known, 0, &pack).await.unwrap_err();
        assert_eq!((error.code, error.newer_pg), (Code::StalePg, None));
        nodes.acknowledge(&known);

        let mut behind = nodes.nodes[0].watch_behind();
        nodes.store(&known, 0, &pack).await.unwrap();
        assert!(!behind.has_changed().unwrap());
        nodes.store(&row(4, 0, None), 0, &test_pack(2, 1000)).await.unwrap();
        assert!(behind.has_changed().unwrap(), "the node is told that there is a newer row");
        behind.mark_unchanged();

        let moved = row(5, 1, None);
        let error = nodes.store(&moved, 1, &pack).await.unwrap_err();
        assert_eq!((error.code, error.newer_pg), (Code::StalePg, None));
        nodes.acknowledge(&moved);
        nodes.store(&moved, 1, &pack).await.unwrap();
    });
}

#[test]
fn a_moving_slot_takes_new_packs_on_its_incoming_drive_only() {
    virtual_time(async {
        let nodes = Nodes::start(Sabotage::default()).await;
        let moving = row(4, 0, Some(1));
        nodes.acknowledge(&moving);
        let pack = test_pack(1, 1000);
        assert_eq!(nodes.store(&moving, 0, &pack).await.unwrap_err().code, Code::Malformed);
        nodes.store(&moving, 1, &pack).await.unwrap();
    });
}

#[test]
fn rows_never_go_back() {
    virtual_time(async {
        let nodes = Nodes::start(Sabotage::default()).await;
        nodes.acknowledge(&row(5, 1, None));
        let mut confused = map_with(row(3, 0, None));
        confused.epoch = MapEpoch(9);
        nodes.nodes[0].set_map(confused);
        let error = nodes.store(&row(3, 0, None), 0, &test_pack(1, 1000)).await.unwrap_err();
        assert_eq!(error.newer_pg.map(|row| row.epoch), Some(PgEpoch(5)));
        assert_eq!(nodes.nodes[0].map_epoch(), MapEpoch(9));
    });
}
