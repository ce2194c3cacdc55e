//! Commands of the root group: cluster, nodes, drives, leases, epochs, buckets. They share one raft group
//! with the data commands as long as K = 1 (docs/decisions/0002-one-raft-group-first.md), so no
//! function here touches rows of `data`, except that a bucket is deleted only if it is empty, and that acts are logged.

pub(crate) mod acts;
pub(crate) mod backups;
mod buckets;
mod cluster;
mod gc;
mod leases;
mod lifecycle;
mod moves;
mod nodes;
mod tokens;

pub(crate) use nodes::SaidOfItself;
