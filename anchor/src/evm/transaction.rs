//! Transactions, signed: with a fee as EIP-1559 has it, or with a plain gas price, bound to the chain by EIP-155.

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
use alloy_primitives::{Signature, TxKind, U256};
use bytes::Bytes;

use super::key::{AccountKey, KeyError};
use crate::chain::state::{Candidate, Fee};

/// What is sent where, and on which terms.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// The chain.
    pub chain: u64,
    /// Number within the account.
    pub nonce: u64,
    /// The contract; or its creation.
    pub to: TxKind,
    /// The call, or the contract's code.
    pub input: Vec<u8>,
    /// Most gas that it uses.
    pub gas: u64,
    /// What it offers.
    pub fee: Fee,
}

/// Signs. The same transaction has the same bytes whenever it is signed.
///
/// # Errors
/// [`KeyError::Sign`].
pub fn sign(key: &AccountKey, unsigned: Unsigned, height: u64) -> Result<Candidate, KeyError> {
    let Unsigned { chain, nonce, to, input, gas, fee } = unsigned;
    let (value, input) = (U256::ZERO, input.into());
    let (id, raw) = match fee.tip {
        Some(tip) => {
            let (max_fee_per_gas, max_priority_fee_per_gas) = (fee.max, tip);
            let access_list = alloy_eips::eip2930::AccessList::default();
            let chain_id = chain;
            signed(
                key,
                TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit: gas,
                    max_fee_per_gas,
                    max_priority_fee_per_gas,
                    to,
                    value,
                    access_list,
                    input,
                },
            )?
        }
        None => {
            let (chain_id, gas_price) = (Some(chain), fee.max);
            signed(key, TxLegacy { chain_id, nonce, gas_price, gas_limit: gas, to, value, input })?
        }
    };
    Ok(Candidate { id, raw, fee: Some(fee), gas, height })
}

fn signed<T: SignableTransaction<Signature> + RlpEcdsaEncodableTx>(
    key: &AccountKey,
    transaction: T,
) -> Result<([u8; 32], Bytes), KeyError> {
    let signature = key.sign(transaction.signature_hash())?;
    let signed = transaction.into_signed(signature);
    let mut raw = Vec::new();
    signed.eip2718_encode(&mut raw);
    Ok((signed.hash().0, raw.into()))
}
