//! What requests are about, and for whom.

use serde::{Deserialize, Serialize};
use stele_types::ids::{BucketId, NodeId, RangeEpoch, RangeId};

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

impl RangeRef {
    /// Where the evidence log keeps the events about the cluster itself: in no bucket.
    pub const CLUSTER: Self = Self { bucket: BucketId(0), range: RangeId(0), epoch: RangeEpoch(0) };
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
