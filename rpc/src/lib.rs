//! What Stele's processes say to each other, and how it travels.
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | [`error::RpcError`]: kind, code, detail; never a text that a peer must parse |
//! | [`meta`] | requests to a metadata group: reads and commands |
//! | [`raft`] | messages between the voters of a metadata group |
//! | [`storage`] | requests to a storage node: shards, ranges, inventory, sweep |
//! | [`transport`] | [`transport::Transport`] and [`transport::Service`] |
//! | [`memory`] | the in-memory transport of `stele dev` and the simulator |
//! | [`tls`] | the cluster's CA, node certificates, who a peer is |
//! | [`quic`] | the transport between processes |
//! | [`join`] | how a new node gets its certificate: token, request, reply |
//! | [`fuzzing`] | entry points for the fuzz targets of what is parsed here |
//! | [`client`] | typed clients over a transport |
#![deny(missing_docs)]

pub mod client;
pub mod error;
pub mod fuzzing;
pub mod join;
pub mod memory;
pub mod meta;
mod meta_client;
pub mod quic;
pub mod raft;
pub mod storage;
pub mod tls;
pub mod transport;
