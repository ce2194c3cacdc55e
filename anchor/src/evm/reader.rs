//! What a node tells of one log's anchors: where the chain stands, what the contract holds, which events it emitted.
//! Changes nothing, and needs no key.

use alloy_primitives::Address;
use bytes::Bytes;
use serde_json::{Value, json};
use stele_rpc::meta::TreeHead;

use super::answer::{Fields, Malformed, data, hex_number, hexadecimal, quantity};
use super::backend::Finality;
use super::capture::{Claim, capture};
use super::contract::{decode_head, event_topics, head_call, root_call};
use super::receipt::{Expected, Log};
use super::rpc::Rpc;
use crate::chain::backend::ChainError;
use crate::chain::state::{Growth, Hash};

/// Blocks that one question for events covers.
pub const EVENTS_BLOCKS: u64 = 5_000;

/// One contract and account on one chain, seen through a node.
#[derive(Debug)]
pub struct Reader {
    pub(super) rpc: Rpc,
    /// The chain's number.
    pub(super) chain: u64,
    pub(super) expected: Expected,
}

/// The newest block.
pub(super) struct Newest {
    pub(super) height: u64,
    pub(super) base_fee: Option<u128>,
}

/// An anchor, as the contract's event has it. A node said so; nothing is proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What was anchored.
    pub growth: Growth,
    /// The transaction.
    pub transaction: Hash,
    /// Height of the block that holds it.
    pub height: u64,
}

impl Reader {
    pub(super) fn malformed(&self, what: &'static str) -> impl Fn(Malformed) -> ChainError + '_ {
        move |error| self.rpc.lying(format!("{what}: {error}"))
    }

    async fn number(&self, method: &'static str, params: Value) -> Result<u128, ChainError> {
        let answer = self.rpc.call(method, params).await?;
        quantity(&answer).ok_or_else(|| self.rpc.lying(format!("the answer to {method} is no number")))
    }

    pub(super) async fn small(&self, method: &'static str, params: Value) -> Result<u64, ChainError> {
        let number = self.number(method, params).await?;
        u64::try_from(number).map_err(|_| self.rpc.lying(format!("the answer to {method} is too large")))
    }

    pub(super) async fn check_chain(&self) -> Result<(), ChainError> {
        let found = self.small("eth_chainId", json!([])).await?;
        let (expected, endpoint) = (self.chain, self.rpc.host());
        if found == expected { Ok(()) } else { Err(ChainError::WrongChain { endpoint, expected, found }) }
    }

    pub(super) async fn newest(&self) -> Result<Newest, ChainError> {
        let block = self.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await?;
        let height = Fields(&block).u64("number").map_err(self.malformed("the newest block"))?;
        Ok(Newest { height, base_fee: Fields(&block).u128("baseFeePerGas").ok() })
    }

    /// Height of the newest final block; `None`: none is yet.
    pub(super) async fn final_height(&self, finality: Finality, newest: u64) -> Result<Option<u64>, ChainError> {
        match finality {
            Finality::Immediate => Ok(Some(newest)),
            Finality::Depth(depth) => Ok(newest.checked_sub(depth)),
            Finality::Finalized => {
                let block = self.rpc.call("eth_getBlockByNumber", json!(["finalized", false])).await?;
                if block.is_null() {
                    return Ok(None);
                }
                let height = Fields(&block).u64("number").map_err(self.malformed("the final block"))?;
                Ok(Some(height.min(newest)))
            }
        }
    }

    async fn read(&self, input: &[u8], height: u64) -> Result<Vec<u8>, ChainError> {
        let call = json!({ "to": hexadecimal(self.expected.contract), "data": hexadecimal(input) });
        let answer = self.rpc.call("eth_call", json!([call, hex_number(height)])).await?;
        data(&answer).ok_or_else(|| self.rpc.lying("the answer to eth_call is no data"))
    }

    async fn check_contract(&self, height: u64) -> Result<(), ChainError> {
        let contract = self.expected.contract;
        let code = self.rpc.call("eth_getCode", json!([hexadecimal(contract), hex_number(height)])).await?;
        let missing = data(&code).is_none_or(|code| code.is_empty());
        let contract = contract.to_string();
        if missing { Err(ChainError::NoContract { chain: self.chain, contract }) } else { Ok(()) }
    }

    /// Who owns the log in the contract, and its newest anchored checkpoint; `None`: nobody anchored it.
    pub(super) async fn owned(&self, height: u64) -> Result<Option<(Address, TreeHead)>, ChainError> {
        let log_id = self.expected.log_id;
        let answer = self.read(&head_call(log_id), height).await?;
        let Some((owner, size)) = decode_head(&answer) else {
            self.check_contract(height).await?;
            return Err(self.rpc.lying("the contract does not answer as it should; it may be another one"));
        };
        if size == 0 {
            return Ok(None);
        }
        let root = self.read(&root_call(log_id, size), height).await?;
        let root = root.try_into().map_err(|_| self.rpc.lying("the contract's root is no hash"))?;
        Ok(Some((owner, TreeHead { size, root })))
    }

    /// The anchors in these blocks, first and last included, in the node's order.
    pub(super) async fn events(&self, first: u64, last: u64) -> Result<Vec<Event>, ChainError> {
        let expected = self.expected;
        let topics = event_topics(expected.log_id, expected.by).map(hexadecimal);
        let filter = json!({ "address": hexadecimal(expected.contract), "topics": topics, "fromBlock": hex_number(first), "toBlock": hex_number(last) });
        let answer = self.rpc.call("eth_getLogs", json!([filter])).await?;
        let malformed = self.malformed("an event");
        let mut events = Vec::new();
        for value in answer.as_array().into_iter().flatten() {
            let fields = Fields(value);
            let log = Log::parse(fields).map_err(&malformed)?;
            let Some(growth) = log.anchored(expected) else { continue };
            let transaction = fields.hash("transactionHash").map_err(&malformed)?.0;
            events.push(Event { growth, transaction, height: fields.u64("blockNumber").map_err(&malformed)? });
        }
        Ok(events)
    }

    /// The proof that the transaction anchored this, verified as an auditor verifies it.
    pub(super) async fn prove(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        let claim = Claim { chain: self.chain, expected: self.expected, head, id };
        let encoded = capture(&self.rpc, claim).await?.encode();
        let id = alloy_primitives::B256::from(id);
        encoded.map(Bytes::from).map_err(|error| self.rpc.lying(format!("the proof of {id}: {error}")))
    }
}
