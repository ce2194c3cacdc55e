//! Values of the state machine's rows: positional MessagePack, fields only ever appended, with
//! defaults. Keys and tables: [`crate::keyspace`]. Remembered replies, and envelopes in the raft log,
//! are messages: MessagePack with field names. [`CurrentRow`] has a fixed layout, because a listing
//! decodes very many of them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stele_evidence::log_archive::Height;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{Checkpoint, ListedKey, MetaReply, TreeHead};
use stele_types::ids::{
    BodyHash, BucketId, CommandSequence, CommitSeq, Epoch, LeaseId, LogIndex, NodeId, ObjectRoot, OwnerId, UploadId,
    VersionId,
};
use stele_types::manifest::Manifest;
use stele_types::object::{
    Attributes, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Lock, StoredHeaders, Tags, Upload, Version,
};
use stele_types::seam::UnixMillis;

use crate::kv::{KvError, KvRead, KvResult};

mod backups;
mod current;
mod gc;

pub(crate) use backups::backup_state;
pub use backups::{BackupsRow, OriginsRow, RestoreRow};
pub use current::CurrentRow;
use current::etag_text;
pub use gc::{FenceRow, GcRow, SpaceRow, TrashRow};

/// Encodes a row.
pub fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    rmp_serde::to_vec(row).expect("rows hold only types that MessagePack can express")
}

/// Encodes a message with field names.
pub fn encode_named<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(message).expect("messages hold only types that MessagePack can express")
}

/// Decodes a row or message found under `key`. All of it: a row whose head was damaged so that it ends early
/// would read as one of an earlier version, without the fields that came later.
///
/// # Errors
/// The bytes are damaged.
pub fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> KvResult<T> {
    let mut rest = bytes;
    let row = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest));
    let row = row.map_err(|error| corrupt(key, error.to_string()))?;
    match rest {
        [] => Ok(row),
        rest => Err(corrupt(key, format!("{} bytes behind the row", rest.len()))),
    }
}

/// A damaged row.
pub fn corrupt(key: &[u8], cause: impl Into<String>) -> KvError {
    KvError::Corrupt { table: key.first().copied().unwrap_or(0), cause: cause.into() }
}

/// Reads and decodes one row.
///
/// # Errors
/// The engine failed or the row is damaged.
pub fn load<T: DeserializeOwned>(rows: &(impl KvRead + ?Sized), key: &[u8]) -> KvResult<Option<T>> {
    rows.get(key)?.map(|bytes| decode(key, &bytes)).transpose()
}

/// State of the group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupRow {
    /// Highest commit time given so far.
    pub last_time: UnixMillis,
}

/// State of the root part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootRow {
    /// Current epoch; writes that begin now are stamped with it.
    pub epoch: Epoch,
    /// Highest fenced epoch.
    pub fence: Epoch,
    /// Next bucket id.
    pub next_bucket: u64,
    /// Next lease id.
    pub next_lease: u64,
    /// Buckets that exist.
    pub buckets: u64,
}

impl Default for RootRow {
    /// Epochs begin at 1, so that fence 0 refuses nothing.
    fn default() -> Self {
        Self { epoch: Epoch(1), fence: Epoch(0), next_bucket: 1, next_lease: 1, buckets: 0 }
    }
}

/// State of the data part.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DataRow {
    /// Last commit sequence given.
    pub commit_seq: CommitSeq,
    /// Versions that exist, markers included.
    pub versions: u64,
    /// Bytes of all versions.
    pub logical_bytes: u64,
    /// Entries of the evidence log.
    pub log_size: u64,
    /// Right edge of the evidence log, largest subtree first.
    pub log_edge: Vec<HashRow>,
    /// Packs that something refers to.
    #[serde(default)]
    pub packs: u64,
    /// Their payload.
    #[serde(default)]
    pub unique_bytes: u64,
    /// Their shards, parity included, without headers.
    #[serde(default)]
    pub stored_bytes: u64,
    /// How long removed versions are kept, ms of commit time.
    #[serde(default)]
    pub trash_ms: Option<u64>,
    /// Removed versions that are kept.
    #[serde(default)]
    pub trash_versions: u64,
    /// Their bytes.
    #[serde(default)]
    pub trash_bytes: u64,
}

/// A hash as MessagePack `bin`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashRow(pub [u8; 32]);

impl Serialize for HashRow {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for HashRow {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = bytes::Bytes::deserialize(d)?;
        let hash = bytes.as_ref().try_into().map_err(|_| serde::de::Error::custom("a hash has 32 bytes"))?;
        Ok(Self(hash))
    }
}

/// A lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Its gateway.
    pub node: NodeId,
    /// Commit time at which it expires.
    pub expires: UnixMillis,
    /// Lowest start epoch still open; only ever rises.
    pub lowest_epoch: Epoch,
    /// Replies below this sequence are forgotten.
    pub lowest_sequence: CommandSequence,
}

/// A remembered reply.
pub type ReplyRow = Result<MetaReply, RpcError>;

/// A version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionRow {
    /// Second half of the version id; the first is in the key.
    pub nonce: u64,
    /// Written while versioning was unset or suspended.
    pub null_version: bool,
    /// A delete marker.
    pub delete_marker: bool,
    /// Commit time.
    pub modified: UnixMillis,
    /// Log entry of its creation.
    pub log_index: LogIndex,
    /// Owner of its references.
    pub owner: OwnerId,
    /// Bytes.
    pub len: u64,
    /// ETag.
    pub etag: ETag,
    /// Object root.
    pub root: ObjectRoot,
    /// Whole-body BLAKE3.
    pub body_hash: Option<BodyHash>,
    /// Checksums to give back.
    pub checksums: Vec<Checksum>,
    /// Headers to give back.
    pub headers: Box<StoredHeaders>,
    /// Lengths of parts.
    pub part_lens: Vec<u64>,
    /// Where its bytes are.
    pub manifest: Manifest,
    /// Tags.
    #[serde(default)]
    pub tags: Tags,
    /// What keeps it from being removed.
    #[serde(default)]
    pub lock: Lock,
    /// Checksums of parts.
    #[serde(default)]
    pub part_checksums: bytes::Bytes,
}

impl VersionRow {
    /// The version as the gateway sees it.
    pub fn into_version(self, seq: CommitSeq) -> Version {
        Version {
            id: VersionId { commit_seq: seq, nonce: self.nonce },
            null_version: self.null_version,
            delete_marker: self.delete_marker,
            modified: self.modified,
            owner: self.owner,
            attributes: Attributes {
                len: self.len,
                etag: self.etag,
                root: self.root,
                body_hash: self.body_hash,
                checksums: self.checksums,
                headers: self.headers,
                part_lens: self.part_lens,
                tags: self.tags,
                part_checksums: self.part_checksums,
            },
            manifest: self.manifest,
            log_index: self.log_index,
            lock: self.lock,
        }
    }

    /// What a listing shows.
    pub fn listed(&self, key: &str, seq: CommitSeq, latest: bool) -> ListedKey {
        ListedKey {
            key: key.to_owned(),
            id: VersionId { commit_seq: seq, nonce: self.nonce },
            null_version: self.null_version,
            latest,
            delete_marker: self.delete_marker,
            modified: self.modified,
            len: self.len,
            etag: etag_text(self.etag),
            checksums: self.checksums.iter().map(|c| (c.algorithm, c.kind)).collect(),
        }
    }
}

/// What outlives a key's versions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeyRow {
    /// Events of this key so far.
    pub events: u64,
    /// Log entry of the last one.
    pub last_entry: Option<LogIndex>,
    /// Newest version, markers included.
    pub newest: Option<CommitSeq>,
    /// Null version.
    pub null: Option<CommitSeq>,
    /// Events whose records were erased.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub erased: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A multipart upload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UploadRow {
    /// Commit time of its creation.
    pub initiated: UnixMillis,
    /// Headers to give back.
    pub headers: Box<StoredHeaders>,
    /// Checksum choice.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Tags for the version.
    #[serde(default)]
    pub tags: Tags,
    /// Lock for the version.
    #[serde(default)]
    pub lock: Lock,
}

impl UploadRow {
    /// The upload as the gateway sees it.
    pub fn into_upload(self, id: UploadId, key: String) -> Upload {
        Upload {
            id,
            key,
            initiated: self.initiated,
            headers: self.headers,
            checksum: self.checksum,
            tags: self.tags,
            lock: self.lock,
        }
    }
}

/// One entry of the evidence log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordRow {
    /// Exact record bytes; empty once they were erased.
    pub record: bytes::Bytes,
    /// Salt; goes with the record.
    pub salt: Option<stele_types::ids::Salt>,
    /// What is left of an erased record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<ErasedRow>,
}

/// What is left of an erased record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErasedRow {
    /// The entry: the leaf is its hash.
    pub entry: HashRow,
    /// Entry of the event before it of the same key.
    pub previous: Option<LogIndex>,
    /// Entry of the erasure.
    pub by: LogIndex,
}

/// Archives of old entries of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivesRow {
    /// Level of the tiles that hold a hash for each archive.
    pub level: u8,
    /// Archives that were noted.
    pub count: u64,
    /// Tiles of level 0 that somebody wants of them, oldest wish first, and whether they are back.
    pub wanted: Vec<(u64, bool)>,
}

impl Default for ArchivesRow {
    fn default() -> Self {
        Self { level: Height::default().level(), count: 0, wanted: Vec::new() }
    }
}

/// An object that holds old entries of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveRow {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Version.
    pub version: VersionId,
    /// BLAKE3 of each section.
    pub sections: Vec<HashRow>,
    /// Sections whose rows were dropped.
    pub moved: u32,
    /// Root of the subtree over its entries.
    pub root: HashRow,
}

/// How many anchors of a chain have rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AnchorsKeptRow {
    /// Anchors.
    pub count: u64,
    /// Bytes of their proofs.
    pub bytes: u64,
}

/// An object that holds anchors of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnchorArchiveRow {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Version.
    pub version: VersionId,
    /// BLAKE3 of its bytes.
    pub hash: HashRow,
}

/// How long evidence of removed versions is kept, and how far erasing it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RetentionRow {
    /// Milliseconds after the removal; `None`: for ever.
    pub keep_ms: Option<u64>,
    /// Next entry to look at.
    pub cursor: LogIndex,
    /// A version whose events are being erased.
    pub walk: Option<WalkRow>,
}

/// A version whose events are being erased.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WalkRow {
    /// Next event of the key to look at, backwards.
    pub at: LogIndex,
    /// The version.
    pub version: VersionId,
    /// Commit time of its removal.
    pub removed: UnixMillis,
}

/// Newest checkpoint of the evidence log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckpointRow {
    /// Entries.
    pub size: u64,
    /// Root.
    pub root: HashRow,
    /// Commit time.
    pub time: UnixMillis,
    /// Newest signed note.
    pub published: Option<PublishedRow>,
}

/// A signed note.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedRow {
    /// Entries.
    pub size: u64,
    /// Root.
    pub root: HashRow,
    /// Exact bytes.
    pub note: bytes::Bytes,
    /// Trust policy that goes with it.
    #[serde(default)]
    pub policy: bytes::Bytes,
}

/// What an anchor remembers of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainStateRow {
    /// How often it was replaced.
    pub sequence: u64,
    /// Opaque.
    pub state: bytes::Bytes,
    /// Entries that its newest anchor covers.
    #[serde(default)]
    pub newest: u64,
}

/// A checkpoint that stands on a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnchorRow {
    /// Root.
    pub root: HashRow,
    /// Exact bytes of the proof.
    pub proof: bytes::Bytes,
}

/// Key that a node signs answers to possession audits with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnswerKeyRow {
    /// Text of a verifier key.
    pub key: String,
}

/// Possession audits that run by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditsRow {
    /// Commit time of the last one's beginning.
    pub last_by_itself: UnixMillis,
}

/// Under which trust policy each anchor published last.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PoliciesRow {
    /// Anchor and BLAKE3 of its policy; newest last.
    pub by: Vec<(NodeId, HashRow)>,
}

impl CheckpointRow {
    /// What the row says.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { head: TreeHead { size: self.size, root: self.root.0 }, time: self.time }
    }
}

/// Position of a lease's command, for the reply cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyKey {
    /// The lease.
    pub lease: LeaseId,
    /// The sequence.
    pub sequence: CommandSequence,
}

/// Where a key's rows are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyAt<'a> {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: &'a str,
}

#[cfg(test)]
pub(crate) mod tests;
