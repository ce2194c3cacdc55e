//! The golden report: every later version must still write it byte for byte, read it and verify it.

use std::collections::BTreeMap;

use stele_types::ids::NodeId;

use crate::audit::answer::AnswerKey;
use crate::audit::challenge::Scope;
use crate::audit::progress::Verdict;
use crate::audit::report::{Report, ReportError, digest};
use crate::audit::testing::{Audit, Manner, shards};
use crate::audit::verify::{Standing, verify_report};
use crate::cbor::CborError;

pub(crate) const REPORT: &[u8] = include_bytes!("../../../golden/audit.report");
const KEYS: &str = include_str!("../../../golden/audit.vkeys");

/// Three nodes and a gateway; the first one lost its drive, and the third one is away.
fn audit() -> (Audit, String) {
    let mut world = shards(3, 1, 5).with_object(&[20_000]);
    world.nodes[0].held.iter_mut().for_each(|held| *held = None);
    world.nodes[2].manner = Manner::Away;
    let keys = world.keys().into_values().map(|key| format!("{}\n", key.vkey())).collect();
    (world.audit(Scope::Sample(2), 1, 300), keys)
}

fn keys() -> BTreeMap<NodeId, AnswerKey> {
    let report = Report::decode(REPORT).unwrap();
    let key = |line| AnswerKey::parse(line).unwrap();
    report.inventories.iter().map(|listed| listed.head.node).zip(KEYS.lines().map(key)).collect()
}

#[test]
fn golden_report_is_written_byte_for_byte() {
    let (audit, keys) = audit();
    assert_eq!(hex::encode(audit.report.encode().unwrap()), hex::encode(REPORT));
    assert_eq!(keys, KEYS);
    assert_eq!(hex::encode(digest(REPORT)), GOLDEN_DIGEST);
    assert_eq!(hex::encode(audit.report.outcomes_root()), GOLDEN_ROOT);
}

/// Computed independently, with Python: so are the leaves under the root.
const GOLDEN_DIGEST: &str = "43bc9649eddbc19318236e9ea9a40dbb1022eb37f4b1f61e87f51b5908dbe26b";
const GOLDEN_ROOT: &str = "b0b216515ab215a60f5f759d53346cf19ab681aa9795507fd78b49a212757f17";

#[test]
fn golden_report_verifies() {
    let report = Report::decode(REPORT).unwrap();
    let checked = verify_report(&report, &keys(), &mut |_| None).unwrap();
    let counts: Vec<_> =
        checked.counts.into_iter().map(|((verdict, standing), count)| (verdict, standing, count)).collect();
    let expected = [
        (Verdict::Ok, Standing::Signed, 3),
        (Verdict::Offline, Standing::Asserted, 2),
        (Verdict::Failed, Standing::Proven, 2),
    ];
    assert_eq!(counts, expected);
    assert!(!checked.complete && checked.failed.len() == 1 && checked.objects.len() == 1);
    let (audit, _) = audit();
    let with_slices = audit.verify(&keys()).unwrap();
    assert_eq!(with_slices.counts[&(Verdict::Ok, Standing::Proven)], 3);
}

#[test]
fn every_cut_of_a_report_is_refused_and_every_flip_shows() {
    let golden = Report::decode(REPORT).unwrap();
    for cut in 0..REPORT.len() {
        assert!(matches!(Report::decode(&REPORT[..cut]), Err(ReportError::Cbor(_))), "cut at {cut}");
    }
    let longer = [REPORT, &[0]].concat();
    assert_eq!(Report::decode(&longer), Err(ReportError::Cbor(CborError::Trailing(1))));
    let mut read = 0;
    for at in 0..REPORT.len() {
        for bit in 0..8 {
            let mut flipped = REPORT.to_vec();
            flipped[at] ^= 1 << bit;
            if let Ok(report) = Report::decode(&flipped) {
                assert_ne!(report, golden, "byte {at}");
                assert_eq!(report.encode().unwrap(), flipped, "byte {at}");
                read += 1;
            }
        }
    }
    assert!(read > 1000, "flips that give another report: {read}");
}

#[test]
#[ignore = "writes evidence/golden; a changed file is a changed format"]
#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write_golden_report() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (audit, keys) = audit();
    let bytes = audit.report.encode().unwrap();
    std::fs::write(folder.join("audit.vkeys"), keys).unwrap();
    std::fs::write(folder.join("audit.report"), bytes).unwrap();
}
