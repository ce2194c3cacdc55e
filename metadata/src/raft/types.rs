//! openraft's type configuration, and what an entry and its answer are.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_rpc::error::RpcError;
use stele_rpc::meta::MetaReply;
use stele_types::seam::UnixMillis;

use super::runtime::SeamRuntime;

/// One command as it stands in the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The proposer's clock.
    pub(crate) time: UnixMillis,
    /// The envelope, as named MessagePack.
    pub(crate) envelope: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.envelope.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry gave: nothing for blank and membership entries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Applied(pub(crate) Option<Result<MetaReply, RpcError>>);

/// What the membership says of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Drawn when the node's log was created: a wiped node has another one, and is refused.
    #[serde(default)]
    pub(crate) incarnation: u64,
}

openraft::declare_raft_types!(
    /// Types of every raft group of this crate.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = SeamRuntime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
