//! Evidence bundles: a folder that an auditor takes home, and what can be said of it without any
//! network. Layout: docs/formats/bundle.md. An entry bundle, [`crate::entry_bundle`], is another thing.
//!
//! An exporter writes one with [`writer::BundleWriter`]; `stele-verify` reads it with
//! [`verify::verify`]. Whoever made the bundle is taken to be hostile.
//!
//! | module | holds |
//! |---|---|
//! | [`contents`] | `stele-bundle.json`: which objects, and which file is what |
//! | [`names`] | which file names a bundle may have |
//! | [`bag`] | BagIt: digest lists, and whether all files are there and unchanged |
//! | [`chunks_file`] | lengths and ids of all chunks of an object, read as a stream |
//! | [`range_file`] | proof that a byte range lies in certain chunks |
//! | [`join`] | that two sizes are of one log |
//! | [`files`] | where a bundle's files come from and go to |
//! | [`writer`] | making a bundle |
//! | [`verify`] | judging one |
//! | [`claims`] | what a judgement is made of |
//! | [`report`] | the judgement as text, JSON and a page to print |

pub mod bag;
mod calendar;
pub mod chunks_file;
pub mod claims;
pub mod contents;
pub mod files;
pub mod join;
pub mod names;
pub mod range_file;
pub mod report;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod writer;

pub use calendar::utc;

/// Most objects in a bundle.
pub const OBJECTS_MAX: usize = 1000;
/// Most files in a bundle.
pub const FILES_MAX: usize = 16 * 1024;
/// Largest `stele-bundle.json`, bytes.
pub const CONTENTS_MAX: usize = 4 * 1024 * 1024;
/// Largest list of digests, bytes.
pub const DIGESTS_MAX: usize = 4 * 1024 * 1024;
/// Largest `bag-info.txt`, bytes.
pub const INFO_MAX: usize = 64 * 1024;
/// Largest record, bytes: an entry bundle of the log could not hold a larger one either.
pub const RECORD_MAX: usize = 65_535;
/// Most chunks that a range may touch; whoever needs more takes the chunks file.
pub const RANGE_CHUNKS_MAX: usize = 4096;
/// Most anchors in a bundle.
pub const ANCHORS_MAX: usize = 64;
/// Most time stamps in a bundle.
pub const TIMESTAMPS_MAX: usize = 16;
/// Largest file with a consistency proof, bytes: 63 lines of 45.
pub const CONSISTENCY_MAX: usize = 63 * 45;

/// Bytes held of whatever is read as a stream.
pub(crate) const BUFFER: usize = 64 * 1024;

// What is held at once at most: both lists and the contents as text and parsed, a policy, a proof, a
// range file, one slice and what it unpacks to. The sum stays under 32 MiB.
const _: () = assert!(
    3 * DIGESTS_MAX
        + 2 * CONTENTS_MAX
        + crate::policy::POLICY_MAX
        + 2 * crate::chain::trust::CHAINS_MAX
        + crate::note::NOTE_MAX
        + 2 * crate::timestamp::roots::ROOTS_MAX
        + 2 * crate::tlog_proof::TLOG_PROOF_MAX
        + 2 * range_file::RANGE_FILE_MAX
        + 2 * verify::SLICE_MAX
        + 4 * BUFFER
        < 32 * 1024 * 1024
);

// Anchors and time stamps are looked at when no slice is held any more, and take less.
const _: () = assert!(
    2 * crate::chain::evm::EVM_PROOF_MAX
        + 2 * CONSISTENCY_MAX
        + 3 * crate::note::NOTE_MAX
        + 4 * crate::timestamp::RESPONSE_MAX
        < 2 * verify::SLICE_MAX
);
