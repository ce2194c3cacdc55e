//! The trash: removed versions that an operator can bring back for a while, with their references, so that nothing
//! that can be brought back is swept. docs/gc.md.

use serde::{Deserialize, Serialize};
use stele_types::ids::{BucketId, ObjectRoot, Salt, VersionId};
use stele_types::seam::UnixMillis;

/// Most rows of one page of the trash, and most versions that one command takes out of it.
pub const TRASH_PAGE_MAX: u32 = 1000;

/// A change of the trash. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TrashCommand {
    /// How long removed versions are kept, ms of commit time; `None`: not at all, and what is there goes.
    Keep {
        /// The time.
        window_ms: Option<u64>,
    },
    /// Bring a removed version back as a new version of its key, with an entry of its own in the evidence log. Safe to
    /// repeat with the same nonce.
    Restore(Box<RestoreVersion>),
    /// Give removed versions up at once: their references go in this apply.
    Purge {
        /// Their bucket, which may be gone.
        bucket: BucketId,
        /// Their key.
        key: String,
        /// Which; `None`: all of this key, at most [`TRASH_PAGE_MAX`] at once.
        version: Option<VersionId>,
    },
    /// Give up what was kept for long enough.
    Expire {
        /// At most so many.
        max: u32,
    },
}

/// Which version is brought back, and as what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestoreVersion {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// Its id when it was removed.
    pub version: VersionId,
    /// It may take the place of another version: in a bucket that keeps none, what has its key now is removed.
    pub replace: bool,
    /// Random half of the new version's id.
    pub nonce: u64,
    /// Salt of its log entry.
    pub salt: Salt,
}

/// A removed version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrashedVersion {
    /// Its bucket.
    pub bucket: BucketId,
    /// Name of its bucket; empty if that is gone, so that the version can be purged only.
    pub bucket_name: String,
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: VersionId,
    /// Bytes.
    pub len: u64,
    /// Object root.
    pub root: ObjectRoot,
    /// Commit time of its creation.
    pub modified: UnixMillis,
    /// Commit time of its removal.
    pub removed: UnixMillis,
    /// Another version took its place, rather than that it was deleted.
    pub overwritten: bool,
}

/// Which part of the trash. Rows are ordered by bucket, key, and newest version first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrashQuery {
    /// Only of this bucket.
    pub bucket: Option<BucketId>,
    /// Only keys with this prefix; needs a bucket.
    pub prefix: String,
    /// Start behind this row.
    pub after: Option<(BucketId, String, VersionId)>,
    /// At most so many.
    pub max: u32,
}

/// A page of the trash.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrashPage {
    /// In order.
    pub rows: Vec<TrashedVersion>,
    /// More may follow.
    pub more: bool,
    /// How long removed versions are kept, ms of commit time.
    pub window_ms: Option<u64>,
}
