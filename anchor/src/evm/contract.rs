//! The contract of `anchor/contract/SteleAnchor.sol`: its calls, event, errors and storage. All arguments are words
//! of 32 bytes, so no general encoder is needed.

use alloy_primitives::{Address, B256, U256, keccak256};

use crate::chain::state::{Growth, Hash};
use stele_rpc::meta::TreeHead;

/// What the compiler made of it, in hexadecimal; a test compiles it again.
const CODE: &str = include_str!("../../contract/SteleAnchor.hex");

/// The code that a transaction carries to put the contract onto a chain.
pub fn creation_code() -> Vec<u8> {
    hex::decode(CODE.trim()).unwrap_or_default()
}

fn word(number: u64) -> [u8; 32] {
    U256::from(number).to_be_bytes()
}

fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}

fn call(signature: &str, words: &[[u8; 32]]) -> Vec<u8> {
    let mut bytes = selector(signature).to_vec();
    bytes.extend(words.iter().flatten());
    bytes
}

/// The call that anchors.
pub fn anchor_call(log_id: Hash, growth: Growth) -> Vec<u8> {
    let Growth { previous, head } = growth;
    call("anchor(bytes32,uint64,uint64,bytes32)", &[log_id, word(previous), word(head.size), head.root])
}

/// The call that reads who owns a log, and its newest size.
pub fn head_call(log_id: Hash) -> Vec<u8> {
    call("head(bytes32)", &[log_id])
}

/// The call that reads the root at a size.
pub fn root_call(log_id: Hash, size: u64) -> Vec<u8> {
    call("rootAt(bytes32,uint64)", &[log_id, word(size)])
}

/// What [`head_call`] answers: owner, newest size.
pub fn decode_head(bytes: &[u8]) -> Option<(Address, u64)> {
    let [owner, size] = bytes.as_chunks::<32>().0 else { return None };
    if bytes.len() != 64 || owner.get(..12)? != [0; 12] {
        return None;
    }
    let size = U256::from_be_bytes(*size).try_into().ok()?;
    Some((Address::from_slice(owner.get(12..)?), size))
}

/// First topic of the event.
pub fn event_topic() -> B256 {
    keccak256("Anchored(bytes32,uint64,uint64,bytes32,address)")
}

/// All topics of the event of a log by an account.
pub fn event_topics(log_id: Hash, by: Address) -> [B256; 3] {
    [event_topic(), log_id.into(), by.into_word()]
}

/// The event's data: previous size, size, root.
pub fn decode_event(data: &[u8]) -> Option<Growth> {
    let [previous, size, root] = data.as_chunks::<32>().0 else { return None };
    if data.len() != 96 {
        return None;
    }
    let number = |word: &[u8; 32]| U256::from_be_bytes(*word).try_into().ok();
    Some(Growth { previous: number(previous)?, head: TreeHead { size: number(size)?, root: *root } })
}

/// Why the contract refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reverted {
    /// Another account owns the log.
    NotOwner(Address),
    /// Another size was anchored last.
    Stale(u64),
    /// The size does not grow.
    NotGrowing,
}

/// What the contract said; `None`: nothing of its own.
pub fn decode_error(data: &[u8]) -> Option<Reverted> {
    let (found, rest) = data.split_first_chunk::<4>()?;
    let number = || Some(U256::from_be_slice(rest.get(..32)?));
    if *found == selector("NotOwner(address)") {
        return Some(Reverted::NotOwner(Address::from_word(number()?.into())));
    }
    if *found == selector("Stale(uint64)") {
        return Some(Reverted::Stale(number()?.try_into().ok()?));
    }
    (*found == selector("NotGrowing()")).then_some(Reverted::NotGrowing)
}

/// Slot of the mapping `rootAt`.
pub const ROOT_MAPPING_SLOT: u64 = 0;

/// Where the root at a size is stored.
pub fn root_slot(log_id: Hash, size: u64) -> B256 {
    let outer = keccak256([log_id, word(ROOT_MAPPING_SLOT)].concat());
    keccak256([word(size), outer.0].concat())
}
