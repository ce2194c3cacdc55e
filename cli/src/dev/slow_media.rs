//! For benchmarks only: a drive whose syncs take longer, standing in for a slower device.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_storage_node::media::{Media, MediaError, MediaFile, Space};

/// A medium that adds a pause to every sync of a file.
#[derive(Debug)]
pub(crate) struct SlowMedia {
    pub(crate) inner: Arc<dyn Media>,
    pub(crate) sync_latency: Duration,
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn MediaFile>,
    sync_latency: Duration,
}

impl SlowMedia {
    fn wrap(&self, inner: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        Arc::new(SlowFile { inner, sync_latency: self.sync_latency })
    }
}

#[async_trait]
impl MediaFile for SlowFile {
    async fn allocate(&self, offset: u64, len: u64) -> Result<(), MediaError> {
        self.inner.allocate(offset, len).await
    }

    async fn write_at(&self, offset: u64, buffers: &[Bytes]) -> Result<(), MediaError> {
        self.inner.write_at(offset, buffers).await
    }

    async fn sync(&self) -> Result<(), MediaError> {
        self.inner.sync().await?;
        tokio::time::sleep(self.sync_latency).await;
        Ok(())
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, MediaError> {
        self.inner.read_at(offset, len).await
    }

    async fn size(&self) -> Result<u64, MediaError> {
        self.inner.size().await
    }

    async fn truncate(&self, len: u64) -> Result<(), MediaError> {
        self.inner.truncate(len).await
    }

    async fn drop_cache(&self) {
        self.inner.drop_cache().await;
    }

    fn wants_alignment(&self) -> bool {
        self.inner.wants_alignment()
    }
}

#[async_trait]
impl Media for SlowMedia {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn lock(&self) -> Result<(), MediaError> {
        self.inner.lock().await
    }

    async fn unlock(&self) {
        self.inner.unlock().await;
    }

    async fn list(&self) -> Result<Vec<String>, MediaError> {
        self.inner.list().await
    }

    async fn create(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError> {
        Ok(self.wrap(self.inner.create(name).await?))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn MediaFile>, MediaError> {
        Ok(self.wrap(self.inner.open(name).await?))
    }

    async fn remove(&self, name: &str) -> Result<(), MediaError> {
        self.inner.remove(name).await
    }

    async fn sync_dir(&self) -> Result<(), MediaError> {
        self.inner.sync_dir().await
    }

    async fn read_whole(&self, name: &str, max: usize) -> Result<Option<Bytes>, MediaError> {
        self.inner.read_whole(name, max).await
    }

    async fn replace(&self, name: &str, content: Bytes) -> Result<(), MediaError> {
        self.inner.replace(name, content).await
    }

    async fn space(&self) -> Result<Space, MediaError> {
        self.inner.space().await
    }
}
