//! Why a gateway operation failed: one enum, which the HTTP edge maps to S3 codes in one match.

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Changed, Committed};
use stele_types::error::Kind;
use stele_types::ids::VersionId;
use stele_types::object::{ETag, Version};
use stele_types::seam::UnixMillis;

/// A version's id, as S3 shows it: `null` for those written while versioning was unset or suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its id.
    pub id: VersionId,
    /// It is the null version.
    pub null: bool,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.null { f.write_str("null") } else { self.id.fmt(f) }
    }
}

impl From<&Version> for Shown {
    fn from(version: &Version) -> Self {
        Self { id: version.id, null: version.null_version }
    }
}

impl From<&Changed> for Shown {
    fn from(changed: &Changed) -> Self {
        Self { id: changed.id, null: changed.null_version }
    }
}

impl From<&Committed> for Shown {
    fn from(committed: &Committed) -> Self {
        Self { id: committed.id, null: committed.null_version }
    }
}

/// Which digest differed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestKind {
    /// Content-MD5.
    Md5,
    /// Signed payload hash.
    PayloadSha256,
    /// An x-amz-checksum header or trailer.
    Checksum(stele_types::object::ChecksumAlgorithm),
}

/// A body stream broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Incoming: the client went away, or its framing or chunk signature is wrong. The source is
    /// the edge's own error.
    #[error("the request body could not be read: {0}")]
    Incoming(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Outgoing: the object's bytes could not be read or verified.
    #[error(transparent)]
    Store(Box<GatewayError>),
}

/// A gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("gateway configuration: {0}")]
    Config(String),
    /// The metadata service did not answer or refused.
    #[error("the metadata service gave no {what}: {source}")]
    Meta {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: RpcError,
    },
    /// A thread could not be started.
    #[error("a CPU thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// 404.
    #[error("the bucket {bucket} does not exist")]
    NoSuchBucket {
        /// Its name.
        bucket: String,
    },
    /// 404; the current version may be a delete marker.
    #[error("the key does not exist")]
    NoSuchKey {
        /// The delete marker that hides it, where one is known.
        marker: Option<Shown>,
    },
    /// 404.
    #[error("the version does not exist")]
    NoSuchVersion,
    /// The version asked for by id is a delete marker: 405 with `x-amz-delete-marker: true`.
    #[error("the version is a delete marker")]
    DeleteMarker {
        /// Its id.
        id: Shown,
        /// Commit time.
        modified: UnixMillis,
    },
    /// 405: delete markers have no tags, retention or legal hold.
    #[error("the version is a delete marker, which has nothing that could be changed")]
    MarkerOnly,
    /// 403: retention or legal hold.
    #[error("{what}")]
    Locked {
        /// Which version, what keeps it, and until when.
        what: String,
    },
    /// 400: retention and legal hold need a bucket with object lock.
    #[error("Bucket is missing Object Lock Configuration")]
    NoObjectLock,
    /// 409 InvalidBucketState.
    #[error("{what}")]
    BucketState {
        /// Which settings exclude each other.
        what: String,
    },
    /// 404.
    #[error("the upload does not exist; it may have been completed or aborted")]
    NoSuchUpload,
    /// 400: a listed part is missing, has changed, or its ETag or checksum differs.
    #[error("part {number}: {reason}")]
    InvalidPart {
        /// Its number; 0 where it is not known which.
        number: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// 400: part numbers do not rise.
    #[error("the parts are not listed in rising order")]
    InvalidPartOrder,
    /// 400.
    #[error("part {number} has {len} bytes; all but the last need {min}")]
    PartTooSmall {
        /// Its number.
        number: u16,
        /// Its bytes.
        len: u64,
        /// Bytes needed.
        min: u64,
    },
    /// 412.
    #[error("a precondition does not hold")]
    PreconditionFailed,
    /// If-Match on a key that does not exist: 404 NoSuchKey for writes.
    #[error("If-Match on a key that does not exist")]
    PreconditionNoKey,
    /// 304.
    #[error("not modified")]
    NotModified {
        /// ETag to send along.
        etag: ETag,
        /// Commit time to send along.
        modified: UnixMillis,
    },
    /// 416.
    #[error("the range is outside of the object's {len} bytes")]
    RangeNotSatisfiable {
        /// Bytes of the object.
        len: u64,
    },
    /// 416 InvalidPartNumber: the object has fewer parts.
    #[error("the object has {parts} parts")]
    NoSuchPartNumber {
        /// How many it has.
        parts: usize,
    },
    /// 400 BadDigest (checksums, MD5) or XAmzContentSHA256Mismatch.
    #[error("the body's {which:?} differs from the declared one")]
    DigestMismatch {
        /// Which digest.
        which: DigestKind,
    },
    /// 400: an announced trailing checksum is missing or unreadable.
    #[error("the announced trailing checksum is missing or malformed")]
    TrailerMissing,
    /// 400 IncompleteBody.
    #[error("the body ended after {got} of {declared} bytes")]
    BodyTooShort {
        /// Declared bytes.
        declared: u64,
        /// Bytes received.
        got: u64,
    },
    /// 400: more bytes than declared.
    #[error("the body is longer than the declared {declared} bytes")]
    BodyTooLong {
        /// Declared bytes.
        declared: u64,
    },
    /// 400 RequestTimeout: the client stopped sending.
    #[error("no body bytes for {seconds} s")]
    BodyStalled {
        /// How long.
        seconds: u64,
    },
    /// The body broke off; its source says why.
    #[error(transparent)]
    BodyFailed(BodyError),
    /// 400 EntityTooLarge.
    #[error("{len} bytes are more than the {max} allowed")]
    EntityTooLarge {
        /// Bytes so far or declared.
        len: u64,
        /// Limit.
        max: u64,
    },
    /// 400 KeyTooLongError.
    #[error("the key has {len} bytes; the limit is {max}")]
    KeyTooLong {
        /// Its bytes.
        len: usize,
        /// Limit.
        max: usize,
    },
    /// 400 MetadataTooLarge.
    #[error("user metadata of {len} bytes; the limit is {max}")]
    MetadataTooLarge {
        /// Its bytes.
        len: usize,
        /// Limit.
        max: usize,
    },
    /// 400 InvalidArgument or InvalidRequest.
    #[error("{what}")]
    InvalidArgument {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// 400 InvalidWriteOffset: an append begins where the object ends.
    #[error("the write offset is {offset}; the object has {len} bytes")]
    InvalidWriteOffset {
        /// What was asked for.
        offset: u64,
        /// Bytes of the object; 0 if there is none.
        len: u64,
    },
    /// 400 TooManyParts: every append makes a part.
    #[error("the object has {parts} parts, and no object has more than {max}; make one of fewer parts of it")]
    TooManyParts {
        /// It has these.
        parts: usize,
        /// Limit.
        max: usize,
    },
    /// 400 IdempotencyParameterMismatch.
    #[error("this client token named another request")]
    TokenReused,
    /// 400 InvalidRequest: each argument is fine, together they ask for what can't be.
    #[error("{what}")]
    InvalidRequest {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// 503 SlowDown: the memory budget or a queue is full.
    #[error("busy: {what}; slow down and retry")]
    SlowDown {
        /// What is full.
        what: &'static str,
    },
    /// 503: too few drives.
    #[error("too few drives for {what}; missing: {}", drives.join(", "))]
    DrivesMissing {
        /// What could not be done.
        what: &'static str,
        /// Their names with reasons.
        drives: Vec<String>,
    },
    /// 503: another process does not answer. The outcome of a write may be unknown.
    #[error("unavailable: {what}")]
    Unavailable {
        /// Who, and why.
        what: String,
    },
    /// 507-like 503: every drive that could take the write is full.
    #[error("the store is full: {what}")]
    StoreFull {
        /// Which drives.
        what: String,
    },
    /// 503 EvidenceNotReady: no signed checkpoint covers the event yet; the next one will.
    #[error(
        "no signed checkpoint covers entry {entry} of the evidence log yet, the newest covers {size} entries; \
         try again when the next one is signed"
    )]
    EvidenceNotReady {
        /// Log index of the event.
        entry: u64,
        /// Entries that the newest checkpoint covers.
        size: u64,
    },
    /// 404 NoSuchEvidence.
    #[error("{what}")]
    NoSuchEvidence {
        /// What there is no evidence of, and why.
        what: String,
    },
    /// 409 BucketAlreadyOwnedByYou.
    #[error("the bucket exists and is yours")]
    BucketAlreadyOwned,
    /// 409 BucketAlreadyExists.
    #[error("the bucket exists and belongs to someone else")]
    BucketExists,
    /// 409 BucketNotEmpty.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// 409 OperationAborted: a concurrent change of the bucket or upload won every retry.
    #[error("a concurrent change interfered: {what}; retry")]
    Conflict {
        /// What changed.
        what: String,
    },
    /// 500 with its own text: no copy of the bytes verifies.
    #[error("stored data is damaged beyond repair: {what}")]
    Corrupt {
        /// Pack, chunk and offset.
        what: String,
    },
    /// 500: a defect.
    #[error("internal: {what}")]
    Internal {
        /// For the log.
        what: String,
    },
}

impl GatewayError {
    /// What the caller should do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoSuchBucket { .. } | Self::NoSuchKey { .. } | Self::NoSuchVersion => Kind::NotFound,
            Self::DeleteMarker { .. } | Self::MarkerOnly | Self::NoSuchUpload => Kind::NotFound,
            Self::PreconditionFailed | Self::PreconditionNoKey | Self::NotModified { .. } => Kind::Precondition,
            Self::InvalidPart { .. } | Self::InvalidPartOrder | Self::PartTooSmall { .. } => Kind::Invalid,
            Self::RangeNotSatisfiable { .. } | Self::NoSuchPartNumber { .. } => Kind::Invalid,
            Self::DigestMismatch { .. } | Self::TrailerMissing | Self::BodyTooShort { .. } => Kind::Invalid,
            Self::BodyStalled { .. } => Kind::Unavailable,
            Self::BodyTooLong { .. } | Self::EntityTooLarge { .. } | Self::KeyTooLong { .. } => Kind::Invalid,
            Self::MetadataTooLarge { .. } | Self::InvalidArgument { .. } | Self::BodyFailed(_) => Kind::Invalid,
            Self::InvalidRequest { .. } | Self::InvalidWriteOffset { .. } => Kind::Invalid,
            Self::TooManyParts { .. } | Self::TokenReused => Kind::Invalid,
            Self::SlowDown { .. } | Self::StoreFull { .. } => Kind::Full,
            Self::DrivesMissing { .. } | Self::Unavailable { .. } => Kind::Unavailable,
            Self::BucketAlreadyOwned | Self::BucketExists | Self::BucketNotEmpty => Kind::Conflict,
            Self::BucketState { .. } => Kind::Conflict,
            Self::EvidenceNotReady { .. } => Kind::Unavailable,
            Self::NoSuchEvidence { .. } => Kind::NotFound,
            Self::Locked { .. } => Kind::Denied,
            Self::NoObjectLock => Kind::Invalid,
            Self::Conflict { .. } => Kind::Conflict,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Internal { .. } => Kind::Internal,
        }
    }

    /// Translates the answer of the metadata service to a request about `bucket`.
    pub(crate) fn from_meta(error: RpcError, bucket: &str) -> Self {
        let what = || error.detail.clone();
        match error.code {
            Code::NoSuchBucket => Self::NoSuchBucket { bucket: bucket.to_owned() },
            Code::NoSuchKey => Self::NoSuchKey { marker: None },
            Code::NoSuchVersion => Self::NoSuchVersion,
            Code::DeleteMarker => Self::MarkerOnly,
            Code::Locked => Self::Locked { what: what() },
            Code::NoObjectLock => Self::NoObjectLock,
            Code::BucketState => Self::BucketState { what: what() },
            Code::NoSuchUpload => Self::NoSuchUpload,
            Code::InvalidPart => Self::InvalidPart { number: 0, reason: what() },
            Code::PartTooSmall => Self::PartTooSmall { number: 0, len: 0, min: stele_types::limits::PART_BYTES_MIN },
            Code::BucketAlreadyOwned => Self::BucketAlreadyOwned,
            Code::BucketExists => Self::BucketExists,
            Code::BucketNotEmpty => Self::BucketNotEmpty,
            Code::PreconditionFailed => Self::PreconditionFailed,
            Code::PreconditionNoKey => Self::PreconditionNoKey,
            Code::Malformed => Self::InvalidArgument { what: what() },
            Code::Busy => Self::SlowDown { what: "the metadata service" },
            Code::DeadlineExceeded | Code::Unreachable | Code::NotLeader => {
                Self::Unavailable { what: format!("metadata service: {}", error.detail) }
            }
            // The lease was lost in the middle of a write: the client's retry begins anew.
            Code::Fenced | Code::NoLease => Self::Unavailable { what: format!("write fenced: {}", error.detail) },
            Code::StaleConfig | Code::StaleRange | Code::StaleUpload | Code::StaleVersion => {
                Self::Conflict { what: what() }
            }
            Code::TokenReused => Self::TokenReused,
            Code::Internal
            | Code::StalePg
            | Code::Forgotten
            | Code::NoSuchPack
            | Code::NoSuchDrive
            | Code::DriveFull
            | Code::DriveFailed
            | Code::ShardCorrupt
            | Code::SweepRefused
            | Code::StaleCheckpoint
            | Code::Forbidden => Self::Internal { what: format!("metadata service: {error}") },
        }
    }
}

/// A reply of another type than the request's.
pub(crate) fn unexpected_reply(what: &'static str) -> GatewayError {
    GatewayError::Internal { what: format!("the metadata service answered {what} with a reply of another type") }
}
