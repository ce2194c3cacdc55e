//! Entry points for the fuzz targets of this crate. Each takes any bytes at all and panics only if a
//! promise is broken. `fuzz/` runs them under libFuzzer; the test below replays their corpora.

use crate::proof::{Head, verify_consistency, verify_inclusion};
use crate::record::Record;
use crate::tree::Hash;

/// Bytes that decode are the one encoding of that record.
pub fn fuzz_record(data: &[u8]) {
    if let Ok(record) = Record::decode(data) {
        assert_eq!(record.encode(), data);
    }
}

/// Any path, index and sizes: a verdict, and none for an entry that the tree does not have.
pub fn fuzz_log_proof(data: &[u8]) {
    let Some((first, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((second, rest)) = rest.split_first_chunk::<8>() else { return };
    let (first, second) = (u64::from_le_bytes(*first), u64::from_le_bytes(*second));
    let (path, _) = rest.as_chunks::<32>();
    let path: &[Hash] = path;
    let root = path.last().copied().unwrap_or_else(crate::tree::empty_root);
    let leaf = crate::tree::leaf_hash(data);
    let included = verify_inclusion(leaf, first, second, &root, path);
    assert!(included.is_err() || first < second, "an entry past the end");
    let (old, new) = (Head { size: first, root: leaf }, Head { size: second, root });
    let consistent = verify_consistency(old, new, path);
    assert!(consistent.is_err() || first <= second, "a tree that shrank");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::record::tests::{locked, sample};

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
        replay("evidence_record", super::fuzz_record);
        replay("log_proof", super::fuzz_log_proof);
    }

    #[test]
    #[ignore = "writes fuzz/corpus"]
    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn write_seeds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let proof = [5u64.to_le_bytes().as_slice(), &8u64.to_le_bytes(), &[7; 96]].concat();
        let seeds = [
            ("evidence_record", "seed-0", sample().encode()),
            ("evidence_record", "seed-1", locked().encode()),
            ("log_proof", "seed-0", proof),
        ];
        for (target, name, seed) in seeds {
            std::fs::create_dir_all(corpus.join(target)).unwrap();
            std::fs::write(corpus.join(target).join(name), seed).unwrap();
        }
    }
}
