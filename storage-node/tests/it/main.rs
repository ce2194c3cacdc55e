//! Drives and nodes as their callers see them, on model media and on real directories.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod audits;
mod bench_shape;
mod conformance;
mod crash;
mod faults;
mod identity;
mod node;
mod pg_epoch;
mod reclaim;
mod repair;
mod stage;
mod strays;
mod sweep;
mod world;
