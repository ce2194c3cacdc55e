//! The client of the metadata service: finds the node that leads, and follows it when it changes.
//!
//! With one node a request is one call. With several it goes round them on `NotLeader` and
//! `Unreachable`, which are certainly without effect, until the caller's timeout. A command whose
//! outcome is unknown (`DeadlineExceeded`) is handed back at once: only the caller may repeat it, with
//! the same envelope. The next call then begins at another node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

/// Speaks to the metadata service. Clones share what they learned about the leader.
#[derive(Clone, Debug)]
pub struct MetaClient {
    transport: SharedTransport,
    nodes: Arc<[NodeId]>,
    /// Position of the node that led when it was last heard of.
    leader: Arc<AtomicUsize>,
}

impl MetaClient {
    /// A client of the metadata service on `nodes`: one, or all of a cluster.
    pub fn new(transport: SharedTransport, nodes: impl Into<MetaNodes>) -> Self {
        Self { transport, nodes: nodes.into().0.into(), leader: Arc::default() }
    }

    /// Sends one request to the node that leads.
    ///
    /// # Errors
    /// What the service answered; `Unreachable` and `NotLeader`: certainly without effect;
    /// `DeadlineExceeded`: outcome unknown.
    pub async fn call(&self, request: MetaRequest, timeout: Duration) -> Result<MetaReply, RpcError> {
        let deadline = Instant::now() + timeout;
        let mut at = self.leader.load(Ordering::Relaxed);
        let mut asked = 0;
        let mut pause = ROUND_PAUSE;
        loop {
            let Some(&node) = self.nodes.get(at) else {
                return Err(RpcError::new(Code::Unreachable, "no metadata node is configured: name at least one"));
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.call_node(node, request.clone(), self.share(&request, left)).await;
            let error = match answer {
                Ok(reply) => {
                    self.leader.store(at, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let hint = match error.code {
                Code::NotLeader => error.leader.and_then(|leader| self.nodes.iter().position(|node| *node == leader)),
                Code::Unreachable => None,
                Code::DeadlineExceeded => {
                    self.leader.store(self.after(at), Ordering::Relaxed);
                    if matches!(request, MetaRequest::Command(_)) {
                        return Err(error);
                    }
                    None
                }
                _ => return Err(error),
            };
            // A hint that leads in circles must not keep the other nodes from being asked.
            at = hint.filter(|hint| *hint != at && asked % 2 == 0).unwrap_or_else(|| self.after(at));
            asked += 1;
            if self.nodes.len() == 1 || Instant::now() >= deadline {
                return Err(error);
            }
            if asked % self.nodes.len() == 0 {
                if Instant::now() + pause >= deadline {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ROUND_PAUSE_MAX);
            }
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// As [`MetaClient::call`]. After `DeadlineExceeded` the outcome is unknown: repeat the same envelope.
    pub async fn command(&self, envelope: CommandEnvelope, timeout: Duration) -> Result<MetaReply, RpcError> {
        self.call(MetaRequest::Command(Box::new(envelope)), timeout).await
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) % self.nodes.len().max(1)
    }

    /// How long one node may take: a read leaves time to ask another one.
    fn share(&self, request: &MetaRequest, left: Duration) -> Duration {
        if self.nodes.len() == 1 || matches!(request, MetaRequest::Command(_)) { left } else { left / 2 }
    }

    async fn call_node(&self, node: NodeId, request: MetaRequest, timeout: Duration) -> Result<MetaReply, RpcError> {
        match self.transport.call(node, Request::meta(request, timeout)).await?.reply {
            Reply::Meta(reply) => Ok(reply),
            Reply::Storage(_) | Reply::Raft(_) => Err(unexpected("another service's reply to a metadata request")),
        }
    }
}
