//! Block headers, as the bytes that their hash covers. Nodes answer with fields; where they don't give the bytes,
//! these are put together again, and count only if their hash is the block's.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Encodable as _, Header as RlpHeader, PayloadView};
use serde_json::{Value, json};

use super::answer::{Fields, Malformed, data};
use super::rpc::Rpc;
use crate::chain::backend::ChainError;

/// Longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

#[derive(Clone, Copy)]
enum Kind {
    Bytes,
    Number,
}

/// The fields of every header, in their order.
const FIELDS: [(&str, Kind); 15] = [
    ("parentHash", Kind::Bytes),
    ("sha3Uncles", Kind::Bytes),
    ("miner", Kind::Bytes),
    ("stateRoot", Kind::Bytes),
    ("transactionsRoot", Kind::Bytes),
    ("receiptsRoot", Kind::Bytes),
    ("logsBloom", Kind::Bytes),
    ("difficulty", Kind::Number),
    ("number", Kind::Number),
    ("gasLimit", Kind::Number),
    ("gasUsed", Kind::Number),
    ("timestamp", Kind::Number),
    ("extraData", Kind::Bytes),
    ("mixHash", Kind::Bytes),
    ("nonce", Kind::Bytes),
];

/// What forks added, in their order; a header has the first so many of them.
const LATER: [(&str, Kind); 8] = [
    ("baseFeePerGas", Kind::Number),
    ("withdrawalsRoot", Kind::Bytes),
    ("blobGasUsed", Kind::Number),
    ("excessBlobGas", Kind::Number),
    ("parentBeaconBlockRoot", Kind::Bytes),
    ("requestsHash", Kind::Bytes),
    ("blockAccessListHash", Kind::Bytes),
    ("slotNumber", Kind::Number),
];

/// An RLP list of items that are encoded already.
pub(super) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload_length = items.iter().map(Vec::len).sum();
    let mut out = Vec::with_capacity(payload_length + 9);
    RlpHeader { list: true, payload_length }.encode(&mut out);
    out.extend(items.iter().flatten());
    out
}

/// An RLP string.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    alloy_rlp::encode(bytes)
}

/// An RLP number.
pub(super) fn number(value: u128) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// A header whose hash was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Exactly what the hash covers.
    pub bytes: Vec<u8>,
    /// Root of the receipt trie.
    pub receipts_root: B256,
}

/// Puts a header together from the fields of a block.
///
/// # Errors
/// [`Malformed`].
pub fn rebuild(block: Fields<'_>) -> Result<Vec<u8>, Malformed> {
    let item = |(name, kind): &(&'static str, Kind)| match kind {
        Kind::Bytes => block.data(name).map(|bytes| string(&bytes)),
        Kind::Number => block.u128(name).map(number),
    };
    let mut items = FIELDS.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    for field in LATER.iter().take_while(|(name, _)| block.get(name).is_ok()) {
        items.push(item(field)?);
    }
    Ok(list(&items))
}

/// `None`: the bytes are no header, or not the one of this hash.
fn parse(bytes: Vec<u8>, hash: B256) -> Option<Header> {
    if bytes.len() > HEADER_BYTES_MAX || keccak256(&bytes) != hash {
        return None;
    }
    let PayloadView::List(items) = RlpHeader::decode_raw(&mut bytes.as_slice()).ok()? else { return None };
    let mut item = *items.get(5)?;
    let receipts_root = B256::try_from(RlpHeader::decode_bytes(&mut item, false).ok()?).ok()?;
    Some(Header { bytes, receipts_root })
}

/// The header of a block, whose fields the node gave.
///
/// # Errors
/// [`ChainError::Lying`]: no bytes with that hash can be had.
pub async fn header(rpc: &Rpc, block: &Value, hash: B256) -> Result<Header, ChainError> {
    let height = Fields(block).get("number").map_err(|error| rpc.lying(format!("a block: {error}")))?;
    let raw = rpc.probe("debug_getRawHeader", json!([height])).await?;
    if let Some(header) = raw.as_ref().and_then(data).and_then(|bytes| parse(bytes, hash)) {
        return Ok(header);
    }
    let rebuilt = rebuild(Fields(block)).map_err(|error| rpc.lying(format!("a block: {error}")))?;
    let what = || format!("block {hash} does not have this hash; its fields are others than Ethereum's, or forged");
    parse(rebuilt, hash).ok_or_else(|| rpc.lying(what()))
}
