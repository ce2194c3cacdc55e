//! The client of the metadata service: finds the node that leads, and follows it when it changes.
//!
//! With one node a request is one call. With several, each node gets a bounded share of the caller's
//! timeout, and the same request goes round them until one answers. A node that let its share pass is
//! left out for a while, whatever others say of who leads: they learn of a dead leader later than we do.
//!
//! Repeating is safe. A read changes nothing; a command under a lease carries its sequence, and the
//! state machine answers a repeat from the reply it remembers; a command without a lease is idempotent
//! by nature ([`CommandEnvelope::lease`]). What must not get lost is doubt: once an attempt was left
//! without an answer, no later "not done" speaks for it, and the call ends as `DeadlineExceeded`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use stele_types::ids::NodeId;
use tokio::time::Instant;

use crate::client::unexpected;
use crate::error::{Code, RpcError};
use crate::meta::{CommandEnvelope, MetaReply, MetaRequest};
use crate::transport::{Reply, Request, SharedTransport};

/// First pause after every node was asked in vain; doubled each round.
const ROUND_PAUSE: Duration = Duration::from_millis(25);
/// Longest such pause.
const ROUND_PAUSE_MAX: Duration = Duration::from_millis(400);
/// How long one of several nodes may take; doubled each time the same node takes longer, so that a
/// leader that is merely slow is heard out.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long a node that took longer is left out. An election takes up to twice the shortest one, and
/// until then the others name the old leader.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// The metadata nodes of a cluster; at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaNodes(Vec<NodeId>);

impl From<NodeId> for MetaNodes {
    fn from(node: NodeId) -> Self {
        Self(vec![node])
    }
}

impl From<Vec<NodeId>> for MetaNodes {
    fn from(nodes: Vec<NodeId>) -> Self {
        Self(nodes)
    }
}

/// What calls learned about the nodes, for the calls after them.
#[derive(Debug, Default)]
struct Learned {
    /// Whom to ask first: the node that led when it was last heard of.
    first: Option<NodeId>,
    /// Until when a node is left out.
    silent_until: BTreeMap<NodeId, Instant>,
}

/// Speaks to the metadata service. Clones share what they learned about the leader.
#[derive(Clone, Debug)]
pub struct MetaClient {
    transport: SharedTransport,
    nodes: Arc<ArcSwap<Vec<NodeId>>>,
    learned: Arc<Mutex<Learned>>,
}

impl MetaClient {
    /// A client of the metadata service on `nodes`: one, or all of a cluster.
    pub fn new(transport: SharedTransport, nodes: impl Into<MetaNodes>) -> Self {
        Self { transport, nodes: Arc::new(ArcSwap::from_pointee(nodes.into().0)), learned: Arc::default() }
    }

    /// Asks these nodes from now on.
    pub fn set_nodes(&self, nodes: impl Into<MetaNodes>) {
        let nodes = nodes.into().0;
        self.learned().silent_until.retain(|node, _| nodes.contains(node));
        self.nodes.store(Arc::new(nodes));
    }

    /// Sends one request to the node that leads.
    ///
    /// # Errors
    /// What the service answered; `Unreachable` and `NotLeader`: certainly without effect;
    /// `DeadlineExceeded`: outcome unknown.
    pub async fn call(&self, request: MetaRequest, timeout: Duration) -> Result<MetaReply, RpcError> {
        let deadline = Instant::now() + timeout;
        let changes = matches!(request, MetaRequest::Command(_));
        let nodes = self.nodes.load_full();
        let position = |node: NodeId| nodes.iter().position(|known| *known == node);
        let first = self.learned().first.and_then(position).unwrap_or_default();
        let mut search = Search::new(nodes.len(), first, changes);
        let mut pause = ROUND_PAUSE;
        loop {
            let now = Instant::now();
            let next = search.next(&self.silent(&nodes, now));
            let Some((at, node)) = next.and_then(|at| Some((at, *nodes.get(at)?))) else {
                return Err(RpcError::new(Code::Unreachable, "no metadata node is configured: name at least one"));
            };
            let left = deadline.saturating_duration_since(now);
            let error = match self.call_node(node, request.clone(), search.patience(at, left)).await {
                Ok(reply) => {
                    let mut learned = self.learned();
                    learned.first = Some(node);
                    learned.silent_until.remove(&node);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            if error.code == Code::DeadlineExceeded {
                let mut learned = self.learned();
                learned.silent_until.insert(node, Instant::now() + SILENT_FOR);
                learned.first = nodes.get(search.after(at)).copied();
            }
            let hint = error.leader.and_then(position);
            let Some(round_ended) = search.note(at, error.code, hint) else {
                return Err(search.verdict(error));
            };
            let rest = if round_ended { pause } else { Duration::ZERO };
            if nodes.len() == 1 || Instant::now() + rest >= deadline {
                return Err(search.verdict(error));
            }
            if round_ended {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ROUND_PAUSE_MAX);
            }
        }
    }

    /// Sends one command. It may be sent more than once, always with the same envelope.
    ///
    /// # Errors
    /// As [`MetaClient::call`]. After `DeadlineExceeded` the outcome is unknown: repeat the same envelope.
    pub async fn command(&self, envelope: CommandEnvelope, timeout: Duration) -> Result<MetaReply, RpcError> {
        self.call(MetaRequest::Command(Box::new(envelope)), timeout).await
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By position: whether the node is left out.
    fn silent(&self, nodes: &[NodeId], now: Instant) -> Vec<bool> {
        let learned = self.learned();
        nodes.iter().map(|node| learned.silent_until.get(node).is_some_and(|until| now < *until)).collect()
    }

    async fn call_node(&self, node: NodeId, request: MetaRequest, timeout: Duration) -> Result<MetaReply, RpcError> {
        match self.transport.call(node, Request::meta(request, timeout)).await?.reply {
            Reply::Meta(reply) => Ok(reply),
            Reply::Storage(_) | Reply::Raft(_) | Reply::Renewed { .. } => {
                Err(unexpected("another service's reply to a metadata request"))
            }
        }
    }
}

/// Whom one request asks next, and what is known of its outcome. Pure.
#[derive(Debug)]
struct Search {
    /// Whom to ask next, unless it is silent.
    at: usize,
    asked: usize,
    /// Nodes asked since the last pause.
    in_round: usize,
    /// Nodes of this round that are not left out.
    round: usize,
    /// By position: shares that passed without an answer.
    silences: Vec<u32>,
    /// It is a command, so it may have an effect.
    changes: bool,
    /// Some attempt of a command was left without an answer.
    doubt: bool,
}

impl Search {
    fn new(nodes: usize, first: usize, changes: bool) -> Self {
        Self { at: first, asked: 0, in_round: 0, round: nodes, silences: vec![0; nodes], changes, doubt: false }
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) % self.silences.len().max(1)
    }

    /// The next node to ask: silent ones only if all are.
    fn next(&mut self, silent: &[bool]) -> Option<usize> {
        let heard = silent.iter().filter(|silent| !**silent).count();
        self.round = if heard == 0 { silent.len() } else { heard };
        let mut at = self.at;
        for _ in 0..silent.len() {
            if heard == 0 || silent.get(at) == Some(&false) {
                break;
            }
            at = self.after(at);
        }
        (at < silent.len()).then_some(at)
    }

    /// How long this node may take. A read leaves time to ask another node however short its timeout
    /// is; the caller of a command repeats that itself.
    fn patience(&self, at: usize, left: Duration) -> Duration {
        if self.silences.len() == 1 {
            return left;
        }
        let doublings = self.silences.get(at).copied().unwrap_or_default().min(8);
        let share = if self.changes { left } else { left / 2 };
        share.min(ATTEMPT * 2u32.pow(doublings))
    }

    /// Takes an error into account. True if a round ended; `None` if the error is the answer.
    fn note(&mut self, at: usize, code: Code, hint: Option<usize>) -> Option<bool> {
        match code {
            Code::NotLeader | Code::Unreachable => {}
            Code::DeadlineExceeded => {
                self.doubt = self.changes;
                if let Some(silences) = self.silences.get_mut(at) {
                    *silences += 1;
                }
            }
            _ => return None,
        }
        // A hint that leads in circles must not keep the other nodes from being asked.
        let follow = |hint: &usize| *hint != at && self.asked.is_multiple_of(2);
        self.at = hint.filter(follow).unwrap_or_else(|| self.after(at));
        self.asked += 1;
        self.in_round += 1;
        let ended = self.in_round >= self.round;
        if ended {
            self.in_round = 0;
        }
        Some(ended)
    }

    /// The error of the whole call. An attempt that nobody answered may have been applied, also if a
    /// later one was turned away before it reached the log, or after the lease had ended.
    fn verdict(&self, error: RpcError) -> RpcError {
        let turned_away = matches!(error.code, Code::NotLeader | Code::Unreachable | Code::Busy | Code::NoLease);
        if !(self.doubt && turned_away) {
            return error;
        }
        let detail = format!("an earlier attempt was not answered, and the last one says: {}", error.detail);
        RpcError::new(Code::DeadlineExceeded, detail)
    }
}
