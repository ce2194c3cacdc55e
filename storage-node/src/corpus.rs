//! The corpora of the fuzz targets, for tests.
#![expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]

use std::path::{Path, PathBuf};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Runs a target over every file of its corpus.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let folder = folder(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut count = 0;
    for file in files {
        run(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no seeds in {}", folder.display());
}

/// Writes the first seed of a target.
pub(crate) fn write(target: &str, seed: &[u8]) {
    std::fs::create_dir_all(folder(target)).unwrap();
    std::fs::write(folder(target).join("seed-0"), seed).unwrap();
}
