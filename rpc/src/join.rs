//! How a new node gets its certificate. The operator hands it a token; it dials a metadata node without a
//! certificate of its own, on the same UDP port under another protocol name, checks that the other side
//! has the CA whose fingerprint the token names, and asks once.
//!
//! | module | holds |
//! |---|---|
//! | [`token`] | the token: where, which CA, the secret |
//! | [`client`] | the joining side |
//! | [`limit`] | how often strangers may ask |

pub mod client;
pub mod limit;
pub mod token;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::limits::JOIN_BYTES_MAX;
use stele_types::role::Role;

use crate::error::RpcError;
use crate::quic::frame::FrameLimits;

/// Largest request and reply.
pub(crate) const LIMITS: FrameLimits = FrameLimits { header: JOIN_BYTES_MAX, body: 0 };
/// How long a join service may take.
pub(crate) const SERVICE_TIMEOUT: Duration = Duration::from_secs(30);

/// A node asks to be let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which token it holds.
    pub token_id: [u8; 16],
    /// The token's secret.
    pub secret: [u8; 32],
    /// What it wants to be.
    pub role: Role,
    /// PKCS #10 signing request, DER: its key, with proof that it holds it. Pass it to
    /// [`crate::tls::authority::ClusterCa::issue`] only after the secret was checked.
    pub signing_request: Bytes,
    /// Where others can dial it, as `host:port`.
    pub addresses: Vec<String>,
    /// Name an operator knows it by.
    pub name: String,
    /// Failure domain; empty if unknown.
    #[serde(default)]
    pub zone: String,
    /// Failure domain within the zone; empty if unknown.
    #[serde(default)]
    pub rack: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("JoinRequest");
        out.field("token_id", &hex::encode(self.token_id)).field("role", &self.role).field("name", &self.name);
        out.finish_non_exhaustive()
    }
}

/// What a node needs to be part of the cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// Its id, never reused.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its certificate.
    pub certificate_pem: String,
    /// CA certificates to trust; the first issued its own.
    pub ca_pem: String,
    /// The CA's key, for metadata nodes only: a secret.
    #[serde(default)]
    pub ca_key_pem: Option<String>,
    /// Whom to dial first.
    pub peers: Vec<(NodeId, Vec<String>)>,
}

impl fmt::Debug for JoinReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("JoinReply");
        out.field("node", &self.node).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Lets nodes in.
#[async_trait]
pub trait JoinService: Send + Sync + 'static {
    /// Answers one request of a stranger. It must check the secret in constant time, and before it looks
    /// at anything else of the request. Must be safe to drop at any await.
    async fn join(&self, from: SocketAddr, request: JoinRequest) -> Result<JoinReply, RpcError>;
}
