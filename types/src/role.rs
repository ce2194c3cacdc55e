//! Roles of processes: what a node's certificate says it may do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a process is in the cluster. Append-only: names stand in certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Holds raft groups: namespace, cluster map, leases, logs.
    Metadata,
    /// Holds drives.
    StorageNode,
    /// Serves S3 to clients.
    S3Gateway,
    /// Signs checkpoints and submits them to chains.
    Anchor,
    /// An operator's command line.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Metadata, Self::StorageNode, Self::S3Gateway, Self::Anchor, Self::Admin];

    /// Its name in certificates, commands and tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::StorageNode => "storage-node",
            Self::S3Gateway => "s3-gateway",
            Self::Anchor => "anchor",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
