//! Backups of the metadata, and what follows a restore from one.

use serde::{Deserialize, Serialize};
use stele_types::ids::{Epoch, NodeId};
use stele_types::seam::UnixMillis;

use super::TreeHead;

/// Longest name of a backup, bytes.
pub const BACKUP_NAME_BYTES_MAX: usize = 512;

/// A command about backups. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BackupCommand {
    /// From now on a backup is expected this often; `None`: none is, and no pack waits for one.
    Expect {
        /// Milliseconds.
        interval_ms: Option<u64>,
    },
    /// Make one now. The leader does, if backups are expected.
    Want,
    /// One was made and read back. Safe to repeat.
    Made(Box<BackupMade>),
    /// Packs condemned at or below this epoch are about to be deleted. Answers `Epochs` with the epoch up to which they
    /// may be: where backups are expected, below the fence of the newest one. Older backups are then superseded.
    AdmitDeletion {
        /// Highest epoch of a condemnation.
        condemned: Epoch,
    },
    /// References and inventories were compared after a restore: sweeps go on.
    EndComparison(Compared),
}

/// A backup that was read back after it was written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupMade {
    /// Where it is, below the place that the operator configured.
    pub name: String,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
    /// Bytes.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Raft index of the last command in it.
    pub index: u64,
    /// Commit time of that command.
    pub time: UnixMillis,
    /// Fence of the last sweep by then. What was condemned below it has no reference in the backup.
    pub fence: Epoch,
}

/// What a comparison of references with inventories found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Compared {
    /// Packs that something refers to.
    pub packs: u64,
    /// Of these, packs with fewer shards than they should have. Repair makes them anew.
    pub degraded: u64,
    /// Of these, packs with too few shards to be read.
    pub lost: u64,
    /// Packs on drives that nothing refers to: written after the backup, or garbage before it.
    pub surplus: u64,
    /// Condemned packs that something refers to again, and that were pardoned.
    pub pardoned: u64,
    /// Drives that did not answer.
    pub silent: u64,
    /// An operator said so, whatever is lost or silent.
    pub accepted: bool,
}

/// What is known of backups and restores.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupState {
    /// How often a backup is expected, milliseconds; `None`: never.
    pub interval_ms: Option<u64>,
    /// Commit time since which it is.
    pub since: UnixMillis,
    /// Commit time at which somebody last asked for one.
    pub wanted: UnixMillis,
    /// The newest one.
    pub newest: Option<BackupMade>,
    /// Backups with a fence at or below this may miss packs.
    pub superseded: Epoch,
    /// The backup that this cluster was restored from last.
    pub restored: Option<RestoredFrom>,
    /// Names under which the evidence log was closed, oldest first.
    pub closed: Vec<ClosedLog>,
}

/// What a cluster was restored from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoredFrom {
    /// BLAKE3 of the backup.
    pub backup: [u8; 32],
    /// Commit time of the restore.
    pub time: UnixMillis,
    /// Commit time of the last command that was not lost.
    pub until: UnixMillis,
    /// The evidence log as it stands in the backup: what came after is lost.
    pub log: TreeHead,
    /// The node that it was restored on.
    pub node: NodeId,
    /// Lowest epoch of writes since. Those of before are far below.
    pub epoch: Epoch,
    /// What the comparison found; `None`: it is not done, and sweeps are off.
    pub compared: Option<Compared>,
}

/// A log that goes on under another name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClosedLog {
    /// Its name.
    pub origin: String,
    /// The last checkpoint that was signed under it.
    pub head: TreeHead,
    /// Name under which it goes on.
    pub next: String,
    /// The entry that says so.
    pub entry: u64,
}
