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
//! | [`fetched`] | tiles that are fetched one at a time, as proofs need them |
//! | [`rebuild`] | a log computed anew from its entries |
//! | [`log_archive`] | records of long ago, as files |
//! | [`anchor_archive`] | anchors of long ago, as files |
//! | [`watch`] | whether checkpoints belong to one history |
//! | [`tile_path`] | where tiles and entry bundles stand |
//! | [`entry_bundle`] | entry bundles: the entries of a tile |
//! | [`proof`] | inclusion and consistency proofs: generation from tiles, verification (RFC 9162) |
//! | [`vkey`] | names, identifiers and texts of public keys |
//! | [`keys`] | checking signatures; signers made from seeds |
//! | [`note`] | C2SP signed-note: a text and its signatures |
//! | [`checkpoint`] | C2SP tlog-checkpoint: origin, size, root |
//! | [`cosignature`] | C2SP tlog-cosignature: what logs and witnesses sign |
//! | [`policy`] | C2SP tlog-policy: which logs and witnesses are trusted |
//! | [`tlog_proof`] | C2SP tlog-proof: one entry's path to a signed checkpoint |
//! | [`chain`] | proofs that a chain took notice of a checkpoint |
//! | [`timestamp`] | RFC 3161 time stamps over checkpoints |
//! | [`bundle`] | evidence bundles: writing, reading, judging, reporting |
//! | [`witness`] | C2SP tlog-witness: requests for cosignatures, and the decision on them |
//! | [`audit`] | possession audits: inventories, challenges, answers, verdicts, reports |
#![deny(missing_docs)]

pub mod anchor_archive;
pub mod audit;
pub mod bundle;
pub mod cbor;
pub mod chain;
pub mod checkpoint;
pub mod cosignature;
pub mod entry_bundle;
pub mod fetched;
pub mod fuzzing;
#[cfg(test)]
mod golden;
pub mod keys;
mod lines;
pub mod log_archive;
pub mod note;
#[cfg(test)]
mod oracles;
pub mod policy;
pub mod proof;
pub mod rebuild;
pub mod record;
pub mod tile_path;
pub mod tiles;
pub mod timestamp;
pub mod tlog_proof;
pub mod tree;
pub mod vkey;
pub mod watch;
pub mod witness;
