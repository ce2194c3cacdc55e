//! Garbage collection as the metadata service keeps it: when which fence was made, so that a grace time outlives
//! the process that counts it, and what the last run did, for the operator.

use serde::{Deserialize, Serialize};
use stele_types::ids::{BucketId, Epoch, PgId};
use stele_types::seam::UnixMillis;

/// Most buckets of which a status tells what they take.
pub const BUCKETS_TOLD_MAX: usize = 1000;

/// A step of a garbage collection. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GcCommand {
    /// Begin a run: raises the epoch, fences what lies below it as far as leases allow, and notes when.
    Begin {
        /// Least time between condemnation and deletion, ms of commit time.
        grace_ms: u64,
    },
    /// What a run did. Ignored if a later one has said so already.
    Finish(Box<GcRun>),
}

/// A run that began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GcBegun {
    /// Counts from 1.
    pub number: u64,
    /// Its fence.
    pub fence: Epoch,
    /// What was condemned at or below this fence, which is lower than [`Self::fence`], has waited for the grace time.
    pub ripe: Option<Epoch>,
    /// Commit time of its beginning.
    pub began: UnixMillis,
}

/// Packs, and their bytes on drives with parity and headers. A pack counts once, whatever the number of drives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PackCount {
    /// Packs.
    pub packs: u64,
    /// Bytes of all their shards that were found.
    pub bytes: u64,
}

impl PackCount {
    /// One more pack.
    pub fn add(&mut self, bytes: u64) {
        self.packs = self.packs.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a run did to shards on drives that the row of their placement group does not name (any more).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StrayCount {
    /// Found, of any age.
    pub found: PackCount,
    /// Newly condemned.
    pub condemned: u64,
    /// Condemned before and waiting for their grace time.
    pub waiting: u64,
    /// Deleted.
    pub deleted: PackCount,
    /// Kept, because the pack is referred to and the drive that should hold its shard does not, or could not be asked.
    pub kept: PackCount,
    /// Drives that could not be asked; what they hold is not known.
    pub unasked: u64,
}

/// What one run did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GcRun {
    /// As in [`GcBegun`].
    pub number: u64,
    /// The fence.
    pub fence: Epoch,
    /// As in [`GcBegun`].
    pub ripe: Option<Epoch>,
    /// Commit time of its beginning.
    pub began: UnixMillis,
    /// Commit time of its end; filled in by the metadata service.
    pub ended: UnixMillis,
    /// PGs swept.
    pub pgs: u64,
    /// PGs left as they were.
    pub void: u64,
    /// The first of them, at most [`GcRun::TOLD_MAX`], and why.
    pub voided: Vec<(PgId, String)>,
    /// Packs at or below the fence that were looked at.
    pub examined: u64,
    /// Of these: referred to.
    pub referenced: PackCount,
    /// Packs above the fence, or touched above it: too young to be judged.
    pub young: PackCount,
    /// Newly condemned.
    pub condemned: PackCount,
    /// Condemned before and waiting for their grace time.
    pub waiting: PackCount,
    /// Deleted.
    pub deleted: PackCount,
    /// Condemned before, found referenced now. Above zero: look into it.
    pub pardoned: u64,
    /// Touched meanwhile, so not condemned.
    pub refused: u64,
    /// Shards where they don't belong.
    pub strays: StrayCount,
    /// Removed versions that were kept for long enough and given up.
    pub expired: u64,
}

impl GcRun {
    /// Most PGs of which a report tells why they were left as they were.
    pub const TOLD_MAX: usize = 20;
    /// Longest reason that is kept of one, in bytes.
    pub const WHY_MAX: usize = 300;

    /// Notes that a PG was left as it was.
    pub fn leave(&mut self, pg: PgId, why: &str) {
        self.void += 1;
        if self.voided.len() < Self::TOLD_MAX {
            self.voided.push((pg, why[..why.floor_char_boundary(Self::WHY_MAX)].to_owned()));
        }
    }
}

/// What all runs did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GcTotals {
    /// Runs that ended.
    pub runs: u64,
    /// Condemned.
    pub condemned: u64,
    /// Deleted, strays included.
    pub deleted: PackCount,
    /// Pardoned.
    pub pardoned: u64,
}

/// What a bucket takes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BucketSpace {
    /// Its id; 0: packs of which the bucket is not known.
    pub bucket: BucketId,
    /// Its name; empty if it is gone.
    pub name: String,
    /// Versions, markers included.
    pub versions: u64,
    /// Their bytes, as users see them.
    pub logical_bytes: u64,
    /// Packs that something refers to, and their payload. Each counts for the bucket whose write brought it first.
    pub unique: PackCount,
    /// What these packs take on drives with parity, without headers.
    pub stored_bytes: u64,
}

/// What is known of garbage collection.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GcStatus {
    /// Current epoch.
    pub epoch: Epoch,
    /// Highest fenced epoch.
    pub fence: Epoch,
    /// Runs that began.
    pub begun: u64,
    /// Commit time of the last beginning.
    pub last_begun: Option<UnixMillis>,
    /// The last run that ended.
    pub last: Option<GcRun>,
    /// All of them.
    pub totals: GcTotals,
    /// Packs that something refers to, and their payload: every chunk counts once for each time it was stored.
    pub unique: PackCount,
    /// What these packs take on drives with parity, without headers.
    pub stored_bytes: u64,
    /// Bytes of versions, as users see them.
    pub logical_bytes: u64,
    /// The same by bucket, in the order of their ids.
    pub buckets: Vec<BucketSpace>,
    /// There are more buckets than one call lists.
    pub more_buckets: bool,
    /// Removed versions that can be brought back.
    pub trash_versions: u64,
    /// Their bytes, which the unique ones include.
    pub trash_bytes: u64,
    /// How long removed versions are kept, ms; `None`: not at all.
    pub trash_window_ms: Option<u64>,
    /// Multipart uploads that were begun and neither completed nor aborted.
    pub uploads: u64,
    /// There are more of them than one call counts.
    pub more_uploads: bool,
    /// Commit time at which the oldest of them was begun.
    pub oldest_upload: Option<UnixMillis>,
}
