//! Anchors in a copy of an embedded ledger, or in the anchor's own file while that is written.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use stele_evidence::chain::ledger::{BLOCK_LEN, Block, LedgerError, LedgerKey, LedgerState};
use stele_evidence::chain::log_id;
use stele_evidence::proof::Head;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{Look, Next};
use crate::log::sighting::{Found, Recorded, Sighting};
use crate::log::state::Memory;

/// Blocks that one look takes; a longer ledger takes several.
const BLOCKS_MAX: usize = 65_536;

/// One ledger.
pub(in crate::log) struct LedgerSource {
    pub(super) name: String,
    path: PathBuf,
    key: LedgerKey,
    /// Which key.
    place: String,
    /// The blocks that were dealt with since this program began.
    state: LedgerState,
    /// Blocks that were seen, by height.
    remembered: BTreeMap<u64, Vec<u8>>,
}

impl LedgerSource {
    pub(super) fn new(name: &str, key: LedgerKey, path: PathBuf, memory: &Memory) -> Self {
        let place = format!("ledger:{}", key.vkey());
        let mine = memory.anchors.iter().filter(|((chain, ..), _)| *chain == place);
        let remembered = mine.map(|((_, block, _), what)| (*block, what.clone())).collect();
        Self { name: name.to_owned(), path, state: LedgerState::new(key.clone()), key, place, remembered }
    }

    /// The blocks behind those that were dealt with. One that is being written now is left for later.
    async fn read(&self) -> anyhow::Result<(Vec<u8>, u64)> {
        let mut file = tokio::fs::File::open(&self.path).await?;
        let blocks = file.metadata().await?.len() / BLOCK_LEN as u64;
        file.seek(SeekFrom::Start(self.state.height().saturating_mul(BLOCK_LEN as u64))).await?;
        let count = usize::try_from(blocks.saturating_sub(self.state.height())).unwrap_or(BLOCKS_MAX).min(BLOCKS_MAX);
        let mut bytes = vec![0; count * BLOCK_LEN];
        file.read_exact(&mut bytes).await?;
        Ok((bytes, blocks))
    }

    pub(super) async fn look(&self, origin: &str) -> anyhow::Result<Look> {
        let (bytes, blocks) = self.read().await.with_context(|| format!("reading {}", self.path.display()))?;
        let id = log_id(origin);
        let last = self.remembered.last_key_value().map_or(0, |(height, _)| height + 1).max(self.state.height());
        ensure!(blocks >= last, "{} has {blocks} blocks, and had {last}: it was cut", self.path.display());
        let (mut state, mut sightings, mut rewritten) = (self.state.clone(), Vec::new(), None);
        for bytes in bytes.chunks_exact(BLOCK_LEN) {
            let height = state.height();
            let block = Block::decode(bytes).map_err(|error| LedgerError { height, fault: error.into() })?;
            if self.remembered.get(&height).is_some_and(|seen| seen != bytes) && self.key.check(&block).is_ok() {
                rewritten = Some((format!("block {height} of the ledger {}", self.name), bytes.to_vec()));
                break;
            }
            state.take(&block)?;
            if block.anchored.log_id != id {
                continue;
            }
            let head = Head { size: block.anchored.size, root: block.anchored.root };
            let place = format!("ledger {} (block {height})", self.name);
            let (chain, what) = (self.place.clone(), bytes.to_vec());
            let recorded = Recorded { chain, block: height, proof: Ok(what.clone()), what };
            sightings.push(Sighting { head, place, found: Found::Anchor(recorded) });
        }
        let more = state.height() < blocks;
        Ok(Look { sightings, next: Next::Ledger(Box::new(state)), more, rewritten })
    }

    pub(super) fn settle(&mut self, state: LedgerState) {
        self.state = state;
    }
}
