//! An Ethereum-like chain behind the trait of every chain.

use std::fmt;

use alloy_primitives::{Address, B256, TxKind};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use stele_rpc::meta::TreeHead;

use super::answer::{Fields, data, hex_number, hexadecimal, quantity};
use super::contract::{Reverted, anchor_call, decode_error};
use super::key::AccountKey;
use super::price::{self, Dialect};
use super::reader::{EVENTS_BLOCKS, Newest, Reader};
use super::receipt::{Expected, Receipt};
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
    reader: Reader,
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

/// Questions for events in which an anchor is looked for, from the newest block back.
const FIND_QUESTIONS: u32 = 40;

impl Evm {
    /// Nothing is asked yet.
    pub fn new(rpc: Rpc, key: AccountKey, config: Config) -> Self {
        let Config { chain, contract, log_id, .. } = config;
        let expected = Expected { contract, log_id, by: key.address() };
        Self { reader: Reader { rpc, chain, expected }, key, config }
    }

    /// Newest anchored checkpoint of the log.
    async fn anchored(&self, height: u64) -> Result<Option<TreeHead>, ChainError> {
        match self.reader.owned(height).await? {
            Some((owner, _)) if owner != self.key.address() => Err(self.not_owner(owner)),
            owned => Ok(owned.map(|(_, head)| head)),
        }
    }

    fn not_owner(&self, owner: Address) -> ChainError {
        ChainError::NotOwner { owner: owner.to_string(), account: self.key.address().to_string() }
    }

    async fn nonce(&self, height: u64) -> Result<u64, ChainError> {
        self.reader.small("eth_getTransactionCount", json!([hexadecimal(self.key.address()), hex_number(height)])).await
    }

    /// What became of a candidate. What a node says of a block that it does not have itself is not believed.
    async fn fate(&self, growth: Growth, id: Hash, final_height: Option<u64>) -> Result<Fate, ChainError> {
        let hash = B256::from(id);
        let answer = self.reader.rpc.call("eth_getTransactionReceipt", json!([hexadecimal(hash)])).await?;
        if answer.is_null() {
            let known = self.reader.rpc.call("eth_getTransactionByHash", json!([hexadecimal(hash)])).await?;
            return Ok(if known.is_null() { Fate::Unknown } else { Fate::Pending });
        }
        let receipt = Receipt::parse(&answer).map_err(self.reader.malformed("a receipt"))?;
        if receipt.id != id {
            return Err(self.reader.rpc.lying(format!("the receipt of another transaction was answered for {hash}")));
        }
        let block = self.reader.rpc.call("eth_getBlockByNumber", json!([hex_number(receipt.height), false])).await?;
        if block.is_null() || Fields(&block).hash("hash").ok() != Some(receipt.block) {
            // The block went away between the two questions, or one of the two answers is wrong.
            return Ok(Fate::Pending);
        }
        let anchored = receipt.anchored(self.reader.expected).map(|(_, growth)| growth);
        if receipt.succeeded && anchored != Some(growth) {
            return Err(self
                .reader
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
            None => self.reader.rpc.refused("eth_estimateGas", fault),
        }
    }

    async fn gas(&self, input: &[u8]) -> Result<u64, ChainError> {
        let call = json!({ "from": hexadecimal(self.key.address()), "to": hexadecimal(self.config.contract), "data": hexadecimal(input) });
        let answer = match self.reader.rpc.ask("eth_estimateGas", json!([call])).await? {
            Ok(answer) => answer,
            Err(fault) => return Err(self.reverted(fault)),
        };
        let gas = quantity(&answer).and_then(|gas| u64::try_from(gas).ok()).filter(|gas| *gas > 0);
        let gas = gas.ok_or_else(|| self.reader.rpc.lying("the answer to eth_estimateGas is no number"))?;
        Ok(gas.saturating_add(gas / 4))
    }

    async fn check_funds(&self, gas: u64, max: u128) -> Result<(), ChainError> {
        let account = self.key.address();
        let answer = self.reader.rpc.call("eth_getBalance", json!([hexadecimal(account), "latest"])).await?;
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
        self.reader.check_chain().await?;
        let Newest { height, base_fee } = self.reader.newest().await?;
        let final_height = self.reader.final_height(self.config.finality, height).await?;
        let mut fates = Vec::new();
        if let Some(intent) = intent {
            for candidate in &intent.candidates {
                fates.push(self.fate(intent.growth, candidate.id, final_height).await?);
            }
        }
        let included = fates.iter().any(|fate| matches!(fate, Fate::Included { .. }));
        let price =
            if included { None } else { Some(price::ask(&self.reader.rpc, self.config.dialect, base_fee).await?) };
        let final_nonce = match final_height {
            Some(height) => self.nonce(height).await?,
            None => 0,
        };
        let (anchored, nonce) = (self.anchored(height).await?, self.nonce(height).await?);
        Ok(View { height, anchored, nonce, final_nonce, fates, price })
    }

    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError> {
        let height = self.reader.newest().await?.height;
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
        match self.reader.rpc.ask("eth_sendRawTransaction", json!([hexadecimal(&candidate.raw)])).await? {
            Ok(answer) if data(&answer).as_deref() == Some(&candidate.id) => Ok(()),
            Ok(_) => Err(self.reader.rpc.lying("another hash than the transaction's was answered for it")),
            Err(fault) if is_there_already(&fault.message) => Ok(()),
            Err(fault) if fault.message.to_ascii_lowercase().contains("insufficient funds") => {
                self.check_funds(candidate.gas, candidate.fee.map_or(0, |fee| fee.max)).await?;
                Err(self.reader.rpc.refused("eth_sendRawTransaction", fault))
            }
            Err(fault) => Err(self.reader.rpc.refused("eth_sendRawTransaction", fault)),
        }
    }

    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError> {
        self.reader.check_chain().await?;
        let newest = self.reader.newest().await?.height;
        let Some(mut last) = self.reader.final_height(self.config.finality, newest).await? else { return Ok(None) };
        for _ in 0..FIND_QUESTIONS {
            let first = last.saturating_sub(EVENTS_BLOCKS - 1);
            for event in self.reader.events(first, last).await? {
                if event.growth.head == head {
                    return Ok(Some((event.transaction, event.height)));
                }
            }
            let Some(before) = first.checked_sub(1) else { break };
            last = before;
        }
        Ok(None)
    }

    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        self.reader.prove(head, id).await
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
