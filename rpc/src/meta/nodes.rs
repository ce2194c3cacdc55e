//! What nodes say when they join and while they live.

use serde::{Deserialize, Serialize};
use stele_types::ids::NodeId;
use stele_types::role::Role;
use stele_types::seam::UnixMillis;

/// A node that asks to be let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewNode {
    /// What it wants to be; must be what its token says.
    pub role: Role,
    /// SHA-256 of its public key (the bits of the key alone).
    pub key: [u8; 32],
    /// Name an operator knows it by.
    pub name: String,
    /// Where others dial it, as `host:port`.
    pub addresses: Vec<String>,
    /// Failure domain; empty if unknown.
    pub zone: String,
    /// Failure domain within the zone; empty if unknown.
    pub rack: String,
}

/// A join token, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRow {
    /// Random.
    pub id: [u8; 16],
    /// BLAKE3 of its secret.
    pub secret_hash: [u8; 32],
    /// What its holder may become.
    pub role: Role,
    /// Commit time from which on it is refused.
    pub expires: UnixMillis,
    /// Who used it: node id and key.
    #[serde(default)]
    pub used: Option<(NodeId, [u8; 32])>,
}

/// A node lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The node.
    pub node: NodeId,
}

/// When the leader last heard of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Liveness {
    /// The node.
    pub node: NodeId,
    /// So long ago, milliseconds; `None` if not since this leader was elected.
    pub silent_ms: Option<u64>,
}
