//! What the loops of one drive share: index, open files, health, counters.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use stele_types::segment::SegmentNumber;

use super::health::HealthCell;
use super::index::Index;
use crate::config::DriveConfig;
use crate::identity::DriveIdentity;
use crate::media::{Media, MediaError, MediaFile};
use crate::metrics::Metrics;

/// Segment files kept open per drive.
const OPEN_FILES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: DriveIdentity,
    /// The directory, for people.
    pub(crate) name: String,
    pub(crate) media: Arc<dyn Media>,
    pub(crate) config: DriveConfig,
    pub(crate) health: HealthCell,
    pub(crate) metrics: Metrics,
    /// Size of the file system when last asked, bytes.
    pub(crate) total_bytes: AtomicU64,
    index: RwLock<Index>,
    files: Mutex<OpenFiles>,
}

#[derive(Debug, Default)]
struct OpenFiles {
    tick: u64,
    files: BTreeMap<SegmentNumber, (u64, Arc<dyn MediaFile>)>,
}

/// Name of a segment's file.
pub(crate) fn segment_name(number: SegmentNumber) -> String {
    format!("seg-{:010}", number.0)
}

/// Name of the summary of a closed segment.
pub(crate) fn summary_name(number: SegmentNumber) -> String {
    format!("sum-{:010}", number.0)
}

/// The number in a file's name; `None` if it is no such name.
pub(crate) fn number_in(name: &str, prefix: &str) -> Option<SegmentNumber> {
    let digits = name.strip_prefix(prefix)?;
    let plain = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(SegmentNumber)).flatten()
}

impl Shared {
    pub(crate) fn new(
        identity: DriveIdentity,
        media: Arc<dyn Media>,
        config: DriveConfig,
        metrics: Metrics,
        (index, health): (Index, HealthCell),
    ) -> Self {
        Self {
            identity,
            name: media.name(),
            media,
            config,
            health,
            metrics,
            total_bytes: AtomicU64::new(0),
            index: RwLock::new(index),
            files: Mutex::new(OpenFiles::default()),
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open segment file, opened now if it is not.
    pub(crate) async fn file(&self, number: SegmentNumber) -> Result<Arc<dyn MediaFile>, MediaError> {
        if let Some(file) = self.open_file(number) {
            return Ok(file);
        }
        let file = self.media.open(&segment_name(number)).await?;
        self.keep_open(number, &file);
        Ok(file)
    }

    fn open_file(&self, number: SegmentNumber) -> Option<Arc<dyn MediaFile>> {
        let mut open = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        open.tick += 1;
        let tick = open.tick;
        let (used, file) = open.files.get_mut(&number)?;
        *used = tick;
        Some(Arc::clone(file))
    }

    /// Keeps a file open; the one used longest ago makes room.
    pub(crate) fn keep_open(&self, number: SegmentNumber, file: &Arc<dyn MediaFile>) {
        let mut open = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        open.tick += 1;
        let tick = open.tick;
        open.files.insert(number, (tick, Arc::clone(file)));
        if open.files.len() > OPEN_FILES_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (used, _))| *used).map(|(number, _)| *number);
            if let Some(oldest) = oldest {
                open.files.remove(&oldest);
            }
        }
    }

    /// Closes a file once nobody reads it.
    pub(crate) fn let_go(&self, number: SegmentNumber) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).files.remove(&number);
    }

    /// A failed read or sync: the drive takes no more writes.
    pub(crate) fn io_error(&self, error: &MediaError) {
        tracing::error!(drive = %self.name, %error, "IO error: the drive is suspect and takes no more writes; replace it");
        self.health.suspect(&error.to_string());
    }
}
