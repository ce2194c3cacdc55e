//! Rows of garbage collection and of the trash.

use serde::{Deserialize, Serialize};
use stele_rpc::meta::{GcRun, GcTotals};
use stele_types::ids::Epoch;
use stele_types::seam::UnixMillis;

use super::VersionRow;

/// A removed version that can be brought back. Its references are those of its owner, as before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrashRow {
    /// As it was.
    pub version: VersionRow,
    /// Commit time of its removal.
    pub removed: UnixMillis,
    /// Another version took its place.
    pub overwritten: bool,
}

/// A fence of garbage collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FenceRow {
    /// The fence.
    pub fence: Epoch,
    /// Commit time of the run that made it.
    pub made: UnixMillis,
}

/// What garbage collection must remember, and what it did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GcRow {
    /// Runs that began.
    pub begun: u64,
    /// Commit time of the last beginning.
    pub last_begun: Option<UnixMillis>,
    /// Rising in both.
    pub fences: Vec<FenceRow>,
    /// The last run that ended.
    pub last: Option<GcRun>,
    /// All of them.
    pub totals: GcTotals,
}

/// What a bucket takes. A pack counts for the bucket whose write made its row, until nothing refers to it any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SpaceRow {
    /// Versions, markers included.
    pub versions: u64,
    /// Bytes of versions.
    pub logical_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Their payload.
    pub unique_bytes: u64,
    /// Their shards, parity included, without headers.
    pub stored_bytes: u64,
}
