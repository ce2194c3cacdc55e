//! What moves old entries of the evidence log out of the metadata service: into archives (format: docs/formats/log-archive.md),
//! which are objects of the store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_types::ids::{LogIndex, Salt, VersionId};

/// Bucket that archives are in. It belongs to the store: clients may only read it.
pub const LOG_BUCKET: &str = "stele-log";
/// Most erased entries that one archive takes in at once.
pub const FOLDED_MAX: usize = 8192;
/// Most tiles of archived entries that are brought back for a while.
pub const WANTED_TILES_MAX: usize = 64;
/// Most records of archives that one step of erasure is given.
pub const COPIES_MAX: usize = 512;
/// Most hashes on the way from a record to the root of its archive.
pub const COPY_PATH_MAX: usize = 16;

/// An object of the store. Its bytes never change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveObject {
    /// Bucket name.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Version.
    pub version: VersionId,
}

/// An archive that was stored, and read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveMade {
    /// Which one: its entries begin at so many times the entries of an archive.
    pub number: u64,
    /// Where it is.
    pub object: ArchiveObject,
    /// BLAKE3 of each section.
    pub sections: Vec<[u8; 32]>,
    /// The version it replaces, if there was one.
    pub replaces: Option<VersionId>,
    /// Entries that were erased after they had been archived, and are erased in this one. At most [`FOLDED_MAX`], ascending.
    pub folded: Vec<LogIndex>,
}

/// An archive that the metadata service knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// Which one.
    pub number: u64,
    /// Where it is.
    pub object: ArchiveObject,
    /// BLAKE3 of each section.
    pub sections: Vec<[u8; 32]>,
    /// Sections that stand in the archive only.
    pub moved: u32,
    /// Root of the subtree over its entries.
    pub root: [u8; 32],
}

/// What the metadata service holds of one entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogItem {
    /// All of it.
    Kept {
        /// Exact bytes of the record.
        record: Bytes,
        /// Salt of the commitment.
        salt: Salt,
    },
    /// Its record was erased.
    Erased {
        /// The entry.
        entry: [u8; 32],
        /// Entry of the event before it of the same key.
        previous: Option<LogIndex>,
        /// Entry of the erasure.
        by: LogIndex,
    },
}

/// Erased entries that their archive still holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fold {
    /// Which archive.
    pub number: u64,
    /// The entries, ascending; all of them are [`LogItem::Erased`].
    pub erased: Vec<(LogIndex, LogItem)>,
}

/// What is to be done about archives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivePlan {
    /// Level of the tiles that hold a hash for each archive.
    pub level: u8,
    /// An archive to be made.
    pub next: Option<u64>,
    /// An archive whose sections are not all moved, and the next one to move.
    pub moving: Option<(u64, u32)>,
    /// An archive to be made anew without what was erased.
    pub fold: Option<Fold>,
    /// Tiles of level 0 that somebody asked for, and that only archives hold.
    pub wanted: Vec<u64>,
    /// Record that erasing has come to, where an archive holds it.
    pub erasing: Option<LogIndex>,
    /// How long evidence is kept after the removal, in milliseconds.
    pub keep_ms: Option<u64>,
    /// A chain whose oldest anchors are to be archived.
    pub anchors: Option<String>,
}

/// Old anchors of a chain, as a file that was stored and read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnchorsMade {
    /// Name of the chain.
    pub chain: String,
    /// Size of the newest of them. The file holds all that are kept up to it.
    pub last: u64,
    /// Where it is.
    pub object: ArchiveObject,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
}

/// Where the anchor that was asked for is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnchorsArchive {
    /// Name of the chain.
    pub chain: String,
    /// The file that holds the first one of at least the size.
    pub object: ArchiveObject,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
}

/// An entry from an archive, and the way from it to the archive's root: what proves that it is the log's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordCopy {
    /// Its index.
    pub index: LogIndex,
    /// What the archive holds of it. Of an erased one the entry is proven, and the rest taken as it is.
    pub item: LogItem,
    /// Siblings from the leaf upwards, at most [`COPY_PATH_MAX`].
    pub path: Vec<[u8; 32]>,
}
