//! Writing a backup: a header in clear, then the rows in frames that only the recipient can open. Each frame ends with a
//! hash that goes on from the one before, so that anybody can tell a backup that was cut, flipped or joined from another.

use std::io::{self, Write};

use rustls::crypto::hpke::HpkeSealer;

use super::BackupError;
use super::facts::{FACTS_BYTES_MAX, Facts};
use super::key::{Recipient, crypto, suite};
use crate::kv::KvRead;
use crate::snapshot;

/// First bytes: magic, then the version.
pub(super) const MAGIC: &[u8; 7] = b"STELEBK";
pub(super) const VERSION: u8 = b'1';
/// Of an X25519 key that was drawn for one backup.
pub(super) const ENC_BYTES: usize = 32;
/// Rows in one frame, bytes.
pub(super) const FRAME_BYTES: usize = 1 << 20;
/// What sealing adds to a frame.
pub(super) const TAG_BYTES: usize = 16;
/// In the length of a frame: it is the last one.
pub(super) const LAST: u32 = 1 << 31;
pub(super) const HASH_BYTES: usize = 32;

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// What it says of itself.
    pub facts: Facts,
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3 of all of them.
    pub hash: [u8; 32],
}

/// What the encryption is bound to besides the frames: everything in clear.
pub(super) fn info(head: &[u8]) -> Vec<u8> {
    [b"stele backup 1\0", blake3::hash(head).as_bytes().as_slice()].concat()
}

/// The hash behind a frame.
pub(super) fn link(before: &blake3::Hash, word: [u8; 4], sealed: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(before.as_bytes()).update(&word).update(sealed).finalize()
}

/// What a frame is sealed with beside its rows: all that stands before it, and whether it is the last one.
pub(super) fn bound(before: &blake3::Hash, word: [u8; 4]) -> [u8; HASH_BYTES + 4] {
    let mut bytes = [0; HASH_BYTES + 4];
    let (hash, rest) = bytes.split_at_mut(HASH_BYTES);
    hash.copy_from_slice(before.as_bytes());
    rest.copy_from_slice(&word);
    bytes
}

/// Seals all rows of a view to the recipient that `facts`, which must be of the same view, name.
///
/// # Errors
/// The store or the sink failed.
pub fn write(rows: &dyn KvRead, facts: Facts, sink: &mut dyn Write) -> Result<Sealed, BackupError> {
    let recipient: Recipient = facts.recipient.parse()?;
    let mut sink = Hashed { sink, hasher: blake3::Hasher::new(), bytes: 0 };
    let head = head(&facts)?;
    let (sent, sealer) = suite().setup_sealer(&info(&head), &recipient.hpke()).map_err(|error| crypto(&error))?;
    if sent.0.len() != ENC_BYTES {
        return Err(BackupError::Crypto("a drawn key has another length than X25519 has".to_owned()));
    }
    let before = blake3::Hasher::new().update(&head).update(&sent.0).finalize();
    for part in [&head[..], &sent.0, before.as_bytes()] {
        sink.write_all(part)?;
    }
    let mut frames = Frames { sink: &mut sink, sealer, before, body: Vec::with_capacity(FRAME_BYTES) };
    let count = snapshot::write(rows, &mut frames)?;
    frames.seal(true)?;
    debug_assert_eq!(count, facts.rows, "a view does not change");
    sink.flush()?;
    Ok(Sealed { facts, bytes: sink.bytes, hash: *sink.hasher.finalize().as_bytes() })
}

/// A backup with any header and any last frame, whose hashes are right, for the fuzz target.
pub(crate) fn hashed(text: &[u8], sealed: &[u8]) -> Vec<u8> {
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let head = [&MAGIC[..], &[VERSION], &number(text.len()).to_le_bytes(), text, &[9; ENC_BYTES]].concat();
    let before = blake3::hash(&head);
    let word = (number(sealed.len()) | LAST).to_le_bytes();
    [&head, before.as_bytes().as_slice(), &word, sealed, link(&before, word, sealed).as_bytes()].concat()
}

/// Magic, version, length of the facts, and the facts as JSON.
fn head(facts: &Facts) -> Result<Vec<u8>, BackupError> {
    let text = serde_json::to_vec(facts).map_err(io::Error::other)?;
    if text.len() > FACTS_BYTES_MAX {
        return Err(BackupError::Unusable("the signed checkpoint is too long for a header"));
    }
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    Ok([&MAGIC[..], &[VERSION], &len, &text].concat())
}

/// Hashes and counts what passes.
struct Hashed<'a> {
    sink: &'a mut dyn Write,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

struct Frames<'a> {
    sink: &'a mut dyn Write,
    sealer: Box<dyn HpkeSealer>,
    before: blake3::Hash,
    body: Vec<u8>,
}

impl Frames<'_> {
    fn seal(&mut self, last: bool) -> io::Result<()> {
        let len = u32::try_from(self.body.len() + TAG_BYTES).unwrap_or(0);
        let word = (len | if last { LAST } else { 0 }).to_le_bytes();
        let sealed = self.sealer.seal(&bound(&self.before, word), &self.body).map_err(io::Error::other)?;
        self.before = link(&self.before, word, &sealed);
        self.body.clear();
        for part in [&word[..], &sealed, self.before.as_bytes()] {
            self.sink.write_all(part)?;
        }
        Ok(())
    }
}

impl Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(FRAME_BYTES - self.body.len());
        self.body.extend_from_slice(&bytes[..fits]);
        if self.body.len() == FRAME_BYTES {
            self.seal(false)?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
