//! Bytes of a pack's chunk list: what a pack holds, said by the pack itself, so that a pack can be
//! read and checked without any metadata. Layout: docs/formats/pack.md.

use crate::ids::{ChunkId, TreeHash};
use crate::limits::{CHUNK_BYTES_MAX, PACK_BYTES_MAX, PACK_CHUNKS_MAX};
use crate::pack::{Codec, PackChunk, PackPreimage};
use crate::wire::{FormatError, Reader};

const FORMAT: &str = "chunk list";
const MAGIC: &[u8; 8] = b"stelepcl";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const ROW_BYTES: usize = 48;

/// Bytes of a chunk list of `chunks` rows.
pub const fn chunk_list_len(chunks: usize) -> usize {
    HEADER_BYTES + chunks * ROW_BYTES
}

/// Most bytes a chunk list can have.
pub const CHUNK_LIST_BYTES_MAX: usize = chunk_list_len(PACK_CHUNKS_MAX);

/// Encodes the list of a pack; rows in payload order.
///
/// # Panics
/// If there are more than [`PACK_CHUNKS_MAX`] rows: the pack writer never lets that happen.
pub fn encode_chunk_list(chunks: &[PackChunk]) -> Vec<u8> {
    assert!(chunks.len() <= PACK_CHUNKS_MAX, "a pack of {} chunks", chunks.len());
    let mut out = Vec::with_capacity(chunk_list_len(chunks.len()));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(chunks.len() as u32).to_le_bytes());
    for chunk in chunks {
        out.extend_from_slice(chunk.id.as_bytes());
        out.extend_from_slice(&chunk.len.to_le_bytes());
        out.extend_from_slice(&chunk.stored_len.to_le_bytes());
        out.extend_from_slice(&chunk.key_id.to_le_bytes());
        out.extend_from_slice(&[chunk.codec as u8, 0, 0, 0]);
    }
    out
}

/// Reads a chunk list back.
///
/// # Errors
/// Wrong magic or version, a count, length or codec outside the limits, or a wrong length.
pub fn decode_chunk_list(bytes: &[u8]) -> Result<Vec<PackChunk>, FormatError> {
    let mut reader = Reader::new(FORMAT, bytes);
    reader.magic(MAGIC)?;
    let version = reader.u16()?;
    if version != VERSION {
        return Err(FormatError::Version { format: FORMAT, found: u32::from(version) });
    }
    let flags = reader.u16()?;
    reader.require(flags == 0, "unknown flags")?;
    let count = reader.u32()? as usize;
    reader.require(count <= PACK_CHUNKS_MAX, "more chunks than a pack may hold")?;
    reader.require(reader.remaining() == count * ROW_BYTES, "count and length disagree")?;
    let mut chunks = Vec::with_capacity(count);
    let mut payload = 0usize;
    for _ in 0..count {
        let chunk = decode_row(&mut reader)?;
        payload += chunk.stored_len as usize;
        reader.require(payload <= PACK_BYTES_MAX, "more bytes than a pack may hold")?;
        chunks.push(chunk);
    }
    reader.end()?;
    Ok(chunks)
}

fn decode_row(reader: &mut Reader<'_>) -> Result<PackChunk, FormatError> {
    let id = ChunkId::from_bytes(reader.array()?);
    let (len, stored_len, key_id) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let codec = Codec::from_number(reader.u8()?).ok_or(reader.invalid("unknown codec"))?;
    let reserved: [u8; 3] = reader.array()?;
    reader.require(reserved == [0; 3], "reserved bytes are not zero")?;
    reader.require(len > 0 && len as usize <= CHUNK_BYTES_MAX, "chunk length outside the limits")?;
    reader.require(codec.allows(len, stored_len), "stored length does not fit the codec")?;
    Ok(PackChunk { id, len, stored_len, codec, key_id })
}

/// Reads the chunk list out of a whole payload (`payload_len` bytes, without padding) and checks it
/// against the preimage.
///
/// # Errors
/// A payload of another length, a list with another hash, or one that does not add up.
pub fn chunk_list_of(preimage: &PackPreimage, payload: &[u8]) -> Result<Vec<PackChunk>, FormatError> {
    let reader = Reader::new(FORMAT, payload);
    reader.require(payload.len() == preimage.payload_len as usize, "payload has another length")?;
    let list = payload.get(preimage.chunk_list_offset as usize..).ok_or(reader.invalid("no room for it"))?;
    decode_chunk_list_of(preimage, list)
}

/// Decodes the chunk list's own bytes and checks them against the preimage: the way to read a pack
/// whose chunk list was fetched by itself.
///
/// # Errors
/// A list with another hash, or one that does not add up.
pub fn decode_chunk_list_of(preimage: &PackPreimage, list: &[u8]) -> Result<Vec<PackChunk>, FormatError> {
    let reader = Reader::new(FORMAT, list);
    let hash = TreeHash::from_bytes(*blake3::hash(list).as_bytes());
    reader.require(hash == preimage.chunk_list_hash, "hash differs from the preimage's")?;
    let chunks = decode_chunk_list(list)?;
    let stored: usize = chunks.iter().map(|c| c.stored_len as usize).sum();
    let expected = preimage.chunk_list_offset as usize;
    reader.require(stored == expected, "chunks end elsewhere than the list begins")?;
    let whole = expected + list.len();
    reader.require(whole == preimage.payload_len as usize, "list ends elsewhere than the payload")?;
    Ok(chunks)
}
