//! Requests to the metadata service: linearizable reads, and commands that go through raft.

use serde::{Deserialize, Serialize};
use stele_types::ids::{
    BucketId, ClusterId, CommandSequence, ConfigEpoch, DriveId, Epoch, LeaseId, LogIndex, MapEpoch, NodeId, OwnerId,
    PackId, PgId, RangeEpoch, RangeId, Salt, UploadId, VersionId,
};
use stele_types::manifest::Manifest;
use stele_types::map::{ClusterMap, DriveRow, DriveState};
use stele_types::object::{
    Attributes, BucketRow, ChecksumAlgorithm, ChecksumType, Part, Precondition, StoredHeaders, Upload, Version,
};
use stele_types::pack::PackRow;
use stele_types::seam::UnixMillis;

/// Where a key lives, as the caller believes. Refused with `StaleRange` where it moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RangeRef {
    /// The bucket.
    pub bucket: BucketId,
    /// The range.
    pub range: RangeId,
    /// Epoch of the range row.
    pub epoch: RangeEpoch,
}

/// Which version of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum VersionSelector {
    /// The one with the highest commit sequence.
    #[default]
    Current,
    /// The null version.
    Null,
    /// This one.
    Id(VersionId),
}

/// Who asks, for records and audit.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// Access key.
    pub principal: String,
    /// Client address.
    pub source: String,
    /// The gateway.
    pub node: NodeId,
}

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

/// A request to the metadata service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MetaRequest {
    /// The cluster map, unless the caller's is current.
    ClusterMap {
        /// Epoch the caller has.
        known: MapEpoch,
    },
    /// One bucket by name.
    Bucket {
        /// Its name.
        name: String,
    },
    /// Buckets by name.
    Buckets {
        /// Only names with this prefix.
        prefix: String,
        /// Start behind this name.
        after: Option<String>,
        /// At most this many.
        max: u32,
    },
    /// One version and the rows of the packs its inline manifest names (or of the pack of its
    /// topmost manifest page).
    Resolve {
        /// Where the key lives.
        range: RangeRef,
        /// The key.
        key: String,
        /// Which version.
        version: VersionSelector,
    },
    /// Rows of packs, in the order asked; a missing pack is left out.
    Packs {
        /// Which.
        packs: Vec<PackId>,
    },
    /// Current versions by key (delete markers left out).
    List {
        /// Where the bucket lives.
        range: RangeRef,
        /// What to list.
        query: ListQuery,
    },
    /// All versions and markers, newest first within a key.
    ListVersions {
        /// Where the bucket lives.
        range: RangeRef,
        /// What to list.
        query: ListQuery,
    },
    /// Uploads by key, then upload id.
    ListUploads {
        /// Where the bucket lives.
        range: RangeRef,
        /// What to list; `after_version` is unused.
        query: ListQuery,
        /// With `after`: start behind this upload of that key.
        after_upload: Option<UploadId>,
    },
    /// One upload and a page of its parts.
    Parts {
        /// Where the key lives.
        range: RangeRef,
        /// The key.
        key: String,
        /// The upload.
        upload: UploadId,
        /// Start behind this part number.
        after: u16,
        /// At most this many.
        max: u32,
    },
    /// For a sweep: the referenced packs of a PG, ordered by pack id. Refused unless the group has
    /// been fenced at or above `fence`.
    ReferencedPacks {
        /// The PG.
        pg: PgId,
        /// The sweep's fence.
        fence: Epoch,
        /// Start behind this pack.
        after: Option<PackId>,
        /// At most this many.
        max: u32,
    },
    /// Counters and right edge of the evidence log, leases, fence, for status.
    Status,
    /// A command: goes through raft.
    Command(Box<CommandEnvelope>),
}

/// A command with what makes a retry harmless.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// The lease; `None` for commands of the cluster itself, which are idempotent by nature.
    pub lease: Option<LeaseId>,
    /// Position within the lease; a retry carries the same one.
    pub sequence: CommandSequence,
    /// Replies below this sequence may be forgotten.
    pub lowest_open: CommandSequence,
    /// Who asks.
    pub origin: Origin,
    /// What to do.
    pub command: Command,
}

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

/// A change of metadata.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Found the cluster: id, drives, PGs. Idempotent for the same id.
    InitCluster {
        /// Random.
        cluster: ClusterId,
        /// All drives.
        drives: Vec<DriveRow>,
        /// Scheme, number of PGs and their slots, computed by the proposer from the drives.
        map: Box<ClusterMap>,
    },
    /// Note what a drive may be used for.
    SetDriveState {
        /// The drive.
        drive: DriveId,
        /// New state.
        state: DriveState,
        /// Why, for people.
        reason: String,
    },
    /// Take a lease.
    GrantLease {
        /// The gateway.
        node: NodeId,
        /// Lives this long without renewal, in ms of commit time.
        ttl_ms: u64,
    },
    /// Extend a lease's expiry and report the lowest start epoch still open (the current epoch if
    /// none is).
    RenewLease {
        /// The lease.
        lease: LeaseId,
        /// Lives this long from now.
        ttl_ms: u64,
        /// Lowest start epoch still open.
        lowest_open: Epoch,
    },
    /// Give a lease back.
    ReleaseLease {
        /// The lease.
        lease: LeaseId,
    },
    /// Raise the root epoch by one.
    AdvanceEpoch,
    /// Fence: the highest epoch below every unexpired lease's lowest open start epoch, at most
    /// `limit`; expired leases are removed first. Never lowers the fence.
    Fence {
        /// Upper bound.
        limit: Epoch,
    },
    /// Create a bucket.
    CreateBucket {
        /// Its name, valid by S3's rules.
        name: String,
    },
    /// Delete an empty bucket.
    DeleteBucket {
        /// Its name.
        name: String,
    },
    /// Commit references ahead of the command that names their owner (very large objects).
    StageReferences {
        /// Guards.
        guard: WriteGuard,
        /// Owner to be.
        owner: OwnerId,
        /// Packs.
        packs: Vec<PackRow>,
    },
    /// Make a version visible: the linearization point of PUT.
    PutVersion(Box<PutVersion>),
    /// Delete keys or versions of one range, each with its own outcome.
    Delete {
        /// Guards.
        guard: WriteGuard,
        /// At most 1,000.
        items: Vec<DeleteItem>,
    },
    /// Begin a multipart upload.
    CreateUpload {
        /// Guards.
        guard: WriteGuard,
        /// The key.
        key: String,
        /// Random.
        upload: UploadId,
        /// Headers for the version.
        headers: Box<StoredHeaders>,
        /// Checksum choice.
        checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    },
    /// Make a part the current one of its number.
    PutPart {
        /// Guards.
        guard: WriteGuard,
        /// The key.
        key: String,
        /// The upload.
        upload: UploadId,
        /// The part; `generation` and `modified` are assigned in apply.
        part: Box<Part>,
        /// Every pack of the part, as in [`Contents::packs`].
        packs: Vec<PackRow>,
    },
    /// Complete an upload: re-own the listed parts' references and make the version visible.
    CompleteUpload(Box<CompleteUpload>),
    /// Drop an upload and its parts.
    AbortUpload {
        /// Guards.
        guard: WriteGuard,
        /// The key.
        key: String,
        /// The upload.
        upload: UploadId,
    },
}

/// See [`Command::PutVersion`].
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
}

/// See [`Command::CompleteUpload`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CompleteUpload {
    /// As for a PUT; `contents.packs` holds only the manifest's own packs, `attributes.headers` is
    /// ignored in favour of the upload's.
    pub put: PutVersion,
    /// The upload.
    pub upload: UploadId,
    /// Listed parts with the generation whose chunks the manifest concatenates.
    pub parts: Vec<(u16, u64)>,
}

/// One item of [`Command::Delete`].
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
    /// Why this item failed; the others are not affected.
    pub error: Option<crate::error::RpcError>,
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

/// A lease as granted or renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Current root epoch: start epoch of writes that begin now.
    pub epoch: Epoch,
    /// Highest fenced epoch.
    pub fence: Epoch,
    /// Map epoch, so that a renewal tells of a newer map.
    pub map_epoch: MapEpoch,
}

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
}

/// What the metadata service answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum MetaReply {
    /// To `ClusterMap`: `None` if the caller's is current.
    ClusterMap(Option<Box<ClusterMap>>),
    /// To `Bucket` and `CreateBucket`.
    Bucket(Box<BucketRow>),
    /// To `Buckets`.
    Buckets(ListPage<BucketRow>),
    /// To `Resolve`.
    Version {
        /// The version.
        version: Box<Version>,
        /// Rows of the packs it names.
        packs: Vec<PackRow>,
        /// It is the current version.
        latest: bool,
    },
    /// To `Packs`.
    Packs(Vec<PackRow>),
    /// To `List` and `ListVersions`.
    Keys(ListPage<ListedKey>),
    /// To `ListUploads`.
    Uploads(ListPage<Upload>),
    /// To `Parts`.
    Parts {
        /// The upload.
        upload: Box<Upload>,
        /// Its parts by number.
        parts: Vec<Part>,
        /// More follow.
        truncated: bool,
    },
    /// To `ReferencedPacks`.
    Referenced {
        /// By pack id.
        packs: Vec<PackId>,
        /// More follow.
        more: bool,
    },
    /// To `Status`.
    Status(Box<MetaStatus>),
    /// To lease commands.
    Lease(Lease),
    /// To `Fence` and `AdvanceEpoch`: the fence and the epoch now.
    Epochs {
        /// Highest fenced epoch.
        fence: Epoch,
        /// Current epoch.
        epoch: Epoch,
    },
    /// To `PutVersion` and `CompleteUpload`.
    Committed(Committed),
    /// To `Delete`, in the order asked.
    Deleted(Vec<Deleted>),
    /// To `CreateUpload`.
    Upload(Box<Upload>),
    /// To `PutPart`.
    Part(Box<Part>),
    /// To commands that have nothing to tell.
    Done,
}
