//! What an operator or a test sets of drives and nodes. Values only.

use std::time::Duration;

use stele_types::ids::{ClusterId, NodeId};

/// Invariants that a test breaks on purpose, to show that it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sabotage {
    /// Answer writers before the sync.
    #[cfg(feature = "sabotage")]
    pub acknowledge_before_sync: bool,
    /// Sweep: delete what is condemned without asking for references.
    #[cfg(feature = "sabotage")]
    pub delete_without_asking: bool,
    /// Take stores of callers that know an older row of the PG.
    #[cfg(feature = "sabotage")]
    pub accepts_stale_pg_epoch: bool,
    /// Repair: hand a slot over while writes are open that may have stored on the drive that goes.
    #[cfg(feature = "sabotage")]
    pub flip_without_a_fence: bool,
}

impl Sabotage {
    /// Answer writers before the sync. Always false without the feature.
    pub const fn acknowledges_before_sync(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.acknowledge_before_sync;
        #[cfg(not(feature = "sabotage"))]
        return false;
    }

    /// Delete without asking. Always false without the feature.
    pub const fn deletes_without_asking(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.delete_without_asking;
        #[cfg(not(feature = "sabotage"))]
        return false;
    }

    /// Hand slots over without a fence. Always false without the feature.
    pub const fn flips_without_a_fence(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.flip_without_a_fence;
        #[cfg(not(feature = "sabotage"))]
        return false;
    }

    /// Take stores at an old PG epoch. Always false without the feature.
    pub const fn accepts_stale_pg_epoch(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.accepts_stale_pg_epoch;
        #[cfg(not(feature = "sabotage"))]
        return false;
    }
}

/// When space is taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReclaimConfig {
    /// Time between two looks at the segments.
    pub interval: Duration,
    /// A segment with a smaller live share than this is emptied, percent.
    pub live_percent_min: u8,
    /// While dead bytes are a larger share of the drive than this, the emptiest segments are
    /// emptied whatever their share, percent.
    pub garbage_percent_max: u8,
    /// Less than this is not worth moving data for, bytes.
    pub garbage_bytes_min: u64,
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            live_percent_min: 50,
            garbage_percent_max: 12,
            garbage_bytes_min: 1024 * 1024,
        }
    }
}

/// One drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriveConfig {
    /// Length at which a segment is closed, bytes. A larger record gets a segment of its own.
    pub segment_bytes: u64,
    /// Bytes of segments it may hold; `None`: what the file system has.
    pub capacity_bytes: Option<u64>,
    /// Part of the capacity that stores leave for deletions and reclaim, bytes; at most an eighth
    /// of the drive.
    pub reserve_bytes: u64,
    /// Most bytes of one group commit.
    pub batch_bytes: u64,
    /// Most operations of one group commit.
    pub batch_operations: usize,
    /// Operations that wait for a group commit; callers wait beyond.
    pub queue: usize,
    /// Bytes that wait for a group commit; callers wait beyond.
    pub queue_bytes: u64,
    /// Reader loops.
    pub readers: usize,
    /// When space is taken back.
    pub reclaim: ReclaimConfig,
    /// Broken on purpose.
    pub sabotage: Sabotage,
}

impl Default for DriveConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            segment_bytes: 256 * MIB,
            capacity_bytes: None,
            reserve_bytes: 64 * MIB,
            batch_bytes: 32 * MIB,
            batch_operations: 512,
            queue: 512,
            queue_bytes: 256 * MIB,
            readers: 2,
            reclaim: ReclaimConfig::default(),
            sabotage: Sabotage::default(),
        }
    }
}

/// One node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Its id.
    pub node: NodeId,
    /// Its cluster; drives of another are refused.
    pub cluster: ClusterId,
    /// Every drive.
    pub drive: DriveConfig,
    /// Time between two looks at whether a drive still answers.
    pub probe_interval: Duration,
    /// A drive that takes longer to answer is suspect.
    pub probe_timeout: Duration,
    /// Hash every stored shard against its root in the encoding (0.17 CPU-seconds per GB).
    pub verify_shard_roots: bool,
}

impl NodeConfig {
    /// Defaults for a node.
    pub fn new(node: NodeId, cluster: ClusterId) -> Self {
        Self {
            node,
            cluster,
            drive: DriveConfig::default(),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(5),
            verify_shard_roots: false,
        }
    }
}
