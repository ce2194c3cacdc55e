//! What is measured: a log of a million entries, keys of both algorithms, and an object of 1 GiB.

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use md5::Digest as _;
use stele_chunker::cutter::Cutter;
use stele_chunker::tree::{Leaf, top_of};
use stele_evidence::checkpoint::Checkpoint;
use stele_evidence::cosignature::{cosign, sign_note};
use stele_evidence::fetched::FetchedTiles;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, Signer};
use stele_evidence::note::Note;
use stele_evidence::proof::{Head, inclusion};
use stele_evidence::record::{Digest, Entry, Event, Record};
use stele_evidence::tiles::TileAppender;
use stele_evidence::tlog_proof::TlogProof;
use stele_evidence::tree::{Edge, Hash, leaf_hash};
use stele_evidence::vkey::KeyName;
use stele_types::ids::{BodyHash, BucketId, ChunkId, CommitSeq, LogIndex, NodeId, ObjectRoot, Salt, VersionId};
use stele_types::object::{ChecksumAlgorithm, ChecksumType};

use crate::Outcome;

/// Entries of the log; not a power of two, so that paths end in its ragged edge.
pub(crate) const ENTRIES: u64 = 1_000_003;
/// Where the log has the object.
const INDEX: u64 = 765_432;
const ORIGIN: &str = "stele/7d0c2a4e91b35f68/log/0";
const WITNESSES: [&str; 2] = ["witness.example.org/w1", "witness.example.net/w2"];
const TIME: u64 = 1_790_000_000;
pub(crate) const SALT: Salt = Salt::from_bytes([0x5a; 32]);
const OBJECT_BYTES: usize = 1 << 30;
/// The range whose proof is measured.
const RANGE_BYTES: u64 = 1 << 20;

/// Who signs.
pub(crate) struct Keys {
    log: Vec<Box<dyn Signer>>,
    witnesses: Vec<Box<dyn Signer>>,
}

/// Which algorithms.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Everybody Ed25519.
    Ed25519,
    /// Everybody ML-DSA-44.
    MlDsa44,
    /// The log both, as anchors do, witnesses Ed25519.
    LogBoth,
    /// The log both, witnesses ML-DSA-44.
    LogBothWitnessesMlDsa44,
}

impl Keys {
    pub(crate) fn new(kind: Kind) -> Outcome<Self> {
        let log_ed25519 = matches!(kind, Kind::Ed25519 | Kind::LogBoth | Kind::LogBothWitnessesMlDsa44);
        let log_ml_dsa = matches!(kind, Kind::MlDsa44 | Kind::LogBoth | Kind::LogBothWitnessesMlDsa44);
        let ml_dsa_witnesses = matches!(kind, Kind::MlDsa44 | Kind::LogBothWitnessesMlDsa44);
        let mut log: Vec<Box<dyn Signer>> = Vec::new();
        let mut witnesses: Vec<Box<dyn Signer>> = Vec::new();
        if log_ed25519 {
            log.push(Box::new(Ed25519Signer::for_notes(KeyName::new(ORIGIN)?, &[1; 32])));
        }
        if log_ml_dsa {
            log.push(Box::new(MlDsa44Signer::new(KeyName::new(ORIGIN)?, &[2; 32])));
        }
        for (name, seed) in WITNESSES.into_iter().zip(3u8..) {
            let name = KeyName::new(name)?;
            witnesses.push(if ml_dsa_witnesses {
                Box::new(MlDsa44Signer::new(name, &[seed; 32]))
            } else {
                Box::new(Ed25519Signer::for_cosignatures(name, &[seed; 32]))
            });
        }
        Ok(Self { log, witnesses })
    }

    /// Trusts the log's keys and asks for both witnesses.
    pub(crate) fn policy(&self) -> Vec<u8> {
        let mut text: String = self.log.iter().map(|key| format!("log {}\n", key.vkey())).collect();
        for (key, name) in self.witnesses.iter().zip(["w1", "w2"]) {
            text.push_str(&format!("witness {name} {}\n", key.vkey()));
        }
        (text + "group both all w1 w2\nquorum both\n").into_bytes()
    }

    /// A checkpoint with all signatures.
    pub(crate) fn checkpoint(&self, head: Head) -> Outcome<Note> {
        let text = Checkpoint::new(&KeyName::new(ORIGIN)?, head).text();
        let mut lines = Vec::new();
        for key in &self.log {
            // As anchors do: a plain signature where the type allows it, a cosignature of its own where not.
            lines.push(sign_note(&**key, &text).or_else(|_| cosign(&**key, &text, TIME))?);
        }
        for key in &self.witnesses {
            lines.push(cosign(&**key, &text, TIME)?);
        }
        Ok(Note::build(&text, &lines)?)
    }
}

/// The leaves of the log but for the one that is asked about.
pub(crate) fn other_leaf(index: u64) -> Hash {
    leaf_hash(blake3::hash(&index.to_le_bytes()).as_bytes())
}

/// Builds logs that differ in one entry.
pub(crate) struct Log {
    leaves: Vec<Hash>,
}

/// Such a log.
pub(crate) struct Filled {
    pub(crate) tiles: FetchedTiles,
    pub(crate) head: Head,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { leaves: (0..ENTRIES).map(other_leaf).collect() }
    }

    /// With this record at its place.
    pub(crate) fn with(&self, record: &[u8]) -> Filled {
        let (mut tiles, mut appender, mut edge) = (FetchedTiles::default(), TileAppender::default(), Edge::default());
        let ours = leaf_hash(&Entry::new(&SALT, record).0);
        for (index, leaf) in (0u64..).zip(&self.leaves) {
            let leaf = if index == INDEX { ours } else { *leaf };
            edge.push(leaf);
            appender.push(leaf, &mut |tile| tiles.add(tile.level, tile.index, tile.hashes));
        }
        for (level, index, hashes) in appender.open_tiles() {
            tiles.add(level, index, hashes.to_vec());
        }
        Filled { tiles, head: Head { size: ENTRIES, root: edge.root() } }
    }
}

impl Filled {
    /// The proof file of the record.
    pub(crate) fn proof(&self, keys: &Keys) -> Outcome<Vec<u8>> {
        let path = inclusion(&self.tiles, INDEX, ENTRIES)?;
        let checkpoint = keys.checkpoint(self.head)?;
        Ok(TlogProof { index: INDEX, path, extra: Vec::new(), checkpoint }.print())
    }
}

/// The object: its chunks, its further digests, and 1 MiB in its middle that begins inside one chunk and ends inside
/// another, as a range has it that knows nothing of chunks.
pub(crate) struct Object {
    pub(crate) path: PathBuf,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) range: Range<u64>,
    /// Offset and bytes of the chunks that the range touches.
    pub(crate) touched: Vec<(u64, Vec<u8>)>,
    body_hash: BodyHash,
    md5: [u8; 16],
    crc64: Vec<u8>,
}

impl Object {
    /// Writes a file of noise, and cuts it as the store would.
    pub(crate) fn make(path: &Path) -> Outcome<Self> {
        let mut bytes = vec![0; OBJECT_BYTES];
        blake3::Hasher::new().update(b"bench_evidence").finalize_xof().fill(&mut bytes);
        write(path, &bytes)?;
        let (mut cutter, mut rest, mut offset) = (Cutter::default(), bytes.as_slice(), 0u64);
        let mut chunks: Vec<(u64, &[u8])> = Vec::new();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(cutter.scan(rest).unwrap_or(rest.len()));
            chunks.push((offset, chunk));
            (rest, offset) = (behind, offset + chunk.len() as u64);
        }
        let border = chunks.iter().map(|(offset, _)| *offset).find(|offset| *offset > OBJECT_BYTES as u64 / 2);
        // An odd number of bytes before the border, so that no group of 16 KiB begins there either.
        let start = border.ok_or("one chunk only")? - 400_001;
        let range = start..start + RANGE_BYTES;
        let touches =
            |(offset, chunk): &&(u64, &[u8])| *offset < range.end && range.start < offset + chunk.len() as u64;
        let touched = chunks.iter().filter(touches).map(|(offset, chunk)| (*offset, chunk.to_vec())).collect();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
        Ok(Self {
            path: path.to_owned(),
            leaves: chunks.iter().map(|(_, chunk)| leaf(chunk)).collect(),
            range,
            touched,
            body_hash: BodyHash::from_bytes(*blake3::hash(&bytes).as_bytes()),
            md5: md5::Md5::digest(&bytes).into(),
            crc64: crc.to_be_bytes().to_vec(),
        })
    }

    /// As the store logs an upload in parts with the checksum that S3 clients send today.
    pub(crate) fn uploaded_in_parts(&self) -> Record {
        let crc64 = Digest::Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumType::FullObject,
            value: self.crc64.clone(),
        };
        let digests = vec![Digest::ETag { md5: self.md5, parts: 128 }, crc64];
        Record { digests, ..record(top_of(&self.leaves).object_root(), OBJECT_BYTES as u64) }
    }

    /// As it logs one PUT: the ETag is MD5 of the whole body, and BLAKE3 of the whole body is known.
    pub(crate) fn put_at_once(&self) -> Record {
        let mut record = self.uploaded_in_parts();
        record.digests[0] = Digest::ETag { md5: self.md5, parts: 0 };
        Record { body_hash: Some(self.body_hash), ..record }
    }
}

pub(crate) fn leaf(chunk: &[u8]) -> Leaf {
    Leaf { id: ChunkId::from_bytes(*blake3::hash(chunk).as_bytes()), len: chunk.len() as u64 }
}

pub(crate) fn record(root: ObjectRoot, len: u64) -> Record {
    Record {
        event: Event::Put,
        bucket: "radiology-archive".into(),
        bucket_id: BucketId(7),
        key: "2026/11/ct-thorax/1.2.840.113619.2.55.3.604688119.971.1415.42.dcm".into(),
        version: VersionId { commit_seq: CommitSeq(81_234_567), nonce: 0xdead_beef_0102_0304 },
        null_version: false,
        root: Some(root),
        len,
        time: 1_790_000_000_000,
        principal: "AKIAIOSFODNN7EXAMPLE".into(),
        source: "192.0.2.117".into(),
        node: NodeId(4),
        key_event: 1,
        previous: Some(LogIndex(123_456)),
        body_hash: None,
        digests: Vec::new(),
        retention: None,
        legal_hold: false,
        digest: None,
        detail: String::new(),
        erased: Vec::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "files of a measurement, not of a store")]
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Outcome {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::File::create(path)?.write_all(bytes)?)
}

#[expect(clippy::disallowed_methods, reason = "files of a measurement, not of a store")]
pub(crate) fn remove(folder: &Path) -> Outcome {
    Ok(std::fs::remove_dir_all(folder)?)
}
