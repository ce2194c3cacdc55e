//! Who may speak to whom: certificates, roles, strangers, rotation.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::storage::StorageRequest;
use stele_rpc::tls::config::ALPN_NODE;
use stele_rpc::tls::{TlsError, config};
use stele_rpc::transport::{Message, Request, Transport};
use stele_types::ids::{DriveId, NodeId};
use stele_types::role::Role;

use crate::service::{Probe, ask};
use crate::world::{
    CLIENT, HOUR, Hand, NOW, Node, SERVER, book, caller, config as limits, credentials, endpoint, new_ca, serve,
};

/// What a caller gets from a node that must not serve it.
async fn refused(transport: &QuicTransport, probe: &Probe) -> RpcError {
    let error = transport.call(SERVER, ask("echo", "")).await.unwrap_err();
    assert_eq!(error.code, Code::Unreachable, "{error}");
    assert_eq!(probe.seen().started, 0, "the service saw a call it must not see");
    error
}

fn server(ca: &stele_rpc::tls::authority::ClusterCa, probe: &Arc<Probe>) -> Node {
    serve(endpoint(credentials(ca, Role::StorageNode, SERVER), Hand::at(NOW), limits()), probe.clone())
}

#[tokio::test]
async fn a_ca_that_only_claims_to_be_the_clusters_is_refused_by_both_sides() {
    let probe = Probe::new();
    let node = server(&new_ca(7), &probe);
    // Same cluster id, other key.
    let error = refused(&caller(&new_ca(7), Role::S3Gateway, &node.address), &probe).await;
    assert!(error.detail.contains("InvalidSignatureForPublicKey"), "{error}");
}

#[tokio::test]
async fn another_clusters_node_is_refused() {
    let probe = Probe::new();
    let node = server(&new_ca(7), &probe);
    let error = refused(&caller(&new_ca(8), Role::S3Gateway, &node.address), &probe).await;
    assert!(error.detail.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn the_answering_side_checks_the_callers_ca_too() {
    let probe = Probe::new();
    let (ours, theirs) = (new_ca(7), new_ca(8));
    let node = server(&ours, &probe);
    // A caller that trusts our CA but whose own certificate is another cluster's.
    let trusted = credentials(&ours, Role::S3Gateway, CLIENT);
    let mut tls = config::client(&trusted, Hand::at(NOW)).unwrap();
    let foreign = config::client(&credentials(&theirs, Role::S3Gateway, CLIENT), Hand::at(NOW)).unwrap();
    tls.client_auth_cert_resolver = foreign.client_auth_cert_resolver;
    let reason = raw_refusal(tls, &node.address).await;
    assert!(reason.contains("UnknownIssuer"), "{reason}");
    assert_eq!(probe.seen().started, 0);
}

/// Dials with quinn itself and says how the node closes the connection.
async fn raw_refusal(tls: rustls::ClientConfig, address: &str) -> String {
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let dialler = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = dialler.connect_with(client, address.parse().unwrap(), "n2.stele").unwrap().await.unwrap();
    connection.closed().await.to_string()
}

#[tokio::test]
async fn without_a_client_certificate_nothing_is_served() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe);
    let mut tls = config::client(&credentials(&ca, Role::S3Gateway, CLIENT), Hand::at(NOW)).unwrap();
    assert_eq!(tls.alpn_protocols, [ALPN_NODE]);
    tls.client_auth_cert_resolver = Arc::new(NoCertificate);
    let reason = raw_refusal(tls, &node.address).await;
    assert!(reason.contains("no client certificate"), "{reason}");
    assert_eq!(probe.seen().started, 0);
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_role_gets_only_what_it_needs() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe);
    let sweep = |packs| {
        Request::storage(
            StorageRequest::Delete { drive: DriveId::from_bytes([1; 16]), packs },
            bytes::Bytes::new(),
            Duration::from_secs(60),
        )
    };
    let gateway = caller(&ca, Role::S3Gateway, &node.address);
    let error = gateway.call(SERVER, sweep(vec![])).await.unwrap_err();
    assert_eq!(error.code, Code::Forbidden, "{error}");
    let drives = Request { message: Message::Storage(StorageRequest::Drives), ..ask("", "") };
    gateway.call(SERVER, drives.clone()).await.unwrap();
    let anchor = caller(&ca, Role::Anchor, &node.address);
    assert_eq!(anchor.call(SERVER, drives).await.unwrap_err().code, Code::Forbidden);
    assert_eq!(probe.seen().started, 1);
}

#[tokio::test]
async fn another_node_at_the_address_is_not_taken_for_the_one_dialled() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe);
    let client = endpoint(credentials(&ca, Role::S3Gateway, CLIENT), Hand::at(NOW), limits());
    let transport = QuicTransport::new(client, book(&[(NodeId(3), &node.address), (SERVER, &node.address)]));
    let error = transport.call(NodeId(3), ask("echo", "")).await.unwrap_err();
    assert!(error.code == Code::Unreachable && error.detail.contains("another node"), "{error}");
    assert_eq!(probe.seen().started, 0);
    transport.call(SERVER, ask("echo", "")).await.unwrap();
}

#[tokio::test]
async fn certificates_hold_from_an_hour_before_their_issue_until_they_expire() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let clock = Hand::at(NOW);
    let server = endpoint(credentials(&ca, Role::StorageNode, SERVER), clock.clone(), limits());
    let node = serve(server, probe.clone());
    let client = |now| {
        let client = endpoint(credentials(&ca, Role::S3Gateway, CLIENT), Hand::at(now), limits());
        QuicTransport::new(client, book(&[(SERVER, &node.address)]))
    };
    // The caller's clock is right and the node's is a day ahead: the caller's certificate is refused.
    clock.set(NOW + 25 * HOUR);
    let error = refused(&client(NOW), &probe).await;
    assert!(error.detail.contains("Expired"), "{error}");
    clock.set(NOW);
    let error = refused(&client(NOW + 25 * HOUR), &probe).await;
    assert!(error.detail.contains("xpired"), "{error}");
    let error = refused(&client(NOW - HOUR - 1000), &probe).await;
    assert!(error.detail.contains("NotValidYet") || error.detail.contains("not valid yet"), "{error}");
    client(NOW - HOUR + 1000).call(SERVER, ask("echo", "")).await.unwrap();
}

#[tokio::test]
async fn garbage_does_not_stop_a_node() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe);
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for n in 0..2000usize {
        let first = [0x00, 0x40, 0xc0, 0xff][n % 4];
        let datagram: Vec<u8> = (0..n % 1400).map(|at| if at == 0 { first } else { (at * n) as u8 }).collect();
        stranger.send_to(&datagram, &node.address).await.unwrap();
    }
    caller(&ca, Role::S3Gateway, &node.address).call(SERVER, ask("echo", "")).await.unwrap();
}

#[tokio::test]
async fn certificates_rotate_while_calls_are_under_way() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let (server_clock, client_clock) = (Hand::at(NOW), Hand::at(NOW));
    let server = endpoint(credentials(&ca, Role::StorageNode, SERVER), server_clock.clone(), limits());
    let node = serve(server, probe.clone());
    let client = endpoint(credentials(&ca, Role::S3Gateway, CLIENT), client_clock.clone(), limits());
    let transport = QuicTransport::new(client.clone(), book(&[(SERVER, &node.address)]));
    let held = transport.clone();
    let held = tokio::spawn(async move { held.call(SERVER, ask("gate", "held")).await });
    probe.wait(|seen| seen.started == 1).await;

    // A year later: both sides get certificates that are in force only then.
    let later = NOW + 365 * 24 * HOUR;
    let renew = |role, node| {
        let key = stele_rpc::tls::authority::NodeKey::generate().unwrap();
        let identity = stele_rpc::tls::identity::Identity { cluster: ca.cluster(), role, node };
        let validity = stele_rpc::tls::authority::Validity { now: later, lifetime: Duration::from_millis(24 * HOUR) };
        let rng = crate::world::Counter::default();
        let pem = ca.issue(identity, &key.signing_request().unwrap(), validity, &rng).unwrap();
        stele_rpc::tls::credentials::Credentials::from_pem(&pem, &key.key_pem(), ca.certificate_pem()).unwrap()
    };
    server_clock.set(later);
    client_clock.set(later);
    node.endpoint.rotate(&renew(Role::StorageNode, SERVER)).unwrap();
    client.rotate(&renew(Role::S3Gateway, CLIENT)).unwrap();

    // The connection that lives goes on; the call held on it ends well.
    transport.call(SERVER, ask("echo", "")).await.unwrap();
    probe.open_gate();
    assert_eq!(held.await.unwrap().unwrap().body, "held");
    // A new connection shows the new certificates on both sides, or it would be refused as expired.
    let fresh = QuicTransport::new(client.clone(), book(&[(SERVER, &node.address)]));
    fresh.call(SERVER, ask("echo", "")).await.unwrap();
    let other = credentials(&ca, Role::S3Gateway, NodeId(9));
    assert!(matches!(client.rotate(&other), Err(TlsError::Mismatch(_))));
}

#[test]
fn credentials_that_do_not_belong_together_are_refused() {
    use stele_rpc::tls::authority::{ClusterCa, NodeKey, Validity};
    use stele_rpc::tls::credentials::Credentials;
    use stele_rpc::tls::identity::Identity;
    let (ca, other) = (new_ca(7), new_ca(8));
    assert!(matches!(ClusterCa::from_pem(ca.certificate_pem(), &other.key_pem()), Err(TlsError::Mismatch(_))));
    let loaded = ClusterCa::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
    assert_eq!((loaded.cluster(), loaded.fingerprint()), (ca.cluster(), ca.fingerprint()));
    let key = NodeKey::generate().unwrap();
    let validity = Validity { now: NOW, lifetime: Duration::from_secs(3600) };
    let rng = crate::world::Counter::default();
    let identity = Identity { cluster: ca.cluster(), role: Role::Admin, node: NodeId(5) };
    let request = key.signing_request().unwrap();
    assert!(other.issue(identity, &request, validity, &rng).is_err());
    assert!(ca.issue(identity, b"no request", validity, &rng).is_err());
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(ca.issue(identity, &forged, validity, &rng).is_err(), "the request's signature is not checked");
    let pem = loaded.issue(identity, &request, validity, &rng).unwrap();
    assert!(Credentials::from_pem(&pem, &key.key_pem(), other.certificate_pem()).is_err());
    assert!(Credentials::from_pem(&pem, &key.key_pem(), "").is_err());
    let wrong_key = Credentials::from_pem(&pem, &NodeKey::generate().unwrap().key_pem(), ca.certificate_pem());
    assert!(matches!(config::client(&wrong_key.unwrap(), Hand::at(NOW)), Err(TlsError::Mismatch(_))));
    let good = Credentials::from_pem(&pem, &key.key_pem(), ca.certificate_pem()).unwrap();
    assert_eq!(good.identity(), identity);
}
