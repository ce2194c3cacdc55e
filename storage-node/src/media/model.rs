//! A drive in memory that fails in every way a real one does, driven by a seed.
//!
//! [`ModelDisk`] is the device and outlives simulated processes; [`ModelDisk::media`] is what one
//! process sees of it. A crash keeps what was synced; of the rest each 4 KiB block is kept, lost
//! or torn by the seed, so unsynced writes arrive in any order. A failed sync forgets what was
//! dirty, as kernels do: it can still be read, a later sync succeeds, and a crash shows it is gone.
//! Used by the simulator, the tests and the benchmarks; never by a cluster.

mod disk;
mod handle;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stele_types::limits::SEGMENT_ALIGN;

use self::disk::Disk;
use self::handle::ModelMedia;
use super::Media;

/// Smallest unit that is kept, lost or torn.
const BLOCK: usize = SEGMENT_ALIGN;

/// What goes wrong from now on. Probabilities are per million operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads that fail with EIO.
    pub read_eio: u32,
    /// Writes that fail with EIO, having written any part.
    pub write_eio: u32,
    /// Syncs that fail with EIO, having kept any part.
    pub sync_eio: u32,
    /// This many syncs fail before any succeeds.
    pub next_syncs_fail: u32,
    /// This many writes fail before any succeeds.
    pub next_writes_fail: u32,
    /// This many reads fail before any succeeds.
    pub next_reads_fail: u32,
}

/// How long operations take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// One read.
    pub read: Duration,
    /// One write.
    pub write: Duration,
    /// One sync; a device does one at a time.
    pub sync: Duration,
}

/// What the device was asked to do so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
}

/// A device with one directory on it.
#[derive(Clone)]
pub struct ModelDisk {
    name: String,
    disk: Arc<Mutex<Disk>>,
    sync_gate: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for ModelDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelDisk").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ModelDisk {
    /// An empty device of `capacity` bytes. The seed decides every loss.
    pub fn new(name: impl Into<String>, capacity: u64, seed: u64) -> Self {
        Self {
            name: name.into(),
            disk: Arc::new(Mutex::new(Disk::new(capacity, seed))),
            sync_gate: Arc::new(tokio::sync::Mutex::new(())),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device as the process that runs now sees it. Dead after [`ModelDisk::crash`].
    pub fn media(&self) -> Arc<dyn Media> {
        let (generation, holder) = self.disk().attach();
        Arc::new(ModelMedia { device: self.clone(), generation, holder })
    }

    /// Power loss: unsynced blocks are kept, lost or torn; every handle is dead from here on.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// The process ends without power loss (kill -9): what was written stays, handles are dead.
    pub fn kill(&self) {
        self.disk().detach();
    }

    /// Sets what goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// Sets how slow it is.
    pub fn set_latency(&self, latency: Latency) {
        self.disk().latency = latency;
    }

    /// Sets its size in bytes; what is there stays.
    pub fn set_capacity(&self, capacity: u64) {
        self.disk().capacity = capacity;
    }

    /// The directory is gone (or back): the path finds nothing, open files go on.
    pub fn set_vanished(&self, vanished: bool) {
        self.disk().vanished = vanished;
    }

    /// Every operation fails with EIO (or none any more).
    pub fn set_dead(&self, dead: bool) {
        self.disk().dead = dead;
    }

    /// Names of the files there are.
    pub fn files(&self) -> Vec<String> {
        self.disk().names()
    }

    /// Bytes of one file; `None` if there is none.
    pub fn file_len(&self, name: &str) -> Option<u64> {
        self.disk().file_len(name)
    }

    /// Flips bits of one stored byte, as rot does. False if there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> bool {
        self.disk().flip(name, offset, mask)
    }

    /// Overwrites a range of a file with seeded garbage.
    pub fn overwrite_with_garbage(&self, name: &str, offset: u64, len: u64) {
        self.disk().overwrite_with_garbage(name, offset, len);
    }

    /// Cuts a file to `len` bytes.
    pub fn cut(&self, name: &str, len: u64) {
        self.disk().cut(name, len);
    }

    /// Removes a file as an operator's mistake would: durable at once.
    pub fn remove_file(&self, name: &str) {
        self.disk().remove_durably(name);
    }

    /// Traffic so far.
    pub fn traffic(&self) -> Traffic {
        self.disk().traffic
    }
}
