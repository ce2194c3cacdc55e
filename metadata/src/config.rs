//! What a metadata node is told when it opens.

use std::time::Duration;

use stele_types::ids::NodeId;

use crate::apply::ApplyOptions;
use crate::executor::Executor;

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
            options: ApplyOptions::default(),
        }
    }
}
