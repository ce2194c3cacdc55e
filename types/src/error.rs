//! Error kinds: few, and each says what its reader must do.

use serde::{Deserialize, Serialize};

/// What the caller of a failed operation should do. One kind per prescription, not per cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// It does not exist. Don't retry.
    NotFound,
    /// It exists already, or another writer was first. Decide anew.
    Conflict,
    /// A condition of the request does not hold. Don't retry.
    Precondition,
    /// The caller's map, epoch or lease is old. Refresh it, then retry.
    Stale,
    /// The target can't answer now. Retry, elsewhere if there is an elsewhere.
    Unavailable,
    /// No room (bytes, memory, queue). Retry later or elsewhere.
    Full,
    /// Stored bytes are not what was written. Use another copy and report it.
    Corrupt,
    /// The request itself is wrong. Don't retry.
    Invalid,
    /// Not allowed. Don't retry.
    Denied,
    /// A broken invariant or a failed device: a defect or an emergency.
    Internal,
}

/// Where a retry may succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// Retrying can't help.
    Never,
    /// The same target may succeed later.
    SameTarget,
    /// Another target may succeed now.
    OtherTarget,
    /// After the map, epoch or lease was refreshed.
    AfterRefresh,
}

impl Kind {
    /// What a retry needs.
    pub const fn retry(self) -> Retry {
        match self {
            Self::NotFound | Self::Conflict | Self::Precondition => Retry::Never,
            Self::Invalid | Self::Denied | Self::Internal => Retry::Never,
            Self::Stale => Retry::AfterRefresh,
            Self::Unavailable | Self::Corrupt => Retry::OtherTarget,
            Self::Full => Retry::SameTarget,
        }
    }
}
