//! The gateway's own API, free of any protocol: requests, replies, configuration, body streams.
//!
//! The HTTP edge translates S3 to these types and back; the simulator calls them directly. The
//! functions that take them: [`crate::put`], [`crate::get`], [`crate::delete`], [`crate::bucket`],
//! [`crate::list`], [`crate::multipart`], [`crate::tags`]. Nothing here does IO.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::meta::{Origin, VersionSelector};
use stele_types::ids::NodeId;
use stele_types::object::{Checksum, ChecksumAlgorithm, Lock, Precondition, StoredHeaders, Tags, Version};
use stele_types::seam::{Clock, Rng, UnixMillis};

mod uploads;

pub use uploads::{
    CompleteRequest, CreateUploadRequest, ListedPart, PartCopyReply, PartCopyRequest, PartRequest, PartsPage, UploadRef,
};

pub use crate::error::{BodyError, DigestKind, GatewayError, Shown, StartError};

/// Bytes on their way in or out. Ends after the last byte, or with one error and nothing behind it.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send + Sync>>;

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Bytes of bodies, packs and chunks that may be in memory at once (I-9). At least 64 MiB.
    pub memory_bytes: u64,
    /// Bytes of verified chunks kept in the read cache, beside `memory_bytes`; 0 turns it off.
    pub cache_bytes: usize,
    /// Longest time a shared pack waits for company while another is in flight.
    pub linger_max: Duration,
    /// Lease lifetime without renewal; renewed every third of it.
    pub lease_ttl: Duration,
    /// Patience with one metadata request.
    pub meta_timeout: Duration,
    /// Patience with one command, retries with the same envelope included.
    pub command_deadline: Duration,
    /// Patience with one shard write.
    pub store_timeout: Duration,
    /// Patience with one shard read, reconstruction not included.
    pub read_timeout: Duration,
    /// Patience with a storage node that looks up how it keeps a few hundred packs.
    pub audit_timeout: Duration,
    /// A shard read slower than this is hedged, however fast reads usually are.
    pub hedge_floor: Duration,
    /// Longest wait for memory before `SlowDown`.
    pub budget_wait: Duration,
    /// Longest pause between two pieces of a request body.
    pub body_idle: Duration,
    /// After how long the answer to a Complete begins with whitespace, so that clients and proxies go on waiting.
    pub complete_quiet: Duration,
    /// After how long without an answer a storage node is asked whether it is still there.
    pub doubt_after: Duration,
    /// How long it may take to say so. Together these bound what a node that hangs costs one request.
    pub probe_timeout: Duration,
    /// How long a drive that failed a request is avoided before it is tried again.
    pub suspect_for: Duration,
    /// Which invariants are broken on purpose.
    #[cfg(feature = "sabotage")]
    pub sabotage: Sabotage,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 512 * 1024 * 1024,
            cache_bytes: 128 * 1024 * 1024,
            linger_max: Duration::from_millis(2),
            lease_ttl: Duration::from_secs(60),
            meta_timeout: Duration::from_secs(5),
            command_deadline: Duration::from_secs(15),
            store_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(5),
            audit_timeout: Duration::from_secs(30),
            hedge_floor: Duration::from_millis(50),
            budget_wait: Duration::from_secs(60),
            body_idle: Duration::from_secs(60),
            complete_quiet: Duration::from_secs(10),
            doubt_after: Duration::from_millis(500),
            probe_timeout: Duration::from_secs(1),
            suspect_for: Duration::from_secs(5),
            #[cfg(feature = "sabotage")]
            sabotage: Sabotage::default(),
        }
    }
}

/// Invariants broken on purpose, so that the simulator can show that it notices.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sabotage {
    /// Serve chunks without comparing their BLAKE3 (breaks I-2).
    pub skip_chunk_check: bool,
}

/// Where CPU work runs.
#[derive(Clone, Copy, Debug)]
pub enum Cpu {
    /// On this many named threads.
    Threads(NonZeroUsize),
    /// On the calling task: for the simulator, where one thread gives one order.
    Inline,
}

/// What a gateway needs besides its configuration.
#[derive(Clone, Debug)]
pub struct GatewayDeps {
    /// This process.
    pub node: NodeId,
    /// Metadata service.
    pub meta: MetaClient,
    /// Storage nodes; which node serves a drive is in the cluster map.
    pub storage: StorageClient,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness: ids, nonces, salts.
    pub rng: Arc<dyn Rng>,
    /// Where hashing and coding run.
    pub cpu: Cpu,
}

/// Reads a trailing checksum; called once, after the body's last byte.
pub type TrailerValue = Box<dyn FnOnce() -> Option<Bytes> + Send + Sync>;

/// A checksum that the client sends behind the body.
pub struct Trailer {
    /// Announced algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// The raw digest; `None` if the trailer is missing or unreadable, which fails the request.
    pub value: TrailerValue,
}

impl std::fmt::Debug for Trailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trailer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What the client says the body's digests are. Each is computed and compared before the commit.
#[derive(Debug, Default)]
pub struct ExpectedDigests {
    /// Content-MD5.
    pub md5: Option<[u8; 16]>,
    /// SHA-256 of the payload, where the edge has not verified it already.
    pub sha256: Option<[u8; 32]>,
    /// Checksums known before the body; stored with the version.
    pub checksums: Vec<Checksum>,
    /// Checksum known after the body; stored with the version.
    pub trailer: Option<Trailer>,
}

/// One body and what is known of it beforehand.
pub struct BodyRequest {
    /// The bytes, without transfer or chunk-signature framing.
    pub stream: BodyStream,
    /// Decoded length, where the client declared it. A body that differs is refused.
    pub declared_len: Option<u64>,
    /// Digests to compare.
    pub expected: ExpectedDigests,
    /// Checksums to compute and store besides the expected ones.
    pub compute: Vec<ChecksumAlgorithm>,
    /// The client sends the body only once it is read from: what can be refused before saves all of it.
    pub withheld: bool,
}

impl std::fmt::Debug for BodyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyRequest").field("declared_len", &self.declared_len).finish_non_exhaustive()
    }
}

impl BodyRequest {
    /// A body that is in memory already, with nothing to compare.
    pub fn from_bytes(bytes: Bytes) -> Self {
        let declared_len = Some(bytes.len() as u64);
        let stream = Box::pin(futures::stream::iter([Ok(bytes)]));
        Self { stream, declared_len, expected: ExpectedDigests::default(), compute: Vec::new(), withheld: false }
    }
}

/// Store one object.
#[derive(Debug)]
pub struct PutRequest {
    /// Bucket name.
    pub bucket: String,
    /// Key, 1 to 1,024 bytes.
    pub key: String,
    /// Body.
    pub body: BodyRequest,
    /// Headers to give back.
    pub headers: StoredHeaders,
    /// Tags of the version.
    pub tags: Tags,
    /// Retention and legal hold that it brings.
    pub lock: Lock,
    /// Decided at the commit.
    pub precondition: Precondition,
    /// Who asks.
    pub origin: Origin,
}

/// Append to an object. No bytes of it move.
#[derive(Debug)]
pub struct AppendRequest {
    /// The body, and where it goes. Its precondition is one on the object as it was before.
    pub put: PutRequest,
    /// Bytes that the object must have; 0 also makes one that does not exist.
    pub offset: u64,
}

/// Make a copy of one object. No bytes move.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// What is copied, and conditions on it. The range must be `None`.
    pub source: GetRequest,
    /// Bucket of the copy.
    pub bucket: String,
    /// Key of the copy, 1 to 1,024 bytes.
    pub key: String,
    /// Headers of the copy; `None` keeps the source's, but for the redirect.
    pub headers: Option<StoredHeaders>,
    /// Website redirect of a copy that keeps the source's headers: a redirect belongs to its key.
    pub website_redirect: Option<String>,
    /// A checksum of all bytes that the copy must have; `None` keeps the source's.
    pub checksum: Option<ChecksumAlgorithm>,
    /// Tags of the copy; `None` keeps the source's.
    pub tags: Option<Tags>,
    /// Retention and legal hold of the copy. It has none of its source's.
    pub lock: Lock,
    /// Decided at the commit, on the copy's key.
    pub precondition: Precondition,
    /// Who asks.
    pub origin: Origin,
}

/// Give an object another key of its bucket. No bytes move.
#[derive(Clone, Debug)]
pub struct RenameRequest {
    /// Bucket name.
    pub bucket: String,
    /// The key that goes.
    pub source: String,
    /// The key that comes; what it holds is replaced.
    pub destination: String,
    /// Conditions on the source.
    pub source_conditions: ReadConditions,
    /// Conditions on what the destination holds.
    pub destination_conditions: ReadConditions,
    /// Makes the same request, asked again within a day, succeed without doing anything.
    pub token: Option<String>,
    /// Who asks.
    pub origin: Origin,
}

/// Answer to a copy.
#[derive(Clone, Debug)]
pub struct CopyReply {
    /// What the commit said.
    pub committed: stele_rpc::meta::Committed,
    /// The version that was copied.
    pub source: Box<Version>,
}

/// Answer to a PUT: what the commit said. The ETag, root and checksums are in `attributes`.
pub type PutReply = stele_rpc::meta::Committed;

/// Part of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteRange {
    /// `bytes=first-` or `bytes=first-last`, both inclusive.
    From {
        /// First byte.
        first: u64,
        /// Last byte, inclusive; clamped to the object.
        last: Option<u64>,
    },
    /// `bytes=-n`: the last n bytes.
    Suffix(u64),
    /// `partNumber=n`: the bytes of one part of a multipart object; part 1 of another is all of it.
    Part(u16),
}

/// Value of If-Match or If-None-Match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EtagCondition {
    /// `*`
    Any,
    /// ETags as text, without quotes and without `W/`.
    Tags(Vec<String>),
}

/// Conditions of a read, evaluated on the resolved version in the order of RFC 9110 section 13.2.2.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadConditions {
    /// If-Match.
    pub if_match: Option<EtagCondition>,
    /// If-None-Match.
    pub if_none_match: Option<EtagCondition>,
    /// If-Modified-Since, ms since the Unix epoch.
    pub if_modified_since: Option<UnixMillis>,
    /// If-Unmodified-Since, ms since the Unix epoch.
    pub if_unmodified_since: Option<UnixMillis>,
}

/// Read one object, or what is known of it.
#[derive(Clone, Debug)]
pub struct GetRequest {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Which version.
    pub version: VersionSelector,
    /// Which bytes; `None` is all of them.
    pub range: Option<ByteRange>,
    /// Conditions.
    pub conditions: ReadConditions,
}

impl GetRequest {
    /// All of the current version, unconditionally.
    pub fn current(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            key: key.into(),
            version: VersionSelector::Current,
            range: None,
            conditions: ReadConditions::default(),
        }
    }
}

/// A range after it met the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResolvedRange {
    /// First byte.
    pub first: u64,
    /// Bytes that the body has.
    pub len: u64,
    /// Bytes of the object.
    pub total: u64,
    /// A range was asked for: answer 206 with `Content-Range: bytes first-(first+len-1)/total`.
    pub partial: bool,
}

/// Answer to HEAD.
#[derive(Clone, Debug)]
pub struct HeadReply {
    /// The version.
    pub version: Box<Version>,
    /// It is the current one.
    pub latest: bool,
    /// What a GET would stream.
    pub range: ResolvedRange,
}

/// Answer to GET. Dropping the body stops the reads.
pub struct GetReply {
    /// As for HEAD.
    pub head: HeadReply,
    /// Exactly `head.range.len` verified bytes, or an error.
    pub body: BodyStream,
}

impl std::fmt::Debug for GetReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GetReply").field("head", &self.head).finish_non_exhaustive()
    }
}

/// One key or version to delete.
#[derive(Clone, Debug)]
pub struct DeleteOne {
    /// Key.
    pub key: String,
    /// `Current`: a plain delete; else the version that is removed.
    pub version: VersionSelector,
    /// Condition on the current version.
    pub precondition: Precondition,
}

/// Delete up to 1,000 keys or versions of one bucket.
#[derive(Clone, Debug)]
pub struct DeleteRequest {
    /// Bucket name.
    pub bucket: String,
    /// What to delete; each has its own outcome.
    pub items: Vec<DeleteOne>,
    /// Governance retention does not stand in the way.
    pub bypass_governance: bool,
    /// Who asks.
    pub origin: Origin,
}

/// One version of one key, to be changed in place.
#[derive(Clone, Debug)]
pub struct VersionRef {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Which version.
    pub version: VersionSelector,
}

/// What `/health/ready` and `stele status` show of a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayHealth {
    /// A lease is held.
    pub lease: bool,
    /// Placement groups known, and how many of them take writes now.
    pub pgs: (usize, usize),
    /// Drives that are not used at the moment, by name, with the reason.
    pub avoided_drives: Vec<(String, String)>,
    /// Bytes of the memory budget in use.
    pub memory_used_bytes: u64,
}
