//! `stele-verify BUNDLE FILE` over 1 GiB against programs that only compute BLAKE3 of the file, one thread each.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use stele_evidence::bundle::files::Files;
use stele_evidence::bundle::writer::BundleWriter;
use stele_evidence::record::Record;

use crate::clock::{compare, wall};
use crate::scene::{Keys, Kind, Log, Object, SALT, write};
use crate::{Outcome, row};

/// More than this times the hash alone is too slow.
const AT_MOST: f64 = 1.5;

pub(crate) fn report(log: &Log, object: &Object, bundle: &Path) -> Outcome {
    let us = std::env::current_exe()?;
    let verifier = us.ancestors().nth(2).ok_or("no folder of binaries")?.join("stele-verify");
    let hash = words(&us, &["--hash"], &object.path);
    let b3sum = words(Path::new("b3sum"), &["--num-threads", "1", "--no-names"], &object.path);
    let mut others = vec![("the blake3 package alone", hash)];
    match version(&b3sum) {
        Some(version) => others.push((version.leak(), b3sum)),
        None => row(&json!({ "bench": "verify 1 GiB", "skipped": "b3sum is not installed" })),
    }
    for (case, record, flag) in [
        ("uploaded in parts", object.uploaded_in_parts(), None),
        ("put at once, without its MD5: --root-only", object.put_at_once(), Some("--root-only")),
        ("put at once, with its MD5", object.put_at_once(), None),
    ] {
        export(log, object, &record, bundle)?;
        let mut verify = words(&verifier, &[&bundle.display().to_string()], &object.path);
        verify.extend(flag.map(str::to_owned));
        for (against, other) in &others {
            let (ours, theirs) = compare(&mut || run(&verify), &mut || run(other));
            let ratio = ours / theirs;
            row(&json!({
                "bench": "verify 1 GiB", "case": case, "against": against, "threads": 1,
                "stele_verify_s": ours, "hash_s": theirs, "ratio": ratio, "at_most": AT_MOST, "holds": ratio <= AT_MOST,
            }));
        }
    }
    Ok(())
}

fn words(program: &Path, flags: &[&str], file: &Path) -> Vec<String> {
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    [program.display().to_string()].into_iter().chain(flags).chain([file.display().to_string()]).collect()
}

fn version(words: &[String]) -> Option<String> {
    let output = Command::new(words.first()?).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Wall time of a program that must succeed: a verdict against the bytes would be no measurement.
fn run(words: &[String]) -> Duration {
    let (program, rest) = words.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null());
    wall(|| {
        let status = command.status().expect("the program starts");
        assert!(status.success(), "{words:?}: {status}");
    })
}

/// A bundle with all chunks of the object and none of its bytes.
fn export(log: &Log, object: &Object, record: &Record, folder: &Path) -> Outcome {
    let keys = Keys::new(Kind::Ed25519)?;
    let record = record.encode();
    let (policy, proof) = (keys.policy(), log.with(&record).proof(&keys)?);
    let mut writer = BundleWriter::new(Files::default(), "stele 0.1.0", "2026-11-22T12:00:00Z", &policy)?;
    let chunks = object.leaves.len() as u64;
    writer.object(&record, &SALT, &proof)?.whole(chunks, &mut object.leaves.iter().copied().map(Ok), None)?;
    for (name, bytes) in &writer.finish()?.files {
        write(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// The small program: BLAKE3 of a file, read as `b3sum` reads what it does not map.
#[expect(clippy::disallowed_methods, reason = "a file of a measurement, not of a store")]
pub(crate) fn hash(path: &Path) -> Outcome {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, blake3::Hasher::new(), vec![0; 64 * 1024]);
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
    }
    row(&json!({ "blake3": hasher.finalize().to_hex().as_str() }));
    Ok(())
}
