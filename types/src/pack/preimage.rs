//! Bytes of a pack's preimage and the pack id over them. Layout: docs/formats/pack.md.

use crate::ids::{Epoch, PackId, TreeHash};
use crate::limits::PACK_BYTES_MAX;
use crate::pack::PackPreimage;
use crate::wire::{FormatError, Reader};

const FORMAT: &str = "pack preimage";
const MAGIC: &[u8; 8] = b"stelepid";
const VERSION: u8 = 1;

impl PackPreimage {
    /// Length of the encoded preimage.
    pub const ENCODED_LEN: usize = 73;

    /// The bytes a pack id is the BLAKE3 of.
    pub fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        let mut out = [0u8; Self::ENCODED_LEN];
        let fields: [&[u8]; 7] = [
            MAGIC,
            &[VERSION],
            &self.start_epoch.0.to_le_bytes(),
            &self.nonce,
            &self.payload_len.to_le_bytes(),
            &self.chunk_list_offset.to_le_bytes(),
            self.chunk_list_hash.as_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            out[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        out
    }

    /// Reads [`Self::encode`]'s bytes back.
    ///
    /// # Errors
    /// Wrong length, magic or version, or lengths that no pack can have.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(FORMAT, bytes);
        reader.magic(MAGIC)?;
        let version = reader.u8()?;
        if version != VERSION {
            return Err(FormatError::Version { format: FORMAT, found: u32::from(version) });
        }
        let preimage = Self {
            start_epoch: Epoch(reader.u64()?),
            nonce: reader.array()?,
            payload_len: reader.u32()?,
            chunk_list_offset: reader.u32()?,
            chunk_list_hash: TreeHash::from_bytes(reader.array()?),
        };
        reader.require(preimage.payload_len as usize <= PACK_BYTES_MAX, "payload above the limit")?;
        reader.require(preimage.chunk_list_offset < preimage.payload_len, "chunk list starts behind the payload")?;
        reader.end()?;
        Ok(preimage)
    }

    /// The pack's id.
    pub fn pack_id(&self) -> PackId {
        PackId::from_bytes(*blake3::hash(&self.encode()).as_bytes())
    }
}
