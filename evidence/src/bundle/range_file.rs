//! The range file: the object-tree proof that a byte range lies in certain chunks, as bytes. Layout:
//! docs/formats/bundle.md; what it proves: docs/formats/object-tree.md.

use stele_chunker::tree::{Leaf, RangeProof};
use stele_types::ids::{ChunkId, TreeHash};
use stele_types::limits::CHUNK_BYTES_MAX;
use stele_types::wire::{FormatError, Reader};

use super::RANGE_CHUNKS_MAX;

const FORMAT: &str = "range file";
const MAGIC: &[u8; 8] = b"stelebrp";
const VERSION: u16 = 1;
/// Each level of a tree has at most one sibling on either side of a range.
const SIBLINGS_MAX: usize = 2 * 64;
const HEADER_BYTES: usize = 44;
const LEAF_BYTES: usize = 36;
const SIBLING_BYTES: usize = 40;

/// Largest range file, bytes.
pub const RANGE_FILE_MAX: usize = HEADER_BYTES + RANGE_CHUNKS_MAX * LEAF_BYTES + SIBLINGS_MAX * SIBLING_BYTES;

/// Writes a proof.
///
/// # Errors
/// More leaves or siblings than a range file holds, or a length that no chunk has.
pub fn encode_range_proof(proof: &RangeProof) -> Result<Vec<u8>, FormatError> {
    let none = Reader::new(FORMAT, &[]);
    none.require(proof.leaves.len() <= RANGE_CHUNKS_MAX, "more chunks than a range may touch")?;
    none.require(proof.siblings.len() <= SIBLINGS_MAX, "more siblings than any tree has")?;
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    for count in [proof.leaves.len(), proof.siblings.len()] {
        out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }
    for number in [proof.total_len, proof.chunks, proof.first] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for leaf in &proof.leaves {
        none.require((1..=CHUNK_BYTES_MAX as u64).contains(&leaf.len), "a length that no chunk has")?;
        out.extend_from_slice(&u32::try_from(leaf.len).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(leaf.id.as_bytes());
    }
    for (top, bytes) in &proof.siblings {
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(top.as_bytes());
    }
    Ok(out)
}

/// Reads a proof; whether it holds is for [`stele_chunker::tree::verify_range`] to say.
///
/// # Errors
/// Another magic or version, counts or lengths outside the limits, or bytes too few or too many.
pub fn decode_range_proof(bytes: &[u8]) -> Result<RangeProof, FormatError> {
    let mut reader = Reader::new(FORMAT, bytes);
    reader.magic(MAGIC)?;
    let version = reader.u16()?;
    if version != VERSION {
        return Err(FormatError::Version { format: FORMAT, found: u32::from(version) });
    }
    let flags = reader.u16()?;
    reader.require(flags == 0, "unknown flags")?;
    let (leaves, siblings) = (reader.u32()? as usize, reader.u32()? as usize);
    reader.require(leaves <= RANGE_CHUNKS_MAX, "more chunks than a range may touch")?;
    reader.require(siblings <= SIBLINGS_MAX, "more siblings than any tree has")?;
    let (total_len, chunks, first) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let expected = leaves * LEAF_BYTES + siblings * SIBLING_BYTES;
    reader.require(reader.remaining() == expected, "counts and length disagree")?;
    let mut proof = RangeProof { total_len, chunks, first, leaves: Vec::new(), siblings: Vec::new() };
    for _ in 0..leaves {
        let len = reader.u32()?;
        reader.require((1..=CHUNK_BYTES_MAX).contains(&(len as usize)), "a length that no chunk has")?;
        proof.leaves.push(Leaf { id: ChunkId::from_bytes(reader.array()?), len: u64::from(len) });
    }
    for _ in 0..siblings {
        let bytes = reader.u64()?;
        proof.siblings.push((TreeHash::from_bytes(reader.array()?), bytes));
    }
    reader.end()?;
    Ok(proof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_chunker::tree::prove_range;

    fn proof() -> RangeProof {
        let leaves: Vec<Leaf> = (1..=5).map(|n| Leaf { id: ChunkId::from_bytes([n; 32]), len: u64::from(n) }).collect();
        prove_range(&leaves, 2..5).unwrap()
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode_range_proof(&proof()).unwrap();
        assert_eq!(hex::encode(&bytes[..16]), "7374656c656272700100000002000000");
        assert_eq!(hex::encode(&bytes[16..44]), "030000000f0000000000000005000000000000000100000000000000");
        assert_eq!(hex::encode(&bytes[44..80]), format!("02000000{}", "02".repeat(32)));
        assert_eq!(hex::encode(&bytes[116..124]), "0100000000000000");
        assert_eq!(bytes.len(), 44 + 2 * 36 + 3 * 40);
        assert_eq!(decode_range_proof(&bytes).unwrap(), proof());
    }

    #[test]
    fn other_bytes_are_refused() {
        let bytes = encode_range_proof(&proof()).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode_range_proof(&bytes[..cut]).is_err(), "cut to {cut}");
        }
        assert!(decode_range_proof(&[&bytes[..], &[0]].concat()).is_err());
        for at in 0..20 {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(decode_range_proof(&changed).is_err(), "byte {at}");
        }
        let mut changed = bytes;
        changed[44..48].copy_from_slice(&[0; 4]);
        assert!(decode_range_proof(&changed).is_err(), "a chunk of no bytes");
        let siblings = vec![(TreeHash::from_bytes([0; 32]), 1); SIBLINGS_MAX + 1];
        assert!(encode_range_proof(&RangeProof { siblings, ..proof() }).is_err());
    }
}
