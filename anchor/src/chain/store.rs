//! Where a chain's memory and its proofs are kept. The metadata service is the real one.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::meta::TreeHead;

/// Why nothing was kept, as far as is known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another anchor replaced the row in between.
    #[error("another anchor changed the row in between")]
    Stale,
    /// It may have been kept all the same.
    #[error("the row could not be kept: {0}")]
    Failed(String),
}

/// One chain's row and proofs.
#[async_trait]
pub trait ChainStore: Send + Sync + fmt::Debug {
    /// The row and its sequence; `None` if there is none yet, which counts as sequence 0. Never an older row than one
    /// that a [`Self::save`] was told is kept.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    async fn load(&self) -> Result<Option<(u64, Bytes)>, StoreError>;

    /// Replaces the row if its sequence is still `expected`, and returns the new sequence. At most
    /// [`super::state::STATE_BYTES_MAX`] bytes.
    ///
    /// # Durability
    /// Ok: the row survives the loss of any minority of the metadata.
    ///
    /// # Errors
    /// [`StoreError::Stale`]: not replaced. [`StoreError::Failed`]: unknown; load again.
    async fn save(&self, expected: u64, row: Bytes) -> Result<u64, StoreError>;

    /// Keeps the proof that a checkpoint is anchored. The same checkpoint may come again, after a crash.
    ///
    /// # Durability
    /// As [`Self::save`].
    ///
    /// # Errors
    /// [`StoreError::Failed`]: unknown; it comes again.
    async fn keep(&self, head: TreeHead, proof: Bytes) -> Result<(), StoreError>;
}
