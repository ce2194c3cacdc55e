//! [`MetaKv`]: the narrow door to the engine under the state machine. One implementation over redb,
//! one in memory; both pass the suite in `tests.rs`. Apply and reads know only these traits, so the
//! engine can change without touching them.

mod memory;
mod redb_kv;

use std::ops::ControlFlow;

pub use memory::MemoryKv;
pub use redb_kv::RedbKv;

/// The engine failed. Always fatal for the group: nothing is retried.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The engine reported an error.
    #[error("metadata store: {what}: {cause}; the process must stop, then be restarted on sound media")]
    Engine {
        /// What was attempted.
        what: &'static str,
        /// The engine's words.
        cause: String,
    },
    /// A row does not decode.
    #[error(
        "metadata store: a row of table {table:#04x} is damaged: {cause}; restore the node from its peers or a backup"
    )]
    Corrupt {
        /// Tag of the table.
        table: u8,
        /// Why.
        cause: String,
    },
    /// The store was closed.
    #[error("metadata store: closed")]
    Closed,
}

impl From<KvError> for std::io::Error {
    fn from(error: KvError) -> Self {
        Self::other(error)
    }
}

/// Result of store operations.
pub type KvResult<T> = Result<T, KvError>;

/// Called for each row of a scan, in key order; breaking ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent set of rows.
pub trait KvRead {
    /// One row.
    ///
    /// # Errors
    /// The engine failed.
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>>;

    /// The rows in [from, to), ascending.
    ///
    /// # Errors
    /// The engine failed.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()>;
}

/// A consistent view that outlives later writes.
pub type View = Box<dyn KvRead + Send + Sync>;

/// The rows as one batch sees and changes them.
pub trait KvTxn: KvRead {
    /// Writes one row.
    ///
    /// # Errors
    /// The engine failed.
    fn put(&mut self, key: &[u8], value: &[u8]) -> KvResult<()>;

    /// Removes one row, if it exists.
    ///
    /// # Errors
    /// The engine failed.
    fn delete(&mut self, key: &[u8]) -> KvResult<()>;
}

/// Runs inside one batch.
pub type BatchFn<'a> = dyn FnMut(&mut dyn KvTxn) -> KvResult<()> + 'a;

/// The engine under the state machine.
pub trait MetaKv: Send + Sync + std::fmt::Debug + 'static {
    /// A consistent view of what the last batch left.
    ///
    /// # Errors
    /// The engine failed or was closed.
    fn view(&self) -> KvResult<View>;

    /// Makes all changes of `batch` visible at once, or none if it fails. **Not durable** until
    /// [`MetaKv::sync`] has returned; after a crash the store is as some earlier batch left it.
    ///
    /// # Errors
    /// The batch or the engine failed.
    fn write(&self, batch: &mut BatchFn<'_>) -> KvResult<()>;

    /// Makes every earlier batch durable.
    ///
    /// # Errors
    /// The engine failed: the store must not be used any more.
    fn sync(&self) -> KvResult<()>;

    /// Replaces all rows by those of `rows`, at once and durably.
    ///
    /// # Errors
    /// The engine failed; the old rows are still there.
    fn replace_all(&self, rows: &dyn KvRead) -> KvResult<()>;

    /// Drops what was staged before.
    ///
    /// # Errors
    /// The engine failed.
    fn clear_staged(&self) -> KvResult<()>;

    /// Writes rows beside those in use, durably. They are not seen until [`MetaKv::install_staged`].
    ///
    /// # Errors
    /// The engine failed.
    fn stage(&self, rows: &[(&[u8], &[u8])]) -> KvResult<()>;

    /// Replaces all rows by the staged ones, then runs `batch` on them: at once and durably.
    ///
    /// # Errors
    /// The batch or the engine failed; the old rows are still there.
    fn install_staged(&self, batch: &mut BatchFn<'_>) -> KvResult<()>;

    /// Releases the media. Later calls fail with [`KvError::Closed`].
    fn close(&self);
}

/// Every key starts with a tag below this.
pub const KEYS_END: [u8; 1] = [0xff];

#[cfg(test)]
mod tests;
