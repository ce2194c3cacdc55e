//! Proofs made and verified, checkpoints verified, and whole bundles of a small object judged, per second of CPU.

use std::io::Cursor;
use std::time::Duration;

use serde_json::json;
use stele_chunker::tree::top_of;
use stele_evidence::bundle::files::Files;
use stele_evidence::bundle::verify::{Request, verify};
use stele_evidence::bundle::writer::BundleWriter;
use stele_evidence::note::Note;
use stele_evidence::policy::Policy;
use stele_evidence::proof::{inclusion, verify_inclusion};
use stele_evidence::tree::Hash;

use crate::clock::{compare, cpu};
use crate::scene::{ENTRIES, Filled, Keys, Kind, Log, SALT, leaf, other_leaf, record};
use crate::{Outcome, row};

/// Proofs in a round.
const PROOFS: u64 = 20_000;
/// Checkpoints, and bundles, in a round.
const CHECKPOINTS: u32 = 400;
const SMALL: [u8; 4096] = [0x42; 4096];

pub(crate) fn report(log: &Log) -> Outcome {
    let record = record(top_of(&[leaf(&SMALL)]).object_root(), SMALL.len() as u64).encode();
    let filled = log.with(&record);
    proofs(&filled)?;
    checkpoints(&filled)?;
    bundles(&filled, &record)
}

/// Indices all over the log, in an order that meets many tiles.
fn indices() -> impl Iterator<Item = u64> {
    (0..PROOFS).map(|n| n * 611_953 % ENTRIES)
}

fn proofs(filled: &Filled) -> Outcome {
    let mut made: Vec<(u64, Hash, Vec<Hash>)> = Vec::new();
    for index in indices() {
        let path = inclusion(&filled.tiles, index, ENTRIES)?;
        made.push((index, other_leaf(index), path));
    }
    let holds = |(index, leaf, path): &(u64, Hash, Vec<Hash>)| {
        verify_inclusion(*leaf, *index, ENTRIES, &filled.head.root, path).is_ok()
    };
    let hashes: usize = made.iter().map(|(_, _, path)| path.len()).sum();
    let held = made.iter().filter(|proof| holds(proof)).count();
    // One of the indices may be the record's own, whose leaf is another.
    if held + 1 < made.len() {
        return Err(format!("{held} of {} proofs hold", made.len()).into());
    }
    let (making, verifying) = compare(
        &mut || cpu(|| indices().filter(|index| inclusion(&filled.tiles, *index, ENTRIES).is_ok()).count()),
        &mut || cpu(|| made.iter().filter(|proof| holds(proof)).count()),
    );
    let each = hashes as f64 / made.len() as f64;
    for (case, seconds) in [("made", making), ("verified", verifying)] {
        row(&json!({
            "bench": "inclusion proofs", "case": case, "entries": ENTRIES, "hashes_per_proof": each,
            "cpu_us": seconds / PROOFS as f64 * 1e6, "per_cpu_second": PROOFS as f64 / seconds,
        }));
    }
    Ok(())
}

/// Both algorithms side by side; `what` is done `CHECKPOINTS` times in a round.
fn both(bench: &str, ed25519: &dyn Fn() -> bool, ml_dsa: &dyn Fn() -> bool) -> Outcome {
    if !ed25519() || !ml_dsa() {
        return Err(format!("{bench}: does not hold").into());
    }
    let times = |work: &dyn Fn() -> bool| -> Duration { cpu(|| (0..CHECKPOINTS).filter(|_| work()).count()) };
    let (first, second) = compare(&mut || times(ed25519), &mut || times(ml_dsa));
    for (case, seconds) in [("Ed25519", first), ("ML-DSA-44", second)] {
        row(&json!({
            "bench": bench, "case": case, "signatures": 3,
            "cpu_us": seconds / f64::from(CHECKPOINTS) * 1e6, "per_cpu_second": f64::from(CHECKPOINTS) / seconds,
        }));
    }
    Ok(())
}

/// A checkpoint of log and two witnesses, from bytes to verdict; the policy's keys are read beforehand.
fn checkpoints(filled: &Filled) -> Outcome {
    let prepared = |kind| -> Outcome<(Policy, Vec<u8>)> {
        let keys = Keys::new(kind)?;
        Ok((Policy::parse(&keys.policy())?, keys.checkpoint(filled.head)?.as_bytes().to_vec()))
    };
    let judge = |(policy, note): &(Policy, Vec<u8>)| Note::parse(note).is_ok_and(|note| policy.evaluate(&note).is_ok());
    let (ed25519, ml_dsa) = (prepared(Kind::Ed25519)?, prepared(Kind::MlDsa44)?);
    both("checkpoint verified", &|| judge(&ed25519), &|| judge(&ml_dsa))
}

/// A bundle in memory with the 4 KiB of an object, everything in it judged.
fn bundles(filled: &Filled, record: &[u8]) -> Outcome {
    let prepared = |kind| -> Outcome<(Vec<u8>, Files)> {
        let keys = Keys::new(kind)?;
        let (policy, proof) = (keys.policy(), filled.proof(&keys)?);
        let mut writer = BundleWriter::new(Files::default(), "stele 0.1.0", "2026-11-22T12:00:00Z", &policy)?;
        let object = writer.object(record, &SALT, &proof)?;
        object.whole(1, &mut [leaf(&SMALL)].into_iter().map(Ok), Some(&mut Cursor::new(SMALL)))?;
        Ok((policy, writer.finish()?))
    };
    let judge = |(policy, files): &(Vec<u8>, Files)| {
        let request = Request { policy: Some(policy), ..Request::default() };
        verify(files, &request, None).is_ok_and(|report| report.consistent())
    };
    let (ed25519, ml_dsa) = (prepared(Kind::Ed25519)?, prepared(Kind::MlDsa44)?);
    both("bundle of 4 KiB verified", &|| judge(&ed25519), &|| judge(&ml_dsa))
}
