//! Which storage nodes answer.
//!
//! A node that hangs takes a request and says nothing. To wait out the patience of a whole shard write
//! each time would stop every writer, and a short patience would drop nodes that are merely busy. So a
//! call that has waited for a moment makes the gateway *doubt* the node and ask it something
//! small. If that is not answered either, the node is *away*: every call to it, under way or
//! new, for whichever of its drives, ends at once. From then on only probes wait for it, and the first
//! one that is answered brings it back. Requests of clients never probe. Nodes are often lost together (a
//! rack, a cut network), so when one is away, all the others are asked too: several that hang cost a
//! write little more than one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::client::StorageClient;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_types::ids::NodeId;
use stele_types::seam::Clock;
use tokio::sync::watch;

/// First pause between probes of a node that is away; doubled each time.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A call that was given up unanswered after this share of the first doubt casts doubt too. Hedged reads
/// never wait longer, and they are the first to meet a node that hangs.
const GIVEN_UP_SHARE: u32 = 10;

/// What is known of a node.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Why it is away, if it is.
    away: Option<Arc<str>>,
    /// Probes that ended.
    probes: u64,
}

#[derive(Debug, Default)]
struct Peer {
    standing: watch::Sender<Standing>,
    /// A task probes it.
    probing: bool,
}

/// All storage nodes that this gateway called.
#[derive(Debug)]
pub(crate) struct Nodes {
    storage: StorageClient,
    clock: Arc<dyn Clock>,
    doubt_after: Duration,
    probe_timeout: Duration,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    this: Weak<Self>,
}

/// A call under way; dropped without an answer, it may cast doubt on the node.
struct Asked<'a> {
    nodes: &'a Nodes,
    node: NodeId,
    since: u64,
    settled: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let waited = Duration::from_micros(self.nodes.clock.monotonic_micros().saturating_sub(self.since));
        if !self.settled && waited >= self.nodes.doubt_after / GIVEN_UP_SHARE {
            self.nodes.doubt(self.node);
        }
    }
}

impl Nodes {
    pub(crate) fn new(
        storage: StorageClient,
        clock: Arc<dyn Clock>,
        doubt_after: Duration,
        probe_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            storage,
            clock,
            doubt_after,
            probe_timeout,
            peers: Mutex::default(),
            this: Weak::clone(this),
        })
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a node is away; `None` if nothing is known against it.
    pub(crate) fn away(&self, node: NodeId) -> Option<Arc<str>> {
        self.peers().get(&node).and_then(|peer| peer.standing.borrow().away.clone())
    }

    /// Nodes that are away.
    pub(crate) fn all_away(&self) -> BTreeSet<NodeId> {
        let peers = self.peers();
        peers.iter().filter(|(_, peer)| peer.standing.borrow().away.is_some()).map(|(node, _)| *node).collect()
    }

    /// Takes the nodes of a newer map. Those that left the cluster are forgotten; their probes end.
    pub(crate) fn set_members(&self, members: &BTreeSet<NodeId>) {
        let mut peers = self.peers();
        peers.retain(|node, _| members.contains(node));
        for member in members {
            peers.entry(*member).or_default();
        }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// What the node answered. `Unreachable` at once if it is away, and soon if it turns out to be: for a
    /// store the outcome is unknown then.
    ///
    /// # Cancel
    /// As the transport's.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        request: StorageRequest,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(StorageReply, Bytes), RpcError> {
        let mut standing = self.peers().entry(node).or_default().standing.subscribe();
        if let Some(why) = &standing.borrow().away {
            return Err(is_away(node, why));
        }
        let mut asked = Asked { nodes: self, node, since: self.clock.monotonic_micros(), settled: false };
        let call = self.storage.call(node, request, body, timeout);
        tokio::pin!(call);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut call => break answer,
                why = gone(&mut standing) => {
                    asked.settled = true;
                    return Err(is_away(node, &why));
                }
                () = tokio::time::sleep(self.doubt_after) => self.doubt(node),
            }
        };
        asked.settled = true;
        if let Err(error) = &answer {
            match error.code {
                Code::Unreachable => self.lost(node, &error.detail),
                // It took the request and was lost, or the drive hangs: a probe tells which.
                Code::DeadlineExceeded => {
                    let seen = standing.borrow().probes;
                    self.doubt(node);
                    // The nodes live as long as this call.
                    standing.wait_for(|now| now.away.is_some() || now.probes > seen).await.ok();
                }
                _ => {}
            }
        }
        answer
    }

    /// Probes a node that may be away.
    fn doubt(&self, node: NodeId) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&node) else { return };
        if !peer.probing {
            peer.probing = self.start_probes(node, Duration::ZERO);
        }
    }

    /// Notes that a node can't be reached.
    fn lost(&self, node: NodeId, why: &str) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&node) else { return };
        let news = set_away(node, peer, why);
        if !peer.probing {
            peer.probing = self.start_probes(node, PROBE_PAUSE);
        }
        if news {
            self.doubt_all(&mut peers);
        }
    }

    fn doubt_all(&self, peers: &mut BTreeMap<NodeId, Peer>) {
        for (node, peer) in peers.iter_mut().filter(|(_, peer)| !peer.probing) {
            peer.probing = self.start_probes(*node, Duration::ZERO);
        }
    }

    /// False while the process ends, when nothing can be started any more.
    fn start_probes(&self, node: NodeId, pause: Duration) -> bool {
        let runtime = tokio::runtime::Handle::try_current();
        runtime.map(|runtime| drop(runtime.spawn(probe(Weak::clone(&self.this), node, pause)))).is_ok()
    }

    /// Takes the outcome of a probe into account. True if no further one is needed.
    fn probed(&self, node: NodeId, outcome: Result<(), RpcError>) -> bool {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&node) else { return true };
        match outcome {
            Ok(()) => {
                peer.probing = false;
                peer.standing.send_modify(|standing| {
                    standing.probes += 1;
                    if standing.away.take().is_some() {
                        tracing::info!(%node, "storage node answers again");
                    }
                });
                true
            }
            Err(error) => {
                if set_away(node, peer, &error.detail) {
                    self.doubt_all(&mut peers);
                }
                false
            }
        }
    }
}

fn is_away(node: NodeId, why: &str) -> RpcError {
    RpcError::new(Code::Unreachable, format!("node {node} does not answer: {why}"))
}

/// True if that is news.
fn set_away(node: NodeId, peer: &Peer, why: &str) -> bool {
    let mut news = false;
    peer.standing.send_modify(|standing| {
        standing.probes += 1;
        news = standing.away.is_none();
        standing.away = Some(why.into());
    });
    if news {
        tracing::warn!(%node, why, "storage node is away; its drives are avoided until it answers");
    }
    news
}

/// Waits until the node is away.
async fn gone(standing: &mut watch::Receiver<Standing>) -> Arc<str> {
    match standing.wait_for(|now| now.away.is_some()).await.map(|now| now.away.clone()) {
        Ok(Some(why)) => why,
        // The node left the cluster: nothing more will be heard of it.
        Ok(None) | Err(_) => "it is not in the cluster any more".into(),
    }
}

/// Asks a node something small until it answers or is forgotten. Any answer will do.
async fn probe(nodes: Weak<Nodes>, node: NodeId, mut pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(nodes) = nodes.upgrade() else { return };
        let answer = nodes.storage.call(node, StorageRequest::Drives, Bytes::new(), nodes.probe_timeout).await;
        let outcome = match answer {
            Err(error) if matches!(error.code, Code::Unreachable | Code::DeadlineExceeded) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        };
        if nodes.probed(node, outcome) {
            return;
        }
        pause = (pause * 2).clamp(PROBE_PAUSE, PROBE_PAUSE_MAX);
    }
}
