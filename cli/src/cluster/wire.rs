//! One process's way to the others: its UDP socket, the calling and the answering side, and who is where.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::join::JoinService;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::quic::address::AddressBook;
use stele_rpc::quic::authorize;
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::quic::endpoint::{EndpointOptions, QuicEndpoint, Socket};
use stele_rpc::quic::peer::PathReport;
use stele_rpc::quic::server::{Handlers, QuicServer};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::credentials::Credentials;
use stele_rpc::transport::{Reply, Request, Response, Service, SharedTransport, Transport};
use stele_types::ids::NodeId;
use stele_types::map::{ClusterMap, NodeState};
use stele_types::seam::{Clock, Rng};
use tokio::sync::watch;

use super::node_dir::Member;
use crate::config::Config;

/// How long calls under way may take once the process stops.
const GRACE: Duration = Duration::from_secs(5);
/// Patience with a node that is asked where the others are.
const PEERS_TIMEOUT: Duration = Duration::from_secs(2);

/// The calling side, and the socket both sides share.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) endpoint: Arc<QuicEndpoint>,
    pub(crate) quic: QuicTransport,
    pub(crate) book: AddressBook,
    /// The map as last heard of; the default one before that.
    pub(crate) map: watch::Sender<ClusterMap>,
}

impl Wire {
    /// Binds the socket. Dials nobody yet.
    ///
    /// # Errors
    /// The address is taken, or the credentials are unusable.
    pub(crate) fn open(
        address: SocketAddr,
        mtu_cap: u16,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> anyhow::Result<Self> {
        let config = QuicConfig { mtu_cap, ..QuicConfig::default() };
        let options = EndpointOptions { config, socket: Socket::Udp(address), credentials, clock, rng };
        let endpoint = QuicEndpoint::bind(options).context("choose another address with --rpc-addr")?;
        let book = AddressBook::default();
        let quic = QuicTransport::new(Arc::clone(&endpoint), book.clone());
        Ok(Self { endpoint, quic, book, map: watch::Sender::new(ClusterMap::default()) })
    }

    /// For a node of the cluster.
    ///
    /// # Errors
    /// As [`Wire::open`].
    pub(crate) fn of_node(
        config: &Config,
        member: &Member,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> anyhow::Result<Self> {
        let wire = Self::open(config.rpc.addr, config.rpc.mtu_cap, credentials, clock, rng)?;
        wire.book.replace(member.metadata.clone());
        Ok(wire)
    }

    pub(crate) fn transport(&self) -> SharedTransport {
        Arc::new(self.quic.clone())
    }

    pub(crate) fn meta(&self, member: &Member) -> MetaClient {
        MetaClient::new(self.transport(), member.metadata.keys().copied().collect::<Vec<_>>())
    }

    pub(crate) fn storage(&self) -> StorageClient {
        StorageClient::new(self.transport())
    }

    /// Answers others with `service` from now on; with `join`, strangers too.
    pub(crate) fn serve(&self, service: Arc<dyn Service>, join: Option<Arc<dyn JoinService>>) -> QuicServer {
        let service = Arc::new(Gate { inner: service, map: self.map.subscribe() });
        let handlers = Handlers { service, authorizer: authorize::standard(), join };
        QuicServer::start(Arc::clone(&self.endpoint), handlers)
    }

    /// Takes a map that is newer than the one at hand.
    pub(crate) fn take_map(&self, map: ClusterMap) {
        self.map.send_if_modified(|known| {
            let newer = map.epoch > known.epoch;
            if newer {
                *known = map;
            }
            newer
        });
    }

    /// Paths that something is wrong with.
    pub(crate) fn path_problems(&self) -> Vec<String> {
        let told =
            |report: PathReport| report.problem.map(|problem| format!("path to node {}: {problem}", report.peer));
        self.quic.paths().into_iter().filter_map(told).collect()
    }

    /// Asks metadata nodes, one after the other, where the others are now: those that are known may not lead, or
    /// have moved. What is learnt is added to what is known.
    pub(crate) async fn ask_for_peers(&self, meta: &MetaClient, known: impl Iterator<Item = NodeId>) {
        let mut nodes: Vec<NodeId> = known.collect();
        for node in nodes.clone() {
            let answer = self.quic.call(node, Request::meta(MetaRequest::Peers, PEERS_TIMEOUT)).await;
            let Ok(Response { reply: Reply::Meta(MetaReply::Peers(peers)), .. }) = answer else { continue };
            for (peer, addresses) in peers {
                self.book.set(peer, addresses);
                if !nodes.contains(&peer) {
                    nodes.push(peer);
                }
            }
            meta.set_nodes(nodes);
            return;
        }
    }

    /// Ends calls under way after a while, and tells everybody.
    pub(crate) async fn close(&self, server: QuicServer) {
        server.shutdown(GRACE).await;
        self.endpoint.close().await;
    }
}

/// Refuses nodes that were removed from the cluster, whatever their certificate says.
struct Gate {
    inner: Arc<dyn Service>,
    map: watch::Receiver<ClusterMap>,
}

#[async_trait]
impl Service for Gate {
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError> {
        let removed = self.map.borrow().node(from).is_some_and(|node| node.state == NodeState::Removed);
        if removed {
            tracing::warn!(%from, "a removed node was refused");
            return Err(RpcError::new(Code::Forbidden, format!("node {from} was removed from the cluster: stop it")));
        }
        self.inner.serve(from, request).await
    }
}

/// A transport of a process that also answers: calls to itself do not leave it.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) me: NodeId,
    pub(crate) service: Arc<std::sync::OnceLock<Arc<dyn Service>>>,
    pub(crate) quic: QuicTransport,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("me", &self.me).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for Home {
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        let Some(service) = self.service.get().filter(|_| to == self.me) else {
            return self.quic.call(to, request).await;
        };
        let timeout = request.timeout;
        match tokio::time::timeout(timeout, service.serve(self.me, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(RpcError::new(Code::DeadlineExceeded, "this node itself did not answer in time")),
        }
    }
}
