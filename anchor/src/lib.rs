//! The anchor role: closes sizes of the evidence log and signs their checkpoints. It trusts the cluster with
//! nothing: what it signed stands in a file of its own, and it signs only what extends that.
//!
//! | module | holds |
//! |---|---|
//! | [`chain`] | takes checkpoints to chains |
//! | [`evm`] | any chain that speaks Ethereum's JSON-RPC |
//! | [`ledger`] | the embedded chain, a file |
//! | [`steps`] | which step comes next; pure |
//! | [`memory`] | what was signed, on stable media before it is signed |
//! | [`prove`] | a consistency proof, from tiles that are asked for |
//! | [`anchor`] | carries the steps out |
#![deny(missing_docs)]

pub mod anchor;
pub mod chain;
pub mod evm;
pub mod ledger;
pub mod memory;
pub mod prove;
pub mod steps;
#[cfg(test)]
mod tests;
