//! Sealed packs: payload, chunk list and the id over both. Layout: docs/formats/pack.md.
//!
//! Called by [`crate::stream::PackWriter`] when a pack is full. A sealed pack never changes.

use bytes::Bytes;
use stele_types::ids::{Epoch, PackId, TreeHash};
use stele_types::limits::{PACK_BYTES_MAX, PACK_CHUNKS_MAX, SHARD_ALIGN, SHARD_BYTES_MIN_FOR_SPLIT, SHARDS_MAX};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::pack::{PackChunk, PackPreimage, encode_chunk_list};

use crate::buffer::PackBuffer;

/// Names a body within a pack writer; the caller chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BodyTag(pub u64);

/// One chunk (or manifest page) of a sealed pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredChunk {
    /// The body it belongs to.
    pub body: BodyTag,
    /// Whether it is a manifest page of the body rather than bytes of it.
    pub page: bool,
    /// Where it is.
    pub entry: ChunkEntry,
}

/// The manifest of a body, known once the pack with the end of it was sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyManifest {
    /// The body.
    pub body: BodyTag,
    /// Its manifest.
    pub manifest: Manifest,
    /// Packs this writer sealed that the manifest or its pages refer to, in order: the references
    /// a commit of this body adds, besides those of entries that were handed in.
    pub packs: Vec<PackId>,
}

/// A pack ready to be encoded.
#[derive(Clone, Debug)]
pub struct SealedPack {
    /// BLAKE3 of `preimage`.
    pub id: PackId,
    /// What the id commits to.
    pub preimage: PackPreimage,
    /// `preimage.payload_len` bytes of payload, then zeros: enough of them that data shards of
    /// every scheme `Scheme::for_payload` picks are slices of it. Starts on a 4 KiB boundary.
    pub payload: Bytes,
    /// What it holds, in payload order.
    pub chunks: Vec<StoredChunk>,
    /// Bodies whose manifests are complete with this pack.
    pub manifests: Vec<BodyManifest>,
}

impl SealedPack {
    /// Payload bytes, without padding.
    pub fn payload_len(&self) -> usize {
        self.preimage.payload_len as usize
    }

    /// The stored bytes of an entry of this pack, without a copy: what a read cache wants.
    pub fn bytes_of(&self, entry: &ChunkEntry) -> Option<Bytes> {
        let start = entry.offset as usize;
        let end = start.checked_add(entry.stored_len as usize)?;
        let inside = entry.pack == self.id && end <= self.payload_len();
        inside.then(|| self.payload.slice(start..end))
    }
}

/// A pack can't be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// More bytes or chunks than a pack may hold.
    #[error("a pack of {chunks} chunks and {bytes} bytes; it holds at most {PACK_CHUNKS_MAX} and {PACK_BYTES_MAX}")]
    TooLarge {
        /// Chunks.
        chunks: usize,
        /// Bytes, chunk list included.
        bytes: usize,
    },
    /// The chunks' stored lengths are not the payload's length.
    #[error("chunks of {listed} bytes in a payload of {present}; a defect of the caller")]
    Mismatch {
        /// Sum of the stored lengths.
        listed: usize,
        /// Payload bytes.
        present: usize,
    },
}

/// Zero-padded length that covers k' * S of every scheme `Scheme::for_payload` may pick.
///
/// Each of k' shards is rounded up to [`SHARD_ALIGN`], and k' shards are only made of payloads of
/// at least k' * [`SHARD_BYTES_MIN_FOR_SPLIT`] bytes.
pub const fn padded_len(payload_len: usize) -> usize {
    let splits = payload_len / SHARD_BYTES_MIN_FOR_SPLIT;
    let shards = if splits < 1 {
        1
    } else if splits > SHARDS_MAX {
        SHARDS_MAX
    } else {
        splits
    };
    payload_len.div_ceil(SHARD_ALIGN) * SHARD_ALIGN + (shards - 1) * SHARD_ALIGN
}

/// Appends the chunk list to `payload` (chunks one after the other, nothing else), pads it, and
/// gives the pack its id. `nonce` is random and never used twice.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    mut payload: PackBuffer,
    chunks: &[PackChunk],
    start_epoch: Epoch,
    nonce: [u8; 16],
) -> Result<(PackId, PackPreimage, Bytes), SealError> {
    let offset = payload.len();
    let listed = chunks.iter().map(|c| c.stored_len as usize).sum();
    if listed != offset {
        return Err(SealError::Mismatch { listed, present: offset });
    }
    let bytes = offset + stele_types::pack::chunk_list_len(chunks.len());
    if bytes > PACK_BYTES_MAX || chunks.len() > PACK_CHUNKS_MAX {
        return Err(SealError::TooLarge { chunks: chunks.len(), bytes });
    }
    let list = encode_chunk_list(chunks);
    payload.reserve(padded_len(bytes) - offset);
    payload.extend_from_slice(&list);
    payload.pad_to(padded_len(bytes));
    let preimage = PackPreimage {
        start_epoch,
        nonce,
        payload_len: bytes as u32,
        chunk_list_offset: offset as u32,
        chunk_list_hash: TreeHash::from_bytes(*blake3::hash(&list).as_bytes()),
    };
    Ok((preimage.pack_id(), preimage, payload.freeze()))
}
