//! openraft's network over [`Transport`](stele_rpc::transport::Transport): its messages, as opaque
//! bytes, in the body of a [`RaftRequest`]. Every call has a deadline. What does not arrive is not
//! repeated here, except frames of a snapshot, within an idle timeout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stele_rpc::client::unexpected;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::raft::{RaftKind, RaftReply, RaftRequest, SNAPSHOT_FRAME_BYTES};
use stele_rpc::transport::{Reply, Request, SharedTransport};
use stele_types::ids::{ClusterId, NodeId};
use tokio::time::Instant;

use super::clocks::PeerClocks;
use super::runtime::random_u64;
use super::snapshot_handle::SnapshotHandle;
use super::types::{Member, TypeConfig, Vote};
use crate::executor::Executor;
use crate::snapshot::{CutFrame, FrameCutter};

/// A snapshot is given up when no frame got through for this long.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);
/// How long one frame of a snapshot may take.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the receiver may take to put a complete snapshot in place.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause before a frame is sent again.
const FRAME_PAUSE: Duration = Duration::from_millis(100);

/// Length of the silence of a leader that hears nobody, in leases: an election takes two at most.
pub(super) const PROBE_LEASES: u64 = 4;

/// Makes clients of peers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) transport: SharedTransport,
    pub(crate) group: u32,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) clocks: Arc<PeerClocks>,
    /// Deadline of one call.
    pub(crate) call_timeout: Duration,
    pub(crate) executor: Executor,
    /// How long followers stay loyal to a leader that they hear.
    pub(crate) lease: Duration,
}

/// One peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    peers: Peers,
    target: u64,
    incarnation: u64,
}

/// A message as it travels: MessagePack with named fields.
pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    rmp_serde::to_vec_named(value).expect("raft messages are plain data").into()
}

/// A received message.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RpcError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        RpcError::new(
            Code::Malformed,
            format!("a raft message can't be decoded: {error}; run the same version on all nodes"),
        )
    })
}

impl Peers {
    /// Whether a leader must not send entries now. One that is heard but hears nobody would keep its followers
    /// loyal for ever, as what it could not deliver is sent again and again. So it falls silent long enough for
    /// an election, then tries for as long.
    fn keeps_silent(&self) -> bool {
        let lease = u64::try_from(self.lease.as_micros()).unwrap_or(u64::MAX);
        let Some(unheard) = self.clocks.unheard_micros().and_then(|unheard| unheard.checked_sub(lease)) else {
            return false;
        };
        let phase = lease.saturating_mul(PROBE_LEASES).max(1);
        (unheard / phase).is_multiple_of(2)
    }

    pub(crate) fn peer(&self, target: u64, incarnation: u64) -> Peer {
        Peer { peers: self.clone(), target, incarnation }
    }
}

impl Peer {
    /// Sends one message and notes the peer's clock.
    pub(crate) async fn call(
        &self,
        kind: RaftKind,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(RaftReply, Bytes), RpcError> {
        let Peers { transport, group, cluster, clocks, .. } = &self.peers;
        let message = RaftRequest { group: *group, cluster: *cluster, incarnation: self.incarnation, kind };
        let request = Request::raft(message, body, timeout);
        let call = transport.call(NodeId(self.target), request);
        // The transport keeps the deadline too; a peer must not hang on one that does not.
        let response = tokio::time::timeout(timeout, call).await.map_err(|_| {
            RpcError::new(Code::DeadlineExceeded, format!("node {} did not answer in time", self.target))
        })??;
        match response.reply {
            Reply::Raft(reply) => {
                clocks.note(self.target, reply.clock);
                Ok((reply, response.body))
            }
            Reply::Meta(_) | Reply::Storage(_) | Reply::Renewed { .. } => {
                Err(unexpected("another service's reply to a raft message"))
            }
        }
    }

    async fn unary<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: RaftKind,
        ask: &Q,
    ) -> Result<A, RPCError<TypeConfig>> {
        let answer = self.call(kind, encode(ask), self.peers.call_timeout).await;
        answer.and_then(|(_, body)| decode(&body)).map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &RpcError) -> RPCError<TypeConfig> {
        let text = format!("node {}: {error}", self.target);
        match error.code {
            Code::DeadlineExceeded => NetworkError::from_string(text).into(),
            _ => Unreachable::from_string(text).into(),
        }
    }

    fn broken(&self, error: &RpcError) -> StreamingError<TypeConfig> {
        Unreachable::from_string(format!("snapshot to node {}: {error}", self.target)).into()
    }

    /// Sends one message of a snapshot until it gets through or nothing did for too long.
    async fn insist(&self, kind: RaftKind, body: Bytes) -> Result<Bytes, RpcError> {
        let begun = Instant::now();
        loop {
            let error = match self.call(kind.clone(), body.clone(), FRAME_TIMEOUT).await {
                Ok((_, body)) => return Ok(body),
                Err(error) => error,
            };
            let passing = matches!(error.code, Code::Unreachable | Code::DeadlineExceeded);
            if !passing || begun.elapsed() >= SNAPSHOT_IDLE {
                return Err(error);
            }
            tokio::time::sleep(FRAME_PAUSE).await;
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
    ) -> Result<SnapshotResponse<TypeConfig>, RpcError> {
        let SnapshotHandle::View(view) = snapshot.snapshot else {
            return Err(RpcError::new(Code::Internal, "a snapshot that is being received can't be sent"));
        };
        let transfer = random_u64();
        self.insist(RaftKind::SnapshotBegin { transfer }, encode(&(vote, snapshot.meta))).await?;
        let mut cutter = FrameCutter::new(view, SNAPSHOT_FRAME_BYTES);
        loop {
            let cut = self.peers.executor.blocking(move || {
                let frame = cutter.cut();
                (cutter, frame)
            });
            let internal = |error: String| RpcError::new(Code::Internal, error);
            let (back, frame) = cut.await.map_err(|error| internal(error.to_string()))?;
            cutter = back;
            let Some(frame) = frame.map_err(|error| internal(error.to_string()))? else { break };
            let CutFrame { number, body, hash } = frame;
            self.insist(RaftKind::SnapshotFrame { transfer, number, hash }, body.into()).await?;
        }
        let (frames, rows) = cutter.counts();
        let end = RaftKind::SnapshotEnd { transfer, frames, rows };
        let (_, body) = self.call(end, Bytes::new(), INSTALL_TIMEOUT).await?;
        Ok(SnapshotResponse::new(decode(&body)?))
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node.incarnation)
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        if self.peers.keeps_silent() {
            return Err(Unreachable::from_string("no voter answers: silent, so that another one may lead").into());
        }
        self.unary(RaftKind::Append, &rpc).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.unary(RaftKind::Vote, &rpc).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.unary(RaftKind::PreVote, &rpc).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = self.send_snapshot(vote, snapshot);
        match select(Box::pin(sending), Box::pin(cancel)).await {
            Either::Left((sent, _)) => sent.map_err(|error| self.broken(&error)),
            Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.unary(RaftKind::TransferLeader, &req).await
    }
}
