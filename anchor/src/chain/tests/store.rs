//! A store in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::meta::TreeHead;

use crate::chain::state::STATE_BYTES_MAX;
use crate::chain::store::{ChainStore, StoreError};

#[derive(Debug, Default)]
struct Rows {
    row: Option<(u64, Bytes)>,
    proofs: BTreeMap<u64, (TreeHead, Bytes)>,
}

/// Clones share their rows, as anchors share the metadata service.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryStore(Arc<Mutex<Rows>>);

impl MemoryStore {
    /// Kept proofs, by size.
    pub(crate) fn proofs(&self) -> Vec<(TreeHead, Bytes)> {
        self.0.lock().unwrap().proofs.values().cloned().collect()
    }

    pub(crate) fn sizes(&self) -> Vec<u64> {
        self.proofs().iter().map(|(head, _)| head.size).collect()
    }
}

#[async_trait]
impl ChainStore for MemoryStore {
    async fn load(&self) -> Result<Option<(u64, Bytes)>, StoreError> {
        Ok(self.0.lock().unwrap().row.clone())
    }

    async fn save(&self, expected: u64, row: Bytes) -> Result<u64, StoreError> {
        assert!(row.len() <= STATE_BYTES_MAX);
        let mut rows = self.0.lock().unwrap();
        if rows.row.as_ref().map_or(0, |(sequence, _)| *sequence) != expected {
            return Err(StoreError::Stale);
        }
        rows.row = Some((expected + 1, row));
        Ok(expected + 1)
    }

    async fn keep(&self, head: TreeHead, proof: Bytes) -> Result<(), StoreError> {
        let mut rows = self.0.lock().unwrap();
        let before = rows.proofs.insert(head.size, (head, proof));
        assert!(before.is_none_or(|(before, _)| before == head), "two roots for size {}", head.size);
        Ok(())
    }
}
