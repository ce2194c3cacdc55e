//! Entry bundles of C2SP tlog-tiles: the entries of one tile at level 0, each behind two bytes of
//! length, big-endian.

use crate::tiles::TILE_WIDTH;

/// Longest entry in bytes. Entries are statements and digests, never payloads.
pub const ENTRY_MAX: usize = 65_535;

/// Why entries can't be bundled, or bytes are not a bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleError {
    /// An entry is longer than [`ENTRY_MAX`].
    #[error("entry {number} is longer than {ENTRY_MAX} bytes")]
    LongEntry {
        /// Which one, from 0.
        number: usize,
    },
    /// No entry, or more than a tile is wide.
    #[error("a bundle has 1 to 256 entries")]
    Count,
    /// The bytes end within an entry.
    #[error("the bundle ends within an entry")]
    Truncated,
}

/// Writes a bundle.
///
/// # Errors
/// An entry is too long, or there are none or too many.
pub fn encode_bundle(entries: &[&[u8]]) -> Result<Vec<u8>, BundleError> {
    if entries.is_empty() || entries.len() > TILE_WIDTH {
        return Err(BundleError::Count);
    }
    let mut bytes = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let length = u16::try_from(entry.len()).map_err(|_| BundleError::LongEntry { number })?;
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Reads a bundle: its entries in order. How many there should be is for the caller to know, from a
/// verified checkpoint.
///
/// # Errors
/// The bytes end within an entry, or there are no entries or too many.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if entries.len() == TILE_WIDTH {
            return Err(BundleError::Count);
        }
        let (length, behind) = rest.split_first_chunk::<2>().ok_or(BundleError::Truncated)?;
        let (entry, behind) =
            behind.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(BundleError::Truncated)?;
        entries.push(entry);
        rest = behind;
    }
    if entries.is_empty() { Err(BundleError::Count) } else { Ok(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let bytes = encode_bundle(&[b"ab", b"", &[7; 300]]).unwrap();
        assert_eq!(bytes[..8], [0, 2, b'a', b'b', 0, 0, 1, 44]);
        assert_eq!(bytes.len(), 8 + 300);
        assert_eq!(decode_bundle(&bytes), Ok(vec![&b"ab"[..], b"", &[7; 300]]));
        for cut in [1, 3, 5, 7, 8, 307] {
            let cut = decode_bundle(&bytes[..cut]);
            assert!(matches!(cut, Err(BundleError::Truncated)), "{cut:?}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(encode_bundle(&[]), Err(BundleError::Count));
        assert_eq!(decode_bundle(&[]), Err(BundleError::Count));
        let long = vec![0; ENTRY_MAX + 1];
        assert_eq!(encode_bundle(&[b"", &long]), Err(BundleError::LongEntry { number: 1 }));
        assert!(encode_bundle(&[&long[1..]]).is_ok());
        assert_eq!(encode_bundle(&[&b""[..]; TILE_WIDTH + 1]), Err(BundleError::Count));
        assert_eq!(decode_bundle(&[0; 2 * TILE_WIDTH + 2]), Err(BundleError::Count));
        assert_eq!(decode_bundle(&[0; 2 * TILE_WIDTH]).map(|entries| entries.len()), Ok(TILE_WIDTH));
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written_again(bytes in proptest::collection::vec(0u8..4, 0..600)) {
            if let Ok(entries) = decode_bundle(&bytes) {
                proptest::prop_assert_eq!(encode_bundle(&entries), Ok(bytes));
            }
        }
    }
}
