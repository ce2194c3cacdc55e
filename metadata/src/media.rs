//! What the two databases stand on: any [`redb::StorageBackend`], with its syncs counted. Real files
//! come from [`crate::files`], simulated ones from [`crate::model_disk`].

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

/// The media of one metadata node.
#[derive(Debug)]
pub struct Storage {
    /// Under the raft log.
    pub raft_log: Box<dyn StorageBackend>,
    /// Under the state machine.
    pub state: Box<dyn StorageBackend>,
}

/// A boxed backend, passed on as one.
#[derive(Debug)]
pub(crate) struct Boxed(pub(crate) Box<dyn StorageBackend>);

/// Counts the syncs of a backend.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) inner: Box<dyn StorageBackend>,
    pub(crate) syncs: Arc<AtomicU64>,
}

macro_rules! forward {
    ($target:ty, $field:tt, $before_sync:expr) => {
        impl StorageBackend for $target {
            fn len(&self) -> io::Result<u64> {
                self.$field.len()
            }

            fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
                self.$field.read(offset, out)
            }

            fn set_len(&self, len: u64) -> io::Result<()> {
                self.$field.set_len(len)
            }

            fn sync_data(&self) -> io::Result<()> {
                $before_sync(self);
                self.$field.sync_data()
            }

            fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
                self.$field.write(offset, data)
            }

            fn close(&self) -> io::Result<()> {
                self.$field.close()
            }

            fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
                self.$field.try_lock_range(start, end)
            }

            fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
                self.$field.try_lock_shared_range(start, end)
            }

            fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
                self.$field.lock_range(start, end)
            }

            fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
                self.$field.lock_shared_range(start, end)
            }

            fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
                self.$field.unlock_range(start, end)
            }

            fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
                self.$field.query_lock_range(start, end)
            }
        }
    };
}

forward!(Boxed, 0, |_: &Self| ());
forward!(Counted, inner, |this: &Self| {
    this.syncs.fetch_add(1, Ordering::Relaxed);
});
