//! Where an object's chunks are. Layout of pages: docs/formats/manifest.md.
//!
//! Up to [`crate::limits::MANIFEST_INLINE_CHUNKS`] entries stand in the version row. Beyond that,
//! pages of up to [`crate::limits::MANIFEST_PAGE_ENTRIES`] entries are stored in packs, under index
//! pages of as many page references. Every page but the last of its level is full, so that a page's
//! `top` is a complete subtree of the object tree and a range reads one path.

use serde::{Deserialize, Serialize};

use crate::ids::{ChunkId, PackId, TreeHash};
use crate::pack::Codec;

mod page;
#[cfg(test)]
mod tests;

pub use page::{PAGE_BYTES_MAX, PageError, decode_page, encode_page};

/// One chunk of an object and the place where it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// BLAKE3 of the chunk's bytes.
    pub id: ChunkId,
    /// Bytes of the chunk.
    pub len: u32,
    /// The pack that holds it.
    pub pack: PackId,
    /// Where it starts in the pack's payload.
    pub offset: u32,
    /// Bytes stored, after the codec.
    pub stored_len: u32,
    /// How they are stored.
    pub codec: Codec,
    /// Encryption key; 0 is none.
    pub key_id: u32,
}

/// A stored manifest page or index page, and the part of the object below it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PageRef {
    /// The page's bytes, stored like a chunk.
    pub page: ChunkEntry,
    /// Top of the object tree over the chunks below this page.
    pub top: TreeHash,
    /// Object bytes below this page.
    pub bytes: u64,
    /// Chunks below this page.
    pub chunks: u64,
}

/// Ordered list of an object's chunks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Manifest {
    /// All of them, at most [`crate::limits::MANIFEST_INLINE_CHUNKS`]; none for an empty object.
    Inline(Vec<ChunkEntry>),
    /// A page tree.
    Paged {
        /// The topmost page.
        root: PageRef,
        /// Levels of index pages above the manifest pages: 0 means `root` is a manifest page.
        index_levels: u8,
    },
}

/// One decoded page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Page {
    /// Chunks in order.
    Entries(Vec<ChunkEntry>),
    /// Pages of the level below, in order.
    Index(Vec<PageRef>),
}

impl Manifest {
    /// Object bytes.
    pub fn total_len(&self) -> u64 {
        match self {
            Self::Inline(entries) => entries.iter().map(|e| u64::from(e.len)).sum(),
            Self::Paged { root, .. } => root.bytes,
        }
    }

    /// Chunks of the object.
    pub fn chunks(&self) -> u64 {
        match self {
            Self::Inline(entries) => entries.len() as u64,
            Self::Paged { root, .. } => root.chunks,
        }
    }
}
