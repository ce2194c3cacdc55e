//! The first exchange of a connection: which versions and features each side speaks, and who it is. The
//! decision is pure; it runs on both sides and comes out the same.

use serde::{Deserialize, Serialize};
use stele_types::ids::NodeId;

use crate::error::{Code, RpcError};
use crate::tls::identity::Identity;
use crate::transport::Class;

/// Version of messages this program speaks.
pub const VERSION: u16 = 1;
/// Oldest version it can still speak.
pub const OLDEST: u16 = 1;
/// Features it knows, one bit each. None yet.
pub const FEATURES: u64 = 0;
/// Largest hello, bytes.
pub const HELLO_BYTES_MAX: usize = 4096;

/// What each side says first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Newest version it speaks.
    pub version: u16,
    /// Oldest version it speaks.
    pub oldest: u16,
    /// Features it knows.
    #[serde(default)]
    pub features: u64,
    /// Its node id; must be that of its certificate.
    pub node: NodeId,
    /// Its role by name; must be that of its certificate.
    pub role: String,
    /// What the connection is for.
    #[serde(default)]
    pub class: Class,
}

/// What both sides agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// Version to speak.
    pub version: u16,
    /// Features both know.
    pub features: u64,
}

impl Hello {
    /// What a node with this identity says.
    pub fn of(identity: Identity) -> Self {
        let role = identity.role.name().to_owned();
        Self {
            version: VERSION,
            oldest: OLDEST,
            features: FEATURES,
            node: identity.node,
            role,
            class: Class::Foreground,
        }
    }

    /// Whether two sides can talk. `peer` is what the peer's certificate says.
    ///
    /// # Errors
    /// `Malformed` for a peer of incompatible version, or one that claims to be someone else.
    pub fn agree(&self, theirs: &Self, peer: Identity) -> Result<Agreed, RpcError> {
        if theirs.node != peer.node || theirs.role != peer.role.name() {
            let detail = format!("a peer says it is {} {}, its certificate says {peer}", theirs.role, theirs.node);
            return Err(RpcError::new(Code::Malformed, detail));
        }
        let version = self.version.min(theirs.version);
        if version < self.oldest.max(theirs.oldest) {
            let detail = format!(
                "node {} speaks versions {} to {}, node {} speaks {} to {}: upgrade the older one first",
                self.node, self.oldest, self.version, theirs.node, theirs.oldest, theirs.version
            );
            return Err(RpcError::new(Code::Malformed, detail));
        }
        Ok(Agreed { version, features: self.features & theirs.features })
    }
}

#[cfg(test)]
mod tests {
    use stele_types::ids::ClusterId;
    use stele_types::role::Role;

    use super::*;

    fn identity(node: u64) -> Identity {
        Identity { cluster: ClusterId::from_bytes([1; 16]), role: Role::StorageNode, node: NodeId(node) }
    }

    #[test]
    fn sides_agree_on_the_newest_common_version() {
        let (one, two) = (identity(1), identity(2));
        let old = Hello { version: 3, oldest: 1, features: 0b011, ..Hello::of(one) };
        let new = Hello { version: 5, oldest: 3, features: 0b110, ..Hello::of(two) };
        let expected = Agreed { version: 3, features: 0b010 };
        assert_eq!(old.agree(&new, two), Ok(expected));
        assert_eq!(new.agree(&old, one), Ok(expected));
        let newer = Hello { oldest: 4, ..new };
        assert!(old.agree(&newer, two).unwrap_err().detail.contains("upgrade the older"));
        assert!(newer.agree(&old, one).unwrap_err().detail.contains("upgrade the older"));
    }

    #[test]
    fn a_peer_is_who_its_certificate_says() {
        let (one, two) = (identity(1), identity(2));
        let ours = Hello::of(one);
        assert!(ours.agree(&Hello { node: NodeId(3), ..Hello::of(two) }, two).is_err());
        assert!(ours.agree(&Hello { role: "metadata".to_owned(), ..Hello::of(two) }, two).is_err());
    }
}
