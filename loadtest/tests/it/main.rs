//! The real `stele` binary under real clients: durability across restarts, lost drives, garbage and
//! kill -9, and object_store's own integration suite.
//!
//! The binary is taken from `STELE_BIN`, else from `target/debug/stele`; build it first with
//! `cargo build -p stele-cli`. Every test starts its own store on free ports in its own directory
//! and ends it by its own process id.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests look at and damage a store's files, and wait on real time")]

mod clients;
mod kill;
mod persistence;
mod recipe;
mod server;
