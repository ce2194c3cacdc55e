//! Making a bundle. The writer takes exact bytes as the log and the store hold them, refuses what its
//! own verifier would refuse, and hands files on as they come: no clock, no randomness, no whole object
//! in memory.

use std::io::{self, Read};
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use stele_chunker::tree::{Leaf, ProofError as TreeError, RangeProof, TreeBuilder, verify_range};
use stele_types::ids::{ObjectRoot, Salt};
use stele_types::wire::FormatError;

use super::bag::{DECLARATION_TEXT, Digests, print_digests, print_info};
use super::chunks_file::{ChunksFileError, HEADER, chunks_file_len, encode_row};
use super::contents::{BundleObject, BundleRange, Contents, ContentsError, FORMAT, VERSION};
use super::files::{Sink, read_full};
use super::join::JoinError;
use super::names::{CONTENTS, DECLARATION, INFO, PAYLOAD_DIGESTS, POLICY, TAG_DIGESTS};
use super::range_file::encode_range_proof;
use super::{BUFFER, FILES_MAX, RECORD_MAX};
use crate::cbor::CborError;
use crate::note::Note;
use crate::policy::{Policy, PolicyError};
use crate::proof::Head;
use crate::record::{Entry, Record};
use crate::tlog_proof::{NotProven, TlogProof, TlogProofError};

mod outside;

pub use outside::{AnchorEvidence, AnchorProof, Outside, TimestampEvidence};

/// No bundle can be made of this. What was written so far is no bundle: throw it away.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The sink, or a source of bytes, failed.
    #[error("{name}: {error}")]
    Io {
        /// Which file.
        name: String,
        /// What happened.
        error: io::Error,
    },
    /// The policy can't be read.
    #[error("the policy: {0}")]
    Policy(#[from] PolicyError),
    /// The record can't be read.
    #[error("the record: {0}; read the row again")]
    Record(#[from] CborError),
    /// The record is larger than any.
    #[error("the record is larger than {RECORD_MAX} bytes")]
    LongRecord,
    /// The proof can't be read.
    #[error("the proof: {0}; make it again")]
    Proof(#[from] TlogProofError),
    /// The proof is not of this record and salt, or the policy does not accept its checkpoint.
    #[error("the proof does not hold for record and salt: {0}; make it again")]
    NotProven(#[from] NotProven),
    /// The proofs lead to different checkpoints.
    #[error("this proof leads to another checkpoint than the first one; make all proofs for one checkpoint")]
    OtherCheckpoint,
    /// The version has no bytes.
    #[error("a delete marker has no bytes, so there is neither a chunk nor a range of it")]
    NoBytes,
    /// The chunks are not those of the record's object.
    #[error("the chunks lead to another object root or length than the record says; read the manifest again")]
    OtherRoot,
    /// A chunk can't be written down.
    #[error("the chunks: {0}")]
    Chunks(#[from] ChunksFileError),
    /// The range proof does not hold.
    #[error("the range proof: {0}")]
    Range(#[from] TreeError),
    /// The range proof can't be written down.
    #[error("the range proof: {0}")]
    RangeFile(#[from] FormatError),
    /// A file has another length than was announced, or there are more slices than chunks.
    #[error("{name}: other bytes or files came than were announced")]
    Length {
        /// Which file.
        name: String,
    },
    /// More files than a bundle has.
    #[error("a bundle has at most {FILES_MAX} files; make several")]
    TooMany,
    /// An anchor or a time stamp came before every object.
    #[error("an anchor or a time stamp comes behind the first object, whose checkpoint it is joined with")]
    NoCheckpoint,
    /// An anchor shows nothing.
    #[error("the anchor on chain {name}: {why}; capture its proof again")]
    Anchor {
        /// Name of the chain.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A time stamp shows nothing.
    #[error("the time stamp: {0}")]
    Timestamp(String),
    /// Anchor or time stamp and the bundle's checkpoint are not joined.
    #[error("a checkpoint from outside: {0}; make a consistency proof between both sizes")]
    Join(#[from] JoinError),
    /// The contents break a rule: too many objects, not in order, or a text that is refused.
    #[error("the contents: {0}")]
    Contents(#[from] ContentsError),
    /// An earlier object failed.
    #[error("an earlier object failed, so this bundle can't be finished; begin again")]
    Failed,
}

/// Writes one bundle into a sink.
#[derive(Debug)]
pub struct BundleWriter<S> {
    sink: S,
    contents: Contents,
    policy: Policy,
    /// The checkpoint of the first proof.
    checkpoint: Option<(Note, Head)>,
    digests: Digests,
    payload_bytes: u64,
    failed: bool,
}

/// One object whose record is proven, and whose bytes are still to be told of.
#[derive(Debug)]
pub struct ObjectWriter<'w, S> {
    writer: &'w mut BundleWriter<S>,
    record: Record,
    object: BundleObject,
    record_bytes: &'w [u8],
    proof_bytes: &'w [u8],
}

impl<S: Sink> BundleWriter<S> {
    /// Begins a bundle. `tool` is name and version of the exporter; `created` is the time in UTC as
    /// `2026-09-21T14:13:21Z`; `policy` is a trust policy for auditors who have none of their own.
    ///
    /// # Errors
    /// The policy can't be read, or the sink failed.
    pub fn new(sink: S, tool: &str, created: &str, policy: &[u8]) -> Result<Self, WriteError> {
        let contents = Contents {
            format: FORMAT.to_owned(),
            version: VERSION,
            tool: tool.to_owned(),
            created: created.to_owned(),
            origin: String::new(),
            objects: Vec::new(),
            anchors: Vec::new(),
            timestamps: Vec::new(),
        };
        let (digests, payload_bytes) = (Digests::new(), 0);
        let read = Policy::parse(policy)?;
        let mut writer = Self { sink, contents, policy: read, checkpoint: None, digests, payload_bytes, failed: false };
        writer.file(POLICY, policy)?;
        Ok(writer)
    }

    /// Takes one event: the exact bytes of its record, its salt, and a proof file with a checkpoint that
    /// the policy accepts. Objects come ascending by log index, all with proofs for the same checkpoint.
    /// Nothing is written before one of the methods of [`ObjectWriter`] is called.
    ///
    /// # Errors
    /// Whatever the verifier would not accept.
    pub fn object<'w>(
        &'w mut self,
        record_bytes: &'w [u8],
        salt: &Salt,
        proof_bytes: &'w [u8],
    ) -> Result<ObjectWriter<'w, S>, WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        if record_bytes.len() > RECORD_MAX {
            return Err(WriteError::LongRecord);
        }
        let record = Record::decode(record_bytes)?;
        let proof = TlogProof::parse(proof_bytes)?;
        let found = proof.verify(&Entry::new(salt, record_bytes).0, &self.policy)?;
        let first = self.checkpoint.get_or_insert_with(|| (proof.checkpoint.clone(), found.checkpoint.head()));
        if first.0.text() != proof.checkpoint.text() {
            return Err(WriteError::OtherCheckpoint);
        }
        self.contents.origin = found.checkpoint.origin().to_owned();
        let folder = format!("data/object-{:04}", self.contents.objects.len() + 1);
        let object = BundleObject {
            bucket: record.bucket.clone(),
            key: record.key.clone(),
            version: record.version,
            event: record.event,
            index: proof.index,
            salt: *salt,
            record: format!("{folder}/record.cbor"),
            proof: format!("{folder}/entry.tlog-proof"),
            chunks: None,
            range: None,
            payload: None,
        };
        Ok(ObjectWriter { writer: self, record, object, record_bytes, proof_bytes })
    }

    /// Ends the bundle and gives the sink back.
    ///
    /// # Errors
    /// The contents break a rule, or the sink failed.
    pub fn finish(mut self) -> Result<S, WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        let payload = std::mem::take(&mut self.digests);
        if payload.len() + 5 > FILES_MAX {
            return Err(WriteError::TooMany);
        }
        let info = print_info(&self.contents, self.payload_bytes, payload.len() as u64);
        let contents = self.contents.print()?;
        self.file(DECLARATION, DECLARATION_TEXT.as_bytes())?;
        self.file(INFO, info.as_bytes())?;
        self.file(PAYLOAD_DIGESTS, print_digests(&payload).as_bytes())?;
        self.file(CONTENTS, &contents)?;
        let list = print_digests(&self.digests);
        self.file(TAG_DIGESTS, list.as_bytes())?;
        Ok(self.sink)
    }

    /// A file of known content.
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let mut content = bytes;
        self.stream(name, bytes.len() as u64, &mut |buffer| Ok(take(&mut content, buffer)))
    }

    /// A file of `len` bytes; `fill` gives the next of them, and none behind the last.
    fn stream(
        &mut self,
        name: &str,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<usize, WriteError>,
    ) -> Result<(), WriteError> {
        let failed = |error| WriteError::Io { name: name.to_owned(), error };
        let (mut hasher, mut buffer, mut written) = (Sha256::new(), vec![0; BUFFER], 0u64);
        self.sink.begin(name, len).map_err(failed)?;
        loop {
            let count = fill(&mut buffer)?;
            let part = buffer.get(..count).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            written = written.saturating_add(count as u64);
            if written > len {
                break;
            }
            hasher.update(part);
            self.sink.write(part).map_err(failed)?;
        }
        if written != len {
            return Err(WriteError::Length { name: name.to_owned() });
        }
        self.sink.end().map_err(failed)?;
        self.digests.insert(name.to_owned(), hasher.finalize().into());
        self.payload_bytes = self.payload_bytes.saturating_add(len);
        Ok(())
    }
}

impl<S: Sink> ObjectWriter<'_, S> {
    /// The record, as it was read.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Evidence without bytes: of a removal, or where the auditor has to know that something was there
    /// and not what.
    ///
    /// # Errors
    /// The sink failed.
    pub fn without_bytes(mut self) -> Result<(), WriteError> {
        self.begin()?;
        self.end()
    }

    /// All chunks of the object, `count` of them, and its bytes if the bundle is to hold them.
    ///
    /// # Errors
    /// The chunks don't lead to the record's root, a source or the sink failed.
    pub fn whole(
        mut self,
        count: u64,
        leaves: &mut dyn Iterator<Item = io::Result<Leaf>>,
        payload: Option<&mut dyn Read>,
    ) -> Result<(), WriteError> {
        let root = self.root()?;
        self.begin()?;
        let name = self.name("chunks.bin");
        self.chunks(&name, count, leaves, &root)?;
        self.object.chunks = Some(name);
        if let Some(payload) = payload {
            let name = self.name("payload.bin");
            let failed = |error| WriteError::Io { name: name.clone(), error };
            let len = self.record.len;
            self.writer.stream(&name, len, &mut |buffer| read_full(&mut *payload, buffer).map_err(failed))?;
            self.object.payload = Some(name);
        }
        self.end()
    }

    /// The bytes `range` of the object: the proof of the chunks that hold them, and from each of these
    /// chunks the slice of just these bytes (`stele_chunker::slice::prove_slice`).
    ///
    /// # Errors
    /// The proof does not hold, a slice is missing or too much, a source or the sink failed.
    pub fn range(
        mut self,
        range: Range<u64>,
        proof: &RangeProof,
        slices: &mut dyn Iterator<Item = io::Result<Vec<u8>>>,
    ) -> Result<(), WriteError> {
        let leaves = verify_range(&self.root()?, proof, range.clone())?.len();
        let file = encode_range_proof(proof)?;
        self.begin()?;
        let proof_name = self.name("range.bin");
        self.writer.file(&proof_name, &file)?;
        let mut names = Vec::new();
        for slice in slices {
            let name = self.name(&format!("slice-{:04}.bao", names.len() + 1));
            let slice = slice.map_err(|error| WriteError::Io { name: name.clone(), error })?;
            if names.len() == leaves {
                return Err(WriteError::Length { name });
            }
            self.writer.file(&name, &slice)?;
            names.push(name);
        }
        if names.len() != leaves {
            return Err(WriteError::Length { name: proof_name });
        }
        let length = range.end.saturating_sub(range.start);
        self.object.range = Some(BundleRange { first: range.start, length, proof: proof_name, slices: names });
        self.end()
    }

    fn root(&self) -> Result<ObjectRoot, WriteError> {
        self.record.root.ok_or(WriteError::NoBytes)
    }

    fn name(&self, file: &str) -> String {
        let folder = self.object.record.strip_suffix("record.cbor").unwrap_or_default();
        format!("{folder}{file}")
    }

    /// From here on the bundle is only good if [`Self::end`] is reached.
    fn begin(&mut self) -> Result<(), WriteError> {
        self.writer.failed = true;
        self.writer.file(&self.object.record, self.record_bytes)?;
        self.writer.file(&self.object.proof, self.proof_bytes)
    }

    fn end(self) -> Result<(), WriteError> {
        if self.writer.digests.len() > FILES_MAX {
            return Err(WriteError::TooMany);
        }
        self.writer.contents.objects.push(self.object);
        self.writer.failed = false;
        Ok(())
    }

    fn chunks(
        &mut self,
        name: &str,
        count: u64,
        leaves: &mut dyn Iterator<Item = io::Result<Leaf>>,
        root: &ObjectRoot,
    ) -> Result<(), WriteError> {
        let len = chunks_file_len(count).ok_or_else(|| WriteError::Length { name: name.to_owned() })?;
        let failed = |error| WriteError::Io { name: name.to_owned(), error };
        let (mut tree, mut pending) = (TreeBuilder::default(), HEADER.to_vec());
        self.writer.stream(name, len, &mut |buffer| {
            // Rows are small and sinks may be slow, so a buffer takes as many as it has room for.
            let mut filled = 0;
            while let Some(room) = buffer.get_mut(filled..).filter(|room| room.len() >= pending.len()) {
                filled += take(&mut pending.as_slice(), room);
                pending.clear();
                let Some(leaf) = leaves.next() else { break };
                let leaf = leaf.map_err(failed)?;
                tree.push(&leaf);
                pending = encode_row(&leaf)?.to_vec();
            }
            Ok(filled)
        })?;
        let top = tree.top();
        if top.bytes != self.record.len || top.object_root() != *root {
            return Err(WriteError::OtherRoot);
        }
        Ok(())
    }
}

/// Moves as many bytes as fit.
fn take(from: &mut &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    let (head, rest) = from.split_at(count);
    if let Some(room) = to.get_mut(..count) {
        room.copy_from_slice(head);
    }
    *from = rest;
    count
}
