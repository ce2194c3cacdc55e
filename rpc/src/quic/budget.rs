//! Memory for bytes being received. Whoever wants to receive waits until there is room, in order of
//! arrival; flow control holds the sender meanwhile.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Room for `bytes`; given back when dropped. `None` only if the budget was closed, which it is not.
    pub(super) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.total);
        Arc::clone(&self.units).acquire_many_owned(units).await.ok()
    }
}
