//! The embedded chain: an append-only file of signed, linked blocks in the anchor's own directory. Its rules and its
//! format are [`stele_evidence::chain::ledger`]'s; here is the file. Layout: docs/formats/ledger.md.
//!
//! Nothing of it is pending: a block is in the file and final, or it does not exist.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use stele_evidence::chain::Anchored;
use stele_evidence::chain::ledger::{Block, LedgerKey, LedgerState, ProposeError};
use stele_evidence::keys::Signer;
use stele_rpc::meta::TreeHead;
use stele_types::seam::Clock;

use crate::chain::backend::{Chain, ChainError, Terms};
use crate::chain::state::{Candidate, Growth, Hash, Intent};
use crate::chain::view::{Fate, View};

pub mod file;
#[cfg(test)]
mod tests;

use file::{LedgerFile, LedgerFileError};

struct Open {
    state: LedgerState,
    file: LedgerFile,
}

/// A ledger that takes the anchors of one log. Clones share the file.
#[derive(Clone)]
pub struct Ledger {
    open: Arc<Mutex<Open>>,
    signer: Arc<dyn Signer + Send + Sync>,
    clock: Arc<dyn Clock>,
    log_id: Hash,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("key", &self.signer.vkey().to_string()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Opens the ledger at `path`, or makes an empty one, and reads every block of it.
    ///
    /// # Errors
    /// The signer has no ledger's key; the file is in use, damaged, or another key's.
    pub fn open(
        path: &Path,
        signer: Arc<dyn Signer + Send + Sync>,
        clock: Arc<dyn Clock>,
        log_id: Hash,
    ) -> Result<Self, LedgerFileError> {
        let key = LedgerKey::new(signer.vkey().clone()).map_err(|error| LedgerFileError::Key(error.to_string()))?;
        let (file, state) = LedgerFile::open(path, key)?;
        Ok(Self { open: Arc::new(Mutex::new(Open { state, file })), signer, clock, log_id })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Whoever panicked with the lock had not changed the state: that comes last.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, ChainError> + Send + 'static,
    ) -> Result<T, ChainError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.unwrap_or_else(|error| Err(ChainError::Broken(format!("the ledger's task ended: {error}"))))
    }

    fn block_of(candidate: &Candidate) -> Result<Block, ChainError> {
        Block::decode(&candidate.raw).map_err(|error| ChainError::Broken(format!("the intent's block: {error}")))
    }

    /// Newest block of the log, if it anchors `head`.
    fn newest(&self, head: TreeHead) -> Result<Option<Block>, ChainError> {
        let open = self.lock();
        let Some(last) = open.state.last(&self.log_id) else { return Ok(None) };
        if (last.size, last.root) != (head.size, head.root) {
            return Ok(None);
        }
        open.file.read(last.height).map(Some).map_err(broken)
    }

    /// Appends a block that is the next one; any other is not for this ledger any more.
    fn append(&self, block: &Block) -> Result<(), ChainError> {
        let mut open = self.lock();
        if block.height != open.state.height() {
            return Ok(());
        }
        let mut next = open.state.clone();
        next.take(block).map_err(|error| ChainError::Overtaken(error.to_string()))?;
        open.file.append(block).map_err(broken)?;
        open.state = next;
        Ok(())
    }
}

fn broken(error: LedgerFileError) -> ChainError {
    ChainError::Broken(error.to_string())
}

#[async_trait]
impl Chain for Ledger {
    fn place(&self) -> String {
        format!("ledger:{}:{}", self.signer.vkey(), hex::encode(self.log_id))
    }

    async fn look(&self, intent: Option<&Intent>) -> Result<View, ChainError> {
        let candidates = intent.map(|intent| intent.candidates.clone()).unwrap_or_default();
        self.blocking(move |this| {
            let open = this.lock();
            let height = open.state.height();
            let fate = |candidate: &Candidate| {
                let block = Self::block_of(candidate)?;
                let there = block.height < height && open.file.read(block.height).map_err(broken)? == block;
                let fate = Fate::Included { height: block.height, took_effect: true, is_final: true };
                Ok(if there { fate } else { Fate::Unknown })
            };
            let fates = candidates.iter().map(fate).collect::<Result<_, ChainError>>()?;
            let last = open.state.last(&this.log_id);
            let anchored = last.map(|last| TreeHead { size: last.size, root: last.root });
            Ok(View { height, anchored, nonce: height, final_nonce: height, fates, price: None })
        })
        .await
    }

    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError> {
        let Growth { previous, head: TreeHead { size, root } } = growth;
        let anchored = Anchored { log_id: self.log_id, previous, size, root };
        let open = self.lock();
        let height = open.state.height();
        if terms.nonce != height {
            return Err(ChainError::Overtaken(format!("the next block has height {height}")));
        }
        let proposed = open.state.propose(self.signer.as_ref(), anchored, self.clock.unix_millis());
        let block = proposed.map_err(|error| match error {
            ProposeError::Refused(_) => ChainError::Overtaken(error.to_string()),
            ProposeError::OtherSigner | ProposeError::Signer(_) => ChainError::Broken(error.to_string()),
        })?;
        let raw = Bytes::copy_from_slice(block.as_bytes());
        Ok(Candidate { id: block.hash(), raw, fee: None, gas: 0, height })
    }

    async fn send(&self, candidate: &Candidate) -> Result<(), ChainError> {
        let block = Self::block_of(candidate)?;
        self.blocking(move |this| this.append(&block)).await
    }

    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError> {
        self.blocking(move |this| Ok(this.newest(head)?.map(|block| (block.hash(), block.height)))).await
    }

    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        let block = self.blocking(move |this| this.newest(head)).await?;
        let lost = || ChainError::Broken(format!("the ledger's newest block is not the one of size {}", head.size));
        let block = block.filter(|block| block.hash() == id).ok_or_else(lost)?;
        Ok(Bytes::copy_from_slice(block.as_bytes()))
    }
}
