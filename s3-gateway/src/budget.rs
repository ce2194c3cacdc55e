//! I-9: one budget in bytes for everything the gateway buffers. Charge first, then buffer.
//!
//! PUT charges its whole working set at once and GET at least one chunk, so that nobody holds part
//! of the budget while waiting for more of it to make progress. Reconstruction, which needs several
//! times a chunk, has a reserve of its own, so that a degraded read can always finish.

use std::sync::Arc;
use std::time::Duration;

use stele_types::limits::{CHUNK_BYTES_MAX, MIB, SHARDS_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{GatewayError, StartError};

/// Smallest useful budget: one large PUT and one reconstruction.
pub(crate) const MEMORY_BYTES_MIN: u64 = 64 * MIB as u64;
/// Bytes one reconstruction may buffer: a typical chunk from every shard of a wide scheme.
const REBUILD_BYTES: usize = CHUNK_BYTES_MAX * SHARDS_MAX / 8;

/// Bytes that are accounted for until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    _permit: OwnedSemaphorePermit,
}

/// The gateway's memory.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
    total: usize,
    rebuilds: Arc<Semaphore>,
    wait: Duration,
}

impl Budget {
    pub(crate) fn new(memory_bytes: u64, wait: Duration) -> Result<Self, StartError> {
        if memory_bytes < MEMORY_BYTES_MIN {
            return Err(StartError::Config(format!("memory_bytes is {memory_bytes}; the least is {MEMORY_BYTES_MIN}")));
        }
        let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let rebuilds = (memory / 4 / REBUILD_BYTES).clamp(1, 16);
        let total = memory - rebuilds * REBUILD_BYTES;
        Ok(Self { bytes: Arc::new(Semaphore::new(total)), total, rebuilds: Arc::new(Semaphore::new(rebuilds)), wait })
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        (self.total - self.bytes.available_permits().min(self.total)) as u64
    }

    /// Charges `bytes` (no more than the whole budget), waiting for others to finish.
    ///
    /// # Errors
    /// `SlowDown` after the configured wait.
    pub(crate) async fn charge(&self, bytes: usize) -> Result<Charge, GatewayError> {
        let permits = self.permits(bytes);
        let acquire = Arc::clone(&self.bytes).acquire_many_owned(permits);
        match tokio::time::timeout(self.wait, acquire).await {
            Ok(Ok(permit)) => Ok(Charge { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(GatewayError::SlowDown { what: "the gateway's memory is in use" }),
        }
    }

    /// Charges `bytes` for something that may be left out, such as reading ahead: only while
    /// half of the budget stays free for those who must wait.
    pub(crate) fn charge_if_spare(&self, bytes: usize) -> Option<Charge> {
        if self.bytes.available_permits() < self.total / 2 + bytes {
            return None;
        }
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(self.permits(bytes)).ok()?;
        Some(Charge { _permit: permit })
    }

    /// Waits for a turn to reconstruct.
    pub(crate) async fn rebuild_turn(&self) -> Result<Charge, GatewayError> {
        match tokio::time::timeout(self.wait, Arc::clone(&self.rebuilds).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Charge { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(GatewayError::SlowDown { what: "too many reads need reconstruction" }),
        }
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.total)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_wait_then_get_slow_down_and_room_comes_back() {
        let budget = Budget::new(MEMORY_BYTES_MIN, Duration::from_secs(1)).unwrap();
        let all = budget.charge(usize::MAX).await.unwrap();
        assert!(budget.charge_if_spare(1).is_none());
        assert!(matches!(budget.charge(1).await, Err(GatewayError::SlowDown { .. })));
        drop(all);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.charge_if_spare(MIB).is_some());
        assert!(budget.charge(1).await.is_ok());
    }

    #[test]
    fn a_tiny_budget_is_refused() {
        assert!(matches!(Budget::new(1, Duration::ZERO), Err(StartError::Config(_))));
    }
}
