//! The one error that crosses a process boundary.

use serde::{Deserialize, Serialize};
use stele_types::error::Kind;
use stele_types::ids::NodeId;
use stele_types::map::PgRow;

/// Why a request failed, precisely. Append-only: a code never changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u16)]
pub enum Code {
    /// A defect: see the log of the answering process.
    Internal = 1,
    /// No answer before the deadline; the request may have taken effect.
    DeadlineExceeded = 2,
    /// No such process, or it is stopping.
    Unreachable = 3,
    /// The request can't be decoded or breaks a limit.
    Malformed = 4,
    /// This node is not the group's leader.
    NotLeader = 5,
    /// Bucket missing.
    NoSuchBucket = 10,
    /// Key missing, or its current version is a delete marker.
    NoSuchKey = 11,
    /// Version missing.
    NoSuchVersion = 12,
    /// Upload missing, completed or aborted.
    NoSuchUpload = 13,
    /// A part named by Complete is missing, changed, or its ETag differs.
    InvalidPart = 14,
    /// A part other than the last is too small.
    PartTooSmall = 15,
    /// Bucket exists and belongs to the caller.
    BucketAlreadyOwned = 16,
    /// Bucket exists and belongs to someone else.
    BucketExists = 17,
    /// Bucket still has versions, markers or uploads.
    BucketNotEmpty = 18,
    /// The precondition does not hold.
    PreconditionFailed = 19,
    /// If-Match on a key that does not exist.
    PreconditionNoKey = 20,
    /// The version is a delete marker, which has no tags, retention or legal hold.
    DeleteMarker = 21,
    /// Retention or legal hold forbids it.
    Locked = 22,
    /// The bucket has no object lock.
    NoObjectLock = 23,
    /// The bucket's other settings forbid this one.
    BucketState = 24,
    /// The start epoch is fenced, or the lease is gone: begin the write anew.
    Fenced = 30,
    /// The lease does not exist or has expired: take a new one.
    NoLease = 31,
    /// The bucket's configuration changed since the request read it.
    StaleConfig = 32,
    /// The range moved.
    StaleRange = 33,
    /// The PG moved; the newer row is attached.
    StalePg = 34,
    /// A command below the lowest open sequence was repeated: its reply is forgotten.
    Forgotten = 35,
    /// Part parts of a command changed in flight: generation of an upload or part differs.
    StaleUpload = 36,
    /// The version that a command was planned with is not the current one any more: read it, then repeat.
    StaleVersion = 37,
    /// A client's token came with another request than before.
    TokenReused = 38,
    /// A newer checkpoint of the log exists than the caller knows.
    StaleCheckpoint = 39,
    /// The drive has no such pack (or generation, or shard).
    NoSuchPack = 50,
    /// The drive is not served by this node.
    NoSuchDrive = 51,
    /// The drive is full.
    DriveFull = 52,
    /// The drive failed: an fsync or read returned an error.
    DriveFailed = 53,
    /// Stored bytes fail their CRC.
    ShardCorrupt = 54,
    /// A touched pack refuses to be condemned, or a condemned one to be touched.
    SweepRefused = 55,
    /// A queue or budget is full: slow down.
    Busy = 60,
    /// The caller's role may not ask this.
    Forbidden = 61,
}

impl Code {
    /// What the caller should do.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Internal => Kind::Internal,
            Self::DeadlineExceeded | Self::Unreachable | Self::NotLeader | Self::DriveFailed => Kind::Unavailable,
            Self::Malformed | Self::InvalidPart | Self::PartTooSmall | Self::NoObjectLock | Self::TokenReused => {
                Kind::Invalid
            }
            Self::NoSuchBucket | Self::NoSuchKey | Self::NoSuchVersion | Self::NoSuchUpload => Kind::NotFound,
            Self::NoSuchPack | Self::NoSuchDrive | Self::DeleteMarker => Kind::NotFound,
            Self::BucketAlreadyOwned | Self::BucketExists | Self::BucketNotEmpty | Self::BucketState => Kind::Conflict,
            Self::PreconditionFailed | Self::PreconditionNoKey | Self::SweepRefused => Kind::Precondition,
            Self::Fenced | Self::NoLease | Self::StaleConfig | Self::StaleRange | Self::StalePg => Kind::Stale,
            Self::StaleCheckpoint => Kind::Stale,
            Self::Forgotten | Self::StaleUpload | Self::StaleVersion => Kind::Conflict,
            Self::DriveFull | Self::Busy => Kind::Full,
            Self::ShardCorrupt => Kind::Corrupt,
            Self::Forbidden | Self::Locked => Kind::Denied,
        }
    }
}

/// A failed request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {detail}")]
pub struct RpcError {
    /// Why.
    pub code: Code,
    /// For people: what happened, to what, what to do. Never parsed.
    pub detail: String,
    /// With [`Code::StalePg`]: the newer row.
    #[serde(default)]
    pub newer_pg: Option<Box<PgRow>>,
    /// With [`Code::NotLeader`]: who leads, as far as the answering node knows.
    #[serde(default)]
    pub leader: Option<NodeId>,
}

impl RpcError {
    /// An error without attachments.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), newer_pg: None, leader: None }
    }

    /// What the caller should do.
    pub const fn kind(&self) -> Kind {
        self.code.kind()
    }
}
