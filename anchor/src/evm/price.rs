//! What a transaction has to offer. Chains with a base fee take EIP-1559 transactions; some that only look like
//! Ethereum have neither the method nor the type, and are paid by gas price.

use std::sync::OnceLock;

use serde_json::json;

use super::answer::quantity;
use super::rpc::Rpc;
use crate::chain::backend::ChainError;
use crate::chain::state::Fee;
use crate::chain::view::Price;

/// Which transactions a chain takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    /// Ask: whoever has `eth_feeHistory` and base fees takes EIP-1559 transactions.
    #[default]
    Probe,
    /// Plain gas price.
    Legacy,
    /// EIP-1559.
    Eip1559,
}

/// Asks prices.
#[derive(Debug)]
pub struct Prices {
    dialect: Dialect,
    has_base_fee: OnceLock<bool>,
}

/// Offered to who makes the block where a node has no opinion: a billionth of a coin.
const TIP: u128 = 1_000_000_000;

impl Prices {
    /// Nothing is asked yet.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, has_base_fee: OnceLock::new() }
    }

    /// What is to be offered now. `base`: base fee of the newest block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn ask(&self, rpc: &Rpc, base: Option<u128>) -> Result<Price, ChainError> {
        let Some(base_fee) = base.filter(|_| self.dialect != Dialect::Legacy) else {
            return legacy(rpc, base.unwrap_or(0)).await;
        };
        let next = self.next_base(rpc, base_fee).await?;
        let Some(next) = next else { return legacy(rpc, base_fee).await };
        let tip = rpc.probe("eth_maxPriorityFeePerGas", json!([])).await?;
        let tip = tip.as_ref().and_then(quantity).unwrap_or(TIP);
        let max = next.saturating_mul(2).saturating_add(tip);
        Ok(Price { floor: next, offer: Fee { max, tip: Some(tip) } })
    }

    /// Base fee of the next block; `None`: the chain has none.
    async fn next_base(&self, rpc: &Rpc, base: u128) -> Result<Option<u128>, ChainError> {
        if self.has_base_fee.get() == Some(&false) {
            return Ok(None);
        }
        let history = rpc.probe("eth_feeHistory", json!(["0x1", "latest", []])).await?;
        let fees = history.as_ref().and_then(|history| history.get("baseFeePerGas")).and_then(|fees| fees.as_array());
        let next = fees.and_then(|fees| fees.last()).and_then(quantity);
        if self.dialect == Dialect::Probe {
            self.has_base_fee.get_or_init(|| next.is_some());
        }
        Ok(match (next, self.dialect) {
            (None, Dialect::Eip1559) => Some(base),
            (next, _) => next,
        })
    }
}

async fn legacy(rpc: &Rpc, floor: u128) -> Result<Price, ChainError> {
    let answer = rpc.call("eth_gasPrice", json!([])).await?;
    let price = quantity(&answer).ok_or_else(|| rpc.lying("eth_gasPrice is no number"))?;
    // Room for some full blocks in a row, each of which raises the base fee by an eighth.
    let max = if floor == 0 { price } else { price.max(floor.saturating_mul(2)) };
    Ok(Price { floor, offer: Fee { max, tip: None } })
}
