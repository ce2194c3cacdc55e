//! State of a model device: what is there now, what survives a crash, and the dice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{BLOCK, Faults, Latency, Traffic};

/// Smallest unit a device writes in one piece.
const SECTOR: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct FileId(u64);

#[derive(Default)]
struct File {
    len: u64,
    durable_len: u64,
    now: BTreeMap<u64, Bytes>,
    durable: BTreeMap<u64, Bytes>,
    dirty: BTreeSet<u64>,
}

impl File {
    fn lose_power(&mut self, rng: &mut ChaCha8Rng) {
        let mut survived = self.durable.clone();
        let mut len = if rng.random_bool(0.5) { self.len } else { self.durable_len };
        for block in std::mem::take(&mut self.dirty) {
            let Some(bytes) = settle(rng, self.durable.get(&block), self.now.get(&block)) else {
                survived.remove(&block);
                continue;
            };
            len = len.max(((block + 1) * BLOCK as u64).min(self.len));
            survived.insert(block, bytes);
        }
        (self.len, self.durable_len) = (len, len);
        self.now = survived.clone();
        self.durable = survived;
    }
}

pub(super) enum Refusal {
    NotFound,
    Exists,
    Full,
    Io,
}

pub(super) struct Disk {
    rng: ChaCha8Rng,
    pub(super) capacity: u64,
    pub(super) faults: Faults,
    pub(super) latency: Latency,
    pub(super) vanished: bool,
    pub(super) dead: bool,
    pub(super) traffic: Traffic,
    generation: u64,
    next_holder: u64,
    locked_by: Option<u64>,
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    files: BTreeMap<FileId, File>,
    next_file: u64,
}

impl Disk {
    pub(super) fn new(capacity: u64, seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            capacity,
            faults: Faults::default(),
            latency: Latency::default(),
            vanished: false,
            dead: false,
            traffic: Traffic::default(),
            generation: 0,
            next_holder: 0,
            locked_by: None,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: BTreeMap::new(),
            next_file: 0,
        }
    }

    pub(super) fn attach(&mut self) -> (u64, u64) {
        self.next_holder += 1;
        (self.generation, self.next_holder)
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    pub(super) fn detach(&mut self) {
        self.generation += 1;
        self.locked_by = None;
    }

    pub(super) fn lock(&mut self, holder: u64) -> bool {
        if self.locked_by.is_some_and(|by| by != holder) {
            return false;
        }
        self.locked_by = Some(holder);
        true
    }

    pub(super) fn unlock(&mut self, holder: u64) {
        if self.locked_by == Some(holder) {
            self.locked_by = None;
        }
    }

    /// Decides whether an operation fails: queued failures first, then by chance.
    pub(super) fn draws(&mut self, queued: fn(&mut Faults) -> &mut u32, chance: fn(&Faults) -> u32) -> bool {
        if self.dead {
            return true;
        }
        let left = queued(&mut self.faults);
        if *left > 0 {
            *left -= 1;
            return true;
        }
        let chance = chance(&self.faults);
        chance > 0 && self.rng.random_range(0..1_000_000u32) < chance
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|f| f.len).sum()
    }

    pub(super) fn find(&self, name: &str) -> Option<FileId> {
        self.names.get(name).copied()
    }

    pub(super) fn create(&mut self, name: &str) -> Result<FileId, Refusal> {
        if self.names.contains_key(name) {
            return Err(Refusal::Exists);
        }
        let id = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(id, File::default());
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        self.names.remove(name).map(|_| ()).ok_or(Refusal::NotFound)
    }

    pub(super) fn remove_durably(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }

    pub(super) fn sync_dir(&mut self) {
        self.durable_names = self.names.clone();
        self.prune();
    }

    fn prune(&mut self) {
        let linked: BTreeSet<FileId> = self.names.values().chain(self.durable_names.values()).copied().collect();
        self.files.retain(|id, _| linked.contains(id));
    }

    pub(super) fn replace(&mut self, name: &str, content: &Bytes) {
        let id = FileId(self.next_file);
        self.next_file += 1;
        self.names.insert(name.to_owned(), id);
        self.durable_names.insert(name.to_owned(), id);
        self.files.insert(id, File::default());
        let _written = self.write(id, 0, std::slice::from_ref(content));
        if let Some(file) = self.files.get_mut(&id) {
            file.len = content.len() as u64;
        }
        self.sync(id);
        self.prune();
    }

    pub(super) fn allocate(&mut self, id: FileId, end: u64) -> Result<(), Refusal> {
        let used = self.used();
        let file = self.files.get_mut(&id).ok_or(Refusal::Io)?;
        let more = end.saturating_sub(file.len);
        if used + more > self.capacity {
            return Err(Refusal::Full);
        }
        file.len = file.len.max(end);
        Ok(())
    }

    /// Writes whole blocks; the last one is padded with zeros.
    pub(super) fn write(&mut self, id: FileId, offset: u64, buffers: &[Bytes]) -> Result<(), Refusal> {
        let file = self.files.get_mut(&id).ok_or(Refusal::Io)?;
        let mut at = offset;
        for buffer in buffers {
            let mut rest = buffer.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(BLOCK));
                let block = at / BLOCK as u64;
                at += piece.len() as u64;
                file.now.insert(block, padded(piece));
                file.dirty.insert(block);
            }
        }
        file.len = file.len.max(at);
        self.traffic.writes += 1;
        self.traffic.written_bytes += at - offset;
        Ok(())
    }

    /// A write that failed: each of its blocks may have been written or not.
    pub(super) fn write_partly(&mut self, id: FileId, offset: u64, buffers: &[Bytes]) {
        let mut at = offset;
        for buffer in buffers {
            if self.rng.random_bool(0.5) {
                let _gone = self.write(id, at, std::slice::from_ref(buffer));
            }
            at += buffer.len() as u64;
        }
    }

    pub(super) fn sync(&mut self, id: FileId) {
        self.traffic.syncs += 1;
        let Some(file) = self.files.get_mut(&id) else { return };
        for block in std::mem::take(&mut file.dirty) {
            match file.now.get(&block) {
                Some(bytes) => file.durable.insert(block, bytes.clone()),
                None => file.durable.remove(&block),
            };
        }
        file.durable_len = file.len;
    }

    /// A sync that failed: some blocks made it, the rest will never be tried again.
    pub(super) fn sync_failed(&mut self, id: FileId) {
        self.traffic.syncs += 1;
        let Some(file) = self.files.get_mut(&id) else { return };
        for block in std::mem::take(&mut file.dirty) {
            if self.rng.random_bool(0.5)
                && let Some(bytes) = file.now.get(&block)
            {
                file.durable.insert(block, bytes.clone());
            }
        }
    }

    pub(super) fn read(&mut self, id: FileId, offset: u64, len: usize) -> Result<Bytes, Refusal> {
        self.traffic.reads += 1;
        self.traffic.read_bytes += len as u64;
        let file = self.files.get(&id).ok_or(Refusal::Io)?;
        let end = offset + len as u64;
        let mut out = vec![0u8; len];
        let (first, last) = (offset / BLOCK as u64, end.div_ceil(BLOCK as u64));
        for (block, bytes) in file.now.range(first..last) {
            let start = block * BLOCK as u64;
            let from = offset.max(start);
            let to = end.min(start + BLOCK as u64).min(file.len);
            if from < to {
                let source = (from - start) as usize..(to - start) as usize;
                let target = (from - offset) as usize..(to - offset) as usize;
                out[target].copy_from_slice(&bytes[source]);
            }
        }
        Ok(Bytes::from(out))
    }

    pub(super) fn len_of(&self, id: FileId) -> Result<u64, Refusal> {
        self.files.get(&id).map(|f| f.len).ok_or(Refusal::Io)
    }

    pub(super) fn file_len(&self, name: &str) -> Option<u64> {
        self.find(name).and_then(|id| self.files.get(&id)).map(|f| f.len)
    }

    pub(super) fn truncate(&mut self, id: FileId, len: u64) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.len = len;
        let kept = len.div_ceil(BLOCK as u64);
        let dropped: Vec<u64> = file.now.range(kept..).map(|(b, _)| *b).collect();
        for block in dropped {
            file.now.remove(&block);
            file.dirty.insert(block);
        }
    }

    pub(super) fn flip(&mut self, name: &str, offset: u64, mask: u8) -> bool {
        let Some(file) = self.find(name).and_then(|id| self.files.get_mut(&id)) else { return false };
        let (block, at) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
        let mut found = false;
        for side in [&mut file.now, &mut file.durable] {
            if let Some(bytes) = side.get_mut(&block) {
                let mut copy = bytes.to_vec();
                copy[at] ^= mask;
                *bytes = Bytes::from(copy);
                found = true;
            }
        }
        found
    }

    pub(super) fn overwrite_with_garbage(&mut self, name: &str, offset: u64, len: u64) {
        let Some(id) = self.find(name) else { return };
        for block in offset / BLOCK as u64..(offset + len).div_ceil(BLOCK as u64) {
            let mut garbage = vec![0u8; BLOCK];
            self.rng.fill(garbage.as_mut_slice());
            let Some(file) = self.files.get_mut(&id) else { return };
            file.now.insert(block, Bytes::from(garbage.clone()));
            file.durable.insert(block, Bytes::from(garbage));
        }
    }

    pub(super) fn cut(&mut self, name: &str, len: u64) {
        if let Some(id) = self.find(name) {
            self.truncate(id, len);
            self.sync(id);
        }
    }

    /// Power loss.
    pub(super) fn crash(&mut self) {
        self.detach();
        let rng = &mut self.rng;
        for file in self.files.values_mut() {
            file.lose_power(rng);
        }
        let touched: BTreeSet<String> = self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        for name in touched {
            let (now, durable) = (self.names.get(&name).copied(), self.durable_names.get(&name).copied());
            if now == durable || rng.random_bool(0.5) {
                continue;
            }
            match now {
                Some(id) => self.durable_names.insert(name, id),
                None => self.durable_names.remove(&name),
            };
        }
        self.names = self.durable_names.clone();
        self.prune();
    }
}

/// What is left of one unsynced block after power loss.
fn settle(rng: &mut ChaCha8Rng, old: Option<&Bytes>, new: Option<&Bytes>) -> Option<Bytes> {
    match rng.random_range(0..3u8) {
        0 => old.cloned(),
        1 => new.cloned(),
        _ => {
            let new = new?;
            let mut torn = old.map_or_else(|| vec![0u8; BLOCK], |b| b.to_vec());
            for sector in 0..BLOCK / SECTOR {
                if rng.random_bool(0.5) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    torn[range.clone()].copy_from_slice(&new[range]);
                }
            }
            Some(Bytes::from(torn))
        }
    }
}

/// A whole block, zero behind a short piece.
fn padded(piece: Bytes) -> Bytes {
    if piece.len() == BLOCK {
        return piece;
    }
    let mut block = piece.to_vec();
    block.resize(BLOCK, 0);
    Bytes::from(block)
}
