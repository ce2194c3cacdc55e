//! A metadata node: opens log and state machine, starts the raft group, answers requests.
//!
//! Commands are stamped with this node's clock and go through raft; reads are linearizable
//! (ReadIndex), then answered from one consistent view of the rows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, CommandEnvelope, Heartbeat, MetaReply, MetaRequest, MetaStatus};
use stele_rpc::transport::{Message, Reply, Request, Response, Service, SharedTransport};
use stele_types::ids::NodeId;
use stele_types::limits::RAFT_ENTRY_BYTES_MAX;
use stele_types::map::{ClusterMap, DriveState};
use stele_types::seam::Clock;
use tokio::sync::watch;

use crate::apply::erasure_is_due;
use crate::config::MetadataConfig;
use crate::keyspace::MAP;
use crate::kv::{MetaKv, RedbKv};
use crate::liveness::Heard;
use crate::media::{Counted, Storage};
use crate::metrics::MetadataMetrics;
use crate::overseer::{self, Action};
use crate::placement;
use crate::raft::{Group, GroupParts, LogStore, LogTuning, PeerClocks, Peers, StateMachine, random_u64};
use crate::reads;
use crate::rows;

/// The one raft group of a node, until data groups are split off the root group.
const GROUP: u32 = 0;

/// A metadata node can't open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The raft log or the group.
    #[error("metadata node: {0}")]
    Io(#[from] io::Error),
    /// The state machine's store.
    #[error("metadata node: {0}")]
    Store(#[from] crate::kv::KvError),
}

/// A running metadata node.
pub struct MetadataNode {
    group: Group,
    kv: Arc<dyn MetaKv>,
    clock: Arc<dyn Clock>,
    metrics: MetadataMetrics,
    log_syncs: Arc<AtomicU64>,
    ready_timeout: Duration,
    replace_after: Duration,
    settle: Duration,
    /// Epoch of the newest map in which nothing was to be rebalanced.
    balanced: AtomicU64,
    /// Sabotage: reads are answered from whatever rows are here.
    stale_reads: bool,
    id: NodeId,
    heard: Heard,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for MetadataNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataNode").field("applied", &self.group.applied()).finish_non_exhaustive()
    }
}

impl MetadataNode {
    /// Opens the node on its media; founds the group if it is empty and configured to. Returns before
    /// there is a leader: [`MetadataNode::ready`] waits. Peers are called over `transport`.
    ///
    /// # Errors
    /// The media fail or belong to another node or cluster.
    pub async fn open(
        config: MetadataConfig,
        storage: Storage,
        clock: Arc<dyn Clock>,
        transport: SharedTransport,
    ) -> Result<Arc<Self>, OpenError> {
        let log_syncs = Arc::new(AtomicU64::new(0));
        let log_backend = Box::new(Counted { inner: storage.raft_log, syncs: Arc::clone(&log_syncs) });
        let tuning = LogTuning {
            node: config.node.0,
            group: GROUP,
            cluster: config.cluster,
            fresh_incarnation: random_u64(),
            cache_bytes: config.log_cache_bytes,
            executor: config.executor,
        };
        let (state, cache) = (storage.state, config.state_cache_bytes);
        let opened =
            config.executor.blocking(move || Ok::<_, OpenError>(Arc::new(RedbKv::open(state, cache)?))).await?;
        let kv: Arc<dyn MetaKv> = opened?;
        let log = LogStore::open(log_backend, tuning)?;
        let (report, progress) = watch::channel(0);
        let state_machine = StateMachine::open(Arc::clone(&kv), config.options, config.executor, report)?;
        let peers = Peers {
            transport,
            group: GROUP,
            cluster: config.cluster,
            clocks: Arc::new(PeerClocks::new(Arc::clone(&clock))),
            call_timeout: Duration::from_millis(config.timing.call_timeout_ms),
            executor: config.executor,
            lease: Duration::from_millis(config.timing.election_max_ms),
        };
        let parts = GroupParts {
            node: config.node.0,
            log,
            state_machine,
            progress,
            snapshot_every: config.snapshot_every,
            log_kept: config.log_kept,
            founding: config.founding,
            timing: config.timing,
            peers,
            kv: Arc::clone(&kv),
            executor: config.executor,
            any_incarnation: config.reuses_ids(),
        };
        let group = Group::start(parts).await?;
        let (ready_timeout, stale_reads) = (config.ready_timeout, config.reads_stale());
        let metrics = MetadataMetrics::default();
        Ok(Arc::new(Self {
            group,
            kv,
            clock,
            metrics,
            log_syncs,
            ready_timeout,
            replace_after: config.replace_after,
            settle: config.settle,
            balanced: AtomicU64::new(0),
            stale_reads,
            id: config.node,
            heard: Heard::default(),
        }))
    }

    /// Waits until the group has a leader and this node has applied everything it ever acknowledged.
    ///
    /// # Errors
    /// It takes longer than configured, or the group has stopped.
    pub async fn ready(&self) -> Result<(), OpenError> {
        Ok(self.group.ready(self.ready_timeout).await?)
    }

    /// Makes `node`, which runs and is reachable, a voter, after it was sent what it lacks. On the
    /// leader only. Safe to repeat.
    ///
    /// # Errors
    /// This node does not lead, the id was used with another disk, five nodes vote already, or the
    /// outcome is unknown. A change that is dropped half-way is finished by the leader.
    pub async fn add_voter(&self, node: NodeId) -> Result<(), RpcError> {
        self.group.add_voter(node.0).await
    }

    /// Takes a voter's vote away and forgets it; the caller stops its process. On the leader only. Safe
    /// to repeat.
    ///
    /// # Errors
    /// As [`MetadataNode::add_voter`]; or it is the only voter.
    pub async fn remove_voter(&self, node: NodeId) -> Result<(), RpcError> {
        self.group.remove_voter(node.0).await
    }

    /// Replaces voter `old`, which need not run, by `new`, which must. On the leader only. Safe to
    /// repeat.
    ///
    /// # Errors
    /// As [`MetadataNode::add_voter`]; or `old` is not a voter.
    pub async fn replace_voter(&self, old: NodeId, new: NodeId) -> Result<(), RpcError> {
        self.group.replace_voter(old.0, new.0).await
    }

    /// Before a planned stop: gives leadership to another voter and waits until it leads. Returns who
    /// leads; `None` if this node did not lead or is the only voter.
    ///
    /// # Errors
    /// Nobody took over in time; stopping is safe all the same.
    pub async fn hand_over(&self, timeout: Duration) -> io::Result<Option<NodeId>> {
        Ok(self.group.hand_over(timeout).await?.map(NodeId))
    }

    /// Metrics, to be registered by the process.
    pub fn metrics(&self) -> &MetadataMetrics {
        &self.metrics
    }

    /// Becomes `Some(why)` when the group can't go on. The process must then exit: nothing is retried,
    /// and every later request fails.
    pub fn fatal(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.group.fatal()
    }

    /// Syncs the state machine and purges the log now. For tests and operators; it happens by itself.
    ///
    /// # Errors
    /// The group has stopped.
    pub async fn compact_log(&self) -> io::Result<()> {
        self.group.snapshot().await
    }

    /// Transactions of the raft log so far, one fsync each, and the entries they held.
    pub fn log_counts(&self) -> (u64, u64) {
        self.group.log_counts()
    }

    /// A consistent view of all rows, for backups and tests.
    ///
    /// # Errors
    /// The store failed.
    pub fn view(&self) -> Result<crate::kv::View, crate::kv::KvError> {
        self.kv.view()
    }

    /// Stops: waits for raft to end, syncs the rows (so that the next start is quick) and releases
    /// the media. Requests then fail.
    ///
    /// # Errors
    /// The rows could not be synced; the log still holds what they miss.
    pub async fn shutdown(&self) -> Result<(), crate::kv::KvError> {
        self.group.stop().await;
        let synced = self.kv.sync();
        self.kv.close();
        synced
    }

    /// Stops without syncing anything, as a crash would. For simulators.
    pub async fn abandon(&self) {
        self.group.stop().await;
        self.kv.close();
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The request is refused, this node does not lead, or the group has stopped.
    pub async fn answer(&self, request: MetaRequest) -> Result<MetaReply, RpcError> {
        match request {
            MetaRequest::Command(envelope) => self.command(&envelope).await,
            MetaRequest::Heartbeat(beat) => self.heartbeat(beat),
            MetaRequest::Liveness => self.liveness().await,
            MetaRequest::Peers => Ok(MetaReply::Peers(self.map()?.metadata_nodes())),
            read => self.read(&read).await,
        }
    }

    async fn command(&self, envelope: &CommandEnvelope) -> Result<MetaReply, RpcError> {
        let bytes = rows::encode_named(envelope);
        if bytes.len() > RAFT_ENTRY_BYTES_MAX {
            let detail = format!("the command has {} bytes, at most {RAFT_ENTRY_BYTES_MAX} fit: split it", bytes.len());
            return Err(RpcError::new(Code::Malformed, detail));
        }
        self.metrics.commands.inc();
        let begun = self.clock.monotonic_micros();
        let answer = self.group.propose(Bytes::from(bytes)).await;
        let micros = self.clock.monotonic_micros().saturating_sub(begun);
        self.metrics.command_seconds.observe(Duration::from_micros(micros).as_secs_f64());
        if answer.is_err() {
            self.metrics.command_errors.inc();
        }
        self.note_progress();
        answer
    }

    /// The cluster map, as this node has it.
    fn map(&self) -> Result<ClusterMap, RpcError> {
        let view = self.kv.view().and_then(|view| rows::load::<ClusterMap>(&*view, &MAP));
        Ok(view.map_err(|error| RpcError::new(Code::Internal, error.to_string()))?.unwrap_or_default())
    }

    fn heartbeat(&self, beat: Heartbeat) -> Result<MetaReply, RpcError> {
        let term = self.group.leading()?;
        self.heard.note(term, self.clock.monotonic_micros(), beat.node);
        Ok(MetaReply::Heard(self.map()?.epoch))
    }

    async fn liveness(&self) -> Result<MetaReply, RpcError> {
        // An old leader must not call everybody silent.
        self.group.linearize().await?;
        let (term, now) = (self.group.leading()?, self.clock.monotonic_micros());
        self.heard.note(term, now, self.id);
        let nodes = self.map()?.nodes;
        Ok(MetaReply::Liveness(self.heard.liveness(term, now, nodes.iter().map(|node| node.id))))
    }

    /// This node is awake: what makes silence of others mean something.
    pub(crate) fn look(&self) {
        if let Ok(term) = self.group.leading() {
            self.heard.look(term, self.clock.monotonic_micros());
        }
    }

    /// What this node must do about others; nothing unless it leads.
    pub(crate) fn due(&self) -> Vec<Action> {
        self.look();
        let Ok(term) = self.group.leading() else { return Vec::new() };
        let Ok(map) = self.map() else { return Vec::new() };
        let now = self.clock.monotonic_micros();
        let limit = overseer::SILENCE.as_millis();
        let silent = |node| node != self.id && u128::from(self.heard.silence(term, now, node)) > limit;
        let suspects = map.drives.iter().filter(|drive| drive.state == DriveState::Suspect).map(|drive| drive.id);
        let overdue = self.heard.suspect_for(term, now, suspects).into_iter();
        let overdue = overdue.filter(|(_, since)| *since >= millis(self.replace_after));
        let today = self.clock.unix_millis();
        let tended =
            |drive| map.drive(drive).and_then(|row| map.node(row.node)).is_some_and(|n| n.maintenance_until > today);
        let overdue = overdue.map(|(drive, _)| drive).filter(|drive| !tended(*drive)).collect();
        let mut actions = overseer::decide(&map, self.id, &self.group.voters(), silent, &overdue);
        let settled = self.heard.settled_for(term, now, placement::usable(&map)) >= millis(self.settle);
        let busy = actions.iter().any(|action| matches!(action, Action::Suspect(..) | Action::Move(_)));
        if settled && !busy && overseer::all_heard(&map, silent) {
            actions.extend(self.balance(&map));
        }
        actions
    }

    /// Rebalancing. A map with nothing to do is looked at once: it takes long.
    fn balance(&self, map: &ClusterMap) -> Option<Action> {
        if self.balanced.load(Ordering::Relaxed) == map.epoch.0 {
            return None;
        }
        let action = overseer::balance(map);
        if action.is_none() {
            self.balanced.store(map.epoch.0, Ordering::Relaxed);
        }
        action
    }

    /// Whether this node leads, and a step of erasing evidence would get anywhere.
    pub(crate) fn erasure_is_due(&self) -> bool {
        if !self.group.is_leader() {
            return false;
        }
        let due = self.kv.view().and_then(|view| erasure_is_due(&*view, self.clock.unix_millis()));
        due.unwrap_or_else(|error| {
            tracing::warn!(%error, "what evidence is to be erased can't be read");
            false
        })
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.group.is_leader()
    }

    /// This node.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    async fn read(&self, request: &MetaRequest) -> Result<MetaReply, RpcError> {
        if !self.stale_reads {
            self.group.linearize().await?;
        }
        self.metrics.reads.inc();
        let view = self.kv.view().map_err(|error| RpcError::new(Code::Internal, error.to_string()))?;
        match reads::read(&*view, request)? {
            MetaReply::Status(status) => Ok(MetaReply::Status(Box::new(self.complete(*status)))),
            other => Ok(other),
        }
    }

    fn complete(&self, status: MetaStatus) -> MetaStatus {
        self.note_progress();
        self.metrics.log_size.set(i64::try_from(status.log_size).unwrap_or(i64::MAX));
        self.group.complete(MetaStatus { raft_fsyncs: self.log_syncs.load(Ordering::Relaxed), ..status })
    }

    fn note_progress(&self) {
        let syncs = self.log_syncs.load(Ordering::Relaxed);
        self.metrics.raft_fsyncs.set(i64::try_from(syncs).unwrap_or(i64::MAX));
        self.metrics.applied.set(i64::try_from(self.group.applied()).unwrap_or(i64::MAX));
    }
}

/// A node speaks of itself only.
fn own_affairs(from: NodeId, request: &MetaRequest) -> Result<(), RpcError> {
    let about = match request {
        MetaRequest::Heartbeat(beat) => beat.node,
        MetaRequest::Command(envelope) => match envelope.command {
            Command::RegisterNode { node, .. } | Command::SetAnswerKey { node, .. } => node,
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    if about == from {
        return Ok(());
    }
    Err(RpcError::new(Code::Forbidden, format!("node {from} speaks for node {about}: a node speaks of itself only")))
}

#[async_trait]
impl Service for MetadataNode {
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError> {
        match request.message {
            Message::Meta(request) => {
                own_affairs(from, &request)?;
                let reply = self.answer(request).await?;
                Ok(Response { reply: Reply::Meta(reply), body: Bytes::new() })
            }
            Message::Raft(message) => {
                let (reply, body) = self.group.serve(from, message, request.body).await?;
                Ok(Response { reply: Reply::Raft(reply), body })
            }
            Message::Storage(_) => Err(RpcError::new(Code::Malformed, "this node serves metadata, not storage")),
            Message::Renew(_) => Err(RpcError::new(Code::Malformed, "this process issues no certificates")),
        }
    }
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod healing_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod tests;
