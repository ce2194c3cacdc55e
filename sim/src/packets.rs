//! The network of a run as packets: every process has a real QUIC endpoint, and each datagram between two of
//! them is delayed, lost, repeated, overtaken or too large, as the seed says.
//!
//! Keys, certificates and whatever TLS draws for a handshake follow from the seed as well: what a process makes of a
//! packet that is not meant for it depends on the packet's bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use stele_rpc::error::RpcError;
use stele_rpc::quic::address::AddressBook;
use stele_rpc::quic::authorize;
use stele_rpc::quic::config::{MTU_MIN, QuicConfig};
use stele_rpc::quic::endpoint::{EndpointOptions, QuicEndpoint};
use stele_rpc::quic::packets::{PacketNetwork, Path};
use stele_rpc::quic::server::{Handlers, QuicServer};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::authority::{ClusterCa, Validity};
use stele_rpc::tls::identity::Identity;
use stele_rpc::tls::seeded;
use stele_rpc::transport::{Request, Response, Service, Transport};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::seam::{Clock, random_bytes};

use crate::names::{message_name, reply_name};
use crate::net::{Alive, Conditions, SimNet};
use crate::runtime::SimClock;
use crate::seed::SimRng;
use crate::topology::role;

/// Packets of one way differ by this much in their delay, microseconds.
const JITTER: u64 = 200;
/// A packet that is overtaken is so much later at most, microseconds.
const OVERTAKEN: u64 = 40_000;
/// Certificates outlive every run.
const LIFETIME: Duration = Duration::from_secs(365 * 86400);

/// Endpoints of one boot phase.
#[derive(Debug)]
pub(crate) struct QuicNet {
    packets: Arc<PacketNetwork>,
    path: Arc<SeededPath>,
    book: AddressBook,
    ca: ClusterCa,
    clock: Arc<SimClock>,
    rng: SimRng,
    processes: Mutex<BTreeMap<NodeId, Process>>,
}

/// One incarnation of a process as far as the network knows it.
#[derive(Debug)]
struct Process {
    alive: Alive,
    endpoint: Arc<QuicEndpoint>,
    transport: QuicTransport,
    server: Option<QuicServer>,
}

impl QuicNet {
    pub(crate) fn new(rng: &SimRng, clock: Arc<SimClock>, conditions: Arc<Conditions>) -> Self {
        let path = Arc::new(SeededPath::new(rng.stream("packets"), conditions));
        let keys = rng.stream("keys");
        seeded::draw_from(Arc::new(rng.stream("handshakes")));
        let cluster = ClusterId::from_bytes(random_bytes(&keys));
        let ca = seeded::authority(cluster, validity(&clock), &keys).expect("a CA follows from any seed");
        let addresses = (1..=u8::MAX).map(|node| (NodeId(node.into()), vec![address(NodeId(node.into())).to_string()]));
        Self {
            packets: PacketNetwork::new(Arc::clone(&path) as Arc<_>),
            path,
            book: AddressBook::new(addresses.collect()),
            ca,
            clock,
            rng: rng.stream("endpoints"),
            processes: Mutex::default(),
        }
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this incarnation answer.
    pub(crate) fn bind(&self, node: NodeId, service: Arc<dyn Service>, alive: &Alive) {
        let mut processes = self.processes();
        let process = self.process(&mut processes, node, alive);
        let handlers = Handlers { service, authorizer: authorize::standard(), join: None };
        process.server = Some(QuicServer::start(Arc::clone(&process.endpoint), handlers));
    }

    /// The process is gone: no peer is told, and its address is free for the next one.
    pub(crate) fn unbind(&self, node: NodeId) {
        self.packets.unbind(address(node));
        self.processes().remove(&node);
    }

    pub(crate) fn transport(&self, node: NodeId, alive: &Alive) -> QuicTransport {
        self.process(&mut self.processes(), node, alive).transport.clone()
    }

    /// From now on some of the paths carry less than before, if the seed says so.
    pub(crate) fn narrow(&self) {
        self.path.narrowed.store(true, Ordering::Relaxed);
    }

    /// The endpoint of this incarnation; that of an earlier one is dead from then on.
    fn process<'a>(
        &self,
        processes: &'a mut BTreeMap<NodeId, Process>,
        node: NodeId,
        alive: &Alive,
    ) -> &'a mut Process {
        if !processes.get(&node).is_some_and(|process| Arc::ptr_eq(&process.alive, alive)) {
            let process = self.start(node, alive);
            processes.insert(node, process);
        }
        processes.get_mut(&node).expect("it was just inserted")
    }

    fn start(&self, node: NodeId, alive: &Alive) -> Process {
        let identity = Identity { cluster: self.ca.cluster(), role: role(node), node };
        // A process that starts again has the key it had, so that peers learn of the restart by a stateless reset.
        let keys = self.rng.stream(&format!("key {node}"));
        let credentials = seeded::credentials(&self.ca, identity, validity(&self.clock), &keys);
        let options = EndpointOptions {
            config: QuicConfig::default(),
            socket: self.packets.bind(address(node)),
            credentials: credentials.expect("credentials follow from any seed"),
            clock: Arc::clone(&self.clock) as Arc<_>,
            rng: Arc::new(self.rng.stream(&format!("endpoint {node} {}", self.rng.number()))),
        };
        let endpoint = QuicEndpoint::bind(options).expect("a simulated socket can always be bound");
        let transport = QuicTransport::new(Arc::clone(&endpoint), self.book.clone());
        Process { alive: Arc::clone(alive), endpoint, transport, server: None }
    }
}

fn validity(clock: &SimClock) -> Validity {
    Validity { now: clock.unix_millis(), lifetime: LIFETIME }
}

fn address(node: NodeId) -> SocketAddr {
    let [.., high, low] = node.0.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 9100))
}

fn node(address: SocketAddr) -> NodeId {
    match address {
        SocketAddr::V4(address) => {
            let [_, _, high, low] = address.ip().octets();
            NodeId(u16::from_be_bytes([high, low]).into())
        }
        SocketAddr::V6(_) => NodeId(0),
    }
}

/// Decides by the seed what becomes of each datagram.
#[derive(Debug)]
struct SeededPath {
    conditions: Arc<Conditions>,
    rng: SimRng,
    /// Datagrams over this size vanish once the paths are narrowed.
    limit: usize,
    narrowed: AtomicBool,
    sent: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
}

impl SeededPath {
    fn new(rng: SimRng, conditions: Arc<Conditions>) -> Self {
        let limit = if rng.chance(300) { usize::from(MTU_MIN) + rng.index(250) } else { usize::MAX };
        let (narrowed, zero) = (AtomicBool::new(false), || AtomicU64::new(0));
        Self { conditions, rng, limit, narrowed, sent: zero(), bytes: zero(), lost: zero() }
    }

    fn copies(&self, from: NodeId, to: NodeId, len: usize) -> Vec<Duration> {
        let (rng, faults, way) = (&self.rng, self.conditions.faults(), self.conditions.way(from, to));
        // Each way has a latency of its own and keeps the order of packets, as most do.
        let share = (from.0 * 7 + to.0 * 3) % 16 + 1;
        let mut delay = way.micros + faults.delay_micros * share / 16 + rng.below(JITTER);
        if rng.chance(faults.late_command) {
            delay += rng.below(OVERTAKEN);
        }
        // In memory these are rates of messages, which take many packets.
        let lost = rng.chance(faults.drop_request.max(faults.drop_reply) / 2);
        let again = rng.chance(faults.duplicate).then(|| rng.below(faults.late_micros));
        let too_large = len > self.limit && self.narrowed.load(Ordering::Relaxed);
        if lost || too_large || way.cuts > 0 {
            return Vec::new();
        }
        let copies = std::iter::once(delay).chain(again.map(|later| delay + later));
        copies.map(Duration::from_micros).collect()
    }
}

impl Path for SeededPath {
    fn carry(&self, from: SocketAddr, to: SocketAddr, len: usize) -> Vec<Duration> {
        let copies = self.copies(node(from), node(to), len);
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.lost.fetch_add(u64::from(copies.is_empty()), Ordering::Relaxed);
        copies
    }
}

impl std::fmt::Display for QuicNet {
    /// How much was sent: two runs that differ in one datagram differ here.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [sent, bytes, lost] =
            [&self.path.sent, &self.path.bytes, &self.path.lost].map(|count| count.load(Ordering::Relaxed));
        write!(f, "{sent} packets of {bytes} bytes, {lost} lost")
    }
}

/// One incarnation's view of a network of packets.
#[derive(Clone, Debug)]
pub(crate) struct PacketTransport {
    pub(crate) net: Arc<SimNet>,
    pub(crate) quic: Arc<QuicNet>,
    pub(crate) inner: QuicTransport,
    pub(crate) from: NodeId,
    pub(crate) alive: Alive,
}

#[async_trait]
impl Transport for PacketTransport {
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        let what = message_name(&request.message);
        let call = self.net.begin_call(self.from, &request.message, &self.alive).await;
        let trace = self.net.trace();
        trace.line(format_args!("net #{call} {}>{to} {what}+{}", self.from, request.body.len()));
        let answer = self.inner.call(to, request).await;
        if !self.alive.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        match &answer {
            Ok(answer) => {
                let (name, len) = (reply_name(&answer.reply), answer.body.len());
                trace.line(format_args!("net #{call} {name}+{len}; {}", self.quic));
            }
            Err(error) => trace.line(format_args!("net #{call} {:?}; {}", error.code, self.quic)),
        }
        answer
    }
}
