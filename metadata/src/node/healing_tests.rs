//! What the overseer of a running node does about a drive that stays away, over minutes of virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};
use std::time::Duration;

use stele_types::ids::{ClusterId, DriveId, MapEpoch, PgEpoch, PgId};
use stele_types::map::{DriveRow, NodeRow, NodeState, PgRow, Slot};
use stele_types::role::Role;
use stele_types::seam::{Rng, UnixMillis};

use super::*;
use crate::executor::Executor;
use crate::model_disk::ModelDisk;
use crate::testing::envelope;

const REPLACE_AFTER: u64 = 120;

#[derive(Debug)]
struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn unix_millis(&self) -> UnixMillis {
        1_700_000_000_000 + self.monotonic_micros() / 1000
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Rng for Counted {
    fn fill(&self, out: &mut [u8]) {
        let n = self.0.fetch_add(1, AtomicOrdering::Relaxed);
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(out);
    }
}

fn drive(n: u8) -> DriveId {
    DriveId::from_bytes([n; 16])
}

/// Storage nodes 2 to 5 with a drive each; the only placement group is on those of 2, 3 and 4.
fn founding() -> Command {
    let node = |n: u64| NodeRow {
        id: NodeId(n),
        role: if n == 1 { Role::Metadata } else { Role::StorageNode },
        name: format!("n{n}"),
        addresses: vec![format!("n{n}:9100")],
        zone: String::new(),
        rack: String::new(),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    };
    let row = |n: u8| DriveRow {
        id: drive(n),
        node: NodeId(u64::from(n)),
        name: format!("d{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let slots = (2..=4).map(|n| Slot { drive: drive(n), incoming: None }).collect();
    let pg = PgRow { id: PgId(0), epoch: PgEpoch(1), scheme: "rs-1-2".parse().unwrap(), slots };
    let map = ClusterMap { nodes: (1..=5).map(node).collect(), pgs: vec![pg], ..ClusterMap::default() };
    let cluster = ClusterId::from_bytes([1; 16]);
    Command::InitCluster { cluster, drives: (2..=5).map(row).collect(), map: Box::new(map) }
}

async fn send(node: &MetadataNode, command: Command) -> Result<MetaReply, RpcError> {
    node.answer(MetaRequest::Command(Box::new(envelope(None, 0, 0, command)))).await
}

async fn map(node: &MetadataNode) -> ClusterMap {
    match node.answer(MetaRequest::ClusterMap { known: MapEpoch(0) }).await {
        Ok(MetaReply::ClusterMap(Some(map))) => *map,
        other => panic!("{other:?}"),
    }
}

/// So many seconds in which these nodes are heard of.
async fn pass(node: &MetadataNode, seconds: u64, alive: &[u64]) {
    for _ in 0..seconds {
        for id in alive {
            node.answer(MetaRequest::Heartbeat(Heartbeat { node: NodeId(*id) })).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn started() -> Arc<MetadataNode> {
    let config = MetadataConfig {
        executor: Executor::Inline { sync_delay: Duration::from_millis(2) },
        replace_after: Duration::from_secs(REPLACE_AFTER),
        ..MetadataConfig::new(NodeId(1))
    };
    let transport = Arc::new(Arc::new(stele_rpc::memory::MemoryNetwork::default()).transport(NodeId(1)));
    let clock = Arc::new(VirtualClock(tokio::time::Instant::now()));
    let node = MetadataNode::open(config, ModelDisk::new(1).storage(), clock, transport).await.unwrap();
    node.ready().await.unwrap();
    send(&node, founding()).await.unwrap();
    tokio::spawn(overseer::run(Arc::downgrade(&node), Arc::new(Counted::default())));
    node
}

#[tokio::test(start_paused = true)]
async fn a_drive_that_stays_away_is_replaced_and_one_that_comes_back_is_not() {
    crate::seed_raft_randomness(1);
    let node = started().await;
    pass(&node, 20, &[3, 4, 5]).await;
    let suspected = map(&node).await;
    assert_eq!(suspected.drive(drive(2)).unwrap().state, DriveState::Suspect);
    pass(&node, REPLACE_AFTER - 20, &[3, 4, 5]).await;
    // It is back just in time, says so, and goes again.
    pass(&node, 1, &[2, 3, 4, 5]).await;
    send(&node, Command::SetDriveState { drive: drive(2), state: DriveState::Ok, reason: String::new() })
        .await
        .unwrap();
    pass(&node, 3, &[2, 3, 4, 5]).await;
    pass(&node, REPLACE_AFTER, &[3, 4, 5]).await;
    assert_eq!(map(&node).await.pgs, suspected.pgs, "the time counts anew");
    pass(&node, 30, &[3, 4, 5]).await;
    let moving = map(&node).await.pgs.remove(0);
    assert_eq!(moving.slots[0], Slot { drive: drive(2), incoming: Some(drive(5)) });
    pass(&node, 60, &[3, 4, 5]).await;
    assert_eq!(map(&node).await.pgs, std::slice::from_ref(&moving), "once is enough");
    let flip = Command::FlipSlot { pg: PgId(0), epoch: moving.epoch, slot: 0, to: drive(5) };
    send(&node, flip).await.unwrap();
    pass(&node, 60, &[3, 4, 5]).await;
    assert_eq!(map(&node).await.pgs[0].slots[0], Slot { drive: drive(5), incoming: None });
    node.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_while_most_nodes_are_silent_and_a_failed_drive_moves_at_once() {
    crate::seed_raft_randomness(2);
    let node = started().await;
    let before = map(&node).await;
    pass(&node, 3 * REPLACE_AFTER, &[3]).await;
    assert_eq!(map(&node).await, before);
    pass(&node, 12, &[2, 3, 4, 5]).await;
    let failed = Command::SetDriveState { drive: drive(4), state: DriveState::Failed, reason: "EIO".into() };
    send(&node, failed).await.unwrap();
    pass(&node, 3, &[2, 3, 4, 5]).await;
    assert_eq!(map(&node).await.pgs[0].slots[2], Slot { drive: drive(4), incoming: Some(drive(5)) });
    node.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_drained_gives_its_slots_away_and_then_is_drained() {
    crate::seed_raft_randomness(3);
    let node = started().await;
    pass(&node, 3, &[2, 3, 4, 5]).await;
    send(&node, Command::SetNodeState { node: NodeId(3), state: NodeState::Draining }).await.unwrap();
    pass(&node, 5, &[2, 3, 4, 5]).await;
    let moving = map(&node).await;
    assert_eq!(moving.pgs[0].slots[1], Slot { drive: drive(3), incoming: Some(drive(5)) });
    assert_eq!(moving.node(NodeId(3)).unwrap().state, NodeState::Draining);
    let flip = Command::FlipSlot { pg: PgId(0), epoch: moving.pgs[0].epoch, slot: 1, to: drive(5) };
    send(&node, flip).await.unwrap();
    pass(&node, 5, &[2, 3, 4, 5]).await;
    assert_eq!(map(&node).await.node(NodeId(3)).unwrap().state, NodeState::Drained);
    // Back in use, it gets what it would have been given, once things have settled.
    send(&node, Command::SetNodeState { node: NodeId(3), state: NodeState::Active }).await.unwrap();
    pass(&node, 30, &[2, 3, 4, 5]).await;
    let ideal = placement::balanced(&map(&node).await).slots();
    assert!(map(&node).await.pgs[0].slots.iter().all(|slot| slot.incoming.is_none()), "it may be one of many");
    pass(&node, 60, &[2, 3, 4, 5]).await;
    assert_eq!(map(&node).await.pgs[0].moving(), ideal.min(1));
    node.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_under_maintenance_is_not_replaced_before_it_ends() {
    crate::seed_raft_randomness(4);
    let node = started().await;
    send(&node, Command::SetMaintenance { node: NodeId(2), ttl_ms: 3 * REPLACE_AFTER * 1000 }).await.unwrap();
    pass(&node, 3 * REPLACE_AFTER - 10, &[3, 4, 5]).await;
    let suspected = map(&node).await;
    assert_eq!(suspected.drive(drive(2)).unwrap().state, DriveState::Suspect, "it takes no writes");
    assert_eq!(suspected.pgs[0].moving(), 0);
    pass(&node, 20, &[3, 4, 5]).await;
    assert_eq!(map(&node).await.pgs[0].slots[0], Slot { drive: drive(2), incoming: Some(drive(5)) });
    node.shutdown().await.unwrap();
}
