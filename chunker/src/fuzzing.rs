//! Entry points for the fuzz targets of this crate. Each takes any bytes at all and panics only if
//! a promise is broken. `fuzz/` runs them under libFuzzer; the tests below replay its corpora.

use bytes::Bytes;
use stele_types::ids::{ChunkId, ObjectRoot, PackId, TreeHash};
use stele_types::manifest::{Manifest, Page, PageRef, decode_page};
use stele_types::scheme::Scheme;
use stele_types::wire::{FormatError, Reader};

use crate::pages::{ManifestWalk, Step, entries_for_range, verify_page};
use crate::shards::{Coder, plan_read};
use crate::slice::verify_slice;
use crate::tree::{Leaf, RangeProof, object_root, prove_range, top_of, verify_range};

/// Any page, under any reference, is checked without a panic; a walk over it ends.
pub fn fuzz_manifest_walk(data: &[u8]) {
    let own = PackId::from_bytes([0xee; 32]);
    let Ok(page) = decode_page(data, own) else { return };
    let (bytes, chunks, top) = match &page {
        Page::Entries(entries) => {
            let leaves: Vec<Leaf> = entries.iter().map(|e| Leaf { id: e.id, len: u64::from(e.len) }).collect();
            let top = top_of(&leaves);
            assert!(entries_for_range(entries, 0, 0..top.bytes).len() == entries.len());
            (top.bytes, top.chunks, top.top)
        }
        Page::Index(refs) => (
            refs.iter().map(|r| r.bytes).sum(),
            refs.iter().map(|r| r.chunks).sum(),
            refs.first().map_or(TreeHash::from_bytes([0; 32]), |r| r.top),
        ),
    };
    let id = ChunkId::from_bytes(*blake3::hash(data).as_bytes());
    let len = data.len() as u32;
    let page_entry = stele_types::manifest::ChunkEntry {
        id,
        len,
        pack: own,
        offset: 0,
        stored_len: len,
        codec: stele_types::pack::Codec::Raw,
        key_id: 0,
    };
    let root = PageRef { page: page_entry, top, bytes, chunks };
    for level in 0..4 {
        let _refused = verify_page(&root, level, &page);
        let manifest = Manifest::Paged { root: root.clone(), index_levels: level };
        let object = object_root(bytes, chunks, &top);
        let Ok(mut walk) = ManifestWalk::new(&object, &manifest, bytes / 3..bytes / 2) else { continue };
        // Only the topmost page is at hand; whatever it leads to is refused.
        while let Step::NeedPage(_) | Step::Chunk(_) = walk.next_step() {
            if walk.page(data).is_err() {
                break;
            }
        }
    }
}

fn read_proof(reader: &mut Reader<'_>) -> Result<RangeProof, FormatError> {
    let (total_len, chunks, first) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let mut proof = RangeProof { total_len, chunks, first, leaves: Vec::new(), siblings: Vec::new() };
    for _ in 0..reader.u8()? {
        let id = ChunkId::from_bytes(reader.array()?);
        proof.leaves.push(Leaf { id, len: reader.u64()? });
    }
    for _ in 0..reader.u8()? {
        let top = TreeHash::from_bytes(reader.array()?);
        proof.siblings.push((top, reader.u64()?));
    }
    Ok(proof)
}

/// Any proof is checked without a panic, and none that was not made for a root holds for it; a
/// proof made for an object of the same leaves holds.
pub fn fuzz_range_proof(data: &[u8]) {
    let mut reader = Reader::new("fuzz input", data);
    let Ok(proof) = read_proof(&mut reader) else { return };
    let (start, end) = (reader.u64().unwrap_or(0), reader.u64().unwrap_or(proof.total_len));
    let unrelated = ObjectRoot::from_bytes([0x5a; 32]);
    assert!(verify_range(&unrelated, &proof, start..end).is_err());
    let leaves: Vec<Leaf> = proof.leaves.iter().map(|l| Leaf { len: l.len % 1000 + 1, ..*l }).collect();
    let total: u64 = leaves.iter().map(|l| l.len).sum();
    if total > 0 {
        let range = start % total..end % total + 1;
        let root = top_of(&leaves).object_root();
        if let Ok(proof) = prove_range(&leaves, range.clone()) {
            assert!(verify_range(&root, &proof, range).is_ok());
        }
    }
}

/// Any slice is checked without a panic, and gives exactly the range if it holds.
pub fn fuzz_slice(data: &[u8]) {
    let mut reader = Reader::new("fuzz input", data);
    let mut parse = || -> Result<_, FormatError> {
        Ok((ChunkId::from_bytes(reader.array()?), reader.u32()?, reader.u32()?, reader.u32()?))
    };
    let Ok((id, len, start, end)) = parse() else { return };
    let slice = data.get(44..).unwrap_or_default();
    if let Ok(bytes) = verify_slice(&id, len, start..end, slice) {
        assert_eq!(bytes.len(), (end - start) as usize);
    }
}

/// Shards of any payload give each other back from any k' of them; other sets are refused.
pub fn fuzz_coder(data: &[u8]) {
    let [k, m, wanted, mask_low, mask_high, payload @ ..] = data else { return };
    let Some(scheme) = Scheme::new(k % 9, m % 5) else { return };
    let Ok(coder) = Coder::new(scheme) else { return };
    let Ok(encoded) = coder.encode_payload(&Bytes::copy_from_slice(payload), payload.len()) else { return };
    let mask = u16::from_le_bytes([*mask_low, *mask_high]);
    let range = 0..encoded.shard_len.min(300);
    let shards = encoded.shards.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
    let have: Vec<(u8, Bytes)> = shards.map(|(at, s)| (at as u8, s.slice(range.clone()))).collect();
    let wanted = wanted % 20;
    match coder.reconstruct_range(wanted, &have) {
        Ok(bytes) => assert_eq!(bytes, encoded.shards[usize::from(wanted)].slice(range)),
        Err(_) => assert!(have.len() < scheme.k() || usize::from(wanted) >= scheme.shards()),
    }
    let len = payload.len() as u32;
    let planned = plan_read(scheme, encoded.shard_len, len / 3, len / 2);
    let total: u32 = planned.iter().map(|range| range.len).sum();
    assert_eq!(total, len / 2);
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
        replay("manifest_page", super::fuzz_manifest_walk);
        replay("range_proof", super::fuzz_range_proof);
        replay("slice", super::fuzz_slice);
        replay("coder", super::fuzz_coder);
    }
}
