//! The ledger's file. A block counts once it is on stable media.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use stele_evidence::chain::ledger::{BLOCK_LEN, Block, LedgerError, LedgerKey, LedgerState};

/// Smallest piece that a device writes as a whole.
const SECTOR: u64 = 512;

/// Why a ledger can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFileError {
    /// The file can't be read or written. After a failed write it takes nothing more until a restart.
    #[error("{path}: {source}; the ledger takes nothing more until a restart", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{path} is in use: another anchor runs over this directory", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else than what was written.
    #[error(
        "{path} is damaged: {source}. Restore it from a copy; a new ledger under the same key would contradict it",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: LedgerError,
    },
    /// The key signs no ledgers.
    #[error("the key can't sign a ledger: {0}")]
    Key(String),
}

/// An open ledger. Holds a lock on its file.
#[derive(Debug)]
pub struct LedgerFile {
    file: File,
    path: PathBuf,
    /// Where the next block goes, in bytes.
    end: u64,
    failed: bool,
}

impl LedgerFile {
    /// Opens or makes a ledger and reads every block. What a crash left of an append is cut off: nobody was told of it.
    ///
    /// # Errors
    /// [`LedgerFileError`].
    #[expect(clippy::disallowed_methods, reason = "a file of the anchor's own, not of the store")]
    pub fn open(path: &Path, key: LedgerKey) -> Result<(Self, LedgerState), LedgerFileError> {
        let io = |source| LedgerFileError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerFileError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let len = file.metadata().map_err(io)?.len();
        let mut ledger = Self { file, path: path.to_owned(), end: 0, failed: false };
        let mut state = LedgerState::new(key);
        while ledger.end + BLOCK_LEN as u64 <= len {
            let bytes = ledger.bytes(ledger.end).map_err(io)?;
            let height = state.height();
            let taken = Block::decode(&bytes).map_err(|error| LedgerError { height, fault: error.into() });
            let is_last = ledger.end + 2 * BLOCK_LEN as u64 > len;
            match taken.and_then(|block| state.take(&block)) {
                Ok(()) => ledger.end += BLOCK_LEN as u64,
                Err(_) if is_last && is_torn(&bytes, ledger.end) => break,
                Err(source) => return Err(LedgerFileError::Damaged { path: path.to_owned(), source }),
            }
        }
        ledger.file.set_len(ledger.end).map_err(io)?;
        ledger.file.sync_all().map_err(io)?;
        sync_folder(path).map_err(io)?;
        Ok((ledger, state))
    }

    fn bytes(&self, at: u64) -> io::Result<[u8; BLOCK_LEN]> {
        let mut bytes = [0; BLOCK_LEN];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The block at a height below the ledger's.
    ///
    /// # Errors
    /// It can't be read, or is not what was written.
    pub fn read(&self, height: u64) -> Result<Block, LedgerFileError> {
        let io = |source| LedgerFileError::Io { path: self.path.clone(), source };
        let bytes = self.bytes(height.saturating_mul(BLOCK_LEN as u64)).map_err(io)?;
        let damaged = |error: stele_types::wire::FormatError| LedgerFileError::Damaged {
            path: self.path.clone(),
            source: LedgerError { height, fault: error.into() },
        };
        Block::decode(&bytes).map_err(damaged)
    }

    /// Appends a block.
    ///
    /// # Durability
    /// Ok: it is on stable media.
    ///
    /// # Errors
    /// [`LedgerFileError::Io`]; the file then takes nothing more: kernels drop dirty pages after a failed sync, so a
    /// second one would prove nothing.
    pub fn append(&mut self, block: &Block) -> Result<(), LedgerFileError> {
        let io = |source| LedgerFileError::Io { path: self.path.clone(), source };
        if self.failed {
            return Err(io(io::Error::other("a write failed before")));
        }
        self.failed = true;
        self.file.write_all_at(block.as_bytes(), self.end).map_err(io)?;
        self.file.sync_data().map_err(io)?;
        self.failed = false;
        self.end += BLOCK_LEN as u64;
        Ok(())
    }
}

/// True for room that a file system made for a block whose bytes came in part: sectors without a byte.
fn is_torn(bytes: &[u8], offset: u64) -> bool {
    let boundary = offset.next_multiple_of(SECTOR) - offset;
    let boundary = usize::try_from(boundary).unwrap_or(usize::MAX).min(bytes.len());
    let (before, behind) = bytes.split_at(boundary);
    [before, behind].iter().any(|part| !part.is_empty() && part.iter().all(|byte| *byte == 0))
}

#[expect(clippy::disallowed_methods, reason = "the folder of the anchor's own file")]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
impl LedgerFile {
    pub(super) fn of_test(file: File, path: &Path, end: u64) -> Self {
        Self { file, path: path.to_owned(), end, failed: false }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}
