//! What openraft passes around as a snapshot: a consistent view of the rows, made in O(1). Bytes are
//! produced only when a peer asks ([`crate::snapshot`]).

use std::sync::Arc;

use crate::kv::View;

/// A snapshot.
#[derive(Clone)]
pub(crate) enum SnapshotHandle {
    /// A consistent view of all rows of this node.
    View(Arc<View>),
    /// Rows received from a peer, which stand beside the rows in use and are to replace them.
    Staged,
}

impl std::fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::View(_) => "SnapshotHandle::View",
            Self::Staged => "SnapshotHandle::Staged",
        })
    }
}
