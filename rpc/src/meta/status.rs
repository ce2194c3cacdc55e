//! What the metadata service says of itself.

use serde::{Deserialize, Serialize};
use stele_types::ids::{Epoch, NodeId};
use stele_types::seam::UnixMillis;

use super::BackupState;

/// What status shows of the metadata service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MetaStatus {
    /// This node leads.
    pub leader: bool,
    /// Last applied raft index.
    pub applied: u64,
    /// Entries of the evidence log.
    pub log_size: u64,
    /// SHA-256 root of the evidence log, as RFC 6962 computes it.
    pub log_root: [u8; 32],
    /// Current epoch.
    pub epoch: Epoch,
    /// Highest fenced epoch.
    pub fence: Epoch,
    /// Leases not yet expired.
    pub leases: u64,
    /// Buckets.
    pub buckets: u64,
    /// Versions.
    pub versions: u64,
    /// Bytes of versions.
    pub logical_bytes: u64,
    /// fdatasync calls of the raft log so far.
    pub raft_fsyncs: u64,
    /// Raft term.
    #[serde(default)]
    pub term: u64,
    /// The node that leads, as far as this one knows.
    #[serde(default)]
    pub leader_node: Option<NodeId>,
    /// Nodes that vote; while a change is under way, those of the old and the new set.
    #[serde(default)]
    pub voters: Vec<NodeId>,
    /// Nodes that are sent the log and don't vote.
    #[serde(default)]
    pub learners: Vec<NodeId>,
    /// Index of the last entry of the log.
    #[serde(default)]
    pub last_log: u64,
    /// On the leader: per peer, how many entries it lacks.
    #[serde(default)]
    pub replication_lag: Vec<(NodeId, u64)>,
    /// Entries up to this index are purged: who lacks them needs a snapshot.
    #[serde(default)]
    pub purged: u64,
    /// Entries that the newest checkpoint of the evidence log covers.
    #[serde(default)]
    pub checkpoint: u64,
    /// Entries that the newest signed checkpoint covers.
    #[serde(default)]
    pub signed: u64,
    /// Of every chain and time-stamping authority: entries that its newest anchor or time stamp covers.
    #[serde(default)]
    pub anchored: Vec<(String, u64)>,
    /// Commit time at which the last possession audit that ran by itself began.
    #[serde(default)]
    pub last_audit: Option<UnixMillis>,
    /// So long after a removal the log tells of the version, milliseconds; `None`: for ever.
    #[serde(default)]
    pub evidence_kept_ms: Option<u64>,
    /// Entries of the evidence log that stand in archives only.
    #[serde(default)]
    pub archived: u64,
    /// Backups of the metadata.
    #[serde(default)]
    pub backups: BackupState,
}
