//! Paths that carry less than they seem to: an abstract socket loses datagrams over a size.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use stele_rpc::error::Code;
use stele_rpc::quic::config::{MTU_CAP_MAX, QuicConfig};
use stele_rpc::quic::endpoint::Socket;
use stele_rpc::quic::seam::{AsyncUdpSocket, RecvMeta, Runtime, TokioRuntime, Transmit, UdpPoller};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::authority::ClusterCa;
use stele_rpc::transport::Transport;
use stele_types::role::Role;

use crate::service::{Probe, ask};
use crate::world::{CLIENT, Hand, NOW, Node, SERVER, book, config, credentials, endpoint, endpoint_on, new_ca, serve};

/// Sends like the socket inside, but loses what is longer than `limit`.
#[derive(Debug)]
struct Narrow {
    inner: Arc<dyn AsyncUdpSocket>,
    limit: Arc<AtomicUsize>,
}

impl AsyncUdpSocket for Narrow {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> std::io::Result<()> {
        if transmit.contents.len() > self.limit.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<std::io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    // One datagram per send, so that lengths are those of datagrams.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

fn narrow(limit: usize) -> (Socket, Arc<AtomicUsize>) {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let inner = runtime.wrap_udp_socket(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let limit = Arc::new(AtomicUsize::new(limit));
    (Socket::Abstract { socket: Arc::new(Narrow { inner, limit: limit.clone() }), runtime }, limit)
}

fn jumbo() -> QuicConfig {
    QuicConfig { mtu_cap: MTU_CAP_MAX, ..config() }
}

fn server(ca: &ClusterCa) -> Node {
    serve(endpoint(credentials(ca, Role::StorageNode, SERVER), Hand::at(NOW), jumbo()), Probe::new())
}

fn caller(ca: &ClusterCa, socket: Socket, limits: QuicConfig, node: &Node) -> QuicTransport {
    let endpoint = endpoint_on(socket, credentials(ca, Role::S3Gateway, CLIENT), Hand::at(NOW), limits);
    QuicTransport::new(endpoint, book(&[(SERVER, &node.address)]))
}

/// Calls until the path's datagrams reach `wanted` bytes. Discovery goes on with traffic, a step a round trip.
async fn discover(transport: &QuicTransport, wanted: u16) {
    for _ in 0..5000 {
        transport.call(SERVER, ask("echo", vec![1; 20_000])).await.unwrap();
        if transport.paths()[0].mtu >= wanted {
            return;
        }
    }
    panic!("discovery ended at {:?}", transport.paths());
}

#[tokio::test]
async fn discovery_reaches_the_cap_and_the_report_says_so() {
    let ca = new_ca(7);
    let node = server(&ca);
    let transport = caller(&ca, narrow(usize::MAX).0, jumbo(), &node);
    assert_eq!(transport.paths(), []);
    // Discovery stops within 20 bytes of its bound.
    discover(&transport, MTU_CAP_MAX - 20).await;
    let report = transport.paths().remove(0);
    assert!(report.peer == SERVER && report.mtu <= MTU_CAP_MAX && report.rtt_us > 0, "{report:?}");
    assert_eq!(report.problem, None);
}

#[tokio::test]
async fn a_path_that_shrinks_has_its_cap_lowered() {
    let ca = new_ca(7);
    let node = server(&ca);
    let (socket, limit) = narrow(usize::MAX);
    let transport = caller(&ca, socket, jumbo(), &node);
    discover(&transport, MTU_CAP_MAX - 20).await;
    limit.store(1400, Ordering::SeqCst);
    // Lost as they are, calls get through once the black hole was noticed.
    for _ in 0..3 {
        transport.call(SERVER, ask("echo", vec![1; 1 << 20])).await.unwrap();
    }
    let report = transport.paths().remove(0);
    assert!(report.mtu <= 1400, "{report:?}");
    assert!(report.problem.as_ref().is_some_and(|problem| problem.contains("vanish")), "{report:?}");
}

#[tokio::test]
async fn a_path_below_the_least_size_is_reported() {
    let ca = new_ca(7);
    let node = server(&ca);
    let limits = QuicConfig { connect_timeout: Duration::from_millis(300), ..config() };
    let transport = caller(&ca, narrow(1199).0, limits, &node);
    let error = transport.call(SERVER, ask("echo", "")).await.unwrap_err();
    assert_eq!(error.code, Code::Unreachable);
    let report = transport.paths().remove(0);
    assert_eq!((report.mtu, report.lost), (0, 0));
    assert!(report.problem.as_ref().is_some_and(|problem| problem.contains("1200 bytes")), "{report:?}");
}
