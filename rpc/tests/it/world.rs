//! Clusters of a few nodes on loopback, with clocks and randomness under the tests' control.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stele_rpc::join::JoinService;
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::quic::address::AddressBook;
use stele_rpc::quic::authorize;
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::quic::endpoint::{EndpointOptions, QuicEndpoint, Socket};
use stele_rpc::quic::packets::{PacketNetwork, Path};
use stele_rpc::quic::server::{Handlers, QuicServer};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::authority::{ClusterCa, NodeKey, Validity};
use stele_rpc::tls::credentials::Credentials;
use stele_rpc::tls::identity::Identity;
use stele_rpc::transport::{Service, SharedTransport};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng, UnixMillis};

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const NOW: UnixMillis = 1_790_000_000_000;
pub(crate) const CLIENT: NodeId = NodeId(1);
pub(crate) const SERVER: NodeId = NodeId(2);

/// A clock that stands still until it is set.
#[derive(Debug)]
pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn at(now: UnixMillis) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now)))
    }

    pub(crate) fn set(&self, now: UnixMillis) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn unix_millis(&self) -> UnixMillis {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic_micros(&self) -> u64 {
        self.unix_millis() * 1000
    }
}

/// Different bytes at each call, the same in each run.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Rng for Counter {
    fn fill(&self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            piece.copy_from_slice(&(next ^ next >> 29).to_le_bytes()[..piece.len()]);
        }
    }
}

pub(crate) fn cluster(byte: u8) -> ClusterId {
    ClusterId::from_bytes([byte; 16])
}

pub(crate) fn new_ca(byte: u8) -> ClusterCa {
    let validity = Validity { now: NOW, lifetime: Duration::from_secs(10 * 365 * 86400) };
    ClusterCa::create(cluster(byte), validity, &Counter::default()).unwrap()
}

/// Credentials of one node, valid for a day.
pub(crate) fn credentials(ca: &ClusterCa, role: Role, node: NodeId) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let identity = Identity { cluster: ca.cluster(), role, node };
    let validity = Validity { now: NOW, lifetime: Duration::from_millis(24 * HOUR) };
    let rng = Counter::default();
    let certificate = ca.issue(identity, &key.signing_request().unwrap(), validity, &rng).unwrap();
    Credentials::from_pem(&certificate, &key.key_pem(), ca.certificate_pem()).unwrap()
}

pub(crate) fn loopback() -> Socket {
    Socket::Udp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Small enough that tests of what never answers are short.
pub(crate) fn config() -> QuicConfig {
    QuicConfig { connect_timeout: Duration::from_secs(20), ..QuicConfig::default() }
}

pub(crate) fn endpoint(credentials: Credentials, clock: Arc<Hand>, config: QuicConfig) -> Arc<QuicEndpoint> {
    endpoint_on(loopback(), credentials, clock, config)
}

pub(crate) fn endpoint_on(
    socket: Socket,
    credentials: Credentials,
    clock: Arc<Hand>,
    config: QuicConfig,
) -> Arc<QuicEndpoint> {
    // Two endpoints that draw the same connection ids would be one peer to whoever they dial.
    static ENDPOINTS: AtomicU64 = AtomicU64::new(1);
    let rng = Counter(AtomicU64::new(ENDPOINTS.fetch_add(1, Ordering::Relaxed) << 32));
    QuicEndpoint::bind(EndpointOptions { config, socket, credentials, clock, rng: Arc::new(rng) }).unwrap()
}

/// A node that answers.
pub(crate) struct Node {
    pub(crate) endpoint: Arc<QuicEndpoint>,
    pub(crate) server: QuicServer,
    pub(crate) address: String,
}

pub(crate) fn serve(endpoint: Arc<QuicEndpoint>, service: Arc<dyn Service>) -> Node {
    serve_join(endpoint, service, None)
}

pub(crate) fn serve_join(
    endpoint: Arc<QuicEndpoint>,
    service: Arc<dyn Service>,
    join: Option<Arc<dyn JoinService>>,
) -> Node {
    let address = endpoint.local_addr().unwrap().to_string();
    let handlers = Handlers { service, authorizer: authorize::standard(), join };
    let server = QuicServer::start(Arc::clone(&endpoint), handlers);
    Node { endpoint, server, address }
}

pub(crate) fn book(entries: &[(NodeId, &str)]) -> AddressBook {
    let row = |(node, address): &(NodeId, &str)| (*node, vec![(*address).to_owned()]);
    AddressBook::new(entries.iter().map(row).collect::<BTreeMap<_, _>>())
}

/// A caller of `SERVER` at `address`, with its own clock at `NOW`.
pub(crate) fn caller(ca: &ClusterCa, role: Role, address: &str) -> QuicTransport {
    let endpoint = endpoint(credentials(ca, role, CLIENT), Hand::at(NOW), config());
    QuicTransport::new(endpoint, book(&[(SERVER, address)]))
}

/// Loses, repeats and reorders a few datagrams, always the same ones.
#[derive(Debug, Default)]
struct Rough(AtomicU64);

impl Path for Rough {
    fn carry(&self, _: SocketAddr, _: SocketAddr, _: usize) -> Vec<Duration> {
        let (soon, late) = (Duration::from_micros(200), Duration::from_millis(3));
        match self.0.fetch_add(1, Ordering::Relaxed) % 101 {
            7 => vec![],
            13 => vec![soon, late],
            29 => vec![late],
            _ => vec![soon],
        }
    }
}

/// One transport between `CLIENT` and `SERVER`, for tests that hold on all.
pub(crate) enum World {
    Memory(Arc<MemoryNetwork>),
    Quic(Box<QuicWorld>),
}

pub(crate) struct QuicWorld {
    ca: ClusterCa,
    /// Without it sockets are the kernel's.
    packets: Option<Arc<PacketNetwork>>,
    book: AddressBook,
    client: QuicTransport,
    server: Option<Node>,
}

impl World {
    /// In memory, over the kernel's UDP, and over simulated packets.
    pub(crate) fn all() -> [Self; 3] {
        let rough = PacketNetwork::new(Arc::new(Rough::default()));
        [Self::Memory(Arc::default()), Self::quic(None), Self::quic(Some(rough))]
    }

    fn quic(packets: Option<Arc<PacketNetwork>>) -> Self {
        let ca = new_ca(7);
        let client = credentials(&ca, Role::S3Gateway, CLIENT);
        let client = endpoint_on(socket(packets.as_ref(), CLIENT), client, Hand::at(NOW), config());
        let book = AddressBook::default();
        let client = QuicTransport::new(client, book.clone());
        Self::Quic(Box::new(QuicWorld { ca, packets, book, client, server: None }))
    }

    pub(crate) fn start(&mut self, service: Arc<dyn Service>) {
        match self {
            Self::Memory(network) => network.bind(SERVER, service),
            Self::Quic(world) => {
                let server = credentials(&world.ca, Role::StorageNode, SERVER);
                let socket = socket(world.packets.as_ref(), SERVER);
                let node = serve(endpoint_on(socket, server, Hand::at(NOW), config()), service);
                world.book.set(SERVER, vec![node.address.clone()]);
                world.server = Some(node);
            }
        }
    }

    pub(crate) async fn stop(&mut self) {
        match self {
            Self::Memory(network) => network.unbind(SERVER),
            Self::Quic(world) => {
                if let Some(Node { endpoint, server, .. }) = world.server.take() {
                    server.shutdown(Duration::ZERO).await;
                    endpoint.close().await;
                }
            }
        }
    }

    pub(crate) fn transport(&self) -> SharedTransport {
        match self {
            Self::Memory(network) => Arc::new(network.transport(CLIENT)),
            Self::Quic(world) => Arc::new(world.client.clone()),
        }
    }
}

fn socket(packets: Option<&Arc<PacketNetwork>>, node: NodeId) -> Socket {
    let address = |node: NodeId| SocketAddr::from(([10, 0, 0, u8::try_from(node.0).unwrap()], 9100));
    packets.map_or_else(loopback, |network| network.bind(address(node)))
}
