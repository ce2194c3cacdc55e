//! Anchors of a chain that were kept long ago, as one file: size, root and proof of each. Format:
//! docs/formats/anchor-archive.md. Made by gateways; the metadata service compares it with the rows that it drops.

use crate::log_archive::ArchiveError;
use crate::tree::Hash;

/// First bytes of a file: magic and version.
pub const MAGIC: &[u8; 8] = b"STELEAA1";
/// Most anchors of a file.
pub const ANCHORS_MAX: usize = 4096;
/// Bytes of a file after which no further anchor is added.
pub const BYTES_SOFT_MAX: usize = 8 << 20;
/// Longest file, in bytes: one longest proof goes past the soft limit.
pub const BYTES_MAX: usize = 9 << 20;

/// A checkpoint that stands on a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Exact bytes of the proof.
    pub proof: Vec<u8>,
}

/// Appends one anchor to a file that begins with [`MAGIC`].
pub fn encode_to(size: u64, root: &Hash, proof: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(root);
    // A proof is far shorter than a command.
    out.extend_from_slice(&u32::try_from(proof.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(proof);
}

/// Reads a file: anchors of ascending sizes, at least one.
///
/// # Errors
/// The bytes are no such file.
pub fn decode(bytes: &[u8]) -> Result<Vec<Anchor>, ArchiveError> {
    if bytes.len() > BYTES_MAX {
        return Err(ArchiveError::Length);
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(ArchiveError::Unknown("first bytes"))?;
    let mut found: Vec<Anchor> = Vec::new();
    while !rest.is_empty() {
        let (size, behind) = rest.split_first_chunk::<8>().ok_or(ArchiveError::Length)?;
        let (root, behind) = behind.split_first_chunk::<32>().ok_or(ArchiveError::Length)?;
        let (length, behind) = behind.split_first_chunk::<4>().ok_or(ArchiveError::Length)?;
        let (proof, behind) =
            behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(ArchiveError::Length)?;
        let size = u64::from_le_bytes(*size);
        if found.len() == ANCHORS_MAX || found.last().is_some_and(|last| last.size >= size) {
            return Err(ArchiveError::Unknown("order of anchors"));
        }
        found.push(Anchor { size, root: *root, proof: proof.to_vec() });
        rest = behind;
    }
    if found.is_empty() { Err(ArchiveError::Length) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_stays_and_nothing_else_is_read() {
        let mut bytes = MAGIC.to_vec();
        encode_to(258, &[7; 32], b"proof", &mut bytes);
        encode_to(300, &[8; 32], b"", &mut bytes);
        let first = [&[2, 1, 0, 0, 0, 0, 0, 0][..], &[7; 32], &[5, 0, 0, 0], b"proof"].concat();
        let second = [&[44, 1, 0, 0, 0, 0, 0, 0][..], &[8; 32], &[0, 0, 0, 0]].concat();
        assert_eq!(bytes, [&MAGIC[..], &first, &second].concat());
        let read = decode(&bytes).unwrap();
        assert_eq!((read.len(), read[0].size, &read[0].proof[..]), (2, 258, &b"proof"[..]));
        for cut in 0..bytes.len() {
            // One whole anchor is a file as well.
            assert_eq!(decode(&bytes[..cut]).is_ok(), cut == 8 + first.len(), "cut at {cut}");
        }
        let turned = [&MAGIC[..], &second, &first].concat();
        assert_eq!(decode(&turned), Err(ArchiveError::Unknown("order of anchors")));
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        let mut other = bytes;
        other[7] ^= 1;
        assert_eq!(decode(&other), Err(ArchiveError::Unknown("first bytes")));
    }
}
