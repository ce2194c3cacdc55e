//! Entry points for the fuzz targets of this crate's formats. Each takes any bytes at all and
//! panics only if a promise of the format is broken. `fuzz/` runs them under libFuzzer; the tests
//! below replay its corpora, so that every find stays found.

use crate::ids::PackId;
use crate::manifest::{Manifest, Page, decode_page, encode_page};
use crate::object::{StoredHeaders, Version};
use crate::pack::{PackPreimage, decode_chunk_list, decode_chunk_list_of, encode_chunk_list};

/// A preimage that decodes encodes to the same bytes.
pub fn fuzz_pack_preimage(data: &[u8]) {
    if let Ok(preimage) = PackPreimage::decode(data) {
        assert_eq!(preimage.encode(), data);
    }
}

/// A chunk list that decodes encodes to the same bytes, and no preimage makes its check panic.
pub fn fuzz_chunk_list(data: &[u8]) {
    if let Ok(chunks) = decode_chunk_list(data) {
        assert_eq!(encode_chunk_list(&chunks), data);
    }
    let (head, list) = data.split_at(data.len().min(PackPreimage::ENCODED_LEN));
    if let Ok(preimage) = PackPreimage::decode(head) {
        drop(decode_chunk_list_of(&preimage, list));
    }
}

/// A page that decodes encodes to the same bytes.
pub fn fuzz_manifest_page(data: &[u8]) {
    let own = PackId::from_bytes([0xee; 32]);
    if let Ok(page) = decode_page(data, own) {
        assert_eq!(encode_page(&page, own).ok().as_deref(), Some(data));
        let (Page::Entries(_) | Page::Index(_)) = page;
    }
}

/// Rows and messages: any bytes decode or are refused, and what decodes survives a round trip.
pub fn fuzz_version_row(data: &[u8]) {
    if let Ok(version) = rmp_serde::from_slice::<Version>(data) {
        let again = rmp_serde::to_vec(&version).ok();
        let again = again.and_then(|bytes| rmp_serde::from_slice::<Version>(&bytes).ok());
        assert_eq!(again, Some(version));
    }
    drop(rmp_serde::from_slice::<Manifest>(data));
    drop(rmp_serde::from_slice::<StoredHeaders>(data));
}

#[cfg(test)]
mod seeds;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs a target over every file of its corpus.
    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for file in files {
            run(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", folder.display());
    }

    #[test]
    fn corpora_hold() {
        replay("pack_preimage", super::fuzz_pack_preimage);
        replay("chunk_list", super::fuzz_chunk_list);
        replay("manifest_page", super::fuzz_manifest_page);
        replay("version_row", super::fuzz_version_row);
        replay("segment_record", crate::segment::fuzz_record);
    }
}
