//! A model of a drive under the metadata databases, for simulators and crash tests: it loses unsynced
//! writes at a crash, fails syncs, and fills up, all as a function of its seed. Never used by a real
//! process.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::media::Storage;

/// What can be done to a file between two syncs.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Default)]
struct File {
    /// As the last sync left it.
    synced: Vec<u8>,
    /// As a reader sees it.
    seen: Vec<u8>,
    /// What happened since the last sync, in order.
    unsynced: Vec<Change>,
    /// A failed sync: later syncs fail as well, and what was unsynced may be lost.
    finished: bool,
}

#[derive(Debug)]
struct Disk {
    seed: u64,
    /// Raised by each crash; handles of earlier lives are dead.
    life: u64,
    files: BTreeMap<String, File>,
    capacity: usize,
    syncs: u64,
    /// Syncs that still succeed; `None`: all of them.
    syncs_left: Option<u64>,
}

/// A drive in memory. Clones are the same drive.
#[derive(Clone, Debug)]
pub struct ModelDisk(Arc<Mutex<Disk>>);

/// One file of a [`ModelDisk`], as one life of the process holds it.
#[derive(Clone, Debug)]
pub struct ModelFile {
    disk: ModelDisk,
    name: String,
    life: u64,
}

fn splitmix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(data);
            }
            Self::Resize(len) => image.resize(*len, 0),
        }
    }
}

impl ModelDisk {
    /// An empty drive without faults.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            seed,
            life: 0,
            files: BTreeMap::new(),
            capacity: usize::MAX,
            syncs: 0,
            syncs_left: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle on a file, created empty if it is missing. Dies with the next crash.
    pub fn file(&self, name: &str) -> ModelFile {
        let mut disk = self.lock();
        disk.files.entry(name.to_owned()).or_default();
        ModelFile { disk: self.clone(), name: name.to_owned(), life: disk.life }
    }

    /// The media of a metadata node.
    pub fn storage(&self) -> Storage {
        Storage { raft_log: Box::new(self.file("raft-log")), state: Box::new(self.file("state")) }
    }

    /// Power loss: each unsynced write survives or not, by seed, file and its position since the last
    /// sync; a torn write is possible at 512-byte boundaries. Open handles die.
    pub fn crash(&self) {
        let mut disk = self.lock();
        disk.life += 1;
        disk.syncs_left = None;
        let (seed, life) = (disk.seed, disk.life);
        for (name, file) in &mut disk.files {
            let of_file = name.bytes().fold(splitmix(seed ^ life), |hash, byte| splitmix(hash ^ u64::from(byte)));
            for (ordinal, change) in (0u64..).zip(std::mem::take(&mut file.unsynced)) {
                survive(&change, splitmix(of_file ^ ordinal), &mut file.synced);
            }
            file.seen = file.synced.clone();
            file.finished = false;
        }
    }

    /// Lets this many more syncs succeed, then fails them all with EIO.
    pub fn fail_syncs_after(&self, syncs: u64) {
        self.lock().syncs_left = Some(syncs);
    }

    /// The drive holds at most this many bytes; growing beyond fails with ENOSPC.
    pub fn set_capacity(&self, bytes: usize) {
        self.lock().capacity = bytes;
    }

    /// Successful syncs so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }
}

fn survive(change: &Change, draw: u64, image: &mut Vec<u8>) {
    match (draw % 4, change) {
        (0, _) => {}
        (1, Change::Write { offset, data }) => {
            let sectors = data.len() / 512;
            let kept = if sectors == 0 { 0 } else { usize::try_from(draw >> 8).unwrap_or(0) % (sectors + 1) * 512 };
            Change::Write { offset: *offset, data: data[..kept].to_vec() }.apply(image);
        }
        _ => change.apply(image),
    }
}

impl ModelFile {
    fn with<T>(&self, run: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other("the process of this handle has crashed"));
        }
        run(&mut disk)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.with(|disk| {
            let used: usize =
                disk.files.iter().filter(|(name, _)| **name != self.name).map(|(_, f)| f.seen.len()).sum();
            let capacity = disk.capacity;
            let file = disk.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
            let len = match &change {
                Change::Write { offset, data } => file.seen.len().max(offset + data.len()),
                Change::Resize(len) => *len,
            };
            if len > file.seen.len() && used + len > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            change.apply(&mut file.seen);
            file.unsynced.push(change);
            Ok(())
        })
    }
}

fn position(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl StorageBackend for ModelFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|disk| Ok(disk.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|disk| {
            let file = disk.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
            let start = position(offset)?;
            let stored = file.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(stored);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Resize(position(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|disk| {
            let fails = disk.syncs_left == Some(0);
            if let Some(left) = &mut disk.syncs_left {
                *left = left.saturating_sub(1);
            }
            let file = disk.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
            if fails || file.finished {
                file.finished = true;
                return Err(io::Error::other("EIO: the drive could not write"));
            }
            for change in std::mem::take(&mut file.unsynced) {
                change.apply(&mut file.synced);
            }
            disk.syncs += 1;
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write { offset: position(offset)?, data: data.to_vec() })
    }
}
