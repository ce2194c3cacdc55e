//! Nouns, limits and stored formats of Stele. Pure: no IO, no clock, no randomness.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | newtypes for ids, hashes and epochs |
//! | [`limits`] | every protocol limit, with the relations between them asserted |
//! | [`error`] | the ten prescriptive error kinds |
//! | [`fuzzing`] | entry points for the fuzz targets of these formats |
//! | [`seam`] | [`seam::Clock`] and [`seam::Rng`], the only ways to time and randomness |
//! | [`role`] | what a process is in the cluster |
//! | [`scheme`] | erasure-coding schemes and shard sizes |
//! | [`pack`] | pack identity, chunk list, encoding |
//! | [`manifest`] | where an object's chunks are |
//! | [`map`] | nodes, drives, placement groups |
//! | [`object`] | version attributes, preconditions, bucket configuration |
//! | [`wire`] | bounded reading of stored bytes |
//! | [`segment`] | records of a drive's append-only files |
#![deny(missing_docs)]

pub mod error;
pub mod fuzzing;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod map;
pub mod object;
pub mod pack;
pub mod role;
pub mod scheme;
pub mod seam;
pub mod segment;
pub mod wire;
