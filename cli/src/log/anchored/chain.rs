//! Anchors on an Ethereum-like chain, through nodes that the auditor names.

use std::time::Duration;

use stele_anchor::evm::history::{History, Position};
use stele_anchor::evm::reader::Event;
use stele_anchor::evm::rpc::Rpc;
use stele_evidence::chain::evm::Pin;
use stele_evidence::chain::log_id;
use stele_evidence::proof::Head;

use super::{Look, Next};
use crate::log::sighting::{Found, Recorded, Sighting};
use crate::log::state::Memory;

/// For one question to a node.
const NODE_TIMEOUT: Duration = Duration::from_secs(20);
/// So many blocks without an anchor are read again after a restart rather than noted one by one.
const UNNOTED_BLOCKS: u64 = 5_000;

/// One chain.
pub(in crate::log) struct ChainSource {
    pub(super) name: String,
    pin: Pin,
    urls: Vec<String>,
    /// Which chain, contract and account.
    place: String,
    position: Position,
    /// First block that is not noted as read.
    noted: u64,
}

impl ChainSource {
    pub(super) fn new(name: &str, pin: Pin, (urls, from): (Vec<String>, Option<u64>), memory: &Memory) -> Self {
        let Pin { chain_id, contract, sender } = pin;
        let place = format!("evm:{chain_id}:0x{}:0x{}", hex::encode(contract), hex::encode(sender));
        let begin = from.map_or(Position { next: 0, size: Some(0) }, |next| Position { next, size: None });
        let position = memory.positions.get(&place).copied().unwrap_or(begin);
        Self { name: name.to_owned(), pin, urls, place, position, noted: position.next }
    }

    fn history(&self, origin: &str) -> anyhow::Result<History> {
        Ok(History::new(Rpc::new(&self.urls, NODE_TIMEOUT)?, self.pin, log_id(origin)))
    }

    pub(super) async fn look(&self, origin: &str) -> anyhow::Result<Look> {
        let history = self.history(origin)?;
        let look = history.look(self.position).await?;
        let host = history.host();
        let sighting = |event: &Event| {
            let head = event.growth.head;
            let (id, block) = (hex::encode(event.transaction), event.height);
            let place = format!("chain {} (block {block}, transaction 0x{id}, as {host} says)", self.name);
            let what = event.transaction.to_vec();
            let found = Recorded { chain: self.place.clone(), block, what, proof: Err(*event) };
            Sighting { head: Head { size: head.size, root: head.root }, place, found: Found::Anchor(found) }
        };
        let sightings = look.events.iter().map(sighting).collect();
        Ok(Look { sightings, next: Next::Chain(look.position), more: look.more, rewritten: None })
    }

    pub(super) fn settle(&mut self, position: Position, found: bool) -> Option<(String, Position)> {
        self.position = position;
        let worth = found || position.next.saturating_sub(self.noted) >= UNNOTED_BLOCKS;
        worth.then(|| {
            self.noted = position.next;
            (self.place.clone(), position)
        })
    }

    pub(super) async fn prove(&self, origin: &str, event: Event) -> anyhow::Result<(String, Vec<u8>)> {
        let (proof, bytes) = self.history(origin)?.prove(event).await?;
        let hash = hex::encode(proof.verify(&self.pin)?.block_hash);
        let words = format!(
            "All of it hangs on the hash of block {}, 0x{hash}: look it up on a node of your own or two explorers.",
            event.height
        );
        Ok((words, bytes))
    }
}
