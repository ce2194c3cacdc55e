//! One raft group: proposing, linearizable reads, start-up and shutdown, and the trigger that keeps
//! the log short.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Config, EmptyNode, Raft, ReadPolicy, SnapshotPolicy};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::MetaReply;
use stele_types::seam::UnixMillis;
use tokio::sync::watch;

use super::log_store::{LogCloser, OpenedLog};
use super::log_writer::{Fatal, LogCounts};
use super::network::NoPeers;
use super::state_machine::StateMachine;
use super::types::{Applied, Proposal, TypeConfig};

/// What a group stands on.
pub(crate) struct GroupParts {
    pub(crate) node: u64,
    pub(crate) log: OpenedLog,
    pub(crate) state_machine: StateMachine,
    /// Last applied index, fed by the state machine.
    pub(crate) progress: watch::Receiver<u64>,
    /// Entries between two snapshots (and purges).
    pub(crate) snapshot_every: u64,
}

type GroupRaft = Raft<TypeConfig, StateMachine>;

/// One raft group of this node.
pub(crate) struct Group {
    raft: GroupRaft,
    node: u64,
    fatal: watch::Sender<Fatal>,
    counts: Arc<LogCounts>,
    progress: watch::Receiver<u64>,
    closer: std::sync::Mutex<Option<LogCloser>>,
}

fn config() -> Config {
    Config {
        cluster_name: "stele".to_owned(),
        heartbeat_interval: 300,
        election_timeout_min: 1500,
        election_timeout_max: 3000,
        enable_pre_vote: Some(true),
        // With rows synced lazily, a leader that resumed without an election could serve old state.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 1000,
        purge_batch_size: 1000,
        install_snapshot_timeout: 600_000,
        ..Config::default()
    }
}

fn stopped<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> io::Error {
    move |error| io::Error::other(format!("raft: {what}: {error}"))
}

impl Group {
    /// Starts the group; founds it with this node as only voter if it is new.
    pub(crate) async fn start(parts: GroupParts) -> io::Result<Self> {
        let config = config().validate().map_err(stopped("configuration"))?;
        let OpenedLog { store, closer, counts, fatal } = parts.log;
        let raft = Raft::new(parts.node, Arc::new(config), NoPeers, store, parts.state_machine)
            .await
            .map_err(stopped("starting"))?;
        let group = Self {
            raft,
            node: parts.node,
            fatal,
            counts,
            progress: parts.progress,
            closer: std::sync::Mutex::new(Some(closer)),
        };
        if !group.raft.is_initialized().await.map_err(stopped("starting"))? {
            let voters = BTreeMap::from([(parts.node, EmptyNode::new())]);
            group.raft.initialize(voters).await.map_err(stopped("founding the group"))?;
        }
        group.keep_log_short(parts.snapshot_every);
        group.watch_raft();
        Ok(group)
    }

    /// Waits until this node leads and has applied all it had before it stopped.
    pub(crate) async fn ready(&self, timeout: Duration) -> io::Result<()> {
        let only_voter = self.raft.voter_ids().eq([self.node]);
        if only_voter && !self.raft.is_leader() {
            // Nobody else can be leader: there is nothing to wait an election timeout for.
            self.raft.trigger().elect(false).await.map_err(stopped("electing"))?;
        }
        self.raft
            .wait(Some(timeout))
            .metrics(|metrics| metrics.current_leader == Some(self.node), "this node leads")
            .await
            .map_err(stopped("waiting for leadership"))?;
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
    pub(crate) async fn propose(&self, time: UnixMillis, envelope: Bytes) -> Result<MetaReply, RpcError> {
        if let Some(fatal) = self.fatal.borrow().as_deref() {
            return Err(RpcError::new(Code::Unreachable, fatal.to_owned()));
        }
        match self.raft.client_write(Proposal { time, envelope }).await {
            Ok(response) => match response.data {
                Applied(Some(answer)) => answer,
                Applied(None) => Err(RpcError::new(Code::Internal, "a command was applied without an answer")),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => Err(not_leader(forward.leader_id)),
            Err(RaftError::APIError(error)) => Err(RpcError::new(Code::Internal, error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(RpcError::new(
                Code::DeadlineExceeded,
                format!("the metadata group stopped, the outcome is unknown: {fatal}"),
            )),
        }
    }

    /// Returns once every command that was acknowledged before the call is applied here.
    pub(crate) async fn linearize(&self) -> Result<(), RpcError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(error)) => Err(RpcError::new(Code::NotLeader, error.to_string())),
            Err(RaftError::Fatal(fatal)) => {
                Err(RpcError::new(Code::Unreachable, format!("the metadata group has stopped: {fatal}")))
            }
        }
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

fn not_leader(leader: Option<u64>) -> RpcError {
    let detail = match leader {
        Some(leader) => format!("node {leader} leads this group"),
        None => "this group has no leader yet: retry".to_owned(),
    };
    RpcError::new(Code::NotLeader, detail)
}
