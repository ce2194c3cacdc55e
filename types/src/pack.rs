//! Pack identity, chunk list and encoding. Layout: docs/formats/pack.md.

use serde::{Deserialize, Serialize};

use crate::ids::{ChunkId, Epoch, PackId, ShardRoot};
use crate::scheme::Scheme;

/// How a chunk's stored bytes relate to the chunk. Append-only list; unknown values are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum Codec {
    /// Stored as they are.
    #[default]
    Raw = 0,
}

/// What a pack id commits to. Silent about the encoding, so re-encoding never changes a manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PackPreimage {
    /// Start epoch of the write attempt.
    pub start_epoch: Epoch,
    /// Random; makes the id unique to one attempt and unguessable.
    #[serde(with = "nonce_bytes")]
    pub nonce: [u8; 16],
    /// Payload bytes: chunks, then the chunk list.
    pub payload_len: u32,
    /// Where the chunk list starts in the payload.
    pub chunk_list_offset: u32,
    /// BLAKE3 of the chunk list's bytes.
    pub chunk_list_hash: crate::ids::TreeHash,
}

/// One row of a pack's chunk list, in payload order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackChunk {
    /// The chunk, or the manifest page, that is stored here.
    pub id: ChunkId,
    /// Bytes of the chunk.
    pub len: u32,
    /// Bytes stored, after the codec.
    pub stored_len: u32,
    /// How they are stored.
    pub codec: Codec,
}

/// How a pack is kept now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Encoding {
    /// Raised by each re-encoding.
    pub generation: u32,
    /// k' and m.
    pub scheme: Scheme,
    /// `slots[i]` is the PG slot that holds shard i.
    pub slots: Vec<u8>,
    /// `roots[i]` is the root of shard i, zero padding included.
    pub roots: Vec<ShardRoot>,
}

/// Where a pack is and how it is read: kept beside its references.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PackRow {
    /// The pack.
    pub pack: PackId,
    /// Its placement group.
    pub pg: crate::ids::PgId,
    /// k' and m.
    pub scheme: Scheme,
    /// Raised by each re-encoding.
    pub generation: u32,
    /// Payload bytes; with the scheme they give the shard length.
    pub payload_len: u32,
    /// `slots[i]` is the PG slot that holds shard i.
    pub slots: Vec<u8>,
    /// Start epoch of the write that made it; a sweep asks only about packs at or below its fence.
    pub start_epoch: Epoch,
}

mod nonce_bytes {
    //! A 16-byte array as MessagePack `bin`.
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(v: &[u8; 16], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(v)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 16], D::Error> {
        let bytes = bytes::Bytes::deserialize(d)?;
        <[u8; 16]>::try_from(bytes.as_ref()).map_err(|_| serde::de::Error::custom("nonce is not 16 bytes"))
    }
}
