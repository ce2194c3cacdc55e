//! Bags of ours before `bagit` of Python and `sha256sum`: they accept the original and refuse each change of it.

use std::path::Path;
use std::process::Command;

use crate::bundle::files::Files;
use crate::bundle::names::{CONTENTS, DECLARATION, INFO, PAYLOAD_DIGESTS, POLICY, TAG_DIGESTS};
use crate::bundle::testing::{judge, whole};

const RECORD: &str = "data/object-0001/record.cbor";
const PROOF: &str = "data/object-0001/entry.tlog-proof";

/// Says for each folder of its arguments whether bagit takes it.
const SCRIPT: &str = "
import sys, bagit
for folder in sys.argv[1:]:
    try:
        bagit.Bag(folder).validate()
        print('taken')
    except bagit.BagError:
        print('refused')
";

#[expect(clippy::disallowed_methods, reason = "files for another program in a temporary folder")]
fn write(files: &Files, folder: &Path) {
    for (name, bytes) in &files.files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn sha256sum_accepts(folder: &Path) -> bool {
    [PAYLOAD_DIGESTS, TAG_DIGESTS].iter().all(|list| {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--strict", "--quiet", list]).current_dir(folder);
        command.output().expect("sha256sum is installed").status.success()
    })
}

/// Changes of what a bag's lists cover.
fn changed() -> Vec<(String, Files)> {
    let mut changed = Vec::new();
    let mut add = |name: String, change: &dyn Fn(&mut Files)| {
        let mut files = whole(true);
        change(&mut files);
        assert!(files.files != whole(true).files, "{name}: nothing changed");
        changed.push((name, files));
    };
    for name in [RECORD, PROOF, POLICY, CONTENTS, DECLARATION, INFO, PAYLOAD_DIGESTS] {
        add(format!("{name}: a flipped bit"), &|files| {
            let bytes = files.files.get_mut(name).unwrap();
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
        });
        add(format!("{name}: longer"), &|files| files.files.get_mut(name).unwrap().push(b'\n'));
        add(format!("{name}: shorter"), &|files| {
            files.files.get_mut(name).unwrap().pop();
        });
    }
    for name in [RECORD, PROOF, POLICY] {
        add(format!("{name}: missing"), &|files| drop(files.files.remove(name)));
        add(format!("{name}: renamed"), &|files| {
            let bytes = files.files.remove(name).unwrap();
            files.files.insert(format!("{name}2"), bytes);
        });
    }
    changed
}

#[test]
fn changed_bags_are_refused_by_sha256sum_and_bagit() {
    let folder = tempfile::tempdir().unwrap();
    let changed = changed();
    assert!(changed.len() >= 20);
    write(&whole(true), &folder.path().join("good"));
    assert!(sha256sum_accepts(&folder.path().join("good")));
    for (at, (name, files)) in changed.iter().enumerate() {
        let place = folder.path().join(format!("changed-{at}"));
        write(files, &place);
        assert!(!sha256sum_accepts(&place), "{name}");
        assert!(!judge(files).is_ok_and(|report| report.consistent()), "{name}");
    }
    let program = std::env::var("STELE_PYTHON").unwrap_or_else(|_| "python3".into());
    let python = |script: &str| {
        let mut command = Command::new(&program);
        command.args(["-c", script]);
        command
    };
    if !python("import bagit").output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "bagit is not installed: cargo xtask tools");
        println!("skipped: bagit is not installed; loadtest/acceptance/evidence_bundles.py needs it, too");
        return;
    }
    let mut judged = python(SCRIPT);
    judged.arg(folder.path().join("good"));
    judged.args((0..changed.len()).map(|at| folder.path().join(format!("changed-{at}"))));
    let output = judged.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(said.len(), changed.len() + 1);
    assert_eq!(said[0], "taken");
    for ((name, _), said) in changed.iter().zip(&said[1..]) {
        assert_eq!(*said, "refused", "{name}");
    }
}
