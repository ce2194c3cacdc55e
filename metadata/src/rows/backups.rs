//! What is kept of backups and restores.

use serde::{Deserialize, Serialize};
use stele_rpc::meta::{BackupMade, BackupState, ClosedLog, RestoredFrom};
use stele_types::ids::Epoch;
use stele_types::seam::UnixMillis;

use super::load;
use crate::keyspace::{BACKUPS, ORIGINS, RESTORE};
use crate::kv::{KvRead, KvResult};

/// Backups that are expected, and the newest one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupsRow {
    /// How often one is expected, milliseconds; `None`: never.
    pub interval_ms: Option<u64>,
    /// Commit time since which it is.
    pub since: UnixMillis,
    /// Commit time at which somebody last asked for one.
    pub wanted: UnixMillis,
    /// The newest one that was read back.
    pub newest: Option<BackupMade>,
    /// Backups with a fence at or below this may miss packs.
    pub superseded: Epoch,
}

/// The backup that this cluster was restored from last.
pub type RestoreRow = RestoredFrom;

/// Names under which the evidence log was closed, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginsRow {
    /// One for each closing.
    pub closed: Vec<ClosedLog>,
}

/// All that is known of backups and restores.
///
/// # Errors
/// The store failed.
pub(crate) fn backup_state(rows: &dyn KvRead) -> KvResult<BackupState> {
    let BackupsRow { interval_ms, since, wanted, newest, superseded } = load(rows, &BACKUPS)?.unwrap_or_default();
    let restored: Option<RestoreRow> = load(rows, &RESTORE)?;
    let closed = load::<OriginsRow>(rows, &ORIGINS)?.unwrap_or_default().closed;
    Ok(BackupState { interval_ms, since, wanted, newest, superseded, restored, closed })
}
