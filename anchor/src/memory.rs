//! What an anchor signed, or a witness cosigned: a file that only grows. A pair of size and root is on stable media
//! before anything signs it. Layout: docs/formats/anchor-memory.md.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use stele_rpc::meta::TreeHead;

const MAGIC: [u8; 8] = *b"STELEMEM";
const VERSION: u8 = 1;
/// Magic, version, length of the origin; a CRC32C follows the origin.
const FIXED_BYTES: usize = 10;
const ORIGIN_BYTES_MAX: usize = 255;
/// Size, root, CRC32C.
const RECORD_BYTES: usize = 44;

/// Why the memory can't be used. The anchor then signs nothing.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file can't be read or written. After a failed write nothing more is signed until a restart.
    #[error("{path}: {source}; nothing is signed until it can be used again", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{path} is in use: another process runs over this directory", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else than what was written.
    #[error("{path} is damaged ({what}): restore it from a copy; never start over under the same origin", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It belongs to another log.
    #[error("{path} is the memory of the log {found:?}, not of {wanted:?}", path = path.display())]
    OtherLog {
        /// The file.
        path: PathBuf,
        /// Its origin.
        found: String,
        /// The origin that was asked for.
        wanted: String,
    },
    /// The origin does not fit.
    #[error("an origin has 1 to {ORIGIN_BYTES_MAX} bytes")]
    Origin,
    /// A pair that does not go on from the last one: a defect of the caller.
    #[error("size {next} was to be remembered behind size {last}")]
    NotLarger {
        /// Size remembered last.
        last: u64,
        /// Size that was to be.
        next: u64,
    },
}

/// What an anchor signed, wherever that is kept.
#[async_trait]
pub trait Remembers: Send + Sync + fmt::Debug {
    /// What was signed last.
    fn last(&self) -> Option<TreeHead>;

    /// Remembers a pair that is about to be signed.
    ///
    /// # Durability
    /// Ok: it is on stable media.
    ///
    /// # Errors
    /// [`MemoryError`]; after a failed write or sync the memory takes nothing more.
    async fn remember(&mut self, head: TreeHead) -> Result<(), MemoryError>;
}

/// An open memory. Holds a lock on its file.
#[derive(Debug)]
pub struct Memory {
    file: File,
    path: PathBuf,
    last: Option<TreeHead>,
    failed: bool,
}

impl Memory {
    /// Opens the memory of a log, or makes an empty one.
    ///
    /// # Errors
    /// See [`MemoryError`]. An append that was cut off by a crash is dropped: it was never signed.
    #[expect(clippy::disallowed_methods, reason = "a file of the anchor's own, not of the store")]
    pub fn open(path: &Path, origin: &str) -> Result<Self, MemoryError> {
        let io = |source| MemoryError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(MemoryError::InUse { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let header = header(origin).ok_or(MemoryError::Origin)?;
        let len = file.metadata().map_err(io)?.len();
        if len < header.len() as u64 && begins_like(&mut file, &header).map_err(io)? {
            file.set_len(0).map_err(io)?;
            file.rewind().map_err(io)?;
            file.write_all(&header).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_folder(path).map_err(io)?;
            return Ok(Self { file, path: path.to_owned(), last: None, failed: false });
        }
        check_header(&mut file, path, origin)?;
        let last = last_record(&mut file, path, header.len() as u64)?;
        Ok(Self { file, path: path.to_owned(), last, failed: false })
    }
}

#[async_trait]
impl Remembers for Memory {
    fn last(&self) -> Option<TreeHead> {
        self.last
    }

    async fn remember(&mut self, head: TreeHead) -> Result<(), MemoryError> {
        if let Some(last) = self.last.filter(|last| head.size <= last.size) {
            return Err(MemoryError::NotLarger { last: last.size, next: head.size });
        }
        let path = self.path.clone();
        let io = |source| MemoryError::Io { path: path.clone(), source };
        if self.failed {
            return Err(io(io::Error::other("a write failed before; start again")));
        }
        // Kernels drop dirty pages after a failed sync, so a second one would prove nothing.
        self.failed = true;
        let file = self.file.try_clone().map_err(&io)?;
        let appended = tokio::task::spawn_blocking(move || append(file, head)).await;
        appended.map_err(io::Error::other).and_then(|appended| appended).map_err(io)?;
        self.failed = false;
        self.last = Some(head);
        Ok(())
    }
}

fn append(mut file: File, head: TreeHead) -> io::Result<()> {
    file.seek(SeekFrom::End(0))?;
    file.write_all(&record(head))?;
    file.sync_data()
}

fn header(origin: &str) -> Option<Vec<u8>> {
    let len = u8::try_from(origin.len()).ok().filter(|len| *len > 0)?;
    let mut header = MAGIC.to_vec();
    header.extend([VERSION, len]);
    header.extend(origin.as_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend(crc.to_le_bytes());
    Some(header)
}

/// A new file, or one whose making was cut off.
fn begins_like(file: &mut File, header: &[u8]) -> io::Result<bool> {
    let mut found = Vec::new();
    file.rewind()?;
    file.take(header.len() as u64).read_to_end(&mut found)?;
    Ok(header.starts_with(&found) || found.iter().all(|byte| *byte == 0))
}

#[expect(clippy::disallowed_methods, reason = "the folder of the anchor's own file")]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn check_header(file: &mut File, path: &Path, origin: &str) -> Result<(), MemoryError> {
    let io = |source| MemoryError::Io { path: path.to_owned(), source };
    let damaged = |what| Err(MemoryError::Damaged { path: path.to_owned(), what });
    let mut found = Vec::new();
    file.rewind().map_err(io)?;
    file.take((FIXED_BYTES + ORIGIN_BYTES_MAX + 4) as u64).read_to_end(&mut found).map_err(io)?;
    let Some((fixed, rest)) = found.split_first_chunk::<FIXED_BYTES>() else { return damaged("it is too short") };
    if fixed.get(..8) != Some(&MAGIC) || fixed.get(8) != Some(&VERSION) {
        return damaged("it is no memory of an anchor, or of a newer version");
    }
    let len = usize::from(fixed.last().copied().unwrap_or_default());
    let (Some(name), Some(crc)) = (rest.get(..len), rest.get(len..len + 4)) else {
        return damaged("its header is cut off");
    };
    let covered = [fixed.as_slice(), name].concat();
    if crc != crc32c::crc32c(&covered).to_le_bytes() {
        return damaged("its header has another checksum");
    }
    if name == origin.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(name).into_owned();
    Err(MemoryError::OtherLog { path: path.to_owned(), found, wanted: origin.to_owned() })
}

fn record(head: TreeHead) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let (size, rest) = bytes.split_at_mut(8);
    let (root, crc) = rest.split_at_mut(32);
    size.copy_from_slice(&head.size.to_be_bytes());
    root.copy_from_slice(&head.root);
    let sum = crc32c::crc32c_append(crc32c::crc32c(size), root);
    crc.copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// `None`: not what [`record`] makes.
fn parse(bytes: &[u8]) -> Option<TreeHead> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    let (root, _) = rest.split_first_chunk::<32>()?;
    let head = TreeHead { size: u64::from_be_bytes(*size), root: *root };
    (record(head) == bytes).then_some(head)
}

/// The last pair. Cuts off what a crash left behind it.
fn last_record(file: &mut File, path: &Path, begin: u64) -> Result<Option<TreeHead>, MemoryError> {
    let io = |source| MemoryError::Io { path: path.to_owned(), source };
    let damaged = |what| MemoryError::Damaged { path: path.to_owned(), what };
    let each = RECORD_BYTES as u64;
    let mut count = (file.metadata().map_err(io)?.len() - begin) / each;
    let mut before: Option<TreeHead> = None;
    let mut read = |at: u64| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; RECORD_BYTES];
        file.seek(SeekFrom::Start(begin + at * each))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    // A file system may have made room for an append whose bytes never came.
    if count > 0 && read(count - 1).map_err(io)?.iter().all(|byte| *byte == 0) {
        count -= 1;
    }
    for at in count.saturating_sub(2)..count {
        let head = parse(&read(at).map_err(io)?).ok_or_else(|| damaged("a record has another checksum"))?;
        if before.is_some_and(|before| head.size <= before.size) {
            return Err(damaged("its sizes don't rise"));
        }
        before = Some(head);
    }
    file.set_len(begin + count * each).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "log.example/0";

    fn head(size: u64) -> TreeHead {
        TreeHead { size, root: [u8::try_from(size).unwrap(); 32] }
    }

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("signed")
        }

        fn open(&self) -> Result<Memory, MemoryError> {
            Memory::open(&self.path(), ORIGIN)
        }

        #[expect(clippy::disallowed_methods, reason = "a test file")]
        fn bytes(&self) -> Vec<u8> {
            std::fs::read(self.path()).unwrap()
        }

        #[expect(clippy::disallowed_methods, reason = "a test file")]
        fn write(&self, bytes: &[u8]) {
            std::fs::write(self.path(), bytes).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_remembered_is_found_again_and_only_grows() {
        let place = Place::new();
        let mut memory = place.open().unwrap();
        assert_eq!(memory.last(), None);
        assert!(matches!(place.open(), Err(MemoryError::InUse { .. })));
        for size in [1, 5, 9] {
            memory.remember(head(size)).await.unwrap();
        }
        assert!(matches!(memory.remember(head(9)).await, Err(MemoryError::NotLarger { last: 9, next: 9 })));
        drop(memory);
        assert_eq!(place.open().unwrap().last(), Some(head(9)));
        assert!(matches!(Memory::open(&place.path(), "log.example/1"), Err(MemoryError::OtherLog { .. })));
        assert!(matches!(Memory::open(&place.path(), ""), Err(MemoryError::Origin)));
    }

    #[tokio::test]
    async fn a_crash_leaves_the_last_whole_pair_and_damage_stops() {
        let place = Place::new();
        let mut memory = place.open().unwrap();
        memory.remember(head(1)).await.unwrap();
        memory.remember(head(2)).await.unwrap();
        drop(memory);
        let whole = place.bytes();
        let begin = whole.len() - 2 * RECORD_BYTES;
        for cut in 0..whole.len() {
            place.write(&whole[..cut]);
            let last = place.open().unwrap().last();
            assert_eq!(
                last.map_or(0, |head| head.size),
                (cut.saturating_sub(begin) / RECORD_BYTES) as u64,
                "cut at {cut}"
            );
        }
        let mut holes = whole.clone();
        holes[begin + RECORD_BYTES..].fill(0);
        place.write(&holes);
        assert_eq!(place.open().unwrap().last(), Some(head(1)), "room without bytes");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            place.write(&flipped);
            assert!(place.open().is_err(), "a flipped bit at {at} goes unnoticed");
        }
    }
}
