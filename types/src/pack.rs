//! Pack identity, chunk list and encoding. Layout: docs/formats/pack.md.

use serde::{Deserialize, Serialize};

use crate::ids::{ChunkId, Epoch, PackId, ShardRoot};
use crate::scheme::Scheme;

mod chunk_list;
mod preimage;
#[cfg(test)]
mod tests;

pub use chunk_list::{
    CHUNK_LIST_BYTES_MAX, chunk_list_len, chunk_list_of, decode_chunk_list, decode_chunk_list_of, encode_chunk_list,
};

/// How a chunk's stored bytes relate to the chunk. Append-only list; unknown values are refused.
/// Serializes as its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Codec {
    /// Stored as they are.
    #[default]
    Raw = 0,
}

impl Codec {
    /// The codec with this number; `None` for one this program does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            _ => None,
        }
    }

    /// Whether a chunk of `len` bytes can be stored in `stored_len` bytes.
    pub const fn allows(self, len: u32, stored_len: u32) -> bool {
        match self {
            Self::Raw => len == stored_len,
        }
    }
}

impl From<Codec> for u8 {
    fn from(codec: Codec) -> Self {
        codec as Self
    }
}

/// A codec number that this program does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("codec {0} is unknown here; read it with a newer release")]
pub struct UnknownCodec(pub u8);

impl TryFrom<u8> for Codec {
    type Error = UnknownCodec;

    fn try_from(number: u8) -> Result<Self, UnknownCodec> {
        Self::from_number(number).ok_or(UnknownCodec(number))
    }
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
    /// Encryption key; 0 is none.
    pub key_id: u32,
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
