//! One peer as seen from the calling side, for one class of calls: its connection, opened once for all who wait for it, the
//! bounds on calls to it, and the state of the path.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use stele_types::ids::NodeId;
use tokio::sync::Semaphore;

use super::address::AddressBook;
use super::config::{MTU_MIN, QuicConfig};
use super::endpoint::QuicEndpoint;
use super::errors::{CLOSE_HELLO, describe};
use super::frame::{FrameLimits, decode, encode};
use super::hello::{HELLO_BYTES_MAX, Hello};
use super::stream::exchange_once;
use crate::error::{Code, RpcError};
use crate::tls::identity::Identity;
use crate::tls::verify::server_name;
use crate::transport::Class;

/// Most socket addresses tried for one name.
const ADDRESSES_MAX: usize = 8;

/// The path to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathReport {
    /// The peer.
    pub peer: NodeId,
    /// UDP payload in use, bytes; 0 while there is no connection.
    pub mtu: u16,
    /// Round trip, microseconds.
    pub rtt_us: u64,
    /// Packets lost on this connection.
    pub lost: u64,
    /// What is wrong with the path, and what to do; `None` if nothing is.
    pub problem: Option<String>,
}

type Dial = Shared<BoxFuture<'static, Result<quinn::Connection, RpcError>>>;

enum Link {
    Idle,
    Dialling(Dial),
    Up(quinn::Connection),
}

struct State {
    link: Link,
    problem: Option<String>,
}

pub(super) struct Peer {
    pub(super) node: NodeId,
    class: Class,
    pub(super) in_flight: Semaphore,
    pub(super) repair: Semaphore,
    mtu_cap: AtomicU16,
    state: Mutex<State>,
}

impl Peer {
    pub(super) fn new((node, class): (NodeId, Class), config: &QuicConfig) -> Self {
        Self {
            node,
            class,
            in_flight: Semaphore::new(config.in_flight_max as usize),
            repair: Semaphore::new(config.repair_in_flight_max as usize),
            mtu_cap: AtomicU16::new(config.mtu_cap),
            state: Mutex::new(State { link: Link::Idle, problem: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that lives, dialled if there is none. All who ask meanwhile wait for the same dial,
    /// which goes on if one of them gives up.
    pub(super) async fn connection(
        self: &Arc<Self>,
        endpoint: &Arc<QuicEndpoint>,
        book: &AddressBook,
    ) -> Result<quinn::Connection, RpcError> {
        let dial = {
            let mut state = self.state();
            match &state.link {
                Link::Up(connection) if connection.close_reason().is_none() => return Ok(connection.clone()),
                Link::Dialling(dial) => dial.clone(),
                Link::Up(_) | Link::Idle => {
                    self.watch_path(&mut state);
                    let dial = self.start(Arc::clone(endpoint), book.clone());
                    state.link = Link::Dialling(dial.clone());
                    dial
                }
            }
        };
        dial.await
    }

    fn start(self: &Arc<Self>, endpoint: Arc<QuicEndpoint>, book: AddressBook) -> Dial {
        let me = Arc::clone(self);
        let task = tokio::spawn(async move {
            let cap = me.mtu_cap.load(Ordering::Relaxed);
            let dialled = dial((me.node, me.class), &endpoint, &book, cap).await;
            let mut state = me.state();
            match &dialled {
                Ok(connection) => {
                    state.link = Link::Up(connection.clone());
                    state.problem = None;
                }
                Err(error) => {
                    state.link = Link::Idle;
                    state.problem = Some(error.detail.clone());
                }
            }
            drop(state);
            dialled
        });
        let stopped = |_| Err(RpcError::new(Code::Unreachable, "this process is stopping"));
        async move { task.await.unwrap_or_else(stopped) }.boxed().shared()
    }

    /// Lowers the cap after a black hole, so that the next connection does not fall into it again.
    fn watch_path(&self, state: &mut State) {
        let Link::Up(connection) = &state.link else { return };
        let path = connection.stats().path;
        if path.black_holes_detected > 0 {
            let cap = path.current_mtu.max(MTU_MIN);
            let before = self.mtu_cap.fetch_min(cap, Ordering::Relaxed);
            if before > cap {
                tracing::warn!(peer = %self.node, before, cap, "datagrams over the cap vanish on this path; cap lowered");
            }
            state.problem = Some(format!(
                "datagrams of more than {cap} bytes vanish on this path; lower mtu_cap or repair the network's MTU"
            ));
        }
    }

    pub(super) fn report(&self, config: &QuicConfig) -> PathReport {
        let mut state = self.state();
        self.watch_path(&mut state);
        let mut report = PathReport { peer: self.node, mtu: 0, rtt_us: 0, lost: 0, problem: state.problem.clone() };
        if let Link::Up(connection) = &state.link
            && connection.close_reason().is_none()
        {
            let path = connection.stats().path;
            report.mtu = path.current_mtu;
            report.rtt_us = u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX);
            report.lost = path.lost_packets;
        }
        drop(state);
        if report.mtu > config.mtu_cap {
            report.problem = Some(format!("datagrams of {} bytes are over the cap {}", report.mtu, config.mtu_cap));
        } else if report.mtu != 0 && report.mtu < MTU_MIN {
            report.problem = Some(format!("datagrams of {} bytes are below {MTU_MIN}", report.mtu));
        }
        report
    }
}

/// Dials the addresses of a node in order. Nothing was asked of the node yet, so every failure is
/// `Unreachable`.
async fn dial(
    (node, class): (NodeId, Class),
    endpoint: &Arc<QuicEndpoint>,
    book: &AddressBook,
    mtu_cap: u16,
) -> Result<quinn::Connection, RpcError> {
    let addresses = book.addresses(node);
    if addresses.is_empty() {
        let detail = format!("node {node} has no known address; wait for the cluster map or add one");
        return Err(RpcError::new(Code::Unreachable, detail));
    }
    let mut failures = Vec::new();
    for name in addresses.iter().take(ADDRESSES_MAX) {
        let wait = endpoint.config.connect_timeout;
        let resolved: Vec<SocketAddr> = match tokio::time::timeout(wait, tokio::net::lookup_host(name)).await {
            Ok(Ok(found)) => found.take(ADDRESSES_MAX).collect(),
            Ok(Err(error)) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
            Err(_) => {
                failures.push(format!("{name}: the name server does not answer"));
                continue;
            }
        };
        for address in resolved {
            match tokio::time::timeout(wait, open((node, class), address, endpoint, mtu_cap)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(problem)) => failures.push(format!("{address}: {problem}")),
                Err(_) => failures.push(format!(
                    "{address}: no answer within {} ms; it is down, or the path does not carry UDP datagrams of {MTU_MIN} bytes",
                    wait.as_millis()
                )),
            }
        }
    }
    let detail = format!("node {node} can't be reached: {}", failures.join("; "));
    Err(RpcError::new(Code::Unreachable, detail))
}

async fn open(
    (node, class): (NodeId, Class),
    address: SocketAddr,
    endpoint: &Arc<QuicEndpoint>,
    mtu_cap: u16,
) -> Result<quinn::Connection, String> {
    let config = endpoint.client_config(mtu_cap, class);
    let connecting = endpoint.endpoint.connect_with(config, address, &server_name(node));
    let connection = connecting.map_err(|e| e.to_string())?.await.map_err(|e| describe(&e))?;
    let greeted = greet(&connection, endpoint.identity(), class).await;
    if let Err(problem) = &greeted {
        connection.close(CLOSE_HELLO, problem.as_bytes().get(..200).unwrap_or(problem.as_bytes()));
    }
    greeted.map(|()| connection)
}

/// The identity in a peer's certificate, which TLS has checked.
pub(super) fn peer_identity(connection: &quinn::Connection) -> Option<Identity> {
    let shown = connection.peer_identity()?;
    let chain = shown.downcast_ref::<Vec<rustls::pki_types::CertificateDer<'static>>>()?;
    Identity::of_certificate(chain.first()?).ok()
}

async fn greet(connection: &quinn::Connection, us: Identity, class: Class) -> Result<(), String> {
    let peer = peer_identity(connection).ok_or("the peer shows no certificate")?;
    let ours = Hello { class, ..Hello::of(us) };
    let limits = FrameLimits { header: HELLO_BYTES_MAX, body: 0 };
    let header = encode(&ours).map_err(|e| e.detail)?;
    let answer = exchange_once(connection, header, limits).await.map_err(|e| e.detail)?;
    let answer = decode::<Result<Hello, RpcError>>(&answer).map_err(|e| e.detail)?;
    ours.agree(&answer.map_err(|e| e.detail)?, peer).map(|_| ()).map_err(|e| e.detail)
}
