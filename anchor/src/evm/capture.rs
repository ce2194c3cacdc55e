//! The proof that a transaction anchored a checkpoint: block header, path through the receipt trie, receipt. It is
//! taken when the block is final, as nodes forget; it is checked before it counts, as nodes lie.

use alloy_primitives::B256;
use serde_json::{Value, json};
use stele_evidence::chain::Anchored;
use stele_evidence::chain::evm::{EvmProof, Pin, StateProof};
use stele_rpc::meta::TreeHead;

use super::answer::{Fields, Malformed, hex_number, hexadecimal};
use super::contract::{ROOT_MAPPING_SLOT, root_slot};
use super::header::{Header, header};
use super::receipt::{Expected, RECEIPTS_MAX, Receipt, prove};
use super::rpc::Rpc;
use crate::chain::backend::ChainError;
use crate::chain::state::Hash;

/// What has to be proven.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The chain.
    pub chain: u64,
    /// Contract, log and account.
    pub expected: Expected,
    /// The checkpoint.
    pub head: TreeHead,
    /// The transaction.
    pub id: Hash,
}

/// Takes the proof of a claim, and verifies it as an auditor will.
///
/// # Errors
/// [`ChainError::Lying`]: what the node answers does not prove it.
pub async fn capture(rpc: &Rpc, claim: Claim) -> Result<EvmProof, ChainError> {
    let Claim { id, .. } = claim;
    let malformed = |error: Malformed| rpc.lying(format!("the block of {}: {error}", B256::from(id)));
    let answer = rpc.call("eth_getTransactionReceipt", json!([hexadecimal(id)])).await?;
    let told = Receipt::parse(&answer).map_err(malformed)?;
    let block = rpc.call("eth_getBlockByHash", json!([hexadecimal(told.block), false])).await?;
    let fields = Fields(&block);
    if fields.hash("hash").map_err(malformed)? != told.block || fields.u64("number").map_err(malformed)? != told.height
    {
        return Err(rpc.lying(format!("another block than {} was answered for it", told.block)));
    }
    let header = header(rpc, &block, told.block).await?;
    let receipts = receipts(rpc, &block, told.height).await?;
    let assembled = assemble(header, &receipts, claim);
    let mut proof = assembled.map_err(|what| rpc.lying(format!("block {}: {what}", told.block)))?;
    verify(&proof, claim, told.block).map_err(|what| rpc.lying(format!("block {}: {what}", told.block)))?;
    proof.state = storage(rpc, claim, told.height).await?;
    if proof.state.is_some() && verify(&proof, claim, told.block).is_err() {
        // The receipt proves the anchor without it.
        proof.state = None;
    }
    Ok(proof)
}

/// Verifies as an auditor does, who has nothing but the proof and the block's hash.
fn verify(proof: &EvmProof, claim: Claim, block: B256) -> Result<(), String> {
    let anchor = proof.verify(&proof.pin).map_err(|error| error.to_string())?;
    let TreeHead { size, root } = claim.head;
    let Anchored { log_id, size: proven, root: proven_root, .. } = anchor.anchored;
    let right = (log_id, proven, proven_root) == (claim.expected.log_id, size, root) && block == anchor.block_hash;
    if right { Ok(()) } else { Err("its proof shows another anchor".to_owned()) }
}

/// Puts the parts together.
fn assemble(header: Header, receipts: &[Receipt], claim: Claim) -> Result<EvmProof, &'static str> {
    let Claim { chain, expected, head, id } = claim;
    let index = receipts.iter().position(|receipt| receipt.id == id).ok_or("it does not hold the transaction")?;
    let receipt = receipts.get(index).ok_or("it does not hold the transaction")?;
    let mut places = receipts.iter().enumerate();
    if !places.all(|(at, other)| other.index == at as u64 && other.block == receipt.block) {
        return Err("its receipts are not in their order");
    }
    let leaves: Vec<_> = receipts.iter().map(|receipt| receipt.leaf.clone()).collect();
    let (root, nodes) = prove(&leaves, index);
    if root != header.receipts_root {
        return Err("its receipts are not those of its header, or not of Ethereum's form");
    }
    if !receipt.succeeded {
        return Err("the transaction was reverted");
    }
    let (log, growth) = receipt.anchored(expected).ok_or("the receipt lacks the event of this contract and account")?;
    if growth.head != head {
        return Err("the event has another size or root");
    }
    let place = |at: usize| u32::try_from(at).map_err(|_| "it is too large");
    let pin = Pin { chain_id: chain, contract: expected.contract.into(), sender: expected.by.into() };
    let (transaction, log) = (place(index)?, place(log)?);
    Ok(EvmProof { pin, transaction, log, header: header.bytes, receipt: nodes, state: None })
}

async fn receipts(rpc: &Rpc, block: &Value, height: u64) -> Result<Vec<Receipt>, ChainError> {
    let malformed = |error: Malformed| rpc.lying(format!("block {height}: {error}"));
    let ids = Fields(block).list("transactions").map_err(malformed)?;
    if ids.len() > RECEIPTS_MAX {
        return Err(rpc.lying(format!("block {height} has {} transactions", ids.len())));
    }
    // Whatever goes wrong, an answer that is too long included: one by one they can still be had.
    let all = rpc.probe("eth_getBlockReceipts", json!([hex_number(height)])).await.ok().flatten();
    if let Some(Value::Array(all)) = all
        && all.len() == ids.len()
    {
        return all.iter().map(|value| Receipt::parse(value).map_err(malformed)).collect();
    }
    let mut receipts = Vec::with_capacity(ids.len());
    for id in ids {
        let answer = rpc.call("eth_getTransactionReceipt", json!([id])).await?;
        receipts.push(Receipt::parse(&answer).map_err(malformed)?);
    }
    Ok(receipts)
}

/// The proof of the contract's storage, where the node has it.
async fn storage(rpc: &Rpc, claim: Claim, height: u64) -> Result<Option<StateProof>, ChainError> {
    let slot = root_slot(claim.expected.log_id, claim.head.size);
    let params = json!([hexadecimal(claim.expected.contract), [hexadecimal(slot)], hex_number(height)]);
    let Some(answer) = rpc.probe("eth_getProof", params).await? else { return Ok(None) };
    let nodes = |values: Option<&Value>| -> Option<Vec<Vec<u8>>> {
        values?.as_array()?.iter().map(super::answer::data).collect()
    };
    let account = nodes(answer.get("accountProof"));
    let storage = nodes(answer.pointer("/storageProof/0/proof"));
    Ok(account.zip(storage).map(|(account, storage)| StateProof { mapping_slot: ROOT_MAPPING_SLOT, account, storage }))
}
