//! Puts the contract onto a chain. For operators, once per chain; the address then goes into the configuration.

use std::time::Duration;

use alloy_primitives::{Address, B256, TxKind};
use serde_json::json;

use super::answer::{Fields, hexadecimal, quantity};
use super::contract::creation_code;
use super::key::AccountKey;
use super::price::{self, Dialect};
use super::rpc::Rpc;
use super::transaction::{Unsigned, sign};
use crate::chain::backend::ChainError;

/// A contract that was put onto a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deployed {
    /// Where it is.
    pub contract: Address,
    /// The transaction.
    pub id: B256,
    /// Gas that it took.
    pub gas: u64,
}

/// Deploys, and waits for the block; asks up to `patience` times, `interval` apart. Nothing is remembered: after an
/// error or a crash look at the account's transactions before you try again.
///
/// # Errors
/// [`ChainError`].
pub async fn deploy(
    rpc: &Rpc,
    key: &AccountKey,
    (chain, dialect): (u64, Dialect),
    (patience, interval): (u32, Duration),
) -> Result<Deployed, ChainError> {
    let number = |answer| quantity(&answer).ok_or_else(|| rpc.lying("a number is none"));
    let small = |value: u128| u64::try_from(value).map_err(|_| rpc.lying("a number is too large"));
    let found = small(number(rpc.call("eth_chainId", json!([])).await?)?)?;
    if found != chain {
        return Err(ChainError::WrongChain { endpoint: rpc.host(), expected: chain, found });
    }
    let block = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await?;
    let price = price::ask(rpc, dialect, Fields(&block).u128("baseFeePerGas").ok()).await?;
    let nonce =
        small(number(rpc.call("eth_getTransactionCount", json!([hexadecimal(key.address()), "pending"])).await?)?)?;
    let input = creation_code();
    let call = json!({ "from": hexadecimal(key.address()), "data": hexadecimal(&input) });
    let gas = small(number(rpc.call("eth_estimateGas", json!([call])).await?)?)?;
    let gas = gas.saturating_add(gas / 4);
    let unsigned = Unsigned { chain, nonce, to: TxKind::Create, input, gas, fee: price.offer };
    let candidate = sign(key, unsigned, 0).map_err(|error| ChainError::Broken(error.to_string()))?;
    let id = B256::from(candidate.id);
    rpc.call("eth_sendRawTransaction", json!([hexadecimal(&candidate.raw)])).await?;
    for _ in 0..patience {
        let receipt = rpc.call("eth_getTransactionReceipt", json!([hexadecimal(id)])).await?;
        if receipt.is_null() {
            tokio::time::sleep(interval).await;
            continue;
        }
        let contract = key.address().create(nonce);
        let fields = Fields(&receipt);
        let (status, gas) = (fields.u64("status"), fields.u64("gasUsed"));
        return match (status, gas) {
            (Ok(1), Ok(gas)) => Ok(Deployed { contract, id, gas }),
            _ => Err(ChainError::Broken(format!("transaction {id} was reverted: the contract is not there"))),
        };
    }
    let why = format!("transaction {id} was sent and is in no block yet; look it up before you deploy again");
    Err(ChainError::Unreachable { endpoint: rpc.host(), method: "eth_getTransactionReceipt", why })
}
