//! Bundles that every later version must still write and verify byte for byte: courts keep theirs.

use std::path::{Path, PathBuf};

use super::erasures::erased;
use crate::bundle::files::{Files, Source as _};
use crate::bundle::testing::outside::{anchored, chains, stamped};
use crate::bundle::testing::{deletion, judge, range, whole};

type Make = fn() -> Files;

const BUNDLES: [(&str, Make); 6] = [
    ("bundle-whole", || whole(true)),
    ("bundle-range", range),
    ("bundle-deletion", deletion),
    ("bundle-erased", erased),
    ("bundle-anchored", anchored),
    ("bundle-stamped", stamped),
];

fn folder(bundle: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(bundle)
}

#[expect(clippy::disallowed_methods, reason = "golden files, not stored data")]
fn read(root: &Path, prefix: &str, files: &mut Files) {
    for entry in std::fs::read_dir(root.join(prefix)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.metadata().unwrap().is_dir() {
            read(root, &format!("{name}/"), files);
        } else {
            files.files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn golden_bundles_are_written_byte_for_byte_and_verify() {
    for (name, make) in BUNDLES {
        let mut found = Files::default();
        read(&folder(name), "", &mut found);
        let names = |files: &Files| files.list().unwrap().into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&make()), "{name}");
        for (file, bytes) in &make().files {
            assert!(found.files[file] == *bytes, "{name}/{file} is written otherwise");
        }
        let report = judge(&found).unwrap();
        assert!(report.consistent(), "{name}\n{}", report.to_text());
    }
}

/// An auditor's file for the golden bundle.
#[test]
fn golden_chains_are_those_of_the_golden_bundle() {
    assert_eq!(include_str!("../../../golden/chains.txt"), chains());
}

#[test]
#[ignore = "writes evidence/golden; a changed file is a changed format"]
#[expect(clippy::disallowed_methods, reason = "golden files, not stored data")]
fn write_golden_bundles() {
    for (name, make) in BUNDLES {
        for (file, bytes) in make().files {
            let path = folder(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    std::fs::write(folder("chains.txt"), chains()).unwrap();
}
