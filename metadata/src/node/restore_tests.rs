//! A group that is founded of a backup: it starts by itself, voters that join it are sent everything, and what was under way
//! before can't commit any more.

use stele_rpc::memory::MemoryNetwork;
use stele_types::ids::{ClusterId, DriveId, PgEpoch, PgId, Salt};
use stele_types::map::{DriveRow, NodeRow, NodeState, PgRow, Slot};
use stele_types::role::Role;

use super::*;
use crate::backup::{EPOCH_GAP, Facts, Founder, SecretKey, check, found_anew, load, write};
use crate::config::Founding;
use crate::executor::Executor;
use crate::keyspace::Tag;
use crate::model_disk::ModelDisk;
use crate::testing::{Machine, guard};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn unix_millis(&self) -> u64 {
        1_900_000_000_000
    }

    fn monotonic_micros(&self) -> u64 {
        0
    }
}

/// A backup of a cluster with some objects.
fn backed_up(key: &SecretKey) -> (Vec<u8>, Machine) {
    let mut m = Machine::new();
    let node = |id, role| NodeRow {
        id: NodeId(id),
        role,
        name: format!("n{id}"),
        addresses: vec![format!("n{id}:9100")],
        zone: String::new(),
        rack: String::new(),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    };
    let nodes = vec![node(1, Role::Metadata), node(2, Role::StorageNode), node(7, Role::S3Gateway)];
    let id = |n: u8| DriveId::from_bytes([n; 16]);
    let drive = |n| DriveRow {
        id: id(n),
        node: NodeId(2),
        name: format!("d{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let slots: Vec<_> = (0..6).map(|n| Slot { drive: id(n), incoming: None }).collect();
    let scheme = "rs-4-2".parse().unwrap();
    let pgs = (0..3).map(|n| PgRow { id: PgId(n), epoch: PgEpoch(1), scheme, slots: slots.clone() }).collect();
    let map = Box::new(ClusterMap { nodes, pgs, ..ClusterMap::default() });
    let cluster = ClusterId::from_bytes([7; 16]);
    m.cluster(Command::InitCluster { cluster, drives: (0..6).map(drive).collect(), map }).unwrap();
    let bucket = m.bucket("b");
    for n in 0..30 {
        m.put(bucket, &format!("k{n}"));
    }
    m.kv.write(&mut |txn| crate::raft::stand_at(txn, 5, 400)).unwrap();
    let view = m.kv.view().unwrap();
    let mut bytes = Vec::new();
    write(&*view, Facts::of(&*view, &key.recipient()).unwrap(), &mut bytes).unwrap();
    (bytes, m)
}

fn founder() -> Founder {
    let addresses = vec!["new:9100".to_owned()];
    Founder { addresses, name: "new".into(), backup: [3; 32], now: 5, salt: Salt::from_bytes([4; 32]) }
}

async fn start(network: &Arc<MemoryNetwork>, node: NodeId, disk: &ModelDisk) -> Arc<MetadataNode> {
    let config = MetadataConfig {
        executor: Executor::Inline { sync_delay: Duration::from_millis(2) },
        founding: Founding::Join,
        cluster: Some(ClusterId::from_bytes([7; 16])),
        ..MetadataConfig::new(node)
    };
    let transport = Arc::new(network.transport(node));
    let opened = MetadataNode::open(config, disk.storage(), Arc::new(Still), transport).await.unwrap();
    network.bind(node, Arc::clone(&opened) as _);
    opened
}

fn dump(node: &MetadataNode) -> Vec<u8> {
    let mut out = Vec::new();
    crate::snapshot::write(&*node.view().unwrap(), &mut out).unwrap();
    out
}

#[tokio::test(start_paused = true)]
async fn a_group_starts_on_a_backup_and_sends_its_rows_to_whoever_joins() {
    let key = SecretKey::generate().unwrap();
    let (bytes, m) = backed_up(&key);
    let (disk, other) = (ModelDisk::new(1), ModelDisk::new(2));
    let Storage { raft_log, state } = disk.storage();
    let kv = RedbKv::open(state, 1 << 20).unwrap();
    load(&mut bytes.as_slice(), &key, &kv).unwrap();
    let report = check(&*kv.view().unwrap()).unwrap();
    assert_eq!((report.problems, report.versions, report.packs), (Vec::new(), 30, 30));
    let (cluster, first) = found_anew(&kv, raft_log, &founder()).unwrap();
    assert_eq!((cluster, first), (ClusterId::from_bytes([7; 16]), NodeId(1001)));
    kv.close();
    // The rows are on stable media by now.
    disk.crash();

    let network = Arc::new(MemoryNetwork::default());
    let node = start(&network, first, &disk).await;
    node.ready().await.unwrap();
    let MetaReply::Status(status) = node.answer(MetaRequest::Status).await.unwrap() else { panic!("no status") };
    assert_eq!((status.versions, status.buckets, status.leases), (30, 1, 0));
    assert!(status.applied > 400 && status.term > 5, "{} in term {}", status.applied, status.term);
    let before = m.read(&MetaRequest::Status).unwrap();
    let MetaReply::Status(before) = before else { panic!("no status") };
    assert_eq!(status.epoch.0, before.epoch.0 + EPOCH_GAP);
    assert_eq!(status.fence.0, status.epoch.0 - 1);
    let restored = status.backups.restored.clone().unwrap();
    assert_eq!((restored.log.size, restored.log.root), (before.log_size, before.log_root));
    assert_eq!(status.log_size, before.log_size + 1, "the log says that it was restored");
    let map = node.map().unwrap();
    let states: Vec<_> = map.nodes.iter().map(|node| (node.id.0, node.state)).collect();
    let gone = NodeState::Removed;
    assert_eq!(states, [(1, gone), (2, gone), (7, gone), (1001, NodeState::Active)]);
    for tag in [Tag::Lease, Tag::Reply, Tag::JoinToken] {
        let ((from, to), mut found) = (crate::keyspace::table(tag), 0);
        let count = &mut |_: &[u8], _: &[u8]| {
            found += 1;
            std::ops::ControlFlow::Continue(())
        };
        node.view().unwrap().scan(&from, &to, count).unwrap();
        assert_eq!(found, 0, "{tag:?}");
    }

    let joined = start(&network, NodeId(1002), &other).await;
    node.add_voter(NodeId(1002)).await.unwrap();
    while joined.group.applied() < node.group.applied() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(dump(&joined), dump(&node));
    // A write that began before the disaster.
    let grant = crate::testing::envelope(None, 0, 0, Command::GrantLease { node: NodeId(7), ttl_ms: 10_000 });
    let MetaReply::Lease(lease) = node.answer(MetaRequest::Command(Box::new(grant))).await.unwrap() else {
        panic!("no lease")
    };
    let old =
        crate::testing::Draws::starting_at(9000).put(guard(stele_types::ids::BucketId(1), before.epoch.0), "late");
    let late = crate::testing::envelope(Some(lease.id), 0, 0, Command::PutVersion(Box::new(old)));
    let refused = node.answer(MetaRequest::Command(Box::new(late))).await.unwrap_err();
    assert_eq!(refused.code, Code::Fenced);
}

#[test]
fn rows_that_do_not_fit_are_told() {
    let (_, m) = backed_up(&SecretKey::generate().unwrap());
    let damage = |tag: Tag, told: &str| {
        let kv = crate::kv::MemoryKv::default();
        kv.replace_all(&*m.kv.view().unwrap()).unwrap();
        let (row, _) = m.table(tag).remove(3);
        kv.write(&mut |txn| txn.delete(&row)).unwrap();
        let report = check(&*kv.view().unwrap()).unwrap();
        assert!(report.problems.iter().any(|problem| problem.contains(told)), "{tag:?}: {:?}", report.problems);
    };
    damage(Tag::Pack, "has no row");
    damage(Tag::Reference, "nothing refers to pack");
    damage(Tag::Version, "were counted");
    damage(Tag::Record, "is not what its leaf commits to");
}
