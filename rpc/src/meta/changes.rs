//! Changes of a version in place.

use serde::{Deserialize, Serialize};
use stele_types::ids::{LogIndex, Salt, VersionId};
use stele_types::object::{Retention, Tags};

use super::{VersionSelector, WriteGuard};

/// See [`super::Command::ChangeVersion`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeVersion {
    /// Guards.
    pub guard: WriteGuard,
    /// The key.
    pub key: String,
    /// Which version; a delete marker has nothing that could be changed.
    pub version: VersionSelector,
    /// What changes.
    pub change: VersionChange,
}

/// What changes. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum VersionChange {
    /// All its tags from now on. Tags are no part of log records.
    Tags(Tags),
    /// Its retention. Refused with `Locked` where the one in force, judged by commit time, does not allow it.
    Retention(NewRetention),
    /// Under legal hold, or not.
    LegalHold {
        /// Under hold.
        on: bool,
        /// Salt of the log entry.
        salt: Salt,
    },
}

/// A change of retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewRetention {
    /// From now on; `None` takes it away.
    pub retention: Option<Retention>,
    /// Shorten, change or take away what is in governance mode.
    pub bypass: bool,
    /// Salt of the log entry.
    pub salt: Salt,
}

/// What a command that changed a version in place gives back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The version.
    pub id: VersionId,
    /// Shown as `null`, that is, without a version id.
    pub null_version: bool,
    /// Log entry of the change, where it has one.
    pub log_index: Option<LogIndex>,
}
