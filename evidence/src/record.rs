//! Records: the canonical description of one event on one key, and the log entry that commits to
//! it. Layout: docs/formats/record.cddl and docs/formats/log-entry.md. The metadata state machine
//! builds records in apply; the verifier reads them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use stele_types::ids::{BodyHash, BucketId, LogIndex, NodeId, ObjectRoot, Salt, VersionId};
use stele_types::object::{ChecksumAlgorithm, ChecksumType, Retention, RetentionMode};
use stele_types::seam::UnixMillis;

use crate::cbor::{CborError, Reader, Writer};

/// Version of the record layout.
const RECORD_VERSION: u64 = 1;
/// Digests one record may carry besides root and body hash.
const DIGESTS_MAX: u64 = 16;
/// Longest text of an event that is about the cluster itself, bytes.
pub const DETAIL_BYTES_MAX: usize = 4096;
/// Most runs of entries that one record names as erased.
pub const ERASED_RUNS_MAX: usize = 1024;
/// Stands for a bucket's name in records of events about the cluster itself, with bucket id 0. No bucket can have it.
pub const CLUSTER: &str = "stele:cluster";
/// Bucket id of such records. No bucket gets it.
pub const CLUSTER_ID: BucketId = BucketId(0);

/// What happened. Append-only: a number never changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Event {
    /// A version was created by PUT or by completing a multipart upload.
    Put = 1,
    /// A delete marker was created.
    DeleteMarker = 2,
    /// A version (or marker) was removed by a delete.
    Delete = 3,
    /// A version (or marker) was removed because another took its place.
    Overwrite = 4,
    /// A version's retention was set, changed or taken away.
    Retention = 5,
    /// A version's legal hold was put on or taken off.
    LegalHold = 6,
    /// A possession audit was fixed: `digest` commits to its inventories.
    AuditBegun = 7,
    /// A possession audit ended: `digest` is that of its report.
    AuditReport = 8,
    /// Somebody changed the cluster: `detail` says what.
    Act = 9,
    /// Records and salts were erased after the evidence retention period: `erased` says which.
    Erasure = 10,
}

/// All events, in the order of their numbers.
const EVENTS: [Event; 10] = [
    Event::Put,
    Event::DeleteMarker,
    Event::Delete,
    Event::Overwrite,
    Event::Retention,
    Event::LegalHold,
    Event::AuditBegun,
    Event::AuditReport,
    Event::Act,
    Event::Erasure,
];

impl Event {
    fn from_number(number: u64) -> Option<Self> {
        EVENTS.into_iter().find(|event| *event as u64 == number)
    }

    /// Its name in docs/formats/log-entry.md.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::DeleteMarker => "delete-marker",
            Self::Delete => "delete",
            Self::Overwrite => "overwrite",
            Self::Retention => "retention",
            Self::LegalHold => "legal-hold",
            Self::AuditBegun => "audit-begun",
            Self::AuditReport => "audit-report",
            Self::Act => "act",
            Self::Erasure => "erasure",
        }
    }

    /// The event with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        EVENTS.into_iter().find(|event| event.name() == name)
    }
}

/// A digest of the body that was known at commit, besides the object root and whole-body BLAKE3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Digest {
    /// The MD5 behind the ETag, and its part count (0: one stream).
    ETag {
        /// 16 bytes.
        md5: [u8; 16],
        /// Parts of a multipart object.
        parts: u16,
    },
    /// An S3 checksum.
    Checksum {
        /// Which.
        algorithm: ChecksumAlgorithm,
        /// What it covers.
        kind: ChecksumType,
        /// Raw value.
        value: Vec<u8>,
    },
}

/// One event on one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// Name of the bucket.
    pub bucket: String,
    /// Id of the bucket; a bucket that was deleted and made anew has another one.
    pub bucket_id: BucketId,
    /// The key.
    pub key: String,
    /// The version that came or went.
    pub version: VersionId,
    /// It is shown as `null`.
    pub null_version: bool,
    /// Object root of that version; none for delete markers.
    pub root: Option<ObjectRoot>,
    /// Bytes of that version.
    pub len: u64,
    /// Commit time of the event, ms since the Unix epoch.
    pub time: UnixMillis,
    /// Access key of whoever asked.
    pub principal: String,
    /// Client address.
    pub source: String,
    /// The gateway.
    pub node: NodeId,
    /// Number of this event among the key's events, from 0.
    pub key_event: u64,
    /// Log index of the key's previous event.
    pub previous: Option<LogIndex>,
    /// Whole-body BLAKE3, where the body came in one stream.
    pub body_hash: Option<BodyHash>,
    /// Other digests known at commit.
    pub digests: Vec<Digest>,
    /// Retention of the version after this event; of one that was removed: before.
    pub retention: Option<Retention>,
    /// As `retention`: it is under legal hold.
    pub legal_hold: bool,
    /// Of an audit: SHA-256 of what was fixed, or of the report.
    pub digest: Option<[u8; 32]>,
    /// What was done, in words; empty in events of objects. At most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
    /// Entries whose records and salts were erased.
    pub erased: Vec<Run>,
}

/// Consecutive entries of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Index of the first one.
    pub first: LogIndex,
    /// How many; at least 1.
    pub count: u64,
}

impl Run {
    /// Whether the entry is one of them.
    pub fn contains(&self, index: LogIndex) -> bool {
        index.0.checked_sub(self.first.0).is_some_and(|behind| behind < self.count)
    }
}

/// What the log commits to: HMAC-SHA-256 of the record under its salt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry(pub [u8; 32]);

impl Entry {
    /// The entry of a record's exact bytes.
    pub fn new(salt: &Salt, record: &[u8]) -> Self {
        Self(hmac(salt.as_bytes(), record))
    }
}

/// The salt of a removal that shares a request (and its salt) with a creation: derived one-way from
/// the creation's salt, so that each entry still has its own.
pub fn derive_removal_salt(salt: &Salt) -> Salt {
    Salt::from_bytes(hmac(salt.as_bytes(), b"stele/v1/removal-salt"))
}

fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

impl Record {
    /// The one encoding of this record.
    pub fn encode(&self) -> Vec<u8> {
        let optional = [
            self.root.is_some(),
            self.previous.is_some(),
            self.body_hash.is_some(),
            !self.digests.is_empty(),
            self.retention.is_some(),
            self.legal_hold,
            self.digest.is_some(),
            !self.detail.is_empty(),
            !self.erased.is_empty(),
        ];
        let mut w = Writer::new();
        w.map(13 + optional.iter().filter(|present| **present).count() as u64);
        let mut field = |number: u64, write: &mut dyn FnMut(&mut Writer)| {
            w.uint(number);
            write(&mut w);
        };
        field(0, &mut |w| w.uint(RECORD_VERSION));
        field(1, &mut |w| w.uint(self.event as u64));
        field(2, &mut |w| w.text(&self.bucket));
        field(3, &mut |w| w.uint(self.bucket_id.0));
        field(4, &mut |w| w.text(&self.key));
        field(5, &mut |w| w.bytes(&version_bytes(self.version)));
        field(6, &mut |w| w.bool(self.null_version));
        if let Some(root) = &self.root {
            field(7, &mut |w| w.bytes(root.as_bytes()));
        }
        field(8, &mut |w| w.uint(self.len));
        field(9, &mut |w| w.uint(self.time));
        field(10, &mut |w| w.text(&self.principal));
        field(11, &mut |w| w.text(&self.source));
        field(12, &mut |w| w.uint(self.node.0));
        field(13, &mut |w| w.uint(self.key_event));
        if let Some(previous) = self.previous {
            field(14, &mut |w| w.uint(previous.0));
        }
        if let Some(hash) = &self.body_hash {
            field(15, &mut |w| w.bytes(hash.as_bytes()));
        }
        if !self.digests.is_empty() {
            field(16, &mut |w| write_digests(w, &self.digests));
        }
        if let Some(retention) = &self.retention {
            field(17, &mut |w| write_retention(w, retention));
        }
        if self.legal_hold {
            field(18, &mut |w| w.bool(true));
        }
        if let Some(digest) = &self.digest {
            field(19, &mut |w| w.bytes(digest));
        }
        if !self.detail.is_empty() {
            field(20, &mut |w| w.text(&self.detail));
        }
        if !self.erased.is_empty() {
            field(21, &mut |w| write_runs(w, &self.erased));
        }
        w.finish()
    }

    /// Reads exact record bytes.
    ///
    /// # Errors
    /// The bytes are not the one encoding of a record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::start(bytes)?;
        let r = fields.required(0)?;
        if r.uint()? != RECORD_VERSION {
            return Err(CborError::Field(0));
        }
        let record = Self {
            event: Event::from_number(fields.required(1)?.uint()?).ok_or(CborError::Field(1))?,
            bucket: fields.required(2)?.text()?.to_owned(),
            bucket_id: BucketId(fields.required(3)?.uint()?),
            key: fields.required(4)?.text()?.to_owned(),
            version: version_from_bytes(fields.required(5)?.fixed()?),
            null_version: fields.required(6)?.bool()?,
            root: fields.optional(7)?.map(Reader::fixed).transpose()?.map(ObjectRoot::from_bytes),
            len: fields.required(8)?.uint()?,
            time: fields.required(9)?.uint()?,
            principal: fields.required(10)?.text()?.to_owned(),
            source: fields.required(11)?.text()?.to_owned(),
            node: NodeId(fields.required(12)?.uint()?),
            key_event: fields.required(13)?.uint()?,
            previous: fields.optional(14)?.map(Reader::uint).transpose()?.map(LogIndex),
            body_hash: fields.optional(15)?.map(Reader::fixed).transpose()?.map(BodyHash::from_bytes),
            digests: fields.optional(16)?.map(read_digests).transpose()?.unwrap_or_default(),
            retention: fields.optional(17)?.map(read_retention).transpose()?,
            legal_hold: fields.optional(18)?.map(read_hold).transpose()?.unwrap_or(false),
            digest: fields.optional(19)?.map(Reader::fixed).transpose()?,
            detail: fields.optional(20)?.map(read_detail).transpose()?.unwrap_or_default(),
            erased: fields.optional(21)?.map(read_runs).transpose()?.unwrap_or_default(),
        };
        fields.end()?;
        Ok(record)
    }
}

/// Walks a map whose keys are ascending field numbers.
struct Fields<'a> {
    reader: Reader<'a>,
    left: u64,
    next: Next,
}

/// What stands next in the map.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The value of this field.
    Value(u64),
    /// The number of another field: the value before it was handed out.
    Number,
    /// Nothing.
    End,
}

impl<'a> Fields<'a> {
    fn start(bytes: &'a [u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(bytes);
        let left = reader.map()?;
        Ok(Self { reader, left, next: Next::Number })
    }

    fn advance(&mut self) -> Result<(), CborError> {
        if self.next == Next::Number {
            self.next = Next::End;
            if self.left > 0 {
                self.left -= 1;
                self.next = Next::Value(self.reader.uint()?);
            }
        }
        Ok(())
    }

    /// The reader at this field's value, if the field is next. The caller reads exactly one item.
    fn optional(&mut self, number: u64) -> Result<Option<&mut Reader<'a>>, CborError> {
        self.advance()?;
        if self.next != Next::Value(number) {
            return Ok(None);
        }
        self.next = Next::Number;
        Ok(Some(&mut self.reader))
    }

    fn required(&mut self, number: u64) -> Result<&mut Reader<'a>, CborError> {
        self.optional(number)?.ok_or(CborError::Field(number))
    }

    fn end(mut self) -> Result<(), CborError> {
        self.advance()?;
        match self.next {
            Next::Value(number) => Err(CborError::Field(number)),
            Next::Number | Next::End => self.reader.end(),
        }
    }
}

fn version_bytes(version: VersionId) -> [u8; 16] {
    (u128::from(version.commit_seq.0) << 64 | u128::from(version.nonce)).to_be_bytes()
}

fn version_from_bytes(bytes: [u8; 16]) -> VersionId {
    let number = u128::from_be_bytes(bytes);
    let low = number & u128::from(u64::MAX);
    VersionId {
        commit_seq: stele_types::ids::CommitSeq(u64::try_from(number >> 64).expect("64 bits remain")),
        nonce: u64::try_from(low).expect("masked to 64 bits"),
    }
}

const ALGORITHMS: [(ChecksumAlgorithm, u64); 10] = [
    (ChecksumAlgorithm::Crc32, 1),
    (ChecksumAlgorithm::Crc32c, 2),
    (ChecksumAlgorithm::Crc64Nvme, 3),
    (ChecksumAlgorithm::Sha1, 4),
    (ChecksumAlgorithm::Sha256, 5),
    (ChecksumAlgorithm::Sha512, 6),
    (ChecksumAlgorithm::Md5, 7),
    (ChecksumAlgorithm::XxHash64, 8),
    (ChecksumAlgorithm::XxHash3, 9),
    (ChecksumAlgorithm::XxHash128, 10),
];

fn write_digests(w: &mut Writer, digests: &[Digest]) {
    w.array(digests.len() as u64);
    for digest in digests {
        w.array(3);
        match digest {
            Digest::ETag { md5, parts } => {
                w.uint(0);
                w.uint(u64::from(*parts));
                w.bytes(md5);
            }
            Digest::Checksum { algorithm, kind, value } => {
                let number = ALGORITHMS.iter().find(|(a, _)| a == algorithm).map_or(0, |(_, n)| *n);
                w.uint(number);
                w.uint(u64::from(*kind == ChecksumType::Composite));
                w.bytes(value);
            }
        }
    }
}

fn read_digests(r: &mut Reader<'_>) -> Result<Vec<Digest>, CborError> {
    let count = r.array()?;
    if count == 0 || count > DIGESTS_MAX {
        return Err(CborError::Field(16));
    }
    (0..count).map(|_| read_digest(r)).collect()
}

const MODES: [(RetentionMode, u64); 2] = [(RetentionMode::Governance, 1), (RetentionMode::Compliance, 2)];

fn write_retention(w: &mut Writer, retention: &Retention) {
    w.array(2);
    w.uint(MODES.iter().find(|(mode, _)| *mode == retention.mode).map_or(0, |(_, n)| *n));
    w.uint(retention.until);
}

fn read_retention(r: &mut Reader<'_>) -> Result<Retention, CborError> {
    if r.array()? != 2 {
        return Err(CborError::Field(17));
    }
    let number = r.uint()?;
    let mode = MODES.iter().find(|(_, n)| *n == number).ok_or(CborError::Field(17))?.0;
    Ok(Retention { mode, until: r.uint()? })
}

/// Only `true` is ever written, so that a record has one encoding.
fn read_hold(r: &mut Reader<'_>) -> Result<bool, CborError> {
    if r.bool()? { Ok(true) } else { Err(CborError::Field(18)) }
}

/// An empty one is never written.
fn read_detail(r: &mut Reader<'_>) -> Result<String, CborError> {
    let text = r.text()?;
    if (1..=DETAIL_BYTES_MAX).contains(&text.len()) { Ok(text.to_owned()) } else { Err(CborError::Field(20)) }
}

fn write_runs(w: &mut Writer, runs: &[Run]) {
    w.array(runs.len() as u64);
    for run in runs {
        w.array(2);
        w.uint(run.first.0);
        w.uint(run.count);
    }
}

/// Runs ascend and don't touch, so that a set of entries has one encoding.
fn read_runs(r: &mut Reader<'_>) -> Result<Vec<Run>, CborError> {
    let count = r.array()?;
    if count == 0 || count > ERASED_RUNS_MAX as u64 {
        return Err(CborError::Field(21));
    }
    let (mut runs, mut free) = (Vec::new(), 0u64);
    for _ in 0..count {
        if r.array()? != 2 {
            return Err(CborError::Field(21));
        }
        let (first, count) = (r.uint()?, r.uint()?);
        let end = first.checked_add(count).filter(|_| count > 0 && first >= free).ok_or(CborError::Field(21))?;
        free = end.saturating_add(1);
        runs.push(Run { first: LogIndex(first), count });
    }
    Ok(runs)
}

fn read_digest(r: &mut Reader<'_>) -> Result<Digest, CborError> {
    if r.array()? != 3 {
        return Err(CborError::Field(16));
    }
    let number = r.uint()?;
    let second = r.uint()?;
    if number == 0 {
        let parts = u16::try_from(second).map_err(|_| CborError::Field(16))?;
        return Ok(Digest::ETag { md5: r.fixed()?, parts });
    }
    let algorithm = ALGORITHMS.iter().find(|(_, n)| *n == number).ok_or(CborError::Field(16))?.0;
    let kind = match second {
        0 => ChecksumType::FullObject,
        1 => ChecksumType::Composite,
        _ => return Err(CborError::Field(16)),
    };
    Ok(Digest::Checksum { algorithm, kind, value: r.bytes()?.to_vec() })
}

#[cfg(test)]
pub(crate) mod tests;
