//! One receipt, and in it the event by which the contract says that it took an anchor.

use super::{EVENT, EvmError, Pin};
use crate::chain::Anchored;
use crate::chain::rlp::{Item, Items, RlpError};
use crate::chain::trie::keccak256;
use crate::tree::Hash;

/// Most types that a transaction may have (EIP-2718); behind them RLP begins.
const TYPE_MAX: u8 = 0x7f;

/// What the event at this place of the receipt anchors.
pub(super) fn anchored(receipt: &[u8], log: u32, pin: &Pin) -> Result<Anchored, EvmError> {
    let log = event(receipt, log)?;
    if log.address != pin.contract {
        return Err(EvmError::OtherContract);
    }
    let [signature, log_id, by] = log.topics;
    if signature != keccak256(EVENT.as_bytes()) {
        return Err(EvmError::OtherEvent);
    }
    let (zeros, account) = by.split_at(12);
    if account != pin.sender || zeros.iter().any(|byte| *byte != 0) {
        return Err(EvmError::OtherSender);
    }
    let [previous, size, root] = words(log.data).ok_or(EvmError::OtherEvent)?;
    let (previous, size) = (number(&previous)?, number(&size)?);
    if previous >= size {
        return Err(EvmError::NotGrowing);
    }
    Ok(Anchored { log_id, previous, size, root })
}

struct Event<'a> {
    address: [u8; 20],
    topics: [Hash; 3],
    data: &'a [u8],
}

fn event(receipt: &[u8], log: u32) -> Result<Event<'_>, EvmError> {
    let body = match receipt.split_first() {
        Some((1..=TYPE_MAX, rest)) => rest,
        _ => receipt,
    };
    let (status, logs) = parts(body).map_err(EvmError::Receipt)?;
    if status != [1] {
        return Err(EvmError::Failed);
    }
    let count = logs.count().map_err(EvmError::Receipt)?;
    let at = usize::try_from(log).ok().filter(|at| *at < count).ok_or(EvmError::NoEvent)?;
    let mut fields = logs.nth(at).and_then(Item::items).map_err(EvmError::Receipt)?;
    let mut read = || -> Result<_, RlpError> {
        let (address, topics, data) = (fields.required()?.array()?, fields.required()?.items()?, fields.required()?);
        fields.end()?;
        Ok((address, topics, data.bytes()?))
    };
    let (address, topics, data) = read().map_err(EvmError::Receipt)?;
    Ok(Event { address, topics: three(topics)?, data })
}

/// Status and events. Older receipts have a root where the status is; they are refused as failed.
fn parts(body: &[u8]) -> Result<(&[u8], Items<'_>), RlpError> {
    let mut fields = Item::decode(body)?.items()?;
    let (status, _gas, _bloom) = (fields.required()?.bytes()?, fields.required()?, fields.required()?);
    let logs = fields.required()?.items()?;
    fields.end()?;
    Ok((status, logs))
}

fn three(mut topics: Items<'_>) -> Result<[Hash; 3], EvmError> {
    let mut next = || topics.required().and_then(Item::array).map_err(|_| EvmError::OtherEvent);
    let three = [next()?, next()?, next()?];
    topics.end().map_err(|_| EvmError::OtherEvent)?;
    Ok(three)
}

fn words(data: &[u8]) -> Option<[Hash; 3]> {
    let (words, rest) = data.as_chunks::<32>();
    if rest.is_empty() { words.try_into().ok() } else { None }
}

fn number(word: &Hash) -> Result<u64, EvmError> {
    let (zeros, digits) = word.split_last_chunk().ok_or(EvmError::OtherEvent)?;
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(EvmError::OtherEvent);
    }
    Ok(u64::from_be_bytes(*digits))
}
