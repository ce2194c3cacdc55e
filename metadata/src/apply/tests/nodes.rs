//! Join tokens and nodes.

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, MetaReply, MetaRequest, NewNode};
use stele_types::ids::{ClusterId, DriveId, MapEpoch, NodeId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeState};
use stele_types::role::Role;

use crate::testing::Machine;

const TTL: u64 = 60_000;

fn founded() -> Machine {
    let mut m = Machine::new();
    let cluster = ClusterId::from_bytes([1; 16]);
    m.cluster(Command::InitCluster { cluster, drives: Vec::new(), map: Box::default() }).unwrap();
    m
}

fn create(id: u8, role: Role) -> Command {
    Command::CreateJoinToken { id: [id; 16], secret_hash: [id; 32], role, ttl_ms: TTL }
}

fn redeem(id: u8, hash: u8, role: Role, key: u8) -> Command {
    let node = NewNode {
        role,
        key: [key; 32],
        name: format!("node-{key}"),
        addresses: vec!["10.0.0.1:9100".to_owned()],
        zone: "z".to_owned(),
        rack: String::new(),
    };
    Command::RedeemJoinToken { id: [id; 16], secret_hash: [hash; 32], node: Box::new(node) }
}

fn drive(n: u8) -> DriveRow {
    let (id, name) = (DriveId::from_bytes([n; 16]), format!("drive-{n}"));
    DriveRow { id, node: NodeId(0), name, state: DriveState::Ok, reason: String::new(), capacity: 100 }
}

fn register(node: u64, drives: &[u8]) -> Command {
    Command::RegisterNode {
        node: NodeId(node),
        addresses: vec![format!("10.0.0.{node}:9100")],
        zone: "z".to_owned(),
        rack: "r".to_owned(),
        drives: drives.iter().map(|n| drive(*n)).collect(),
    }
}

fn map(m: &Machine) -> ClusterMap {
    match m.read(&MetaRequest::ClusterMap { known: MapEpoch(0) }) {
        Ok(MetaReply::ClusterMap(Some(map))) => *map,
        other => panic!("{other:?}"),
    }
}

fn refused(answer: Result<MetaReply, RpcError>) -> Code {
    answer.unwrap_err().code
}

#[test]
fn a_token_lets_one_node_in_once() {
    let mut m = founded();
    m.cluster(create(1, Role::StorageNode)).unwrap();
    m.cluster(create(1, Role::StorageNode)).unwrap();
    assert_eq!(refused(m.cluster(redeem(1, 9, Role::StorageNode, 5))), Code::Forbidden, "wrong secret");
    assert_eq!(refused(m.cluster(redeem(2, 2, Role::StorageNode, 5))), Code::Forbidden, "no such token");
    assert_eq!(refused(m.cluster(redeem(1, 1, Role::Metadata, 5))), Code::Forbidden, "wrong role");
    assert_eq!(map(&m).nodes, [], "nobody was let in");
    assert_eq!(m.cluster(redeem(1, 1, Role::StorageNode, 5)).unwrap(), MetaReply::Node(NodeId(1)));
    assert_eq!(m.cluster(redeem(1, 1, Role::StorageNode, 5)).unwrap(), MetaReply::Node(NodeId(1)), "a lost answer");
    assert_eq!(refused(m.cluster(redeem(1, 1, Role::StorageNode, 6))), Code::Forbidden, "a replay with another key");
    assert_eq!(map(&m).nodes.len(), 1);
    m.cluster(create(2, Role::S3Gateway)).unwrap();
    assert_eq!(m.cluster(redeem(2, 2, Role::S3Gateway, 7)).unwrap(), MetaReply::Node(NodeId(2)));
}

#[test]
fn tokens_expire_and_are_revoked() {
    let mut m = founded();
    m.cluster(create(1, Role::StorageNode)).unwrap();
    m.cluster(create(2, Role::StorageNode)).unwrap();
    m.cluster(Command::RevokeJoinToken { id: [2; 16] }).unwrap();
    assert_eq!(refused(m.cluster(redeem(2, 2, Role::StorageNode, 5))), Code::Forbidden);
    m.now += TTL;
    assert_eq!(refused(m.cluster(redeem(1, 1, Role::StorageNode, 5))), Code::Forbidden);
    m.cluster(create(3, Role::StorageNode)).unwrap();
    let Ok(MetaReply::JoinTokens(left)) = m.read(&MetaRequest::JoinTokens) else { panic!() };
    assert_eq!(left.iter().map(|row| row.id[0]).collect::<Vec<_>>(), [3], "expired ones are dropped");
}

#[test]
fn nodes_register_with_their_drives_and_repeats_change_nothing() {
    let mut m = founded();
    assert_eq!(refused(m.cluster(register(1, &[]))), Code::Forbidden, "it never joined");
    for (token, role) in [(1, Role::StorageNode), (2, Role::StorageNode), (3, Role::S3Gateway)] {
        m.cluster(create(token, role)).unwrap();
        m.cluster(redeem(token, token, role, token)).unwrap();
    }
    for _ in 0..2 {
        m.cluster(register(1, &[1, 2])).unwrap();
        m.cluster(register(2, &[3])).unwrap();
        assert_eq!(map(&m).epoch, MapEpoch(6), "a repeat changes nothing");
    }
    assert_eq!(refused(m.cluster(register(3, &[4]))), Code::Malformed, "a gateway has no drives");
    let now = map(&m);
    let node = now.node(NodeId(1)).unwrap();
    assert_eq!((node.state, node.rack.as_str(), node.addresses[0].as_str()), (NodeState::Active, "r", "10.0.0.1:9100"));
    assert_eq!(now.drives.iter().map(|drive| drive.node.0).collect::<Vec<_>>(), [1, 1, 2]);
    m.cluster(register(2, &[3, 1])).unwrap();
    let moved = map(&m);
    assert_eq!(moved.drive(DriveId::from_bytes([1; 16])).unwrap().node, NodeId(2), "a drive moves with its identity");
    assert_eq!(refused(m.cluster(Command::PlanPlacement { scheme: Some("rs-4-2".parse().unwrap()) })), Code::Malformed);
    m.cluster(Command::PlanPlacement { scheme: None }).unwrap();
    let planned = map(&m);
    assert_eq!((planned.pgs.len(), planned.pgs[0].scheme.to_string()), (150, "rs-1-1".to_owned()));
    m.cluster(Command::PlanPlacement { scheme: None }).unwrap();
    assert_eq!(map(&m), planned);
    let remove = |node| Command::SetNodeState { node: NodeId(node), state: NodeState::Removed };
    assert_eq!(refused(m.cluster(remove(1))), Code::Malformed, "it holds data");
    m.cluster(remove(3)).unwrap();
    assert_eq!(refused(m.cluster(register(3, &[]))), Code::Forbidden, "removed for good");
    let again = Command::SetNodeState { node: NodeId(3), state: NodeState::Active };
    assert_eq!(refused(m.cluster(again)), Code::Malformed);
    m.cluster(create(4, Role::S3Gateway)).unwrap();
    assert_eq!(
        m.cluster(redeem(4, 4, Role::S3Gateway, 4)).unwrap(),
        MetaReply::Node(NodeId(4)),
        "ids are never reused"
    );
}
