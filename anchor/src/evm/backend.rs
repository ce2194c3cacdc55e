//! An Ethereum-like chain behind the trait of every chain.

use std::fmt;

use alloy_primitives::{Address, B256, TxKind};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use stele_rpc::meta::TreeHead;

use super::answer::{Fields, Malformed, data, hex_number, hexadecimal, quantity};
use super::capture::{Claim, capture};
use super::contract::{Reverted, anchor_call, decode_error, decode_head, event_topics, head_call, root_call};
use super::key::AccountKey;
use super::price::{self, Dialect};
use super::receipt::{Expected, Log, Receipt};
use super::rpc::{Fault, Rpc};
use super::transaction::{Unsigned, sign};
use crate::chain::backend::{Chain, ChainError, Terms};
use crate::chain::state::{Candidate, Growth, Hash, Intent};
use crate::chain::view::{Fate, View};

/// When a block stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finality {
    /// The chain says so: its `finalized` block.
    Finalized,
    /// So many blocks stand on it.
    Depth(u64),
    /// At once: chains whose blocks are agreed on before they are made.
    Immediate,
}

/// Which chain, contract and log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The chain's number, as EIP-155 has it.
    pub chain: u64,
    /// Where the contract is.
    pub contract: Address,
    /// SHA-256 of the log's origin.
    pub log_id: Hash,
    /// When a block stays.
    pub finality: Finality,
    /// Which transactions the chain takes.
    pub dialect: Dialect,
}

/// One account's use of the contract.
pub struct Evm {
    rpc: Rpc,
    key: AccountKey,
    config: Config,
}

impl fmt::Debug for Evm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evm")
            .field("config", &self.config)
            .field("account", &self.key.address())
            .finish_non_exhaustive()
    }
}

/// Blocks that one question for events covers, and how many such questions are asked.
const LOG_WINDOW: u64 = 5_000;
const LOG_WINDOWS: u32 = 40;

/// The newest block.
struct Newest {
    height: u64,
    base_fee: Option<u128>,
}

impl Evm {
    /// Nothing is asked yet.
    pub fn new(rpc: Rpc, key: AccountKey, config: Config) -> Self {
        Self { rpc, key, config }
    }

    fn expected(&self) -> Expected {
        Expected { contract: self.config.contract, log_id: self.config.log_id, by: self.key.address() }
    }

    fn malformed(&self, what: &'static str) -> impl Fn(Malformed) -> ChainError + '_ {
        move |error| self.rpc.lying(format!("{what}: {error}"))
    }

    async fn number(&self, method: &'static str, params: Value) -> Result<u128, ChainError> {
        let answer = self.rpc.call(method, params).await?;
        quantity(&answer).ok_or_else(|| self.rpc.lying(format!("the answer to {method} is no number")))
    }

    async fn small(&self, method: &'static str, params: Value) -> Result<u64, ChainError> {
        let number = self.number(method, params).await?;
        u64::try_from(number).map_err(|_| self.rpc.lying(format!("the answer to {method} is too large")))
    }

    async fn check_chain(&self) -> Result<(), ChainError> {
        let found = self.small("eth_chainId", json!([])).await?;
        let Config { chain: expected, .. } = self.config;
        let endpoint = self.rpc.host();
        if found == expected { Ok(()) } else { Err(ChainError::WrongChain { endpoint, expected, found }) }
    }

    async fn newest(&self) -> Result<Newest, ChainError> {
        let block = self.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await?;
        let height = Fields(&block).u64("number").map_err(self.malformed("the newest block"))?;
        Ok(Newest { height, base_fee: Fields(&block).u128("baseFeePerGas").ok() })
    }

    /// Height of the newest final block; `None`: none is yet.
    async fn final_height(&self, newest: u64) -> Result<Option<u64>, ChainError> {
        match self.config.finality {
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
        let call = json!({ "to": hexadecimal(self.config.contract), "data": hexadecimal(input) });
        let answer = self.rpc.call("eth_call", json!([call, hex_number(height)])).await?;
        data(&answer).ok_or_else(|| self.rpc.lying("the answer to eth_call is no data"))
    }

    async fn check_contract(&self, height: u64) -> Result<(), ChainError> {
        let code = self.rpc.call("eth_getCode", json!([hexadecimal(self.config.contract), hex_number(height)])).await?;
        let Config { chain, contract, .. } = self.config;
        let missing = data(&code).is_none_or(|code| code.is_empty());
        if missing { Err(ChainError::NoContract { chain, contract: contract.to_string() }) } else { Ok(()) }
    }

    /// Newest anchored checkpoint of the log.
    async fn anchored(&self, height: u64) -> Result<Option<TreeHead>, ChainError> {
        let log_id = self.config.log_id;
        let answer = self.read(&head_call(log_id), height).await?;
        let Some((owner, size)) = decode_head(&answer) else {
            self.check_contract(height).await?;
            return Err(self.rpc.lying("the contract does not answer as it should; it may be another one"));
        };
        if size == 0 {
            return Ok(None);
        }
        if owner != self.key.address() {
            return Err(self.not_owner(owner));
        }
        let root = self.read(&root_call(log_id, size), height).await?;
        let root = root.try_into().map_err(|_| self.rpc.lying("the contract's root is no hash"))?;
        Ok(Some(TreeHead { size, root }))
    }

    fn not_owner(&self, owner: Address) -> ChainError {
        ChainError::NotOwner { owner: owner.to_string(), account: self.key.address().to_string() }
    }

    async fn nonce(&self, height: u64) -> Result<u64, ChainError> {
        self.small("eth_getTransactionCount", json!([hexadecimal(self.key.address()), hex_number(height)])).await
    }

    /// What became of a candidate. What a node says of a block that it does not have itself is not believed.
    async fn fate(&self, growth: Growth, id: Hash, final_height: Option<u64>) -> Result<Fate, ChainError> {
        let hash = B256::from(id);
        let answer = self.rpc.call("eth_getTransactionReceipt", json!([hexadecimal(hash)])).await?;
        if answer.is_null() {
            let known = self.rpc.call("eth_getTransactionByHash", json!([hexadecimal(hash)])).await?;
            return Ok(if known.is_null() { Fate::Unknown } else { Fate::Pending });
        }
        let receipt = Receipt::parse(&answer).map_err(self.malformed("a receipt"))?;
        if receipt.id != id {
            return Err(self.rpc.lying(format!("the receipt of another transaction was answered for {hash}")));
        }
        let block = self.rpc.call("eth_getBlockByNumber", json!([hex_number(receipt.height), false])).await?;
        if block.is_null() || Fields(&block).hash("hash").ok() != Some(receipt.block) {
            // The block went away between the two questions, or one of the two answers is wrong.
            return Ok(Fate::Pending);
        }
        let anchored = receipt.anchored(self.expected()).map(|(_, growth)| growth);
        if receipt.succeeded && anchored != Some(growth) {
            return Err(self
                .rpc
                .lying(format!("the receipt of {hash} says success, and lacks the event that it has to hold")));
        }
        let is_final = final_height.is_some_and(|height| receipt.height <= height);
        Ok(Fate::Included { height: receipt.height, took_effect: receipt.succeeded, is_final })
    }

    fn reverted(&self, fault: Fault) -> ChainError {
        let said = fault.data.as_deref().and_then(|data| hex::decode(data.strip_prefix("0x")?).ok());
        match said.as_deref().and_then(decode_error) {
            Some(Reverted::NotOwner(owner)) => self.not_owner(owner),
            Some(Reverted::Stale(size)) => ChainError::Overtaken(format!("size {size} was anchored last")),
            Some(Reverted::NotGrowing) => ChainError::Overtaken("the size does not grow".to_owned()),
            None if fault.message.to_ascii_lowercase().contains("revert") => ChainError::Overtaken(fault.message),
            None => self.rpc.refused("eth_estimateGas", fault),
        }
    }

    async fn gas(&self, input: &[u8]) -> Result<u64, ChainError> {
        let call = json!({ "from": hexadecimal(self.key.address()), "to": hexadecimal(self.config.contract), "data": hexadecimal(input) });
        let answer = match self.rpc.ask("eth_estimateGas", json!([call])).await? {
            Ok(answer) => answer,
            Err(fault) => return Err(self.reverted(fault)),
        };
        let gas = quantity(&answer).and_then(|gas| u64::try_from(gas).ok()).filter(|gas| *gas > 0);
        let gas = gas.ok_or_else(|| self.rpc.lying("the answer to eth_estimateGas is no number"))?;
        Ok(gas.saturating_add(gas / 4))
    }

    async fn check_funds(&self, gas: u64, max: u128) -> Result<(), ChainError> {
        let account = self.key.address();
        let answer = self.rpc.call("eth_getBalance", json!([hexadecimal(account), "latest"])).await?;
        // More than 128 bits is more than any fee.
        let balance = quantity(&answer).unwrap_or(u128::MAX);
        let needed = u128::from(gas).saturating_mul(max);
        if balance >= needed {
            return Ok(());
        }
        let [balance, needed] = [balance, needed].map(|amount| amount.to_string());
        Err(ChainError::NoFunds { account: account.to_string(), balance, needed })
    }
}

/// True for what nodes say of a transaction that they have, or whose number is used up: it is looked up.
fn is_there_already(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let said =
        ["already known", "alreadyknown", "already imported", "already exists", "known transaction", "nonce too low"];
    said.iter().any(|words| message.contains(words))
        || message.contains("replacement") && message.contains("underpriced")
}

#[async_trait]
impl Chain for Evm {
    fn place(&self) -> String {
        let Config { chain, contract, log_id, .. } = self.config;
        format!("evm:{chain}:{contract}:{}:{}", self.key.address(), hex::encode(log_id))
    }

    async fn look(&self, intent: Option<&Intent>) -> Result<View, ChainError> {
        self.check_chain().await?;
        let Newest { height, base_fee } = self.newest().await?;
        let final_height = self.final_height(height).await?;
        let mut fates = Vec::new();
        if let Some(intent) = intent {
            for candidate in &intent.candidates {
                fates.push(self.fate(intent.growth, candidate.id, final_height).await?);
            }
        }
        let included = fates.iter().any(|fate| matches!(fate, Fate::Included { .. }));
        let price = if included { None } else { Some(price::ask(&self.rpc, self.config.dialect, base_fee).await?) };
        let final_nonce = match final_height {
            Some(height) => self.nonce(height).await?,
            None => 0,
        };
        let (anchored, nonce) = (self.anchored(height).await?, self.nonce(height).await?);
        Ok(View { height, anchored, nonce, final_nonce, fates, price })
    }

    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError> {
        let height = self.newest().await?.height;
        let input = anchor_call(self.config.log_id, growth);
        let gas = match terms.gas {
            Some(gas) => gas,
            None => self.gas(&input).await?,
        };
        let fee = terms.fee.ok_or_else(|| ChainError::Broken("a transaction without an offer".to_owned()))?;
        self.check_funds(gas, fee.max).await?;
        let to = TxKind::Call(self.config.contract);
        let unsigned = Unsigned { chain: self.config.chain, nonce: terms.nonce, to, input, gas, fee };
        sign(&self.key, unsigned, height).map_err(|error| ChainError::Broken(error.to_string()))
    }

    async fn send(&self, candidate: &Candidate) -> Result<(), ChainError> {
        match self.rpc.ask("eth_sendRawTransaction", json!([hexadecimal(&candidate.raw)])).await? {
            Ok(answer) if data(&answer).as_deref() == Some(&candidate.id) => Ok(()),
            Ok(_) => Err(self.rpc.lying("another hash than the transaction's was answered for it")),
            Err(fault) if is_there_already(&fault.message) => Ok(()),
            Err(fault) if fault.message.to_ascii_lowercase().contains("insufficient funds") => {
                self.check_funds(candidate.gas, candidate.fee.map_or(0, |fee| fee.max)).await?;
                Err(self.rpc.refused("eth_sendRawTransaction", fault))
            }
            Err(fault) => Err(self.rpc.refused("eth_sendRawTransaction", fault)),
        }
    }

    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError> {
        self.check_chain().await?;
        let newest = self.newest().await?.height;
        let Some(mut last) = self.final_height(newest).await? else { return Ok(None) };
        let expected = self.expected();
        let topics = event_topics(expected.log_id, expected.by).map(hexadecimal);
        for _ in 0..LOG_WINDOWS {
            let first = last.saturating_sub(LOG_WINDOW - 1);
            let filter = json!({ "address": hexadecimal(expected.contract), "topics": topics, "fromBlock": hex_number(first), "toBlock": hex_number(last) });
            let answer = self.rpc.call("eth_getLogs", json!([filter])).await?;
            for value in answer.as_array().into_iter().flatten() {
                let log = Log::parse(Fields(value)).map_err(self.malformed("an event"))?;
                if log.anchored(expected).is_some_and(|growth| growth.head == head) {
                    let id = Fields(value).hash("transactionHash").map_err(self.malformed("an event"))?;
                    let height = Fields(value).u64("blockNumber").map_err(self.malformed("an event"))?;
                    return Ok(Some((id.0, height)));
                }
            }
            let Some(before) = first.checked_sub(1) else { break };
            last = before;
        }
        Ok(None)
    }

    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        let claim = Claim { chain: self.config.chain, expected: self.expected(), head, id };
        let proof = capture(&self.rpc, claim).await?;
        let encoded =
            proof.encode().map_err(|error| self.rpc.lying(format!("the proof of {}: {error}", B256::from(id))))?;
        Ok(encoded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_of_a_transaction_they_have_is_no_failure() {
        for said in [
            "already known",
            "AlreadyKnown",
            "transaction already imported",
            "known transaction: 12",
            "nonce too low: next nonce 4, tx nonce 3",
            "replacement transaction underpriced",
        ] {
            assert!(is_there_already(said), "{said}");
        }
        for said in ["insufficient funds for gas * price + value", "transaction underpriced", "nonce too high", ""] {
            assert!(!is_there_already(said), "{said}");
        }
    }
}
