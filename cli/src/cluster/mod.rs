//! A cluster of processes: each role its own process, over QUIC.
//!
//! | module | holds |
//! |---|---|
//! | [`init`] | `stele cluster init`: CA, first metadata node, admin file |
//! | [`restore`], [`compare`] | a new first metadata node of a backup, and what it does before sweeps go on |
//! | [`metadata`], [`storage_node`], [`s3_gateway`] | the roles |
//! | [`operator`], [`admin_file`] | what an operator does, and with which papers |
//! | [`plan`] | `stele plan`: what a change of the storage nodes leads to |
//! | [`join`], [`desk`] | joining, from both sides |
//! | [`node_dir`], [`drive_list`] | what a node keeps on disk |
//! | [`wire`] | one process's way to the others |
//! | [`follow`] | heartbeats, cluster map, certificate renewal |
//! | [`process`] | the admin port, what is said, stopping |
//! | [`command`] | the command line of all this |

mod admin_file;
mod anchor;
pub(crate) mod command;
mod compare;
mod desk;
mod drive_list;
mod follow;
mod init;
mod join;
mod metadata;
mod node_dir;
pub(crate) mod operator;
pub(crate) mod plan;
mod process;
mod restore;
mod s3_gateway;
mod storage_node;
pub(crate) mod wire;
mod words;
