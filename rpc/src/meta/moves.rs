//! Commands that move what is stored to another version or key: append and rename.

use serde::{Deserialize, Serialize};
use stele_types::ids::{PackId, Salt, VersionId};

use super::{PutVersion, WriteGuard};

/// See [`super::Command::AppendVersion`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppendVersion {
    /// The longer version. `contents.owner` is the owner of `base`, whose references go over to it;
    /// `contents.packs` are the packs that it adds. Its headers are ignored in favour of `base`'s.
    pub put: PutVersion,
    /// The version that it continues: refused with `StaleVersion` unless that is the current one.
    pub base: VersionId,
    /// Packs of `base` that the longer version does not need: those whose only contents are manifest
    /// pages that were written anew.
    pub released: Vec<PackId>,
}

/// What must hold of a key's current version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Expected {
    /// Nothing.
    #[default]
    Any,
    /// There is none.
    Absent,
    /// It is this one.
    Version(VersionId),
}

/// Makes a rename happen once, however often it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RenameToken {
    /// BLAKE3 of the client's token.
    pub id: [u8; 32],
    /// BLAKE3 of everything else that the client asked for.
    pub request: [u8; 32],
}

/// See [`super::Command::RenameKey`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RenameKey {
    /// Guards.
    pub guard: WriteGuard,
    /// The key that goes.
    pub source: String,
    /// The key that comes, or whose object is replaced.
    pub destination: String,
    /// The version that is moved: refused with `StaleVersion` unless it is the source's current one.
    pub moved: VersionId,
    /// What must hold of the destination, else `StaleVersion`.
    pub replaced: Expected,
    /// Nonce of the version's id at the destination.
    pub nonce: u64,
    /// Salt of the log entry of its creation there.
    pub salt: Salt,
    /// Salt of the log entry of a version that it replaces.
    pub replaced_salt: Salt,
    /// Salt of the log entry of its removal at the source.
    pub moved_salt: Salt,
    /// Where the client sent one.
    pub token: Option<RenameToken>,
}
