//! What openraft passes around as a snapshot: a consistent view of the rows, made in O(1). Bytes are
//! produced only when a peer asks ([`crate::snapshot`]).

use std::sync::Arc;

use crate::kv::View;

/// A consistent view of all rows.
#[derive(Clone)]
pub(crate) struct SnapshotHandle(pub(crate) Arc<View>);

impl std::fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnapshotHandle")
    }
}
