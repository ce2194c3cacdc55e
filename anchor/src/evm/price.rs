//! What a transaction has to offer. Chains with a base fee take EIP-1559 transactions; some that only look like
//! Ethereum have neither the method nor the type, and are paid by gas price.

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

/// Offered to who makes the block where a node has no opinion: a billionth of a coin.
const TIP: u128 = 1_000_000_000;

/// What is to be offered now. `base`: base fee of the newest block.
///
/// # Errors
/// [`ChainError`].
pub async fn ask(rpc: &Rpc, dialect: Dialect, base: Option<u128>) -> Result<Price, ChainError> {
    let Some(base) = base.filter(|_| dialect != Dialect::Legacy) else { return legacy(rpc, base.unwrap_or(0)).await };
    let next = match (next_base(rpc).await?, dialect) {
        (Some(next), _) => next,
        (None, Dialect::Eip1559) => base,
        (None, _) => return legacy(rpc, base).await,
    };
    let tip = rpc.probe("eth_maxPriorityFeePerGas", json!([])).await?;
    let tip = tip.as_ref().and_then(quantity).unwrap_or(TIP);
    let max = next.saturating_mul(2).saturating_add(tip);
    Ok(Price { floor: next, offer: Fee { max, tip: Some(tip) } })
}

/// Base fee of the next block; `None`: the node does not say. It is asked every time, as it may just have been busy.
async fn next_base(rpc: &Rpc) -> Result<Option<u128>, ChainError> {
    let history = rpc.probe("eth_feeHistory", json!(["0x1", "latest", []])).await?;
    let fees = history.as_ref().and_then(|history| history.get("baseFeePerGas")).and_then(|fees| fees.as_array());
    Ok(fees.and_then(|fees| fees.last()).and_then(quantity))
}

async fn legacy(rpc: &Rpc, floor: u128) -> Result<Price, ChainError> {
    let answer = rpc.call("eth_gasPrice", json!([])).await?;
    let price = quantity(&answer).ok_or_else(|| rpc.lying("eth_gasPrice is no number"))?;
    // Room for some full blocks in a row, each of which raises the base fee by an eighth.
    let max = if floor == 0 { price } else { price.max(floor.saturating_mul(2)) };
    Ok(Price { floor, offer: Fee { max, tip: None } })
}
