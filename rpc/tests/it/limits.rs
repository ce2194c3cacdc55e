//! Bounds: sizes, calls under way, repair beside foreground, versions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::quic::frame::{ReplyHeader, decode, encode};
use stele_rpc::quic::hello::Hello;
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::authority::ClusterCa;
use stele_rpc::tls::config;
use stele_rpc::transport::{Class, Request, Transport};
use stele_types::limits::{RPC_BODY_BYTES_MAX, RPC_HEADER_BYTES_MAX};
use stele_types::role::Role;

use crate::service::{Probe, ask};
use crate::world::{CLIENT, Hand, NOW, Node, SERVER, book, config as limits, credentials, endpoint, new_ca, serve};

fn server(ca: &ClusterCa, probe: &Arc<Probe>, limits: QuicConfig) -> Node {
    serve(endpoint(credentials(ca, Role::StorageNode, SERVER), Hand::at(NOW), limits), probe.clone())
}

fn client(ca: &ClusterCa, node: &Node, limits: QuicConfig) -> QuicTransport {
    let endpoint = endpoint(credentials(ca, Role::S3Gateway, CLIENT), Hand::at(NOW), limits);
    QuicTransport::new(endpoint, book(&[(SERVER, &node.address)]))
}

/// A caller with a right certificate that says on the wire what the test wants.
struct Raw {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Raw {
    async fn dial(ca: &ClusterCa, node: &Node) -> Self {
        let tls = config::client(&credentials(ca, Role::S3Gateway, CLIENT), Hand::at(NOW)).unwrap();
        let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let dialled = endpoint.connect_with(client, node.address.parse().unwrap(), "n2.stele").unwrap();
        Self { connection: dialled.await.unwrap(), _endpoint: endpoint }
    }

    /// Sends lengths and bytes on a stream of its own, and returns the header of the answer.
    async fn send(&self, lengths: (usize, usize), bytes: &[u8]) -> Bytes {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        let mut sent = (lengths.0 as u32).to_le_bytes().to_vec();
        sent.extend_from_slice(&(lengths.1 as u32).to_le_bytes());
        sent.extend_from_slice(bytes);
        // The node may refuse before it has read everything.
        drop(send.write_all(&sent).await);
        drop(send.finish());
        let answer = recv.read_to_end(1 << 20).await.unwrap();
        Bytes::from(answer).slice(8..)
    }

    async fn hello(&self, hello: &Hello) -> Result<Hello, RpcError> {
        let bytes = encode(hello).unwrap();
        decode(&self.send((bytes.len(), 0), &bytes).await).unwrap()
    }

    async fn refusal(&self, lengths: (usize, usize), bytes: &[u8]) -> RpcError {
        let answer = self.send(lengths, bytes).await;
        decode::<ReplyHeader>(&answer).unwrap().result.unwrap_err()
    }
}

fn our_hello() -> Hello {
    Hello {
        version: 1,
        oldest: 1,
        features: u64::MAX,
        node: CLIENT,
        role: "s3-gateway".to_owned(),
        class: Class::Foreground,
    }
}

#[tokio::test]
async fn oversize_and_broken_requests_are_refused_before_the_service() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe, limits());
    let raw = Raw::dial(&ca, &node).await;
    let theirs = raw.hello(&our_hello()).await.unwrap();
    assert_eq!((theirs.node, theirs.role.as_str(), theirs.features), (SERVER, "storage-node", 0));
    for (lengths, bytes) in [
        ((RPC_HEADER_BYTES_MAX + 1, 0), &b""[..]),
        ((10, RPC_BODY_BYTES_MAX + 1), b"0123456789"),
        ((u32::MAX as usize, u32::MAX as usize), b""),
        ((3, 0), b"\x93\x01\x02"),
        ((1, 1), b"abc"),
    ] {
        let error = raw.refusal(lengths, bytes).await;
        assert_eq!(error.code, Code::Malformed, "{lengths:?}: {error}");
    }
    assert_eq!(probe.seen().started, 0);
    // The connection lives on.
    let transport = client(&ca, &node, limits());
    transport.call(SERVER, ask("echo", "")).await.unwrap();
    let error = transport.call(SERVER, ask("echo", vec![0; RPC_BODY_BYTES_MAX + 1])).await.unwrap_err();
    assert_eq!(error.code, Code::Malformed);
    let long = "k".repeat(RPC_HEADER_BYTES_MAX);
    assert_eq!(transport.call(SERVER, ask(&long, "")).await.unwrap_err().code, Code::Malformed);
    assert_eq!(probe.seen().started, 1);
    // An answer over the limit is the service's defect, and is said so.
    assert_eq!(transport.call(SERVER, ask("huge", "")).await.unwrap_err().code, Code::Internal);
}

#[tokio::test]
async fn a_peer_of_another_version_or_name_is_refused_in_words() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe, limits());
    for (hello, word) in [
        (Hello { version: 9, oldest: 5, ..our_hello() }, "upgrade the older"),
        (Hello { node: SERVER, ..our_hello() }, "its certificate says"),
        (Hello { role: "metadata".to_owned(), ..our_hello() }, "its certificate says"),
    ] {
        let error = Raw::dial(&ca, &node).await.hello(&hello).await.unwrap_err();
        assert!(error.detail.contains(word), "{error}");
    }
    // A newer peer that still speaks our version is welcome.
    Raw::dial(&ca, &node).await.hello(&Hello { version: 9, ..our_hello() }).await.unwrap();
}

#[tokio::test]
async fn too_many_calls_under_way_are_busy_on_either_side() {
    let ca = new_ca(7);
    for (here, there) in [(2, 1024), (1024, 2)] {
        let probe = Probe::new();
        let node = server(&ca, &probe, QuicConfig { in_flight_max: there, ..limits() });
        let transport = client(&ca, &node, QuicConfig { in_flight_max: here, ..limits() });
        let held: Vec<_> = (0..2)
            .map(|_| {
                let transport = transport.clone();
                tokio::spawn(async move { transport.call(SERVER, ask("gate", "held")).await })
            })
            .collect();
        probe.wait(|seen| seen.started == 2).await;
        // Refused with its body unread, however long that is.
        let error = transport.call(SERVER, ask("echo", vec![0; 8 << 20])).await.unwrap_err();
        assert_eq!(error.code, Code::Busy, "{error}");
        assert_eq!(probe.seen().started, 2);
        probe.open_gate();
        for call in held {
            assert_eq!(call.await.unwrap().unwrap().body, "held");
        }
    }
}

#[tokio::test]
async fn repair_waits_its_turn_and_foreground_does_not() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe, limits());
    let transport = client(&ca, &node, QuicConfig { repair_in_flight_max: 1, ..limits() });
    let repair = |name: &'static str| {
        let transport = transport.clone();
        let request = Request { class: Class::Repair, ..ask(name, "") };
        tokio::spawn(async move { transport.call(SERVER, request).await })
    };
    let first = repair("gate");
    probe.wait(|seen| seen.started == 1).await;
    let second = repair("echo");
    transport.call(SERVER, ask("echo", "")).await.unwrap();
    // Only the first repair and the foreground call were seen.
    assert_eq!(probe.seen().started, 2);
    assert!(!second.is_finished());
    probe.open_gate();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(probe.seen().started, 3);
}

#[tokio::test]
async fn stopping_lets_calls_under_way_finish() {
    let (ca, probe) = (new_ca(7), Probe::new());
    let node = server(&ca, &probe, limits());
    let transport = client(&ca, &node, limits());
    let held = tokio::spawn({
        let transport = transport.clone();
        async move { transport.call(SERVER, ask("gate", "held")).await }
    });
    probe.wait(|seen| seen.started == 1).await;
    let late = async {
        // Polled after the server began to stop. Refused, and certainly without effect.
        let error = transport.call(SERVER, ask("echo", "")).await.unwrap_err();
        assert_eq!(error.code, Code::Unreachable, "{error}");
        probe.open_gate();
        assert_eq!(held.await.unwrap().unwrap().body, "held");
    };
    let stopping = node.server.shutdown(Duration::from_secs(60));
    futures::future::join(stopping, late).await;
    assert_eq!(probe.seen().started, 1);
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    assert_eq!(QuicConfig::default().check(), Ok(()));
    for bad in [
        QuicConfig { mtu_cap: 1199, ..QuicConfig::default() },
        QuicConfig { mtu_cap: 6501, ..QuicConfig::default() },
        QuicConfig { receive_budget_bytes: 1 << 20, ..QuicConfig::default() },
        QuicConfig { in_flight_max: 0, ..QuicConfig::default() },
        QuicConfig { repair_in_flight_max: 0, ..QuicConfig::default() },
        QuicConfig { keep_alive: Duration::from_secs(10), ..QuicConfig::default() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}
