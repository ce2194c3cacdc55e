//! Anchors on any chain that speaks Ethereum's JSON-RPC, through the contract of `anchor/contract`.
//!
//! | module | holds |
//! |---|---|
//! | [`rpc`] | the JSON-RPC client: bounded answers, deadlines, several endpoints |
//! | [`answer`] | strict reading of answers |
//! | [`key`] | the account's key, from a file |
//! | [`contract`] | calls, events, errors and storage of the contract |
//! | [`transaction`] | transactions, signed |
//! | [`price`] | what a transaction has to offer |
//! | [`receipt`] | receipts: did it take effect, and their place in the receipt trie |
//! | [`header`] | block headers as their hash covers them |
//! | [`capture`] | the proof of an anchor that needs no provider later |
//! | [`backend`] | all of it behind the trait of every chain |
//! | [`reader`] | what a node tells of a log's anchors |
//! | [`history`] | all anchors of a log, for who watches it |
//! | [`deploy`] | puts the contract onto a chain |

pub mod answer;
pub mod backend;
pub mod capture;
pub mod contract;
pub mod deploy;
pub mod header;
pub mod history;
pub mod key;
pub mod price;
pub mod reader;
pub mod receipt;
pub mod rpc;
#[cfg(test)]
mod tests;
pub mod transaction;
