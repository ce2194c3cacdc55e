//! Bytes of a bundle that proves 1 MiB of 1 GiB, part by part.

use std::ops::Range;

use serde_json::json;
use stele_chunker::slice::prove_slice;
use stele_chunker::tree::{RangeProof, prove_range};
use stele_evidence::bundle::files::Files;
use stele_evidence::bundle::verify::{Request, verify};
use stele_evidence::bundle::writer::BundleWriter;

use crate::scene::{Keys, Kind, Log, Object, SALT};
use crate::{Outcome, row};

/// Most bytes of evidence where every signature is Ed25519, and where one or more are ML-DSA-44.
const ED25519_AT_MOST: usize = 8_000;
const ML_DSA_AT_MOST: usize = 24_000;
const CASES: [(&str, Kind, usize); 4] = [
    ("Ed25519", Kind::Ed25519, ED25519_AT_MOST),
    ("ML-DSA-44", Kind::MlDsa44, ML_DSA_AT_MOST),
    ("log both, as anchors sign; witnesses Ed25519", Kind::LogBoth, ML_DSA_AT_MOST),
    ("log both, as anchors sign; witnesses ML-DSA-44", Kind::LogBothWitnessesMlDsa44, ML_DSA_AT_MOST),
];

pub(crate) fn report(log: &Log, object: &Object) -> Outcome {
    let record = object.uploaded_in_parts().encode();
    let filled = log.with(&record);
    let part = prove_range(&object.leaves, object.range.clone())?;
    let slices = slices(object)?;
    for (case, kind, at_most) in CASES {
        let keys = Keys::new(kind)?;
        let (policy, proof) = (keys.policy(), filled.proof(&keys)?);
        let files = bundle(&policy, (&record, &proof), (&object.range, &part), &slices)?;
        let judged = verify(&files, &Request { policy: Some(&policy), ..Request::default() }, None)?;
        if !judged.consistent() {
            return Err(format!("{case}: {}", judged.to_text()).into());
        }
        let checkpoint = keys.checkpoint(filled.head)?.as_bytes().len();
        let bytes = |wanted: &dyn Fn(&str) -> bool| -> usize {
            files.files.iter().filter(|(name, _)| wanted(name)).map(|(_, bytes)| bytes.len()).sum()
        };
        let proofs = bytes(&|name| name.ends_with(".tlog-proof"));
        let evidence = bytes(&|name| !name.ends_with(".bao"));
        let object_bytes = usize::try_from(object.range.end - object.range.start)?;
        row(&json!({
            "bench": "bundle of 1 MiB of 1 GiB", "case": case,
            "entries": filled.head.size, "chunks": object.leaves.len(), "chunks_touched": part.leaves.len(),
            "evidence": evidence, "at_most": at_most, "holds": evidence <= at_most,
            "record": record.len(), "log_proof": proofs - checkpoint, "checkpoint": checkpoint,
            "policy": bytes(&|name| name == "data/policy.txt"), "range_proof": bytes(&|name| name.ends_with("range.bin")),
            "contents": bytes(&|name| name == "stele-bundle.json"),
            "bag": bytes(&|name| !name.starts_with("data/") && name != "stele-bundle.json"),
            "slices_beyond_bytes": bytes(&|name| name.ends_with(".bao")) - object_bytes,
            "page_for_people": judged.to_html().len(),
        }));
    }
    Ok(())
}

/// From each chunk that the range touches, the bytes of the range.
fn slices(object: &Object) -> Outcome<Vec<Vec<u8>>> {
    let mut slices = Vec::new();
    for (offset, chunk) in &object.touched {
        let within = |at: u64| u32::try_from(at.clamp(*offset, offset + chunk.len() as u64) - offset);
        slices.push(prove_slice(chunk, within(object.range.start)?..within(object.range.end)?)?);
    }
    Ok(slices)
}

/// `event` is the record and its proof, `part` the range and its own.
fn bundle(
    policy: &[u8],
    event: (&[u8], &[u8]),
    part: (&Range<u64>, &RangeProof),
    slices: &[Vec<u8>],
) -> Outcome<Files> {
    let mut writer = BundleWriter::new(Files::default(), "stele 0.1.0", "2026-11-22T12:00:00Z", policy)?;
    let object = writer.object(event.0, &SALT, event.1)?;
    object.range(part.0.clone(), part.1, &mut slices.iter().cloned().map(Ok))?;
    Ok(writer.finish()?)
}
