//! What commands that write objects carry, and what they give back.

use serde::{Deserialize, Serialize};
use stele_types::ids::{ConfigEpoch, Epoch, LogIndex, OwnerId, Salt, UploadId, VersionId};
use stele_types::manifest::Manifest;
use stele_types::object::{Attributes, Lock, Precondition};
use stele_types::pack::PackRow;
use stele_types::seam::UnixMillis;

use super::{RangeRef, VersionSelector};

/// Guards of a write to one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WriteGuard {
    /// Where the key lives.
    pub range: RangeRef,
    /// Bucket configuration the write was planned with.
    pub config_epoch: ConfigEpoch,
    /// Start epoch e of the write; refused with `Fenced` at or below the fence.
    pub start_epoch: Epoch,
}

/// What a version or part refers to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contents {
    /// Owner of the references; random, never reused.
    pub owner: OwnerId,
    /// Where the bytes are.
    pub manifest: Manifest,
    /// Every pack the manifest and its pages name, and those of the pages themselves, unless they
    /// were staged ahead. Each once.
    pub packs: Vec<PackRow>,
}

/// See [`super::Command::PutVersion`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PutVersion {
    /// Guards.
    pub guard: WriteGuard,
    /// The key.
    pub key: String,
    /// Nonce of the version id.
    pub nonce: u64,
    /// Salt of the creation's log entry.
    pub salt: Salt,
    /// Salt of the log entry for a version this one replaces.
    pub replaced_salt: Salt,
    /// Condition on the current version.
    pub precondition: Precondition,
    /// Attributes.
    pub attributes: Attributes,
    /// Manifest and packs.
    pub contents: Contents,
    /// What the version brings; the bucket's default retention is added at the commit.
    #[serde(default)]
    pub lock: Lock,
}

/// See [`super::Command::CompleteUpload`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CompleteUpload {
    /// As for a PUT; `contents.packs` holds only the manifest's own packs, `attributes.headers`,
    /// `attributes.tags` and `lock` are ignored in favour of the upload's.
    pub put: PutVersion,
    /// The upload.
    pub upload: UploadId,
    /// Listed parts with the generation whose chunks the manifest concatenates.
    pub parts: Vec<(u16, u64)>,
}

/// One item of [`super::Command::Delete`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteItem {
    /// The key.
    pub key: String,
    /// `Current`: a plain delete (marker or removal, by the bucket's versioning). Otherwise the
    /// version that is removed.
    pub version: VersionSelector,
    /// Condition on the current version.
    pub precondition: Precondition,
    /// Nonce of a delete marker's version id.
    pub nonce: u64,
    /// Salt of the log entry.
    pub salt: Salt,
    /// Governance retention does not stand in the way.
    #[serde(default)]
    pub bypass: bool,
}

/// Outcome of one [`DeleteItem`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// Version removed, if any.
    pub removed: Option<VersionId>,
    /// The removed version was the null version.
    pub removed_null: bool,
    /// The removed version was a delete marker.
    pub removed_marker: bool,
    /// Delete marker made, if any.
    pub marker: Option<VersionId>,
    /// That marker is the null version.
    #[serde(default)]
    pub marker_null: bool,
    /// Why this item failed; the others are not affected.
    pub error: Option<crate::error::RpcError>,
    /// Log entry of the deletion: the last one, where it has two; `None` where nothing was deleted.
    #[serde(default)]
    pub log_index: Option<LogIndex>,
}

/// What P8 gives back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Committed {
    /// Id of the new version.
    pub id: VersionId,
    /// Shown as `null`, that is, without a version id.
    pub null_version: bool,
    /// Commit time.
    pub modified: UnixMillis,
    /// Log entry of the creation.
    pub log_index: LogIndex,
    /// ETag (Complete may be answered again from an earlier result).
    pub attributes: Box<Attributes>,
}
