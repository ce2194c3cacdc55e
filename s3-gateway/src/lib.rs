//! S3 gateway: PUT and GET flows over metadata and storage clients, and the S3 edge in front.
//!
//! | module | holds |
//! |---|---|
//! | [`api`] | the protocol-neutral API: requests, replies, configuration |
//! | [`error`] | why an operation failed |
//! | [`gateway`] | [`gateway::Gateway`]: what all flows share |
//! | [`put`] | PUT, steps P1 to P9 |
//! | [`get`] | GET and HEAD, steps G1 to G7 |
//! | [`append`] | PUT at the end of an object |
//! | [`copy`] | CopyObject: the manifest, never the bytes |
//! | [`delete`], [`bucket`], [`list`] | the thin operations |
//! | [`evidence`] | evidence bundles |
//! | [`log_archive`] | old entries of the evidence log |
//! | [`multipart`] | uploads of parts |
//! | [`possession`] | possession audits |
//! | [`rename`] | another key for an object |
//! | [`fuzzing`] | entry point of a fuzz target |
//! | [`http`], [`s3`] | the edge: HTTP server, S3 operations, errors
//!
//! Every operation takes the [`gateway::Gateway`] first and a request of [`api`] behind it. It depends
//! on metadata and storage through `stele-rpc` only, so the same code runs in one process, in a
//! cluster and in the simulator.

pub mod api;
pub mod append;
pub mod bucket;
pub mod copy;
pub mod delete;
pub mod error;
pub mod evidence;
pub mod fuzzing;
pub mod gateway;
pub mod get;
pub mod http;
pub mod list;
pub mod lock;
pub mod log_archive;
pub mod multipart;
pub mod possession;
pub mod put;
pub mod rename;
pub mod s3;
pub mod tags;

mod body_out;
mod budget;
mod cache;
mod complete;
mod conditions;
mod cpu;
mod digests;
mod early;
mod fetch;
mod ingest;
mod lease;
mod map;
mod metrics;
mod nodes;
mod packer;
mod part_copy;
mod protect;
mod rebuild;
mod redigest;
mod store;
mod task;
mod walk;

#[cfg(test)]
mod tests;
