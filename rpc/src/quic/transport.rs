//! The calling side: [`QuicTransport`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quinn::WriteError;
use stele_types::ids::NodeId;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::address::AddressBook;
use super::budget::Budget;
use super::endpoint::QuicEndpoint;
use super::errors::describe;
use super::frame::{CallHeader, FrameLimits, Prefix, ReplyHeader, decode, encode};
use super::peer::{PathReport, Peer};
use super::stream::{Call, FrameError, read_frame, write_frame};
use crate::error::{Code, RpcError};
use crate::transport::{Class, Request, Response, Transport};

/// Repair yields to everything else on its connection.
pub(super) const fn priority(class: Class) -> i32 {
    match class {
        Class::Foreground => 0,
        Class::Repair => -1,
    }
}

/// Carries calls to other processes over QUIC. Clones share connections.
#[derive(Clone)]
pub struct QuicTransport {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Arc<QuicEndpoint>,
    book: AddressBook,
    budget: Budget,
    peers: Mutex<BTreeMap<(NodeId, Class), Arc<Peer>>>,
}

impl std::fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicTransport").field("from", &self.inner.endpoint.identity()).finish_non_exhaustive()
    }
}

impl QuicTransport {
    /// A transport over this endpoint. Nothing is dialled before the first call.
    pub fn new(endpoint: Arc<QuicEndpoint>, book: AddressBook) -> Self {
        let budget = Budget::new(endpoint.config.receive_budget_bytes);
        Self { inner: Arc::new(Inner { endpoint, book, budget, peers: Mutex::default() }) }
    }

    /// The path to every peer called so far. A path that lost large datagrams has its cap lowered.
    pub fn paths(&self) -> Vec<PathReport> {
        let peers: Vec<_> = self.peers().values().cloned().collect();
        let mut reports: Vec<_> = peers.iter().map(|peer| peer.report(&self.inner.endpoint.config)).collect();
        // Foreground comes first; repair takes the same path.
        reports.dedup_by_key(|report| report.peer);
        reports
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, Class), Arc<Peer>>> {
        self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peer(&self, node: NodeId, class: Class) -> Arc<Peer> {
        let (mut peers, key) = (self.peers(), (node, class));
        Arc::clone(peers.entry(key).or_insert_with(|| Arc::new(Peer::new(key, &self.inner.endpoint.config))))
    }

    async fn attempt(&self, to: NodeId, request: Request, until: Instant) -> Result<Response, RpcError> {
        let peer = self.peer(to, request.class);
        // Held to the end of the call.
        let _turn = turn(&peer, request.class).await?;
        let Request { message, body, class, .. } = request;
        let mut call = self.open(&peer).await?;
        let left = until.saturating_duration_since(Instant::now());
        let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let header = encode(&CallHeader { message, timeout_ms, class })?;
        let prefix = Prefix::new(header.len(), body.len(), FrameLimits::CALL)?;
        drop(call.send.set_priority(priority(class)));
        match write_frame(&mut call.send, prefix, [header, body]).await {
            // Stopped: refused before the body was read, and the answer says why.
            Ok(()) | Err(WriteError::Stopped(_)) => {}
            Err(error) => {
                // Not all of it was sent, and a service sees only whole requests.
                let detail = format!("node {to} was lost before the request was sent: {}", lost(&error));
                return Err(RpcError::new(Code::Unreachable, detail));
            }
        }
        let frame = match read_frame(&mut call.recv, FrameLimits::CALL, &self.inner.budget).await {
            Ok(frame) => frame,
            Err(FrameError::Broken(error)) => return Err(unknown(to, &error.detail)),
            Err(FrameError::Lost(problem)) => return Err(unknown(to, &problem)),
        };
        call.done();
        let header: ReplyHeader = decode(&frame.header).map_err(|error| unknown(to, &error.detail))?;
        Ok(Response { reply: header.result?, body: frame.body })
    }

    /// A stream to the peer. A connection that died unnoticed is replaced once: nothing was sent on it.
    async fn open(&self, peer: &Arc<Peer>) -> Result<Call, RpcError> {
        let connection = peer.connection(&self.inner.endpoint, &self.inner.book).await?;
        if let Ok(stream) = connection.open_bi().await {
            return Ok(Call::new(stream));
        }
        let connection = peer.connection(&self.inner.endpoint, &self.inner.book).await?;
        let stream = connection.open_bi().await.map_err(|error| {
            let detail = format!("node {} was lost before the request was sent: {}", peer.node, describe(&error));
            RpcError::new(Code::Unreachable, detail)
        })?;
        Ok(Call::new(stream))
    }
}

fn lost(error: &WriteError) -> String {
    match error {
        WriteError::ConnectionLost(error) => describe(error),
        error => error.to_string(),
    }
}

fn unknown(to: NodeId, problem: &str) -> RpcError {
    let detail = format!("node {to} may or may not have done it: {problem}; ask again, or repeat the same request");
    RpcError::new(Code::DeadlineExceeded, detail)
}

/// Waits for a repair's turn; foreground calls never wait here.
async fn turn(peer: &Peer, class: Class) -> Result<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>), RpcError> {
    let repair = match class {
        Class::Foreground => None,
        Class::Repair => peer.repair.acquire().await.ok(),
    };
    let turn = peer.in_flight.try_acquire().map_err(|_| {
        let detail = format!("too many calls to node {} are under way; slow down", peer.node);
        RpcError::new(Code::Busy, detail)
    })?;
    Ok((repair, turn))
}

#[async_trait]
impl Transport for QuicTransport {
    /// Dropping the call resets its stream: the service is dropped where it stands.
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        // Refused here, before anybody is dialled.
        Prefix::new(0, request.body.len(), FrameLimits::CALL)?;
        let timeout: Duration = request.timeout.min(self.inner.endpoint.config.call_timeout_max);
        let until = Instant::now() + timeout;
        match tokio::time::timeout_at(until, self.attempt(to, request, until)).await {
            Ok(answer) => answer,
            Err(_) => Err(RpcError::new(
                Code::DeadlineExceeded,
                format!("node {to} did not answer within {} ms", timeout.as_millis()),
            )),
        }
    }
}
