//! One raft group: proposing, linearizable reads, start-up and shutdown, and the trigger that keeps
//! the log short.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{MetaReply, MetaStatus};
use stele_rpc::raft::{RaftKind, RaftReply, RaftRequest};
use stele_types::ids::NodeId;
use tokio::sync::watch;

use super::log_store::{LogCloser, OpenedLog};
use super::log_writer::{Fatal, LogCounts};
use super::network::{PROBE_LEASES, Peers, decode, encode};
use super::receiver::Receiver;
use super::state_machine::StateMachine;
use super::types::{Applied, Member, Proposal, TypeConfig};
use crate::config::{Founding, RaftTiming};
use crate::executor::Executor;
use crate::kv::MetaKv;

/// What a group stands on.
pub(crate) struct GroupParts {
    pub(crate) node: u64,
    pub(crate) log: OpenedLog,
    pub(crate) state_machine: StateMachine,
    /// Last applied index, fed by the state machine.
    pub(crate) progress: watch::Receiver<u64>,
    /// Entries between two snapshots (and purges).
    pub(crate) snapshot_every: u64,
    /// Entries kept behind a snapshot.
    pub(crate) log_kept: u64,
    pub(crate) founding: Founding,
    pub(crate) timing: RaftTiming,
    pub(crate) peers: Peers,
    /// Where received snapshots go: the state machine's store.
    pub(crate) kv: Arc<dyn MetaKv>,
    pub(crate) executor: Executor,
    /// Sabotage: take part even where the membership knows this id with another disk.
    pub(crate) any_incarnation: bool,
}

/// Pause before a change of voters that could not be finished is tried again.
const FINISH_PAUSE: Duration = Duration::from_millis(250);

pub(super) type GroupRaft = Raft<TypeConfig, StateMachine>;

/// One raft group of this node.
pub(crate) struct Group {
    pub(super) raft: GroupRaft,
    node: u64,
    incarnation: u64,
    any_incarnation: bool,
    pub(super) peers: Peers,
    receiver: Receiver,
    /// Held while voters are changed.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    fatal: watch::Sender<Fatal>,
    counts: Arc<LogCounts>,
    progress: watch::Receiver<u64>,
    closer: std::sync::Mutex<Option<LogCloser>>,
}

fn config(timing: RaftTiming, log_kept: u64) -> Config {
    Config {
        cluster_name: "stele".to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        enable_pre_vote: Some(true),
        // A leader that is heard but hears nobody falls silent, so that the others elect another one.
        quorum_loss_probe_interval: Some(timing.election_max_ms * PROBE_LEASES),
        // With rows synced lazily, a leader that resumed without an election could serve old state.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: log_kept,
        purge_batch_size: log_kept.max(1),
        install_snapshot_timeout: 600_000,
        ..Config::default()
    }
}

fn stopped<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> io::Error {
    move |error| io::Error::other(format!("raft: {what}: {error}"))
}

impl Group {
    /// Starts the group; founds it with this node as only voter if it is new and this node is to.
    pub(crate) async fn start(parts: GroupParts) -> io::Result<Self> {
        let config = config(parts.timing, parts.log_kept).validate().map_err(stopped("configuration"))?;
        let OpenedLog { store, closer, counts, fatal, incarnation } = parts.log;
        let peers = parts.peers;
        let raft = Raft::new(parts.node, Arc::new(config), peers.clone(), store, parts.state_machine)
            .await
            .map_err(stopped("starting"))?;
        let group = Self {
            raft,
            node: parts.node,
            incarnation,
            any_incarnation: parts.any_incarnation,
            peers,
            receiver: Receiver::new(parts.kv, parts.executor),
            changing: Arc::default(),
            fatal,
            counts,
            progress: parts.progress,
            closer: std::sync::Mutex::new(Some(closer)),
        };
        let founds = parts.founding == Founding::Found;
        if founds && !group.raft.is_initialized().await.map_err(stopped("starting"))? {
            let voters = BTreeMap::from([(parts.node, Member { incarnation })]);
            group.raft.initialize(voters).await.map_err(stopped("founding the group"))?;
        }
        group.keep_log_short(parts.snapshot_every);
        group.watch_raft();
        tokio::spawn(finish_changes(group.raft.clone(), Arc::clone(&group.changing)));
        Ok(group)
    }

    /// Waits until a leader is known and this node has applied all it had before it stopped.
    pub(crate) async fn ready(&self, timeout: Duration) -> io::Result<()> {
        let only_voter = self.raft.voter_ids().eq([self.node]);
        if only_voter && !self.raft.is_leader() {
            // Nobody else can be leader: there is nothing to wait an election timeout for.
            self.raft.trigger().elect(false).await.map_err(stopped("electing"))?;
        }
        self.raft
            .wait(Some(timeout))
            .metrics(|metrics| metrics.current_leader.is_some(), "the group has a leader")
            .await
            .map_err(stopped("waiting for a leader"))?;
        self.raft.wait_for_recovery(Some(timeout)).await.map_err(stopped("waiting for recovery"))?;
        Ok(())
    }

    /// Snapshots, which sync the rows and let openraft purge the log, every so many entries.
    fn keep_log_short(&self, every: u64) {
        tokio::spawn(snapshot_every(self.raft.clone(), self.progress.clone(), every));
    }

    /// Reports it when raft stops by itself, for example because the state machine's store failed.
    fn watch_raft(&self) {
        tokio::spawn(report_stop(self.raft.clone(), self.fatal.clone()));
    }

    /// Proposes a command and waits until it was applied.
    pub(crate) async fn propose(&self, envelope: Bytes) -> Result<MetaReply, RpcError> {
        if let Some(fatal) = self.fatal.borrow().as_deref() {
            return Err(RpcError::new(Code::Unreachable, fatal.to_owned()));
        }
        let time = self.peers.clocks.now();
        if self.raft.is_leader() {
            let voters: Vec<u64> = self.raft.voter_ids().collect();
            if let Err(refusal) = self.peers.clocks.check(self.node, time, &voters) {
                if refusal.off {
                    self.step_aside().await;
                }
                return Err(refusal.error);
            }
        }
        match self.raft.client_write(Proposal { time, envelope }).await {
            Ok(response) => match response.data {
                Applied(Some(answer)) => answer,
                Applied(None) => Err(RpcError::new(Code::Internal, "a command was applied without an answer")),
            },
            Err(error) => Err(write_error(error)),
        }
    }

    /// Returns once every command that was acknowledged before the call is applied here.
    pub(crate) async fn linearize(&self) -> Result<(), RpcError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(not_leader(forward.leader_id))
            }
            Err(RaftError::APIError(error)) => Err(RpcError::new(Code::NotLeader, error.to_string())),
            Err(RaftError::Fatal(fatal)) => {
                Err(RpcError::new(Code::Unreachable, format!("the metadata group has stopped: {fatal}")))
            }
        }
    }

    /// Answers a message of another voter.
    pub(crate) async fn serve(
        &self,
        from: NodeId,
        request: RaftRequest,
        body: Bytes,
    ) -> Result<(RaftReply, Bytes), RpcError> {
        self.admit(from, &request)?;
        let answer = match request.kind {
            RaftKind::Hello => Bytes::new(),
            RaftKind::Append => encode(&self.raft.append_entries(decode(&body)?).await.map_err(internal)?),
            RaftKind::Vote => encode(&self.raft.vote(decode(&body)?).await.map_err(internal)?),
            RaftKind::PreVote => encode(&self.raft.pre_vote(decode(&body)?).await.map_err(internal)?),
            RaftKind::TransferLeader => {
                encode(&self.raft.handle_transfer_leader(decode(&body)?).await.map_err(internal)?)
            }
            RaftKind::SnapshotBegin { transfer } => self.receiver.begin(from.0, transfer, &body).await?,
            RaftKind::SnapshotFrame { transfer, number, hash } => {
                self.receiver.frame((from.0, transfer), number, hash, body).await?
            }
            RaftKind::SnapshotEnd { transfer, frames, rows } => {
                self.receiver.end(self.raft.clone(), (from.0, transfer), (frames, rows)).await?
            }
        };
        let clock = self.peers.clocks.now();
        Ok((RaftReply { clock, incarnation: self.incarnation, cluster: self.peers.cluster }, answer))
    }

    /// Refuses messages that are not for this log. A node that is known with another disk must stop.
    fn admit(&self, from: NodeId, request: &RaftRequest) -> Result<(), RpcError> {
        if let Some(fatal) = self.fatal.borrow().as_deref() {
            return Err(RpcError::new(Code::Unreachable, fatal.to_owned()));
        }
        let refused = |text: String| Err(RpcError::new(Code::Malformed, text));
        if request.cluster != self.peers.cluster {
            return refused(format!("node {from} belongs to another cluster than node {}", self.node));
        }
        if request.group != self.peers.group {
            return refused(format!("node {} has no group {}", self.node, request.group));
        }
        let known = request.kind == RaftKind::Hello || request.incarnation == self.incarnation;
        if known || self.any_incarnation {
            return Ok(());
        }
        let text = format!(
            "node {} is a member with another disk than this one: a wiped disk must come back under a new node \
             id; remove the old id and add the new one",
            self.node
        );
        let report: Arc<str> = text.as_str().into();
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert(report);
            first
        });
        refused(text)
    }

    /// The other voter whose log is nearest to ours.
    fn heir(&self) -> Option<u64> {
        let replication = self.raft.metrics().borrow_watched().replication.clone().unwrap_or_default();
        let others = self.raft.voter_ids().filter(|voter| *voter != self.node);
        others.max_by_key(|voter| replication.get(voter).copied().flatten())
    }

    /// A leader whose clock is wrong can propose nothing; a voter of the majority can.
    async fn step_aside(&self) {
        let Some(heir) = self.heir() else { return };
        tracing::warn!(heir, "the clock of this leader is wrong: leadership is handed over");
        if let Err(error) = self.raft.trigger().transfer_leader(heir).await {
            tracing::warn!(%error, "leadership could not be handed over");
        }
    }

    /// Gives leadership to the voter whose log is nearest to ours; returns who leads. `None`: this node
    /// did not lead, or is the only voter.
    pub(crate) async fn hand_over(&self, timeout: Duration) -> io::Result<Option<u64>> {
        let Some(heir) = self.heir().filter(|_| self.raft.is_leader()) else { return Ok(None) };
        self.raft.trigger().transfer_leader(heir).await.map_err(stopped("handing over"))?;
        let waiting = self.raft.wait(Some(timeout));
        let changed = waiting
            .metrics(|metrics| metrics.current_leader.is_some_and(|leader| leader != self.node), "another node leads");
        let metrics = changed.await.map_err(stopped("handing over"))?;
        Ok(metrics.current_leader)
    }

    /// Fills in what raft knows.
    pub(crate) fn complete(&self, status: MetaStatus) -> MetaStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let last_log = metrics.last_log_index.unwrap_or(0);
        let lag = |matched: Option<super::types::LogId>| last_log.saturating_sub(matched.map_or(0, |id| id.index));
        let peers = metrics.replication.unwrap_or_default();
        MetaStatus {
            leader: self.is_leader(),
            applied: self.applied(),
            term: metrics.current_term,
            leader_node: metrics.current_leader.map(NodeId),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            last_log,
            replication_lag: peers.into_iter().map(|(node, matched)| (NodeId(node), lag(matched))).collect(),
            purged: metrics.purged.map_or(0, |id| id.index),
            ..status
        }
    }

    /// The term this node leads in.
    ///
    /// # Errors
    /// `NotLeader`, with the node that leads if it is known.
    pub(crate) fn leading(&self) -> Result<u64, RpcError> {
        // One look: to look again while the first is held waits for ever once raft wants to write between them.
        let (leads, term, leader) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            (now.state.is_leader(), now.current_term, now.current_leader)
        };
        if leads { Ok(term) } else { Err(not_leader(leader)) }
    }

    /// Nodes that vote.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.raft.voter_ids().map(NodeId).collect()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    pub(crate) fn applied(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Transactions of the raft log (one fsync each) and entries in them.
    pub(crate) fn log_counts(&self) -> (u64, u64) {
        (self.counts.commits.load(Ordering::Relaxed), self.counts.entries.load(Ordering::Relaxed))
    }

    /// Becomes `Some` when the raft log failed or raft stopped by itself; then the process must exit.
    pub(crate) fn fatal(&self) -> watch::Receiver<Fatal> {
        self.fatal.subscribe()
    }

    /// Forces a snapshot now, and with it the purge of old entries.
    pub(crate) async fn snapshot(&self) -> io::Result<()> {
        self.raft.trigger().snapshot().await.map_err(stopped("snapshot"))
    }

    /// Stops raft and releases the log's media.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        let closer = self.closer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(closer) = closer {
            closer.close().await;
        }
    }
}

/// Finishes changes of voters that were cut off, whenever this node leads.
async fn finish_changes(raft: GroupRaft, changing: Arc<tokio::sync::Mutex<()>>) {
    let mut metrics = raft.metrics();
    loop {
        let (leads, joint, stopped) = {
            let now = metrics.borrow_watched();
            let joint = now.membership_config.membership().get_joint_config().len() > 1;
            (now.state.is_leader(), joint, now.running_state.is_err())
        };
        if stopped {
            return;
        }
        if leads && joint {
            // Waits for a change that this node is making itself.
            let _turn = changing.lock().await;
            if let Err(error) = super::membership::finish(&raft).await {
                tracing::warn!(%error, "a change of voters is not finished yet");
                // Every attempt changes the metrics: without a pause this would spin.
                tokio::time::sleep(FINISH_PAUSE).await;
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

async fn snapshot_every(raft: GroupRaft, mut progress: watch::Receiver<u64>, every: u64) {
    let mut last = *progress.borrow();
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        if now.saturating_sub(last) >= every {
            last = now;
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

async fn report_stop(raft: GroupRaft, report: watch::Sender<Fatal>) {
    let mut metrics = raft.metrics();
    // Only the metrics are watched: a handle kept here would keep the group alive.
    drop(raft);
    let fatal = loop {
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Err(openraft::errors::Fatal::Stopped) => return,
            Err(fatal) => break fatal,
            Ok(()) => {}
        }
        if metrics.changed().await.is_err() {
            return;
        }
    };
    let text: Arc<str> = format!("the metadata group stopped: {fatal}; restart the process").into();
    report.send_if_modified(|known| {
        let first = known.is_none();
        known.get_or_insert(text);
        first
    });
}

fn internal<E: std::fmt::Display>(error: E) -> RpcError {
    RpcError::new(Code::Internal, format!("raft: {error}"))
}

/// What a failed write means to its caller: `NotLeader` is certainly without effect.
pub(super) fn write_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> RpcError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(forward.leader_id),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => RpcError::new(
            Code::DeadlineExceeded,
            "another node leads now, the outcome is unknown: repeat the same command there",
        ),
        RaftError::APIError(error) => RpcError::new(Code::Internal, error.to_string()),
        RaftError::Fatal(fatal) => RpcError::new(
            Code::DeadlineExceeded,
            format!("the metadata group stopped, the outcome is unknown: {fatal}"),
        ),
    }
}

fn not_leader(leader: Option<u64>) -> RpcError {
    let detail = match leader {
        Some(leader) => format!("node {leader} leads this group"),
        None => "this group has no leader yet: retry".to_owned(),
    };
    RpcError { leader: leader.map(NodeId), ..RpcError::new(Code::NotLeader, detail) }
}
