//! Proofs that a chain took notice of a checkpoint. A chain has its own writers, so what it recorded can't
//! be changed by the log's operator alone; how far that reaches differs from chain to chain.
//!
//! | module | holds |
//! |---|---|
//! | [`ledger`] | the embedded default: hash-linked signed blocks of the operator's own |
//! | [`evm`] | proofs of anchors on Ethereum-like chains |
//! | [`trust`] | which chains an auditor trusts |
//! | [`trie`] | Merkle Patricia proofs, which those are made of |
//! | [`rlp`] | the encoding of all of it |

use sha2::{Digest, Sha256};

use crate::tree::Hash;

pub mod evm;
pub mod ledger;
pub mod rlp;
pub mod trie;
pub mod trust;

/// What a log is called on a chain: SHA-256 of its origin, so that chains tell nobody whose log it is.
pub fn log_id(origin: &str) -> Hash {
    Sha256::digest(origin).into()
}

/// What an anchor says: this log had this root at this size, and was anchored at `previous` before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchored {
    /// [`log_id`] of the log.
    pub log_id: Hash,
    /// Size that was anchored before; 0 if none was.
    pub previous: u64,
    /// Entries of the log; more than before.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: Hash,
}
