//! A small log with a few events, and bundles of it: for tests, golden files and seeds of the fuzz corpora.

use std::io::Cursor;

use md5::Digest as _;
use stele_chunker::slice::prove_slice;
use stele_chunker::tree::{Leaf, prove_range, top_of};
use stele_types::ids::{BodyHash, BucketId, ChunkId, CommitSeq, LogIndex, NodeId, ObjectRoot, Salt, VersionId};
use stele_types::object::{ChecksumAlgorithm, ChecksumType, Retention, RetentionMode};

use super::bag::{Digests, print_digests, print_info};
use super::contents::Contents;
use super::files::{Files, ReadSeek};
use super::names::{CONTENTS, COVERED, INFO, PAYLOAD, PAYLOAD_DIGESTS, TAG_DIGESTS};
use super::report::Report;
use super::verify::{ByteRange, Request, Unusable, verify};
use super::writer::{BundleWriter, WriteError};
use crate::checkpoint::Checkpoint;
use crate::cosignature::{cosign, sign_note};
use crate::keys::{Ed25519Signer, Signer as _};
use crate::note::Note;
use crate::proof::Head;
use crate::record::{Digest, Entry, Event, Record};
use crate::tlog_proof::TlogProof;
use crate::tree::{Hash, leaf_hash, reference};
use crate::vkey::KeyName;

pub(crate) mod outside;

pub(crate) const ORIGIN: &str = "log.stele.example/bundle";
pub(crate) const TIME: u64 = 1_790_000_100;
pub(crate) const CREATED: &str = "2026-09-21T15:00:00Z";
/// Entries of the log.
pub(crate) const SIZE: u64 = 13;
/// The chunks of the object that is told of as a whole.
pub(crate) const WHOLE: [&[u8]; 3] = [b"The first chunk, ", b"the second, ", b"and the third.\n"];
/// The range that is told of: the end of the first chunk and the begin of the second.
pub(crate) const RANGE: std::ops::Range<u64> = 16_990..17_200;

fn signer(seed: u8) -> Ed25519Signer {
    Ed25519Signer::for_notes(KeyName::new(ORIGIN).unwrap(), &[seed; 32])
}

fn witness() -> Ed25519Signer {
    Ed25519Signer::for_cosignatures(KeyName::new("witness.example/bundle").unwrap(), &[32; 32])
}

/// A policy with the log key of this seed; 31 is the log's.
pub(crate) fn policy_of(seed: u8) -> Vec<u8> {
    let (log, witness) = (signer(seed), witness());
    format!("log {}\nwitness one {}\nquorum one\n", log.vkey(), witness.vkey()).into_bytes()
}

pub(crate) fn policy() -> Vec<u8> {
    policy_of(31)
}

/// Two chunks; the first has two groups, so that its slice has hashes beside the path.
pub(crate) fn long_chunks() -> [Vec<u8>; 2] {
    let byte = |at: usize| u8::try_from(at * 7 % 251).unwrap();
    [(0..17_000).map(byte).collect(), (0..300).map(byte).collect()]
}

pub(crate) fn leaves<C: AsRef<[u8]>>(chunks: &[C]) -> Vec<Leaf> {
    let leaf =
        |chunk: &[u8]| Leaf { id: ChunkId::from_bytes(*blake3::hash(chunk).as_bytes()), len: chunk.len() as u64 };
    chunks.iter().map(|chunk| leaf(chunk.as_ref())).collect()
}

fn record(key: &str, root: Option<ObjectRoot>, len: u64) -> Record {
    Record {
        event: Event::Put,
        bucket: "scans".into(),
        bucket_id: BucketId(7),
        key: key.into(),
        version: VersionId { commit_seq: CommitSeq(42), nonce: 0xdead_beef },
        null_version: false,
        root,
        len,
        time: 1_790_000_000_000,
        principal: "clerk".into(),
        source: "192.0.2.7".into(),
        node: NodeId(1),
        key_event: 0,
        previous: None,
        body_hash: None,
        digests: Vec::new(),
        retention: None,
        legal_hold: false,
        digest: None,
        detail: String::new(),
        erased: Vec::new(),
    }
}

/// The record of the whole object, with all kinds of digests.
pub(crate) fn whole_record() -> Record {
    let body = WHOLE.concat();
    let checksum = |algorithm, kind, value: Vec<u8>| Digest::Checksum { algorithm, kind, value };
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &body);
    Record {
        body_hash: Some(BodyHash::from_bytes(*blake3::hash(&body).as_bytes())),
        digests: vec![
            Digest::ETag { md5: md5::Md5::digest(&body).into(), parts: 0 },
            checksum(ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject, crc.to_be_bytes().to_vec()),
            checksum(ChecksumAlgorithm::Sha256, ChecksumType::FullObject, sha2::Sha256::digest(&body).to_vec()),
            checksum(ChecksumAlgorithm::Crc32c, ChecksumType::Composite, vec![1, 2, 3, 4]),
        ],
        ..record("ct/0001.dcm", Some(top_of(&leaves(&WHOLE)).object_root()), body.len() as u64)
    }
}

/// Log index and record of every event that is known; the other entries are anybody's.
pub(crate) fn events() -> Vec<(u64, Record)> {
    let long = leaves(&long_chunks());
    let put = record("scan.tiff", Some(top_of(&long).object_root()), 17_300);
    let next = |record: &Record, event, previous| Record {
        event,
        key_event: record.key_event + 1,
        previous: Some(LogIndex(previous)),
        time: record.time + 1000,
        ..record.clone()
    };
    let doomed = record("old/letter.pdf", Some(top_of(&long[1..]).object_root()), 300);
    let mut held = next(&doomed, Event::Retention, 4);
    held.retention = Some(Retention { mode: RetentionMode::Governance, until: 1_790_000_000_500 });
    let deleted = next(&held, Event::Delete, 7);
    let empty = record("empty", Some(stele_chunker::tree::empty_object_root()), 0);
    vec![(3, whole_record()), (4, doomed), (5, put), (7, held), (9, empty), (11, deleted)]
}

pub(crate) fn salt(index: u64) -> Salt {
    Salt::from_bytes([u8::try_from(index).unwrap() + 0x40; 32])
}

/// The event at a log index: record bytes and salt.
pub(crate) fn event(index: u64) -> (Vec<u8>, Salt) {
    let found = events().into_iter().find(|(at, _)| *at == index).unwrap();
    (found.1.encode(), salt(index))
}

/// A log whose entries can be replaced, and the key that signs it.
pub(crate) struct Log {
    pub(crate) leaves: Vec<Hash>,
    pub(crate) origin: String,
    pub(crate) seed: u8,
    pub(crate) witnessed: bool,
}

pub(crate) fn log() -> Log {
    let mut leaves: Vec<Hash> = (0..SIZE).map(|index| leaf_hash(&index.to_be_bytes())).collect();
    for (index, record) in events() {
        leaves[usize::try_from(index).unwrap()] = leaf_hash(&Entry::new(&salt(index), &record.encode()).0);
    }
    Log { leaves, origin: ORIGIN.to_owned(), seed: 31, witnessed: true }
}

impl Log {
    pub(crate) fn proof(&self, index: u64) -> Vec<u8> {
        let head = Head { size: self.leaves.len() as u64, root: reference::root(&self.leaves) };
        let name = KeyName::new(&self.origin).unwrap();
        let text = Checkpoint::new(&name, head).text();
        let mut lines = vec![sign_note(&Ed25519Signer::for_notes(name, &[self.seed; 32]), &text).unwrap()];
        if self.witnessed {
            lines.push(cosign(&witness(), &text, TIME).unwrap());
        }
        let checkpoint = Note::build(&text, &lines).unwrap();
        let path = reference::path(usize::try_from(index).unwrap(), &self.leaves);
        TlogProof { index, path, extra: Vec::new(), checkpoint }.print()
    }
}

pub(crate) fn writer() -> BundleWriter<Files> {
    BundleWriter::new(Files::default(), "stele 0.1.0", CREATED, &policy()).unwrap()
}

/// The object of three chunks; its bytes too, if asked for.
pub(crate) fn whole(payload: bool) -> Files {
    let ((record, salt), proof) = (event(3), log().proof(3));
    let mut writer = writer();
    let mut body = Cursor::new(WHOLE.concat());
    let body = payload.then_some(&mut body as &mut dyn std::io::Read);
    let object = writer.object(&record, &salt, &proof).unwrap();
    object.whole(3, &mut leaves(&WHOLE).into_iter().map(Ok), body).unwrap();
    writer.finish().unwrap()
}

/// A range of two chunks.
pub(crate) fn range() -> Files {
    let ((record, salt), proof) = (event(5), log().proof(5));
    let mut writer = writer();
    let chunks = long_chunks();
    let part = prove_range(&leaves(&chunks), RANGE).unwrap();
    let slices = [prove_slice(&chunks[0], 16_990..17_000).unwrap(), prove_slice(&chunks[1], 0..200).unwrap()];
    let object = writer.object(&record, &salt, &proof).unwrap();
    object.range(RANGE, &part, &mut slices.into_iter().map(Ok)).unwrap();
    writer.finish().unwrap()
}

/// Evidence without bytes of the events at these log indices.
pub(crate) fn without_bytes(log: &Log, indices: &[u64]) -> Result<Files, WriteError> {
    let mut writer = writer();
    for index in indices {
        let ((record, salt), proof) = (event(*index), log.proof(*index));
        writer.object(&record, &salt, &proof)?.without_bytes()?;
    }
    writer.finish()
}

/// All events of a key up to its deletion.
pub(crate) fn deletion() -> Files {
    without_bytes(&log(), &[4, 7, 11]).unwrap()
}

/// What a forger does after changing something: writes all digests anew.
pub(crate) fn reseal(files: &mut Files) {
    let digest = |files: &Files, name: &str| sha2::Sha256::digest(&files.files[name]).into();
    let payload: Vec<String> = files.files.keys().filter(|name| name.starts_with(PAYLOAD)).cloned().collect();
    let digests: Digests = payload.iter().map(|name| (name.clone(), digest(files, name))).collect();
    if let Ok(contents) = Contents::parse(&files.files[CONTENTS]) {
        let bytes: usize = payload.iter().map(|name| files.files[name].len()).sum();
        let info = print_info(&contents, bytes as u64, payload.len() as u64);
        files.files.insert(INFO.to_owned(), info.into_bytes());
    }
    files.files.insert(PAYLOAD_DIGESTS.to_owned(), print_digests(&digests).into_bytes());
    let covered: Digests = COVERED.iter().map(|name| ((*name).to_owned(), digest(files, name))).collect();
    files.files.insert(TAG_DIGESTS.to_owned(), print_digests(&covered).into_bytes());
}

/// Changes the contents, and reseals.
pub(crate) fn edit(files: &mut Files, change: impl FnOnce(&mut Contents)) {
    let mut contents = Contents::parse(&files.files[CONTENTS]).unwrap();
    change(&mut contents);
    let mut text = serde_json::to_vec_pretty(&contents).unwrap();
    text.push(b'\n');
    files.files.insert(CONTENTS.to_owned(), text);
    reseal(files);
}

/// Judges under the auditor's own policy.
pub(crate) fn judge(files: &Files) -> Result<Report, Unusable> {
    let policy = policy();
    verify(files, &Request { policy: Some(&policy), ..Request::default() }, None)
}

/// Judges bytes that the auditor brought.
pub(crate) fn judge_bytes(files: &Files, bytes: &[u8], range: Option<&str>) -> Result<Report, Unusable> {
    let policy = policy();
    let range = range.map(|text| ByteRange::parse(text).unwrap());
    let mut bytes = Cursor::new(bytes);
    let request = Request { policy: Some(&policy), range, ..Request::default() };
    verify(files, &request, Some(("brought.bin", &mut bytes as &mut dyn ReadSeek)))
}
