//! Storage node: drives that keep shards, and the sweep that takes garbage away.
//!
//! | module | holds |
//! |---|---|
//! | [`media`] | the seam to a directory: real files, and a model that fails |
//! | [`identity`] | which drive a directory is; formatting |
//! | [`drive`] | segments, group commit, index, range reads, reclaim |
//! | [`node`] | all drives of a node as an [`stele_rpc::transport::Service`] |
//! | [`repair`] | missing shards made anew from others |
//! | [`sweep`] | garbage collection: condemn, wait, ask again, delete |
//! | [`config`], [`metrics`], [`exec`] | settings, counters, where loops run |
#![deny(missing_docs)]

pub mod config;
#[cfg(test)]
mod corpus;
pub mod drive;
pub mod exec;
pub mod identity;
pub mod media;
pub mod metrics;
pub mod node;
pub mod repair;
pub mod sweep;
