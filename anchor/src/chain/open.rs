//! Opens chains as they are configured. What stands here is all that the program needs to know of them:
//!
//! ```text
//! let chain = open(backend, log_id(origin))?;
//! let submitter = Submitter::new(chain, store, Rules::default());
//! tokio::spawn(submitter.run(newest_checkpoint, interval, tell));
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use stele_evidence::keys::Signer;
use stele_types::seam::Clock;

use super::backend::{Chain, ChainError};
use super::state::Hash;
use crate::evm::backend::{Config, Evm, Finality};
use crate::evm::key::{AccountKey, KeyError};
use crate::evm::price::Dialect;
use crate::evm::rpc::Rpc;
use crate::ledger::Ledger;
use crate::ledger::file::LedgerFileError;

/// A chain as it is configured.
pub enum Backend {
    /// The embedded one.
    Ledger {
        /// Its file, in the anchor's directory.
        path: PathBuf,
        /// Its key: [`stele_evidence::keys::Ed25519Signer::for_ledger`].
        signer: Arc<dyn Signer + Send + Sync>,
        /// Gives blocks their time.
        clock: Arc<dyn Clock>,
    },
    /// Any that speaks Ethereum's JSON-RPC.
    Evm {
        /// `http` or `https` URLs of nodes of one chain; another one is asked when one fails.
        endpoints: Vec<String>,
        /// For one question to a node.
        timeout: Duration,
        /// File with the account's key.
        key: PathBuf,
        /// The chain's number (EIP-155).
        chain: u64,
        /// The contract: [`parse_address`].
        contract: [u8; 20],
        /// When a block stays.
        finality: Finality,
        /// Which transactions the chain takes.
        dialect: Dialect,
    },
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger { path, .. } => f.debug_struct("Ledger").field("path", path).finish_non_exhaustive(),
            // Endpoints may hold secrets.
            Self::Evm { chain, .. } => f.debug_struct("Evm").field("chain", chain).finish_non_exhaustive(),
        }
    }
}

/// Why a chain can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerFileError),
    /// The account's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The endpoints.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl Backend {
    /// What auditors need to know of it, as a line of the file that they give to `stele-verify --chains`.
    ///
    /// # Errors
    /// The account's key can't be read.
    pub fn line_for_auditors(&self, name: &str) -> Result<String, OpenError> {
        Ok(match self {
            Self::Ledger { signer, .. } => format!("ledger {name} {}", signer.vkey()),
            Self::Evm { key, chain, contract, .. } => {
                let sender = AccountKey::read(key)?.address();
                format!("evm {name} {chain} {} {sender}", Address::from(*contract))
            }
        })
    }
}

/// Opens a chain for the log with this id: [`stele_evidence::chain::log_id`] of its origin. No node is asked yet.
///
/// # Errors
/// [`OpenError`].
pub fn open(backend: Backend, log_id: Hash) -> Result<Box<dyn Chain>, OpenError> {
    Ok(match backend {
        Backend::Ledger { path, signer, clock } => Box::new(Ledger::open(&path, signer, clock, log_id)?),
        Backend::Evm { endpoints, timeout, key, chain, contract, finality, dialect } => {
            let config = Config { chain, contract: contract.into(), log_id, finality, dialect };
            Box::new(Evm::new(Rpc::new(&endpoints, timeout)?, AccountKey::read(&key)?, config))
        }
    })
}

/// An address: `0x` and 40 hexadecimal digits; where capitals are mixed in, they have to be right, as EIP-55 says.
pub fn parse_address(text: &str) -> Option<[u8; 20]> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 40)?;
    let mixed =
        digits.bytes().any(|byte| byte.is_ascii_uppercase()) && digits.bytes().any(|byte| byte.is_ascii_lowercase());
    let address = if mixed { Address::parse_checksummed(text, None).ok() } else { Address::from_str(text).ok() };
    address.map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_wrong_capitals_are_typing_errors() {
        let right = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        assert!(parse_address(right).is_some());
        assert_eq!(parse_address(&right.to_lowercase()), parse_address(right));
        for wrong in [&right.replace("f39F", "F39f"), &right[2..], &right[..41], "", "0x", &format!("{right}0")] {
            assert_eq!(parse_address(wrong), None, "{wrong}");
        }
    }
}
