//! Administrative acts in the evidence log: one event each, only if something changed, never without a salt.

use stele_evidence::record::{CLUSTER, DETAIL_BYTES_MAX, Event, Record};
use stele_rpc::meta::{BucketChange, LogCommand, LogRead, LogReply, NewNode, SignedNote};
use stele_types::ids::{ClusterId, DriveId, PgEpoch};
use stele_types::limits::BUCKET_TAGS_MAX;
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeState, SlotMove};
use stele_types::object::{
    Cors, CorsMethod, CorsRule, DefaultRetention, ObjectLock, RetentionMode, RetentionPeriod, Tags, Versioning,
};
use stele_types::role::Role;

use super::*;
use crate::placement;
use crate::rows::RecordRow;

fn log_size(m: &Machine) -> u64 {
    m.table(Tag::Record).len() as u64
}

fn newest(m: &Machine) -> Record {
    let (key, value) = m.table(Tag::Record).pop().unwrap();
    let row: RecordRow = crate::rows::decode(&key, &value).unwrap();
    Record::decode(&row.record).unwrap()
}

fn drive(n: u8) -> DriveRow {
    let (id, name) = (DriveId::from_bytes([n; 16]), format!("drive-{n}"));
    DriveRow { id, node: NodeId(0), name, state: DriveState::Ok, reason: String::new(), capacity: 1000 }
}

fn joining(name: &str, role: Role) -> Box<NewNode> {
    let (zone, rack) = ("z1".to_owned(), "r1".to_owned());
    Box::new(NewNode { role, key: [9; 32], name: name.into(), addresses: vec![format!("{name}:1")], zone, rack })
}

fn registering(addresses: &[&str], drives: Vec<DriveRow>) -> Command {
    let (zone, rack) = ("z1".to_owned(), "r1".to_owned());
    Command::RegisterNode {
        node: NodeId(1),
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        zone,
        rack,
        drives,
    }
}

fn configure(change: BucketChange) -> Command {
    Command::ConfigureBucket { name: "scans".into(), change }
}

fn tags(value: &str) -> Tags {
    Tags::new([("ward".to_owned(), value.to_owned())], BUCKET_TAGS_MAX).unwrap()
}

fn cors() -> Cors {
    let rule = CorsRule {
        id: None,
        origins: vec!["https://viewer.example".into()],
        methods: vec![CorsMethod::Get, CorsMethod::Head],
        headers: Vec::new(),
        expose: Vec::new(),
        max_age: None,
    };
    Cors::new(vec![rule]).unwrap()
}

/// The first slot of the first of the placement groups of seven drives moves to the drive that is not in the group.
fn first_slot_moves() -> (SlotMove, Command) {
    let drives = (1..=7).map(|n| DriveRow { node: NodeId(1), ..drive(n) }).collect();
    let cluster = Some(ClusterId::from_bytes([1; 16]));
    let map = ClusterMap { cluster, drives, ..ClusterMap::default() };
    let row = placement::plan(&map, None).unwrap().remove(0);
    let to = map.drives.iter().map(|drive| drive.id).find(|id| !row.uses(*id)).unwrap();
    let (pg, epoch) = (row.id, PgEpoch(row.epoch.0 + 1));
    let flip = Command::FlipSlot { pg, epoch, slot: 0, to };
    (SlotMove { pg, epoch: row.epoch, slot: 0, to }, flip)
}

/// Every act in an order in which each changes something, with its subject and a part of its sentence.
fn acts() -> Vec<(Command, &'static str, &'static str)> {
    let id = [0xab; 16];
    let (secret_hash, ttl_ms) = ([7; 32], 1_000_000);
    let token = |id, role| Command::CreateJoinToken { id, secret_hash, role, ttl_ms };
    let token_id = "token/abababababababababababababababab";
    let retention = DefaultRetention { mode: RetentionMode::Compliance, period: RetentionPeriod::Days(30) };
    let six = || (1..=6).map(drive).collect::<Vec<_>>();
    let state = |state, reason: &str| Command::SetDriveState { drive: drive(2).id, state, reason: reason.into() };
    let (moved, flip) = first_slot_moves();
    let drive_two = "drive/02020202020202020202020202020202";
    vec![
        (
            Command::InitCluster { cluster: ClusterId::from_bytes([1; 16]), drives: Vec::new(), map: Box::default() },
            "cluster",
            "was founded with 0 nodes, 0 drives and 0 placement groups",
        ),
        (token(id, Role::StorageNode), token_id, "a join token for the role storage-node was made"),
        (
            Command::RedeemJoinToken { id, secret_hash, node: joining("store-1", Role::StorageNode) },
            "node/1",
            "store-1 joined as storage-node with join token abab",
        ),
        (
            registering(&["store-1:1"], six()),
            "node/1",
            "is active, at store-1:1, in zone \"z1\" and rack \"r1\"; it was joining",
        ),
        (registering(&["store-1:2"], six()), "node/1", "at store-1:2"),
        (
            registering(&["store-1:2"], vec![drive(7)]),
            "node/1",
            "has drive 07070707070707070707070707070707 called drive-7",
        ),
        (Command::SetNodeState { node: NodeId(1), state: NodeState::Draining }, "node/1", "is draining; it was active"),
        (Command::SetNodeState { node: NodeId(1), state: NodeState::Active }, "node/1", "is active; it was draining"),
        (Command::PauseRebalancing { paused: true }, "cluster", "rebalancing is held back"),
        (Command::PlanPlacement { scheme: None }, "cluster", "placement groups were added to 0"),
        (Command::MoveSlots { moves: vec![moved] }, "cluster", "slots to be moved: 1, away from drive"),
        (flip, "cluster", "slot 0 of placement group 0 is drive"),
        (state(DriveState::Failed, "EIO"), drive_two, "drive drive-2 of node 1 is failed (EIO); it was ok"),
        (state(DriveState::Ok, ""), drive_two, "is ok; it was failed (EIO)"),
        (Command::RevokeJoinToken { id }, token_id, "node 1 used it"),
        (
            Command::CreateBucket { name: "scans".into(), object_lock: false },
            "bucket/scans",
            "with id 1 for root; versioning is unset, object lock is off",
        ),
        (
            configure(BucketChange::Versioning(Versioning::Enabled)),
            "bucket/scans",
            "versioning is enabled; it was unset",
        ),
        (
            configure(BucketChange::ObjectLock(ObjectLock { default: Some(retention) })),
            "bucket/scans",
            "object lock is on, with a default retention of 30 days in compliance mode; it was off",
        ),
        (
            configure(BucketChange::ObjectLock(ObjectLock { default: None })),
            "bucket/scans",
            "on, without a default retention; it was on, with a default retention of 30 days in compliance mode",
        ),
        (configure(BucketChange::Tags(tags("a"))), "bucket/scans", "tags are ward=a; they were none"),
        (configure(BucketChange::Tags(tags("b"))), "bucket/scans", "tags are ward=b; they were ward=a"),
        (
            configure(BucketChange::Cors(cors())),
            "bucket/scans",
            "CORS rules are GET HEAD from https://viewer.example; they were none",
        ),
        (Command::DeleteBucket { name: "scans".into() }, "bucket/scans", "the bucket with id 1 was deleted"),
    ]
}

#[test]
fn every_act_is_logged_once_however_often_it_is_sent() {
    let mut m = Machine::new();
    for (command, subject, part) in acts() {
        let size = log_size(&m);
        m.cluster(command.clone()).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert_eq!(log_size(&m), size + 1, "{command:?}");
        let record = newest(&m);
        assert_eq!((record.event, record.bucket.as_str(), record.key.as_str()), (Event::Act, CLUSTER, subject));
        assert!(record.detail.contains(part), "{}: {:?} lacks {part:?}", record.key, record.detail);
        // Its answer was lost: whatever it is answered now, nothing is logged.
        drop(m.cluster(command.clone()));
        assert_eq!(log_size(&m), size + 1, "repeated: {command:?}");
    }
}

#[test]
fn no_act_is_done_without_a_salt() {
    let mut m = Machine::new();
    for (command, ..) in acts() {
        let before = m.dump();
        let without = CommandEnvelope { salt: None, ..envelope(None, 0, 0, command.clone()) };
        assert_eq!(m.apply(&without).unwrap_err().code, Code::Malformed, "{command:?}");
        assert_eq!(m.dump(), before, "{command:?}");
        m.cluster(command).unwrap();
    }
}

#[test]
fn an_act_under_a_lease_is_logged_once_and_answered_from_memory() {
    let mut m = Machine::new();
    let create = m.next(Command::CreateBucket { name: "b".into(), object_lock: false });
    let first = m.apply(&create).unwrap();
    assert_eq!((m.apply(&create).unwrap(), log_size(&m)), (first, 1));
}

#[test]
fn what_is_refused_is_not_logged() {
    let mut m = Machine::new();
    m.bucket("b");
    let size = log_size(&m);
    let missing = Command::SetDriveState { drive: drive(1).id, state: DriveState::Failed, reason: String::new() };
    let again = Command::CreateBucket { name: "b".into(), object_lock: false };
    let lock = BucketChange::ObjectLock(ObjectLock::default());
    for command in [missing, again, Command::DeleteBucket { name: "c".into() }, configure(lock)] {
        assert!(m.cluster(command.clone()).is_err(), "{command:?}");
    }
    assert_eq!(log_size(&m), size);
}

#[test]
fn a_long_reason_is_cut() {
    let mut m = Machine::new();
    let map = Box::new(ClusterMap::default());
    m.cluster(Command::InitCluster { cluster: ClusterId::from_bytes([1; 16]), drives: vec![drive(1)], map }).unwrap();
    let reason = "x".repeat(2 * DETAIL_BYTES_MAX);
    m.cluster(Command::SetDriveState { drive: drive(1).id, state: DriveState::Failed, reason }).unwrap();
    let detail = newest(&m).detail;
    assert!(
        detail.len() <= DETAIL_BYTES_MAX && detail.starts_with("drive drive-1") && detail.ends_with("x…"),
        "{detail}"
    );
}

/// Two anchors with keys of their own take turns on a log that nobody writes to: it must not grow for ever.
#[test]
fn a_policy_is_logged_when_an_anchor_changes_it_and_not_when_anchors_take_turns() {
    let mut m = Machine::new();
    m.bucket("b");
    let publish = |m: &mut Machine, anchor: u64, policy: &str| {
        let head = match m.read(&MetaRequest::Log(LogRead::Head)) {
            Ok(MetaReply::Log(LogReply::Head(head))) => *head,
            other => panic!("{other:?}"),
        };
        let previous = head.checkpoint.map(|checkpoint| checkpoint.head);
        if previous != Some(head.now) {
            m.cluster(Command::Log(LogCommand::CommitCheckpoint { previous, next: head.now })).unwrap();
        }
        let signed =
            SignedNote { head: head.now, note: b"note".to_vec().into(), policy: policy.as_bytes().to_vec().into() };
        let size = log_size(m);
        let mut envelope = envelope(None, 0, 0, Command::Log(LogCommand::PublishNote(signed)));
        envelope.origin.node = NodeId(anchor);
        m.apply(&envelope).unwrap();
        m.apply(&envelope).unwrap();
        log_size(m) - size
    };
    let (one, two) = ("log a/log/0+00000001+AQ==\nquorum none\n", "log a/log/0+00000002+AQ==\nquorum none\n");
    assert_eq!(publish(&mut m, 1, one), 1);
    let record = newest(&m);
    assert_eq!((record.event, record.key.as_str(), record.node), (Event::Act, "log/policy", NodeId(1)));
    assert!(record.detail.ends_with("log a/log/0+00000001, quorum none"), "{}", record.detail);
    assert_eq!(publish(&mut m, 2, two), 1);
    for _ in 0..3 {
        assert_eq!((publish(&mut m, 1, one), publish(&mut m, 2, two)), (0, 0));
    }
    assert_eq!((publish(&mut m, 1, two), publish(&mut m, 1, one)), (1, 1), "there and back are two changes");
    for anchor in 3..203 {
        assert_eq!(publish(&mut m, anchor, one), 1);
    }
    let row: crate::rows::PoliciesRow =
        crate::rows::load(&*m.kv.view().unwrap(), &crate::keyspace::POLICIES).unwrap().unwrap();
    assert_eq!(row.by.len(), 64, "bounded");
}
