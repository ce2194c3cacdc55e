//! The evidence log as others read it, and the commands that close a size of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_types::ids::{LogIndex, Salt};
use stele_types::seam::UnixMillis;

use super::{AnchorsArchive, AnchorsMade, ArchiveInfo, ArchiveMade, ArchivePlan, LogItem, RangeRef, RecordCopy};

/// Most entries of one answer: those of a full tile.
pub const LOG_ENTRIES_MAX: u32 = 256;
/// Longest signed note, in bytes: a checkpoint with the signatures of its log and of dozens of witnesses.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Longest trust policy of a log, in bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Longest row of a chain, in bytes.
pub const CHAIN_STATE_BYTES_MAX: usize = 64 * 1024;
/// Longest proof of an anchor, in bytes.
pub const ANCHOR_PROOF_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a chain, in bytes: small letters, digits and `-`.
pub const CHAIN_NAME_BYTES_MAX: usize = 32;
/// Most chains of a log.
pub const CHAINS_MAX: usize = 16;
/// Longest text of the key that a node signs answers to possession audits with, in bytes.
pub const ANSWER_KEY_BYTES_MAX: usize = 512;
/// Most records that one step of erasure looks at.
pub const ERASED_ENTRIES_MAX: u32 = 1024;
/// Most events of a key in one answer.
pub const KEY_EVENTS_MAX: u32 = 64;

/// The tree of a log at one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TreeHead {
    /// Entries.
    pub size: u64,
    /// SHA-256 root, as RFC 6962 computes it.
    pub root: [u8; 32],
}

/// A tree head that the metadata service stands by: it will never commit another root for this size, nor a
/// smaller size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Size and root.
    pub head: TreeHead,
    /// Commit time.
    pub time: UnixMillis,
}

/// A signed note and the tree head that it signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedNote {
    /// What it signs.
    pub head: TreeHead,
    /// Its exact bytes.
    pub note: Bytes,
    /// The operator's trust policy (C2SP tlog-policy), which the note satisfies. Empty in notes that were published
    /// before there was one.
    #[serde(default)]
    pub policy: Bytes,
}

/// Where a log stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogHead {
    /// The tree now. It grows with every write.
    pub now: TreeHead,
    /// Newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Newest note that was published.
    pub published: Option<SignedNote>,
}

/// Exact bytes of a record and its salt, or that they were erased.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogRecord {
    /// Deterministic CBOR; empty if it was erased.
    pub record: Bytes,
    /// 32 bytes; `None` if it was erased.
    pub salt: Option<Salt>,
    /// Index of the event that says so.
    #[serde(default)]
    pub erased_by: Option<LogIndex>,
    /// Of an erased one: entry of the event before it of the same key.
    #[serde(default)]
    pub previous: Option<LogIndex>,
}

/// One event of a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyEvent {
    /// Its place in the log.
    pub index: LogIndex,
    /// Its record.
    pub record: LogRecord,
}

/// What an anchor remembers of a chain; the metadata service does not look into it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainRow {
    /// How often it was replaced.
    pub sequence: u64,
    /// Opaque.
    pub state: Bytes,
}

/// A checkpoint that stands on a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptAnchor {
    /// Name of the chain, as the operator calls it.
    pub chain: String,
    /// The checkpoint.
    pub head: TreeHead,
    /// Exact bytes of the proof, of a format of `stele-evidence`.
    pub proof: Bytes,
}

/// A question about the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogRead {
    /// Where it stands.
    Head,
    /// The hashes of a tile, as many as there are.
    Tile {
        /// Level.
        level: u8,
        /// Index on that level.
        index: u64,
    },
    /// Entries in order: what the leaves are hashes of.
    Entries {
        /// First.
        from: LogIndex,
        /// At most this many, and at most [`LOG_ENTRIES_MAX`].
        max: u32,
    },
    /// One record.
    Record {
        /// Its index.
        index: LogIndex,
    },
    /// Events of a key, newest first. Those of versions that are gone are among them.
    KeyEvents {
        /// Where the key is; [`RangeRef::CLUSTER`] for events about the cluster itself.
        range: RangeRef,
        /// The key.
        key: String,
        /// Only events that the one at this index leads to; without it, from the newest on.
        before: Option<LogIndex>,
        /// At most this many, and at most [`KEY_EVENTS_MAX`].
        max: u32,
    },
    /// What an anchor remembers of a chain.
    Chain {
        /// Its name.
        chain: String,
    },
    /// Of every chain the first anchor of at least this size: what proves the age of the entries before it.
    Anchors {
        /// Entries.
        size: u64,
    },
    /// What the metadata service itself holds of entries in order.
    Items {
        /// First.
        from: LogIndex,
        /// At most this many, and at most [`LOG_ENTRIES_MAX`].
        max: u32,
    },
    /// Anchors of a chain in order, as the metadata service itself keeps them.
    KeptAnchors {
        /// Name of the chain.
        chain: String,
        /// Only larger sizes.
        after: u64,
    },
    /// What is to be done about archives.
    ArchivePlan,
    /// Where an archive is.
    Archive {
        /// Which one.
        number: u64,
    },
}

/// An answer about the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogReply {
    /// To `Head`.
    Head(Box<LogHead>),
    /// To `Tile`: 32 bytes each; empty if there is no such tile.
    Tile(Bytes),
    /// To `Entries`: 32 bytes each, also where record and salt were erased.
    Entries(Bytes),
    /// To `Record`: `None` if there is no such record.
    Record(Option<LogRecord>),
    /// To `CommitCheckpoint`.
    Checkpoint(Checkpoint),
    /// To `KeyEvents`: empty if there is none, or none before. Those that were erased are among them.
    KeyEvents(Vec<KeyEvent>),
    /// To `Chain`, and to `SaveChain`: the row as it is now.
    Chain(Option<ChainRow>),
    /// To `Anchors`: at most one for each chain, in the order of their names. To `KeptAnchors`: as many as an answer
    /// takes.
    Anchors(Vec<KeptAnchor>),
    /// To `Audit`: the entry.
    Logged(LogIndex),
    /// To `Tile`, `Entries`, `Record` and `KeyEvents`: the answer needs what an archive holds, from the record of this
    /// index on. Of `KeyEvents` it is the one before which events were asked for.
    Archived(LogIndex),
    /// To `KeyEvents`: the next event is in an archive.
    KeyEventsToArchive {
        /// Those before.
        events: Vec<KeyEvent>,
        /// The next one.
        next: LogIndex,
    },
    /// To `Items`: as many as there are in a row, and not all that were asked for if they are long.
    Items(Vec<LogItem>),
    /// To `ArchivePlan`.
    ArchivePlan(Box<ArchivePlan>),
    /// To `Anchors`, where the one of some chain is archived.
    AnchorsToArchive {
        /// Of the other chains.
        kept: Vec<KeptAnchor>,
        /// Where the others are.
        archived: Vec<AnchorsArchive>,
    },
    /// To `Archive`: `None` if there is none of this number.
    Archive(Option<Box<ArchiveInfo>>),
}

/// A step of the one that closes sizes of the log. Idempotent by nature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogCommand {
    /// Commit a checkpoint: refused with `StaleCheckpoint` unless `previous` is the newest one, and as malformed
    /// unless `next` is larger and its root is the log's own.
    CommitCheckpoint {
        /// Newest checkpoint, as the caller knows it.
        previous: Option<TreeHead>,
        /// The new one.
        next: TreeHead,
    },
    /// Keep the signed note of the newest checkpoint, instead of an earlier note. Refused with `StaleCheckpoint`
    /// for any other.
    PublishNote(SignedNote),
    /// Replace what is remembered of a chain, if its sequence is still `expected` (0: there is nothing yet).
    /// Refused with `StaleCheckpoint` otherwise.
    SaveChain {
        /// Name of the chain.
        chain: String,
        /// Sequence of the row to be replaced.
        expected: u64,
        /// The new one.
        state: Bytes,
    },
    /// Keep the proof that a checkpoint stands on a chain. The first proof of a size stays.
    KeepAnchor(KeptAnchor),
    /// Log a step of a possession audit.
    Audit(AuditStep),
    /// How long records and salts of removed versions are kept after the removal; `None`: for ever.
    SetEvidenceRetention {
        /// Milliseconds.
        keep_ms: Option<u64>,
    },
    /// One step of erasing what was kept long enough. Does nothing where nothing is due.
    Erase {
        /// Records to look at; at most [`ERASED_ENTRIES_MAX`].
        max_entries: u32,
        /// Of records that stand in archives, those that the step comes to; at most [`COPIES_MAX`](super::COPIES_MAX).
        #[serde(default)]
        copies: Vec<RecordCopy>,
    },
    /// Take note of an archive. Refused as malformed unless its number is the next one, entries so old may be archived,
    /// and the object exists; or unless it replaces the one that is known, and differs from it only in sections that
    /// were not moved, or hold entries that were erased since.
    Archive(Box<ArchiveMade>),
    /// Drop the rows of the next section of an archive. Refused as malformed if they are not what the archive holds.
    MoveToArchive {
        /// Which archive.
        number: u64,
        /// Which section. One that was moved before changes nothing.
        section: u32,
    },
    /// Drop the oldest anchors of a chain, and take note of the file that holds them. Refused as malformed if it does
    /// not hold exactly them.
    ArchiveAnchors(Box<AnchorsMade>),
    /// Ask for a tile that only an archive holds. Of the tiles that are asked for so many stay.
    WantTile {
        /// Level.
        level: u8,
        /// Index on that level.
        index: u64,
    },
    /// Bring back a tile that somebody wants. Refused as malformed unless its hashes are the log's.
    RestoreTile {
        /// Index of the tile of level 0.
        index: u64,
        /// Its hashes, 32 bytes each.
        leaves: Bytes,
        /// Roots of the full tiles of its archive, 32 bytes each.
        tiles: Bytes,
    },
    /// The log was restored from before what was signed last: close it under its name, and go on under another. Refused
    /// unless the cluster was restored, and the log lacks that checkpoint.
    Close {
        /// Its name so far.
        origin: String,
        /// The last checkpoint that was signed under it.
        head: TreeHead,
        /// Its name from now on.
        next: String,
    },
}

/// A step of a possession audit, as the log takes it. Repeating the newest step of an audit changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditStep {
    /// Which audit.
    pub audit: [u8; 16],
    /// What is logged.
    pub kind: AuditStepKind,
    /// SHA-256 of what was fixed, or of the report.
    pub digest: [u8; 32],
}

/// Which step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AuditStepKind {
    /// What will be asked about is fixed.
    Begun {
        /// Of audits that run by themselves: refused as `Busy` if another one began less than so many milliseconds ago.
        /// `None`: somebody asked for it.
        spacing_ms: Option<u64>,
    },
    /// It ended with this report. An audit may end again, once a silent node has answered. Refused as malformed for an
    /// audit that was not begun.
    Report,
}
