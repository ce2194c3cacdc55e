//! Proof that a contract on an Ethereum-like chain took an anchor: the exact bytes of a block header, the way
//! from its receipts root to one receipt, and optionally the way from its state root to what the contract
//! stored. Layout: docs/formats/evm-proof.md. No node is asked; the block hash is what must be believed.

use stele_types::wire::{FormatError, Reader};

use super::Anchored;
use super::rlp::{Item, RlpError, encode_number};
use super::trie::{NODES_MAX, TrieError, keccak256, value_at};
use crate::tree::Hash;

mod receipt;

const FORMAT: &str = "EVM proof";
pub(crate) const MAGIC: &[u8; 8] = b"STELEEVM";
const VERSION: u16 = 1;
/// The flag of a proof that has a state part.
const WITH_STATE: u16 = 1;
/// Largest header, bytes: consortium chains list their validators in it.
pub const HEADER_MAX: usize = 64 * 1024;
/// Largest node of a trie, bytes: the last one of a way holds a whole receipt.
pub const NODE_MAX: usize = 64 * 1024;
/// Largest proof, bytes.
pub const EVM_PROOF_MAX: usize = 256 * 1024;
/// The event of the contract; its Keccak-256 is the first topic.
pub const EVENT: &str = "Anchored(bytes32,uint64,uint64,bytes32,address)";

/// Address of an account or a contract.
pub type Address = [u8; 20];

/// Which chain, contract and sender: what an auditor pins, and what a proof says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    /// Number of the chain (EIP-155). No header has it: it follows from the block hash that is believed.
    pub chain_id: u64,
    /// The contract that emits the event.
    pub contract: Address,
    /// Who may anchor.
    pub sender: Address,
}

/// Where the contract keeps `rootAt[logId][size]`, and the nodes on the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateProof {
    /// Storage slot of the mapping.
    pub mapping_slot: u64,
    /// From the state root to the contract's account.
    pub account: Vec<Vec<u8>>,
    /// From the account's storage root to the value.
    pub storage: Vec<Vec<u8>>,
}

/// A proof, not yet verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvmProof {
    /// What it says of itself.
    pub pin: Pin,
    /// Place of the transaction in its block.
    pub transaction: u32,
    /// Place of the event among those of the receipt.
    pub log: u32,
    /// RLP of the header, exactly as it was hashed.
    pub header: Vec<u8>,
    /// From the receipts root to the receipt.
    pub receipt: Vec<Vec<u8>>,
    /// What the contract stored, if it stores.
    pub state: Option<StateProof>,
}

/// What a proof shows, if its block hash is a block of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvmAnchor {
    /// What must be believed.
    pub block_hash: Hash,
    /// Number of the block.
    pub number: u64,
    /// Time of the block, seconds since the Unix epoch.
    pub time: u64,
    /// What was anchored.
    pub anchored: Anchored,
    /// Whether the contract's storage shows it too.
    pub stored: bool,
}

/// Why a proof shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EvmError {
    /// It says of itself that it is of another chain, contract or sender.
    #[error("the proof is of another {0} than the one that is trusted")]
    Pin(&'static str),
    /// The header can't be read.
    #[error("the block header: {0}")]
    Header(RlpError),
    /// The receipt is not in the block.
    #[error("the receipt: {0}")]
    ReceiptProof(TrieError),
    /// The receipt can't be read.
    #[error("the receipt: {0}")]
    Receipt(RlpError),
    /// The transaction failed, so that its events don't count.
    #[error("the transaction failed")]
    Failed,
    /// The receipt has no such event.
    #[error("the receipt has no event at this place")]
    NoEvent,
    /// Another contract emitted the event.
    #[error("another contract emitted the event")]
    OtherContract,
    /// The event is another one, or malformed.
    #[error("the event is not {EVENT}")]
    OtherEvent,
    /// Somebody else anchored.
    #[error("another account than the trusted sender anchored this")]
    OtherSender,
    /// The log does not grow by it.
    #[error("the log does not grow by this anchor")]
    NotGrowing,
    /// The account is not in the state.
    #[error("the contract's account: {0}")]
    Account(TrieError),
    /// The value is not in the storage.
    #[error("the contract's storage: {0}")]
    Storage(TrieError),
    /// Account or value can't be read.
    #[error("the contract's account or storage: {0}")]
    State(RlpError),
    /// The contract stored another root than its event says.
    #[error("the contract stored another root than its event says")]
    OtherRoot,
}

impl EvmProof {
    /// The proof as a file.
    ///
    /// # Errors
    /// Something has more bytes or nodes than a proof may have.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let none = Reader::new(FORMAT, &[]);
        let flags = if self.state.is_some() { WITH_STATE } else { 0 };
        let mut out = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &flags.to_le_bytes()].concat();
        out.extend_from_slice(&self.pin.chain_id.to_le_bytes());
        out.extend_from_slice(&self.pin.contract);
        out.extend_from_slice(&self.pin.sender);
        out.extend_from_slice(&self.transaction.to_le_bytes());
        out.extend_from_slice(&self.log.to_le_bytes());
        none.require(self.header.len() <= HEADER_MAX, "a header that is too long")?;
        put(&mut out, &self.header);
        put_nodes(&mut out, &self.receipt)?;
        if let Some(state) = &self.state {
            out.extend_from_slice(&state.mapping_slot.to_le_bytes());
            put_nodes(&mut out, &state.account)?;
            put_nodes(&mut out, &state.storage)?;
        }
        none.require(out.len() <= EVM_PROOF_MAX, "a proof that is too long")?;
        Ok(out)
    }

    /// Reads a proof; whether it holds is for [`Self::verify`] to say.
    ///
    /// # Errors
    /// Another magic or version, bytes too few or too many, or lengths outside the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(FORMAT, bytes);
        reader.require(bytes.len() <= EVM_PROOF_MAX, "a proof that is too long")?;
        reader.magic(MAGIC)?;
        let version = reader.u16()?;
        if version != VERSION {
            return Err(FormatError::Version { format: FORMAT, found: u32::from(version) });
        }
        let flags = reader.u16()?;
        reader.require(flags & !WITH_STATE == 0, "unknown flags")?;
        let pin = Pin { chain_id: reader.u64()?, contract: reader.array()?, sender: reader.array()? };
        let (transaction, log) = (reader.u32()?, reader.u32()?);
        let header = block(&mut reader, HEADER_MAX)?;
        let receipt = nodes(&mut reader)?;
        let state = if flags & WITH_STATE == 0 {
            None
        } else {
            let mapping_slot = reader.u64()?;
            Some(StateProof { mapping_slot, account: nodes(&mut reader)?, storage: nodes(&mut reader)? })
        };
        reader.end()?;
        Ok(Self { pin, transaction, log, header, receipt, state })
    }

    /// What the proof shows under `pin`: the auditor's own, or [`Self::pin`] to look at it within itself.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn verify(&self, pin: &Pin) -> Result<EvmAnchor, EvmError> {
        for (what, differs) in [
            ("chain", self.pin.chain_id != pin.chain_id),
            ("contract", self.pin.contract != pin.contract),
            ("sender", self.pin.sender != pin.sender),
        ] {
            if differs {
                return Err(EvmError::Pin(what));
            }
        }
        let header = Header::decode(&self.header).map_err(EvmError::Header)?;
        let key = encode_number(u64::from(self.transaction));
        let receipt = value_at(&header.receipts_root, &key, &self.receipt).map_err(EvmError::ReceiptProof)?;
        let anchored = receipt::anchored(receipt, self.log, pin)?;
        if let Some(state) = &self.state {
            state.verify(&header.state_root, &pin.contract, &anchored)?;
        }
        Ok(EvmAnchor {
            block_hash: keccak256(&self.header),
            number: header.number,
            time: header.time,
            anchored,
            stored: self.state.is_some(),
        })
    }
}

/// The fields of a header that matter here.
struct Header {
    state_root: Hash,
    receipts_root: Hash,
    number: u64,
    time: u64,
}

impl Header {
    /// Forks append fields, so more of them than are known are in order. All belong to the hash.
    fn decode(bytes: &[u8]) -> Result<Self, RlpError> {
        let fields = Item::decode(bytes)?.items()?;
        if fields.count()? < 15 {
            return Err(RlpError);
        }
        Ok(Self {
            state_root: fields.nth(3)?.array()?,
            receipts_root: fields.nth(5)?.array()?,
            number: fields.nth(8)?.number()?,
            time: fields.nth(11)?.number()?,
        })
    }
}

impl StateProof {
    fn verify(&self, state_root: &Hash, contract: &Address, anchored: &Anchored) -> Result<(), EvmError> {
        let account = value_at(state_root, &keccak256(contract), &self.account).map_err(EvmError::Account)?;
        let storage_root = storage_root(account).map_err(EvmError::State)?;
        let slot = slot_of(anchored, self.mapping_slot);
        let value = value_at(&storage_root, &keccak256(&slot), &self.storage).map_err(EvmError::Storage)?;
        // Storage holds words without their leading zeros.
        let digits = Item::decode(value).and_then(Item::bytes).map_err(EvmError::State)?;
        let start = 32usize.checked_sub(digits.len()).ok_or(EvmError::State(RlpError))?;
        let (zeros, tail) = anchored.root.split_at_checked(start).ok_or(EvmError::State(RlpError))?;
        if zeros.iter().all(|byte| *byte == 0) && tail == digits && digits.first() != Some(&0) {
            Ok(())
        } else {
            Err(EvmError::OtherRoot)
        }
    }
}

fn storage_root(account: &[u8]) -> Result<Hash, RlpError> {
    let fields = Item::decode(account)?.items()?;
    if fields.count()? != 4 {
        return Err(RlpError);
    }
    fields.nth(2)?.array()
}

/// A number as Solidity pads it.
fn word(number: u64) -> Hash {
    let mut out = [0; 32];
    if let Some(tail) = out.last_chunk_mut() {
        *tail = number.to_be_bytes();
    }
    out
}

/// Where Solidity puts `rootAt[logId][size]` if the mapping has this slot.
fn slot_of(anchored: &Anchored, mapping_slot: u64) -> Hash {
    let inner = keccak256(&[anchored.log_id, word(mapping_slot)].concat());
    keccak256(&[word(anchored.size), inner].concat())
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[Vec<u8>]) -> Result<(), FormatError> {
    let none = Reader::new(FORMAT, &[]);
    none.require((1..=NODES_MAX).contains(&nodes.len()), "no nodes, or more than any way has")?;
    out.extend_from_slice(&u32::try_from(nodes.len()).unwrap_or(u32::MAX).to_le_bytes());
    for node in nodes {
        none.require(node.len() <= NODE_MAX, "a node that is too long")?;
        put(out, node);
    }
    Ok(())
}

fn block(reader: &mut Reader<'_>, max: usize) -> Result<Vec<u8>, FormatError> {
    let len = reader.u32()? as usize;
    reader.require(len <= max, "a part that is too long")?;
    Ok(reader.take(len)?.to_vec())
}

fn nodes(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, FormatError> {
    let count = reader.u32()? as usize;
    reader.require((1..=NODES_MAX).contains(&count), "no nodes, or more than any way has")?;
    (0..count).map(|_| block(reader, NODE_MAX)).collect()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
