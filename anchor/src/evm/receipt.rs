//! Receipts: whether a transaction took effect, and the leaves of the receipt trie.

use alloy_primitives::{Address, B256};
use alloy_rlp::encode_fixed_size;
use alloy_trie::proof::ProofRetainer;
use alloy_trie::{HashBuilder, Nibbles};
use serde_json::Value;

use super::answer::{Fields, Malformed};
use super::contract::{decode_event, event_topics};
use super::header::{list, number, string};
use crate::chain::state::{Growth, Hash};

/// Most receipts of a block.
pub const RECEIPTS_MAX: usize = 65_536;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Which contract emitted it.
    pub address: Address,
    /// What it is indexed by.
    pub topics: Vec<B256>,
    /// The rest.
    pub data: Vec<u8>,
}

/// A receipt as a node tells it. Nothing is proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The transaction.
    pub id: Hash,
    /// Block that holds it.
    pub block: B256,
    /// That block's height.
    pub height: u64,
    /// Place within the block.
    pub index: u64,
    /// It was not reverted.
    pub succeeded: bool,
    /// Its events.
    pub logs: Vec<Log>,
    /// The leaf of the receipt trie.
    pub leaf: Vec<u8>,
}

/// Which event is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The contract.
    pub contract: Address,
    /// The log.
    pub log_id: Hash,
    /// The account.
    pub by: Address,
}

impl Log {
    /// Reads an event.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(fields: Fields<'_>) -> Result<Self, Malformed> {
        let topic = |value: &Value| {
            let bytes = super::answer::data(value).ok_or(Malformed("topics"))?;
            B256::try_from(bytes.as_slice()).map_err(|_| Malformed("topics"))
        };
        let topics = fields.list("topics")?.iter().map(topic).collect::<Result<_, _>>()?;
        Ok(Self { address: fields.address("address")?, topics, data: fields.data("data")? })
    }

    /// What it anchors, if it is the expected event.
    pub fn anchored(&self, expected: Expected) -> Option<Growth> {
        let topics = event_topics(expected.log_id, expected.by);
        let right = self.address == expected.contract && self.topics == topics;
        right.then(|| decode_event(&self.data)).flatten()
    }

    fn encode(&self) -> Vec<u8> {
        let topics: Vec<_> = self.topics.iter().map(|topic| string(topic.as_slice())).collect();
        list(&[string(self.address.as_slice()), list(&topics), string(&self.data)])
    }
}

impl Receipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(value: &Value) -> Result<Self, Malformed> {
        let fields = Fields(value);
        let logs: Vec<Log> =
            fields.list("logs")?.iter().map(|log| Log::parse(Fields(log))).collect::<Result<_, _>>()?;
        // Before Byzantium there was a state root where the status stands now.
        let (outcome, succeeded) = match fields.u64("status") {
            Ok(status @ (0 | 1)) => (number(status.into()), status == 1),
            Ok(_) => return Err(Malformed("status")),
            Err(_) => (string(fields.hash("root")?.as_slice()), false),
        };
        let gas = number(fields.u128("cumulativeGasUsed")?);
        let logs_encoded: Vec<_> = logs.iter().map(Log::encode).collect();
        let body = list(&[outcome, gas, string(&fields.data("logsBloom")?), list(&logs_encoded)]);
        let kind = if fields.get("type").is_ok() { fields.u64("type")? } else { 0 };
        let leaf = match u8::try_from(kind).map_err(|_| Malformed("type"))? {
            0 => body,
            kind => [vec![kind], body].concat(),
        };
        Ok(Self {
            id: fields.hash("transactionHash")?.0,
            block: fields.hash("blockHash")?,
            height: fields.u64("blockNumber")?,
            index: fields.u64("transactionIndex")?,
            succeeded,
            logs,
            leaf,
        })
    }

    /// Which of its events is the expected one, and what it anchors; the place counts within this receipt.
    pub fn anchored(&self, expected: Expected) -> Option<(usize, Growth)> {
        let mut logs = self.logs.iter().enumerate();
        logs.find_map(|(at, log)| log.anchored(expected).map(|growth| (at, growth)))
    }
}

/// Key of a receipt in its trie.
fn key(index: usize) -> Nibbles {
    Nibbles::unpack(encode_fixed_size(&index))
}

/// Root of the receipt trie over all leaves of a block, in their order, and the path to one of them: nodes from the
/// root down.
pub fn prove(leaves: &[Vec<u8>], index: usize) -> (B256, Vec<Vec<u8>>) {
    let mut sorted: Vec<_> = leaves.iter().enumerate().map(|(index, leaf)| (key(index), leaf)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![key(index)]));
    for (key, leaf) in sorted {
        builder.add_leaf(key, leaf);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    (root, nodes.into_iter().map(|(_, node)| node.to_vec()).collect())
}
