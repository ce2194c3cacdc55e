//! Requests to the metadata service: linearizable reads, and commands that go through raft.

mod about;
mod backups;
mod changes;
mod gc;
mod lease;
mod listing;
mod log;
mod log_archive;
mod moves;
mod nodes;
mod status;
mod trash;
mod writes;

pub use about::{Origin, RangeRef};
pub use backups::{BACKUP_NAME_BYTES_MAX, BackupCommand, BackupMade, BackupState, ClosedLog, Compared, RestoredFrom};
pub use changes::{ChangeVersion, Changed, NewRetention, VersionChange};
pub use gc::{BUCKETS_TOLD_MAX, BucketSpace, GcBegun, GcCommand, GcRun, GcStatus, GcTotals, PackCount, StrayCount};
pub use lease::Lease;
pub use listing::{ListPage, ListQuery, ListedKey};
pub use log::{
    ANCHOR_PROOF_BYTES_MAX, ANSWER_KEY_BYTES_MAX, AuditStep, AuditStepKind, CHAIN_NAME_BYTES_MAX,
    CHAIN_STATE_BYTES_MAX, CHAINS_MAX, ChainRow, Checkpoint, ERASED_ENTRIES_MAX, KEY_EVENTS_MAX, KeptAnchor, KeyEvent,
    LOG_ENTRIES_MAX, LogCommand, LogHead, LogRead, LogRecord, LogReply, NOTE_BYTES_MAX, POLICY_BYTES_MAX, SignedNote,
    TreeHead,
};
pub use log_archive::{
    AnchorsArchive, AnchorsMade, ArchiveInfo, ArchiveMade, ArchiveObject, ArchivePlan, COPIES_MAX, COPY_PATH_MAX,
    FOLDED_MAX, Fold, LOG_BUCKET, LogItem, RecordCopy, WANTED_TILES_MAX,
};
pub use moves::{AppendVersion, Expected, RenameKey, RenameToken};
pub use nodes::{Heartbeat, Liveness, NewNode, TokenRow};
pub use status::MetaStatus;
pub use trash::{RestoreVersion, TRASH_PAGE_MAX, TrashCommand, TrashPage, TrashQuery, TrashedVersion};
pub use writes::{Committed, CompleteUpload, Contents, DeleteItem, Deleted, PutVersion, WriteGuard};

use serde::{Deserialize, Serialize};
use stele_types::ids::{
    ClusterId, CommandSequence, DriveId, Epoch, LeaseId, MapEpoch, NodeId, OwnerId, PackId, PgEpoch, PgId, Salt,
    UploadId, VersionId,
};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeState, SlotMove};
use stele_types::object::{
    BucketRow, ChecksumAlgorithm, ChecksumType, Cors, Lock, ObjectLock, Part, StoredHeaders, Tags, Upload, Version,
    Versioning,
};
use stele_types::pack::PackRow;
use stele_types::role::Role;
use stele_types::scheme::Scheme;

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

/// A change of a bucket's configuration. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BucketChange {
    /// Keep versions, or stop doing so. `Unset` is refused: what was enabled can only be suspended.
    Versioning(Versioning),
    /// Tags of the bucket itself; an empty set removes them.
    Tags(Tags),
    /// Switch object lock on, or change the default retention. Needs versioning; nothing switches it off.
    ObjectLock(ObjectLock),
    /// Cross-origin rules; none removes them.
    Cors(Cors),
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
    /// A node says that it lives. Kept in the leader's memory only.
    Heartbeat(Heartbeat),
    /// Who was heard of by the leader.
    Liveness,
    /// Join tokens, expired ones included until they are dropped.
    JoinTokens,
    /// Where metadata nodes are, as far as the asked one knows: it may be behind. Every one of them answers.
    Peers,
    /// The evidence log.
    Log(LogRead),
    /// Keys that nodes sign answers to possession audits with.
    AnswerKeys,
    /// What garbage collection did, and what space is used for.
    GcStatus,
    /// Removed versions that can be brought back.
    Trash(TrashQuery),
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
    /// For the record of what is done to the cluster itself: 32 random bytes. Commands on objects bring their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// What to do.
    pub command: Command,
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
        /// With object lock, and so with versioning.
        #[serde(default)]
        object_lock: bool,
    },
    /// Change one setting of a bucket. In force for every write that commits later.
    ConfigureBucket {
        /// Its name.
        name: String,
        /// What is to hold from now on.
        change: BucketChange,
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
        /// Tags for the version.
        #[serde(default)]
        tags: Tags,
        /// Lock for the version.
        #[serde(default)]
        lock: Lock,
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
    /// Keep a join token. Idempotent for the same id and hash.
    CreateJoinToken {
        /// Random.
        id: [u8; 16],
        /// BLAKE3 of its secret; the secret itself is kept nowhere.
        secret_hash: [u8; 32],
        /// What its holder may become.
        role: Role,
        /// Lives this long, in ms of commit time.
        ttl_ms: u64,
    },
    /// Drop a join token, used or not.
    RevokeJoinToken {
        /// Which.
        id: [u8; 16],
    },
    /// Use a join token: allocates a node id. Single use, but a repeat with the same key gets the same
    /// id for as long as the token lives: its answer may have been lost.
    RedeemJoinToken {
        /// Which.
        id: [u8; 16],
        /// BLAKE3 of the secret that was shown.
        secret_hash: [u8; 32],
        /// The node to be.
        node: Box<NewNode>,
    },
    /// A node says which key it signs answers to possession audits with: at each start. The first one stays.
    SetAnswerKey {
        /// The node.
        node: NodeId,
        /// Text of a verifier key (docs/formats/audit.md); at most [`ANSWER_KEY_BYTES_MAX`] bytes.
        key: String,
    },
    /// A node says where it can be reached and which drives it has: at each start, and when that changes.
    /// Drives that the map does not know join it; a drive that another node had moves here.
    RegisterNode {
        /// The node.
        node: NodeId,
        /// Where others dial it, as `host:port`.
        addresses: Vec<String>,
        /// Failure domain; empty if unknown.
        zone: String,
        /// Failure domain within the zone; empty if unknown.
        rack: String,
        /// All its drives; `node` of each is ignored.
        drives: Vec<DriveRow>,
    },
    /// Change what a node may be used for.
    SetNodeState {
        /// The node.
        node: NodeId,
        /// New state.
        state: NodeState,
    },
    /// Compute placement groups for the usable drives: all of them if there are none yet, else those that
    /// more drives call for. Existing ones stay as they are.
    PlanPlacement {
        /// Scheme of new placement groups; `None`: by the number of failure domains.
        scheme: Option<Scheme>,
    },
    /// Change a version in place.
    ChangeVersion(Box<ChangeVersion>),
    /// Make a version visible that continues the current one, in a bucket that keeps no versions.
    AppendVersion(Box<AppendVersion>),
    /// Move the current version of a key to another key, in a bucket that keeps no versions.
    RenameKey(Box<RenameKey>),
    /// Close a size of the evidence log.
    Log(LogCommand),
    /// Give slots of placement groups a drive that takes over: their new packs go there, and what is missing
    /// there is rebuilt. Refused whole if one of the moves does not fit the map any more, or there are more than
    /// [`SLOT_MOVES_MAX`]. A move that was done already is passed over.
    MoveSlots {
        /// Each slot once. Moves of one placement group name the same epoch.
        moves: Vec<SlotMove>,
    },
    /// The drive that takes a slot over holds all of it: from now on the slot is that drive. Safe to repeat.
    FlipSlot {
        /// The placement group.
        pg: PgId,
        /// Epoch of its row at which `to` was found to hold every pack that something refers to.
        epoch: PgEpoch,
        /// Position in the row.
        slot: u8,
        /// The drive that takes over.
        to: DriveId,
    },
    /// For so long the drives of a node are not replaced because it is silent: somebody works on it.
    SetMaintenance {
        /// The node.
        node: NodeId,
        /// Counted from the commit, milliseconds; 0: from now on its silence counts again.
        ttl_ms: u64,
    },
    /// Hold rebalancing back, or let it go on. Moves that have begun end all the same, and so do those of lost or
    /// leaving drives.
    PauseRebalancing {
        /// Held back.
        paused: bool,
    },
    /// A step of a garbage collection.
    Gc(GcCommand),
    /// A change of the trash.
    Trash(TrashCommand),
    /// Backups of the metadata.
    Backup(BackupCommand),
}

/// Most moves of one [`Command::MoveSlots`].
pub const SLOT_MOVES_MAX: usize = 1000;

/// What the metadata service answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum MetaReply {
    /// To `ClusterMap`: `None` if the caller's is current.
    ClusterMap(Option<Box<ClusterMap>>),
    /// To `Bucket`, `CreateBucket` and `ConfigureBucket`.
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
    /// To `PutVersion`, `CompleteUpload`, `AppendVersion`, `RenameKey` and `Trash(Restore)`.
    Committed(Committed),
    /// To `Delete`, in the order asked.
    Deleted(Vec<Deleted>),
    /// To `CreateUpload`.
    Upload(Box<Upload>),
    /// To `PutPart`.
    Part(Box<Part>),
    /// To commands that have nothing to tell.
    Done,
    /// To `RedeemJoinToken`.
    Node(NodeId),
    /// To `Heartbeat`: the epoch of the cluster map.
    Heard(MapEpoch),
    /// To `Liveness`.
    Liveness(Vec<Liveness>),
    /// To `JoinTokens`.
    JoinTokens(Vec<TokenRow>),
    /// To `Peers`: ids and addresses.
    Peers(Vec<(NodeId, Vec<String>)>),
    /// To commands that change a version in place.
    Changed(Changed),
    /// To `Log` and to commands of the log.
    Log(LogReply),
    /// To `AnswerKeys`: by node, as the text of a verifier key (docs/formats/audit.md).
    AnswerKeys(Vec<(NodeId, String)>),
    /// To `Gc(Begin)`.
    GcBegun(GcBegun),
    /// To `GcStatus`.
    GcStatus(Box<GcStatus>),
    /// To `Trash`.
    Trash(TrashPage),
    /// To `Trash(Purge)` and `Trash(Expire)`: how many versions were given up.
    Purged(u64),
}
