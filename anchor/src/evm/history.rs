//! All anchors of a log on a chain, in order, for somebody who watches it with a node of his own choice. What a node
//! leaves out shows: every anchor names the size before it, and the contract keeps the newest.

use stele_evidence::chain::evm::{EvmProof, Pin};

use super::backend::Finality;
use super::reader::{EVENTS_BLOCKS, Event, Reader};
use super::receipt::Expected;
use super::rpc::Rpc;
use crate::chain::backend::ChainError;
use crate::chain::state::{Growth, Hash};

/// Blocks under the newest that are left for later where a node does not know which are final.
pub const UNSETTLED_BLOCKS: u64 = 64;
/// Questions for events in one look; a longer chain takes several.
pub const QUESTIONS_MAX: u32 = 2_000;

/// The anchors that one account made of one log.
#[derive(Debug)]
pub struct History {
    reader: Reader,
}

/// How far a chain was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// First block that was not read.
    pub next: u64,
    /// Size anchored last in the blocks before; `None`: not known, as reading began at a later block.
    pub size: Option<u64>,
}

/// What a look brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    /// Ascending. All were anchored behind the position, or in the last block before it.
    pub events: Vec<Event>,
    /// Where the next look begins, once all events are dealt with.
    pub position: Position,
    /// There are final blocks behind the position.
    pub more: bool,
}

impl History {
    /// Nothing is asked yet. `log_id`: [`stele_evidence::chain::log_id`] of the log's origin.
    pub fn new(rpc: Rpc, pin: Pin, log_id: Hash) -> Self {
        let expected = Expected { contract: pin.contract.into(), log_id, by: pin.sender.into() };
        Self { reader: Reader { rpc, chain: pin.chain_id, expected } }
    }

    /// Host of the node that is asked now.
    pub fn host(&self) -> String {
        self.reader.rpc.host()
    }

    /// Reads the final blocks behind `from`, so many questions at most as [`QUESTIONS_MAX`] says.
    ///
    /// # Errors
    /// [`ChainError`]: in particular the node is of another chain, there is no such contract, the log is another
    /// account's there, or the node left anchors out.
    pub async fn look(&self, from: Position) -> Result<Look, ChainError> {
        self.reader.check_chain().await?;
        let newest = self.reader.newest().await?.height;
        let Some(last) = self.settled(newest).await? else {
            return Ok(Look { events: Vec::new(), position: from, more: false });
        };
        let owned = match self.reader.owned(last).await {
            // It may be so new that its own block is not final.
            Err(ChainError::NoContract { .. }) if last < newest => {
                self.reader.owned(newest).await?;
                None
            }
            owned => owned?,
        };
        if let Some((owner, _)) = owned.filter(|(owner, _)| *owner != self.reader.expected.by) {
            let account = self.reader.expected.by.to_string();
            return Err(ChainError::NotOwner { owner: owner.to_string(), account });
        }
        let mut look = Look { events: Vec::new(), position: from, more: false };
        let mut blocks = EVENTS_BLOCKS;
        for _ in 0..QUESTIONS_MAX {
            let first = look.position.next;
            if first > last {
                break;
            }
            let to = last.min(first.saturating_add(blocks - 1));
            match self.reader.events(first, to).await {
                Ok(found) => {
                    self.follow(&found, &mut look)?;
                    look.position.next = to.saturating_add(1);
                }
                // Nodes differ in how many blocks they answer for at once.
                Err(ChainError::Refused { .. }) if blocks > 1 => blocks = (blocks / 4).max(1),
                Err(error) => return Err(error),
            }
        }
        look.more = look.position.next <= last;
        if !look.more {
            self.complete(&look, owned.map(|(_, head)| head))?;
        }
        Ok(look)
    }

    /// Height of the newest block that stays.
    async fn settled(&self, newest: u64) -> Result<Option<u64>, ChainError> {
        match self.reader.final_height(Finality::Finalized, newest).await {
            Ok(Some(height)) => Ok(Some(height)),
            Ok(None) | Err(ChainError::Refused { .. } | ChainError::Unsupported { .. }) => {
                self.reader.final_height(Finality::Depth(UNSETTLED_BLOCKS), newest).await
            }
            Err(error) => Err(error),
        }
    }

    /// Each anchor begins where the one before ended: the contract takes no other.
    fn follow(&self, found: &[Event], look: &mut Look) -> Result<(), ChainError> {
        for event in found {
            let Growth { previous, head } = event.growth;
            if let Some(size) = look.position.size.filter(|size| *size != previous) {
                let height = event.height;
                return Err(self.reader.rpc.lying(format!(
                    "the anchor in block {height} follows one of size {previous}, and the one before it has size {size}: \
                     anchors are left out"
                )));
            }
            if head.size <= previous {
                return Err(self.reader.rpc.lying(format!("the anchor in block {} does not grow", event.height)));
            }
            look.position.size = Some(head.size);
            look.events.push(*event);
        }
        Ok(())
    }

    /// The contract keeps the newest anchor.
    fn complete(&self, look: &Look, newest: Option<stele_rpc::meta::TreeHead>) -> Result<(), ChainError> {
        let Some(read) = look.position.size else { return Ok(()) };
        let size = newest.map_or(0, |head| head.size);
        if size != read {
            return Err(self.reader.rpc.lying(format!(
                "by the contract size {size} was anchored last, and by its events size {read}: anchors are left out, or the \
                 chain took some back"
            )));
        }
        let event = look.events.last().map(|event| event.growth.head);
        if event.zip(newest).is_some_and(|(event, newest)| event.root != newest.root) {
            return Err(self.reader.rpc.lying(format!("contract and event have different roots for size {size}")));
        }
        Ok(())
    }

    /// Takes the proof of an anchor: what is left to believe then is the block's hash.
    ///
    /// # Errors
    /// [`ChainError::Lying`]: the node told of an event that its block does not hold.
    pub async fn prove(&self, event: Event) -> Result<(EvmProof, Vec<u8>), ChainError> {
        let bytes = self.reader.prove(event.growth.head, event.transaction).await?;
        let proof = EvmProof::decode(&bytes).map_err(|error| self.reader.rpc.lying(error.to_string()))?;
        Ok((proof, bytes.to_vec()))
    }
}
