//! The join channel, from token to a certificate that works.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::join::client::join;
use stele_rpc::join::token::JoinToken;
use stele_rpc::join::{JoinReply, JoinRequest, JoinService};
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::authority::{ClusterCa, NodeKey, Validity};
use stele_rpc::tls::credentials::Credentials;
use stele_rpc::tls::identity::Identity;
use stele_rpc::transport::Transport;
use stele_types::ids::NodeId;
use stele_types::role::Role;

use crate::service::{Probe, ask};
use crate::world::{
    Counter, Hand, NOW, Node, SERVER, book, config as limits, credentials, endpoint, new_ca, serve_join,
};

struct Door(ClusterCa);

#[async_trait]
impl JoinService for Door {
    async fn join(&self, from: SocketAddr, request: JoinRequest) -> Result<JoinReply, RpcError> {
        assert!(from.ip().is_loopback());
        if request.secret != [3; 32] {
            return Err(RpcError::new(Code::Forbidden, "no such token"));
        }
        let identity = Identity { cluster: self.0.cluster(), role: request.role, node: NodeId(41) };
        let validity = Validity { now: NOW, lifetime: Duration::from_secs(86400) };
        let certificate_pem = self.0.issue(identity, &request.signing_request, validity, &Counter::default()).unwrap();
        Ok(JoinReply {
            node: NodeId(41),
            cluster: self.0.cluster(),
            certificate_pem,
            ca_pem: self.0.certificate_pem().to_owned(),
            ca_key_pem: None,
            peers: vec![(SERVER, request.addresses)],
        })
    }
}

fn copy(ca: &ClusterCa) -> ClusterCa {
    ClusterCa::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap()
}

fn door(ca: &ClusterCa, probe: &Arc<Probe>, role: Role, limits: QuicConfig) -> Node {
    let endpoint = endpoint(credentials(ca, role, SERVER), Hand::at(NOW), limits);
    serve_join(endpoint, probe.clone(), Some(Arc::new(Door(copy(ca)))))
}

fn token(ca: &ClusterCa, node: &Node) -> JoinToken {
    let token = JoinToken { addresses: vec![node.address.clone()], ca: ca.fingerprint(), id: [2; 16], secret: [3; 32] };
    JoinToken::parse(&token.print().unwrap()).unwrap()
}

fn request(key: &NodeKey) -> JoinRequest {
    JoinRequest {
        token_id: [2; 16],
        secret: [3; 32],
        role: Role::StorageNode,
        signing_request: key.signing_request().unwrap().into(),
        addresses: vec!["node-41:9100".to_owned()],
        name: "node-41".to_owned(),
        zone: String::new(),
        rack: String::new(),
    }
}

#[tokio::test]
async fn a_node_with_a_token_gets_a_certificate_that_works() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = door(&ca, &probe, Role::Metadata, limits());
    let key = NodeKey::generate().unwrap();
    let reply = join(&token(&ca, &node), &request(&key), Hand::at(NOW)).await.unwrap();
    assert_eq!((reply.node, reply.cluster), (NodeId(41), ca.cluster()));
    assert_eq!(reply.peers, [(SERVER, vec!["node-41:9100".to_owned()])]);
    let ours = Credentials::from_pem(&reply.certificate_pem, &key.key_pem(), &reply.ca_pem).unwrap();
    let transport = QuicTransport::new(endpoint(ours, Hand::at(NOW), limits()), book(&[(SERVER, &node.address)]));
    assert_eq!(transport.call(SERVER, ask("who", "")).await.unwrap().body, "41");
}

#[tokio::test]
async fn a_joining_node_tells_no_secret_to_another_ca() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = door(&ca, &probe, Role::Metadata, limits());
    let key = NodeKey::generate().unwrap();
    // Another CA that claims the same cluster.
    let wrong = JoinToken { ca: new_ca(7).fingerprint(), ..token(&ca, &node) };
    let error = join(&wrong, &request(&key), Hand::at(NOW)).await.unwrap_err();
    assert!(error.code == Code::Unreachable && error.detail.contains("not the one named"), "{error}");
    // Nor to a node that holds no CA key by its role.
    let gateway = door(&ca, &probe, Role::S3Gateway, limits());
    let error = join(&token(&ca, &gateway), &request(&key), Hand::at(NOW)).await.unwrap_err();
    assert!(error.code == Code::Unreachable && error.detail.contains("not a metadata node"), "{error}");
}

#[tokio::test]
async fn refusals_cross_whole_and_strangers_are_slowed_down() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = door(&ca, &probe, Role::Metadata, QuicConfig { joins_per_second: 2, ..limits() });
    let token = token(&ca, &node);
    let key = NodeKey::generate().unwrap();
    let wrong = JoinRequest { secret: [4; 32], ..request(&key) };
    assert_eq!(join(&token, &wrong, Hand::at(NOW)).await.unwrap_err().code, Code::Forbidden);
    assert_eq!(join(&token, &wrong, Hand::at(NOW)).await.unwrap_err().code, Code::Forbidden);
    // The node's clock stands still, so nothing refills.
    assert_eq!(join(&token, &request(&key), Hand::at(NOW)).await.unwrap_err().code, Code::Busy);
    // Too large to be sent at all.
    let large = JoinRequest { name: "n".repeat(1 << 17), ..request(&key) };
    assert_eq!(join(&token, &large, Hand::at(NOW)).await.unwrap_err().code, Code::Malformed);
    assert!(!format!("{wrong:?}").contains("4, 4"), "a secret must not be printed");
}
