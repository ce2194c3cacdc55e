//! Questions for pages of keys, and what they are answered with.

use serde::{Deserialize, Serialize};
use stele_types::ids::VersionId;
use stele_types::object::{ChecksumAlgorithm, ChecksumType};
use stele_types::seam::UnixMillis;

use super::VersionSelector;

/// What a listing returns besides keys that match.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ListQuery {
    /// Only keys with this prefix.
    pub prefix: String,
    /// Roll keys up to and including this text behind the prefix into one common prefix.
    pub delimiter: Option<String>,
    /// Start behind this key or common prefix.
    pub after: Option<String>,
    /// With `after` a key, for version listings: start behind this version of it.
    pub after_version: Option<VersionSelector>,
    /// At most this many keys and common prefixes together.
    pub max: u32,
}

/// One page of a listing. `truncated` may be set with fewer than `max` rows: a call scans a bounded
/// number of rows. Continue with `next_after` (and `next_after_version`) as the new `after`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListPage<T> {
    /// Matching rows in byte order of keys.
    pub rows: Vec<T>,
    /// Common prefixes in byte order.
    pub common_prefixes: Vec<String>,
    /// More may follow.
    pub truncated: bool,
    /// Where to continue: last key or common prefix taken into account.
    pub next_after: Option<String>,
    /// Version of `next_after`, in version listings that stopped inside a key.
    pub next_after_version: Option<VersionId>,
}

/// A row of a key listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedKey {
    /// The key.
    pub key: String,
    /// Id of the listed version.
    pub id: VersionId,
    /// Shown as `null`.
    pub null_version: bool,
    /// Newest version of its key.
    pub latest: bool,
    /// It is a delete marker.
    pub delete_marker: bool,
    /// Commit time.
    pub modified: UnixMillis,
    /// Bytes.
    pub len: u64,
    /// ETag as text, without quotes.
    pub etag: String,
    /// Checksum algorithms known, with what they cover.
    pub checksums: Vec<(ChecksumAlgorithm, ChecksumType)>,
}
