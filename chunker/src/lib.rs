//! Bytes -> chunks -> packs -> shards, and back. Pure CPU: no IO, no clock, no randomness.
//!
//! Used by the gateway (write and read path), by storage nodes for repair, and by tests. It decides
//! nothing about placement and keeps nothing between calls but what a caller holds in its hands.
//!
//! | module | holds |
//! |---|---|
//! | [`buffer`] | the aligned buffer a pack is built in |
//! | [`cutter`] | content-defined chunk boundaries |
//! | [`stream`] | [`stream::PackWriter`]: bodies in, sealed packs and manifests out |
//! | [`pack`] | [`pack::SealedPack`] and how it gets its id |
//! | [`shards`] | erasure coding, shard ranges of a read, slot rotation |
//! | [`tree`] | object tree, object root, range proofs |
//! | [`slice`] | proofs for a range inside one chunk |
//! | [`pages`] | manifest pages: building, checking, finding the entries of a range |
//! | [`fuzzing`] | entry points for fuzz targets |
//! | [`cpu`] | refuses a processor the coding code was not built for |
#![deny(missing_docs)]

pub mod buffer;
pub mod cpu;
pub mod cutter;
pub mod fuzzing;
pub mod pack;
pub mod pages;
pub mod shards;
pub mod slice;
pub mod stream;
pub mod tree;

#[cfg(test)]
mod testing;
