//! The metadata service: namespace, leases, references, cluster map and evidence log, replicated by
//! raft. Answers [`stele_rpc::meta::MetaRequest`] as a [`stele_rpc::transport::Service`].
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | [`MetadataNode`]: open, serve, shut down |
//! | [`keyspace`], [`rows`] | every key and value of the state machine |
//! | [`apply`] | the pure state machine: commands in, rows and reply out |
//! | [`reads`] | answers from one consistent view |
//! | [`kv`] | the narrow door to the engine |
//! | `raft` | the only module that knows openraft |
//! | [`snapshot`] | rows as a checked byte stream |
//! | [`backup`] | that stream sealed to the operator's key, and a new group made of it |
//! | [`fuzzing`] | entry points of fuzz targets |
//! | [`placement`] | slots of placement groups, over failure domains |
//! | `archives` | which entries of the log stand in archives only |
//! | [`overseer`] | what the leader does about silent, new and removed nodes, and lost drives |
//! | [`files`], [`media`], [`model_disk`] | what the databases stand on: real files, or a model that fails on demand |
#![deny(missing_docs)]

pub mod apply;
mod archives;
pub mod backup;
pub mod config;
pub mod executor;
pub mod files;
pub mod fuzzing;
pub mod keyspace;
pub mod kv;
mod liveness;
pub mod media;
pub mod metrics;
pub mod model_disk;
pub mod node;
pub mod overseer;
pub mod placement;
mod raft;
pub mod reads;
pub mod rows;
pub mod snapshot;
#[cfg(test)]
mod testing;

pub use config::{Founding, MetadataConfig, REPLACE_AFTER, RaftTiming, SETTLE};
pub use executor::Executor;
pub use media::Storage;
pub use node::MetadataNode;
pub use raft::seed_thread as seed_raft_randomness;
