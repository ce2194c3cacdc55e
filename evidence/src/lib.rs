//! The evidence log: records, entries, the RFC 6962 tree over them, its tiles and proofs. Pure: no
//! IO, no clock, no randomness, no async runtime, so that the offline verifier can link it.
//!
//! | module | holds |
//! |---|---|
//! | [`fuzzing`] | entry points of fuzz targets |
//! | [`cbor`] | the small deterministic CBOR subset that records use |
//! | [`record`] | [`record::Record`]: what happened to one version of one key |
//! | [`tree`] | leaf, node and root hashes; [`tree::Edge`], the right edge that appends need |
//! | [`tiles`] | C2SP tlog-tiles: which hashes stand in which tile, and hashes of subtrees from tiles |
//! | [`proof`] | inclusion and consistency proofs: generation from tiles, verification (RFC 9162) |
#![deny(missing_docs)]

pub mod cbor;
pub mod fuzzing;
pub mod proof;
pub mod record;
pub mod tiles;
pub mod tree;
