//! Reading a backup. Without the key: that it is whole and as it was written. With it: its rows. Whatever is read is
//! bounded, and nothing is believed before its hash was compared.

use std::io::{self, Read};

use rustls::crypto::hpke::{EncapsulatedSecret, HpkeOpener};

use super::BackupError;
use super::facts::{FACTS_BYTES_MAX, Facts};
use super::key::{Recipient, SecretKey, suite};
use super::seal::{ENC_BYTES, FRAME_BYTES, HASH_BYTES, LAST, MAGIC, TAG_BYTES, VERSION, bound, info, link};
use crate::kv::MetaKv;
use crate::snapshot::{self, TakeRows};

/// A backup that was read to its end without the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// What it says of itself.
    pub facts: Facts,
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3 of all of them.
    pub hash: [u8; 32],
}

/// A backup whose rows were read with the key.
pub type Opened = Proven;

/// Fills `buffer`; `what` is missing where the source ends before.
fn fill(source: &mut dyn Read, buffer: &mut [u8], what: &'static str) -> Result<(), BackupError> {
    source.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Cut(what),
        _ => BackupError::Io(error),
    })
}

fn array<const N: usize>(source: &mut dyn Read, what: &'static str) -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    fill(source, &mut bytes, what)?;
    Ok(bytes)
}

/// What stands before the frames.
struct Head {
    facts: Facts,
    /// Magic, version, length and facts, as they stand.
    text: Vec<u8>,
    sent: [u8; ENC_BYTES],
    hash: blake3::Hash,
}

impl Head {
    fn read(source: &mut dyn Read) -> Result<Self, BackupError> {
        let magic: [u8; 8] = array(source, "its beginning")?;
        match magic.split_first_chunk::<7>() {
            Some((MAGIC, [VERSION])) => {}
            Some((MAGIC, [other])) => return Err(BackupError::NewerFormat(char::from(*other))),
            _ => return Err(BackupError::NotABackup),
        }
        let word: [u8; 4] = array(source, "the length of its header")?;
        let len = usize::try_from(u32::from_le_bytes(word)).unwrap_or(usize::MAX);
        if len == 0 || len > FACTS_BYTES_MAX {
            return Err(BackupError::Damaged("its header has no length that a header can have"));
        }
        let mut text = [&magic[..], &word].concat();
        let begin = text.len();
        text.resize(begin + len, 0);
        let json = text.get_mut(begin..).unwrap_or_default();
        fill(source, json, "its header")?;
        let sent = array(source, "its key")?;
        let stands: [u8; HASH_BYTES] = array(source, "the hash of its header")?;
        let hash = blake3::Hasher::new().update(&text).update(&sent).finalize();
        if hash != blake3::Hash::from_bytes(stands) {
            return Err(BackupError::Damaged("the hash of its header differs"));
        }
        let facts = serde_json::from_slice(text.get(begin..).unwrap_or_default());
        let facts = facts.map_err(|_| BackupError::Damaged("its header is not understood"))?;
        Ok(Self { facts, text, sent, hash })
    }
}

/// Frames, still sealed.
struct Frames<'a> {
    source: &'a mut dyn Read,
    before: blake3::Hash,
    last: bool,
}

struct Frame {
    before: blake3::Hash,
    word: [u8; 4],
    sealed: Vec<u8>,
}

impl Frames<'_> {
    /// The next frame; `None` behind the last one, behind which nothing stands.
    fn next(&mut self) -> Result<Option<Frame>, BackupError> {
        if self.last {
            return match self.source.read(&mut [0])? {
                0 => Ok(None),
                _ => Err(BackupError::Damaged("something stands behind its end")),
            };
        }
        let word: [u8; 4] = array(self.source, "a frame")?;
        let number = u32::from_le_bytes(word);
        let len = usize::try_from(number & !LAST).unwrap_or(usize::MAX);
        if !(TAG_BYTES..=FRAME_BYTES + TAG_BYTES).contains(&len) {
            return Err(BackupError::Damaged("a frame has no length that a frame can have"));
        }
        let mut sealed = vec![0; len];
        fill(self.source, &mut sealed, "a part of a frame")?;
        let stands: [u8; HASH_BYTES] = array(self.source, "the hash of a frame")?;
        let hash = link(&self.before, word, &sealed);
        if hash != blake3::Hash::from_bytes(stands) {
            return Err(BackupError::Damaged("the hash of a frame differs"));
        }
        self.last = number & LAST != 0;
        let before = std::mem::replace(&mut self.before, hash);
        Ok(Some(Frame { before, word, sealed }))
    }
}

/// Hashes and counts what is read.
struct Hashed<'a> {
    source: &'a mut dyn Read,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<'a> Hashed<'a> {
    fn new(source: &'a mut dyn Read) -> Self {
        Self { source, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    fn proven(self, facts: Facts) -> Proven {
        Proven { facts, bytes: self.bytes, hash: *self.hasher.finalize().as_bytes() }
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Reads what a backup says of itself, and no more. The first 128 KiB of it are enough.
///
/// # Errors
/// It is no backup, or its header is damaged.
pub fn read_facts(source: &mut dyn Read) -> Result<Facts, BackupError> {
    Ok(Head::read(source)?.facts)
}

/// Reads a whole backup without the key: every hash is compared.
///
/// # Errors
/// The source failed, or it is not what was written.
pub fn prove(source: &mut dyn Read) -> Result<Proven, BackupError> {
    let mut source = Hashed::new(source);
    let head = Head::read(&mut source)?;
    let mut frames = Frames { source: &mut source, before: head.hash, last: false };
    while frames.next()?.is_some() {}
    Ok(source.proven(head.facts))
}

/// Opens a whole backup and puts its rows into `store`, which must be new: at once, after all of them were checked.
///
/// # Errors
/// The source or the store failed, the key is another one, or the backup is not what was written. The store is of no
/// use then.
pub fn load(source: &mut dyn Read, key: &SecretKey, store: &dyn MetaKv) -> Result<Opened, BackupError> {
    store.clear_staged()?;
    let opened = each_frame(source, key, &mut |rows| Ok(store.stage(rows)?))?;
    store.install_staged(&mut |_| Ok(()))?;
    opened.facts.compare(&*store.view()?, &key.recipient())?;
    Ok(opened)
}

/// Opens a whole backup and reads every row of it.
///
/// # Errors
/// The source failed, the key is another one, or the backup is not what was written.
pub fn open_rows(source: &mut dyn Read, key: &SecretKey) -> Result<Opened, BackupError> {
    each_frame(source, key, &mut |_| Ok(()))
}

fn each_frame(source: &mut dyn Read, key: &SecretKey, take: &mut TakeRows<'_>) -> Result<Opened, BackupError> {
    let mut source = Hashed::new(source);
    let head = Head::read(&mut source)?;
    let recipient: Recipient =
        head.facts.recipient.parse().map_err(|_| BackupError::Damaged("its recipient is none"))?;
    if recipient != key.recipient() {
        let (wanted, given) = (recipient.to_string(), key.recipient().to_string());
        return Err(BackupError::WrongKey { wanted, given });
    }
    let refused = |_| BackupError::Damaged("the key does not open it");
    let sent = EncapsulatedSecret(head.sent.to_vec());
    let opener = suite().setup_opener(&sent, &info(&head.text), &key.hpke()).map_err(refused)?;
    let frames = Frames { source: &mut source, before: head.hash, last: false };
    let mut rows = Rows { frames, opener, body: Vec::new(), at: 0 };
    let count = snapshot::stream(&mut rows, take)?;
    if !rows.ended()? {
        return Err(BackupError::Damaged("something stands behind its rows"));
    }
    if count != head.facts.rows {
        return Err(BackupError::Differs("the number of rows"));
    }
    Ok(source.proven(head.facts))
}

/// What is in the frames, as one stream.
struct Rows<'a> {
    frames: Frames<'a>,
    opener: Box<dyn HpkeOpener>,
    body: Vec<u8>,
    at: usize,
}

impl Rows<'_> {
    /// Opens the next frame; false behind the last one.
    fn advance(&mut self) -> Result<bool, BackupError> {
        let Some(frame) = self.frames.next()? else { return Ok(false) };
        let opened = self.opener.open(&bound(&frame.before, frame.word), &frame.sealed);
        self.body = opened.map_err(|_| BackupError::Damaged("a frame does not open: it is not what was sealed"))?;
        self.at = 0;
        Ok(true)
    }

    fn ended(&mut self) -> Result<bool, BackupError> {
        while self.at == self.body.len() {
            if !self.advance()? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Read for Rows<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended().map_err(io::Error::other)? {
            return Ok(0);
        }
        let rest = self.body.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
