//! What a metadata node is told when it opens.

use std::time::Duration;

use stele_types::ids::{ClusterId, NodeId};

use crate::apply::ApplyOptions;
use crate::executor::Executor;

/// By default, so long no drive must have come or gone before groups are rebalanced.
pub const SETTLE: Duration = Duration::from_secs(60);
/// By default, a drive that is suspect for so long is replaced.
pub const REPLACE_AFTER: Duration = Duration::from_secs(15 * 60);

/// What an empty node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Founding {
    /// It founds the group with itself as only voter. Exactly one node of a cluster, once.
    Found,
    /// It waits until the leader adds it.
    Join,
}

/// Raft's times, milliseconds. A follower stands for election after `election_max_ms`, for which it owes its
/// leader loyalty, and then a time drawn between `election_min_ms` and `election_max_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RaftTiming {
    /// Between two heartbeats.
    pub heartbeat_ms: u64,
    /// Least of the drawn time.
    pub election_min_ms: u64,
    /// Most of it, and the leader's lease.
    pub election_max_ms: u64,
    /// Deadline of one call to a peer.
    pub call_timeout_ms: u64,
}

impl Default for RaftTiming {
    fn default() -> Self {
        // 1.8 to 2.4 s of silence in all.
        Self { heartbeat_ms: 250, election_min_ms: 600, election_max_ms: 1200, call_timeout_ms: 1000 }
    }
}

/// Configuration of a metadata node.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    /// This node. Never reused, and its log never wiped.
    pub node: NodeId,
    /// Where blocking work runs.
    pub executor: Executor,
    /// Memory for the state machine's page cache, bytes.
    pub state_cache_bytes: usize,
    /// Memory for the raft log's page cache, bytes.
    pub log_cache_bytes: usize,
    /// Raft entries between two syncs of the state machine, each followed by a purge of the log.
    pub snapshot_every: u64,
    /// How long opening waits for the group to be ready.
    pub ready_timeout: Duration,
    /// Raft entries kept behind a snapshot, for followers that lag a little.
    pub log_kept: u64,
    /// The cluster, if it is known: a log of another one is refused, and so are its nodes.
    pub cluster: Option<ClusterId>,
    /// What the node does if it is empty.
    pub founding: Founding,
    /// A drive that is suspect for so long is replaced in its placement groups.
    pub replace_after: Duration,
    /// Groups are rebalanced once the drives there are have been the same for so long.
    pub settle: Duration,
    /// Raft's times.
    pub timing: RaftTiming,
    /// Sabotage: followers answer reads from the rows they have.
    #[cfg(feature = "sabotage")]
    pub follower_read_without_read_index: bool,
    /// Sabotage: a wiped node takes part under its old id.
    #[cfg(feature = "sabotage")]
    pub node_id_reused: bool,
    /// Switches of the state machine; all off outside of tests.
    pub options: ApplyOptions,
}

impl MetadataConfig {
    /// Defaults of a real process.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            executor: Executor::Threads,
            state_cache_bytes: 64 << 20,
            log_cache_bytes: 8 << 20,
            snapshot_every: 10_000,
            ready_timeout: Duration::from_secs(60),
            log_kept: 1000,
            cluster: None,
            founding: Founding::Found,
            replace_after: REPLACE_AFTER,
            settle: SETTLE,
            timing: RaftTiming::default(),
            #[cfg(feature = "sabotage")]
            follower_read_without_read_index: false,
            #[cfg(feature = "sabotage")]
            node_id_reused: false,
            options: ApplyOptions::default(),
        }
    }
    pub(crate) fn reads_stale(&self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.follower_read_without_read_index;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn reuses_ids(&self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.node_id_reused;
        #[cfg(not(feature = "sabotage"))]
        false
    }
}
