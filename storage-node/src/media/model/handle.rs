//! What one process sees of a model device. Handles of a crashed process fail for ever.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::disk::{Disk, FileId, Refusal};
use super::{BLOCK, Faults, ModelDisk};
use crate::media::{Media, MediaError, MediaErrorKind, MediaFile, Space};

#[derive(Debug)]
pub(super) struct ModelMedia {
    pub(super) device: ModelDisk,
    pub(super) generation: u64,
    pub(super) holder: u64,
}

#[derive(Debug)]
struct ModelFile {
    device: ModelDisk,
    generation: u64,
    name: String,
    id: FileId,
}

fn refused(op: &'static str, name: &str, why: &Refusal) -> MediaError {
    let (kind, text) = match why {
        Refusal::NotFound => (MediaErrorKind::NotFound, "no such file"),
        Refusal::Exists => (MediaErrorKind::Exists, "file exists"),
        Refusal::Full => (MediaErrorKind::Full, "no space left on the model device"),
        Refusal::Io => (MediaErrorKind::Io, "input/output error of the model device"),
    };
    MediaError::new(kind, op, name, text)
}

impl ModelDisk {
    /// Runs one operation on the state, unless the process has crashed or the device is dead.
    fn operate<T>(
        &self,
        generation: u64,
        (op, name): (&'static str, &str),
        run: impl FnOnce(&mut Disk) -> Result<T, Refusal>,
    ) -> Result<T, MediaError> {
        let mut disk = self.disk();
        if !disk.is_current(generation) || disk.dead {
            return Err(refused(op, name, &Refusal::Io));
        }
        run(&mut disk).map_err(|why| refused(op, name, &why))
    }

    async fn takes(&self, pick: fn(&super::Latency) -> Duration) {
        let latency = pick(&self.disk().latency);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

impl ModelMedia {
    fn file(&self, name: &str, id: FileId) -> Arc<dyn MediaFile> {
        let (device, generation) = (self.device.clone(), self.generation);
        Arc::new(ModelFile { device, generation, name: name.to_owned(), id })
    }
}

impl Drop for ModelMedia {
    fn drop(&mut self) {
        let mut disk = self.device.disk();
        if disk.is_current(self.generation) {
            disk.unlock(self.holder);
        }
    }
}

fn unless_vanished(disk: &Disk) -> Result<(), Refusal> {
    if disk.vanished { Err(Refusal::NotFound) } else { Ok(()) }
}

#[async_trait]
impl Media for ModelMedia {
    fn name(&self) -> String {
        self.device.name.clone()
    }

    async fn lock(&self) -> Result<(), MediaError> {
        let taken = self.device.operate(self.generation, ("lock", &self.device.name), |disk| {
            unless_vanished(disk)?;
            Ok(disk.lock(self.holder))
        })?;
        if taken {
            return Ok(());
        }
        Err(MediaError::new(MediaErrorKind::Locked, "lock", &self.device.name, "taken by another process"))
    }

    async fn unlock(&self) {
        let mut disk = self.device.disk();
        if disk.is_current(self.generation) {
            disk.unlock(self.holder);
        }
    }

    async fn list(&self) -> Result<Vec<String>, MediaError> {
        self.device.operate(self.generation, ("list", &self.device.name), |disk| {
            unless_vanished(disk)?;
            Ok(disk.names())
        })
    }

    async fn create(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError> {
        let id = self.device.operate(self.generation, ("create", name), |disk| {
            unless_vanished(disk)?;
            disk.create(name)
        })?;
        Ok(self.file(name, id))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError> {
        let id = self.device.operate(self.generation, ("open", name), |disk| {
            unless_vanished(disk)?;
            disk.find(name).ok_or(Refusal::NotFound)
        })?;
        Ok(self.file(name, id))
    }

    async fn remove(&self, name: &str) -> Result<(), MediaError> {
        self.device.operate(self.generation, ("remove", name), |disk| {
            unless_vanished(disk)?;
            disk.remove(name)
        })
    }

    async fn sync_dir(&self) -> Result<(), MediaError> {
        self.device.takes(|l| l.sync).await;
        self.device.operate(self.generation, ("sync directory", &self.device.name), |disk| {
            if disk.draws(|f| &mut f.next_syncs_fail, |f| f.sync_eio) {
                return Err(Refusal::Io);
            }
            disk.sync_dir();
            Ok(())
        })
    }

    async fn read_whole(&self, name: &str, max: usize) -> Result<Option<Bytes>, MediaError> {
        self.device.takes(|l| l.read).await;
        self.device.operate(self.generation, ("read", name), |disk| {
            if disk.draws(|f| &mut f.next_reads_fail, |f| f.read_eio) {
                return Err(Refusal::Io);
            }
            let Some(id) = disk.find(name).filter(|_| !disk.vanished) else { return Ok(None) };
            let len = usize::try_from(disk.len_of(id)?).unwrap_or(usize::MAX);
            if len > max { Err(Refusal::Io) } else { disk.read(id, 0, len).map(Some) }
        })
    }

    async fn replace(&self, name: &str, content: Bytes) -> Result<(), MediaError> {
        self.device.takes(|l| l.sync).await;
        self.device.operate(self.generation, ("replace", name), |disk| {
            unless_vanished(disk)?;
            if disk.draws(|f| &mut f.next_syncs_fail, |f| f.sync_eio) {
                return Err(Refusal::Io);
            }
            if disk.used() + content.len() as u64 > disk.capacity {
                return Err(Refusal::Full);
            }
            disk.replace(name, &content);
            Ok(())
        })
    }

    async fn space(&self) -> Result<Space, MediaError> {
        self.device.operate(self.generation, ("ask for space", &self.device.name), |disk| {
            Ok(Space { total: disk.capacity, free: disk.capacity.saturating_sub(disk.used()) })
        })
    }
}

impl ModelFile {
    fn operate<T>(&self, op: &'static str, run: impl FnOnce(&mut Disk) -> Result<T, Refusal>) -> Result<T, MediaError> {
        self.device.operate(self.generation, (op, &self.name), run)
    }
}

/// Draws whether the operation fails.
fn draw(disk: &mut Disk, queued: fn(&mut Faults) -> &mut u32, chance: fn(&Faults) -> u32) -> Result<(), Refusal> {
    if disk.draws(queued, chance) { Err(Refusal::Io) } else { Ok(()) }
}

#[async_trait]
impl MediaFile for ModelFile {
    async fn allocate(&self, offset: u64, len: u64) -> Result<(), MediaError> {
        self.operate("allocate", |disk| disk.allocate(self.id, offset + len))
    }

    async fn write_at(&self, offset: u64, buffers: &[Bytes]) -> Result<(), MediaError> {
        self.device.takes(|l| l.write).await;
        self.operate("write", |disk| {
            let whole = buffers.iter().all(|b| b.len().is_multiple_of(BLOCK));
            if !offset.is_multiple_of(BLOCK as u64) || !whole {
                return Err(Refusal::Io);
            }
            if let Err(failed) = draw(disk, |f| &mut f.next_writes_fail, |f| f.write_eio) {
                disk.write_partly(self.id, offset, buffers);
                return Err(failed);
            }
            disk.write(self.id, offset, buffers)
        })
    }

    async fn sync(&self) -> Result<(), MediaError> {
        let _one_at_a_time = self.device.sync_gate.lock().await;
        self.device.takes(|l| l.sync).await;
        self.operate("sync", |disk| {
            if let Err(failed) = draw(disk, |f| &mut f.next_syncs_fail, |f| f.sync_eio) {
                disk.sync_failed(self.id);
                return Err(failed);
            }
            disk.sync(self.id);
            Ok(())
        })
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, MediaError> {
        self.device.takes(|l| l.read).await;
        self.operate("read", |disk| {
            draw(disk, |f| &mut f.next_reads_fail, |f| f.read_eio)?;
            disk.read(self.id, offset, len)
        })
    }

    async fn size(&self) -> Result<u64, MediaError> {
        self.operate("stat", |disk| disk.len_of(self.id))
    }

    async fn truncate(&self, len: u64) -> Result<(), MediaError> {
        self.operate("truncate", |disk| {
            disk.truncate(self.id, len);
            Ok(())
        })
    }

    async fn drop_cache(&self) {}

    fn wants_alignment(&self) -> bool {
        false
    }
}
