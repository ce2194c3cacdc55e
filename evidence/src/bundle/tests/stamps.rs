//! Bundles with time stamps: whom they are believed from, what they date, and forgeries of them.

use crate::bundle::claims::{Claim, Class, Outcome, Question};
use crate::bundle::contents::Contents;
use crate::bundle::files::Files;
use crate::bundle::names::CONTENTS;
use crate::bundle::report::Report;
use crate::bundle::testing::outside::{LARGER, begun, begun_at, consistency, later, note, stamped};
use crate::bundle::testing::{SIZE, edit, policy, reseal};
use crate::bundle::verify::{Request, Unusable, verify};
use crate::bundle::writer::{TimestampEvidence, WriteError};
use crate::timestamp::tests::{P256, P256_ROOT, RSA_ROOT};

const GOOD: (Class, Outcome) = (Class::Verified, Outcome::Agrees);
const BAD: (Class, Outcome) = (Class::Verified, Outcome::Differs);
const WORD: (Class, Outcome) = (Class::Asserted, Outcome::Open);

fn judge_with(files: &Files, roots: &[&[u8]]) -> Result<Report, Unusable> {
    let (policy, pem) = (policy(), roots.concat());
    let tsa_roots = Some(pem.as_slice()).filter(|_| !roots.is_empty());
    verify(files, &Request { policy: Some(&policy), tsa_roots, ..Request::default() }, None)
}

fn stamp(report: &Report) -> &Claim {
    report.claims.iter().find(|claim| claim.question == Question::Timestamp).unwrap()
}

fn class(report: &Report) -> (Class, Outcome) {
    (stamp(report).class, stamp(report).outcome)
}

/// The events under a later checkpoint, and the token over the one before.
fn older() -> Files {
    let mut writer = begun_at(&later());
    let note = note();
    let proof = consistency(SIZE, LARGER);
    let evidence = TimestampEvidence { response: P256, checkpoint: note.as_bytes(), consistency: &proof };
    writer.timestamp(&evidence).unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_token_under_the_auditors_root_is_believed() {
    for files in [stamped(), older()] {
        let report = judge_with(&files, &[RSA_ROOT, P256_ROOT]).unwrap();
        assert!(report.consistent(), "{}", report.to_text());
        assert_eq!(class(&report), GOOD);
        let claim = stamp(&report);
        assert!(claim.trusted.en.contains("CN=tsa-p256") && claim.detail.en.contains("covers every object"));
        assert!(claim.detail.en.contains("policy 1.2.3.4.1") && claim.time.ends_with('Z'));
        assert!(report.to_html().contains("时间戳机构于所述时间为该日志加盖时间戳"));
    }
}

#[test]
fn without_a_root_a_token_is_the_operators_word() {
    let report = judge_with(&stamped(), &[]).unwrap();
    assert!(report.consistent());
    assert_eq!(class(&report), WORD);
    assert!(report.to_text().contains("bring the authority's root with --tsa-root"));
    let report = judge_with(&stamped(), &[RSA_ROOT]).unwrap();
    assert_eq!(class(&report), BAD);
    assert!(matches!(judge_with(&stamped(), &[b"no certificate"]), Err(Unusable::Roots(_))));
}

#[test]
fn a_token_dates_what_no_witness_does() {
    let report = verify(&stamped(), &Request { tsa_roots: Some(P256_ROOT), ..Request::default() }, None).unwrap();
    let time = report.claims.iter().find(|claim| claim.question == Question::Time).unwrap();
    assert_eq!((time.class, time.outcome), GOOD);
    assert_eq!((&time.time, &time.trusted), (&stamp(&report).time, &stamp(&report).trusted));
}

/// The status alone is not signed for, and 1 grants as 0 does.
#[test]
fn every_flipped_byte_of_a_token_is_refused_although_the_bag_is_sealed_anew() {
    for good in [stamped(), older()] {
        for (name, bytes) in good.files.iter().filter(|(name, _)| name.starts_with("data/timestamps/")) {
            for at in (0..bytes.len()).filter(|at| !name.ends_with(".tsr") || *at != 8) {
                let mut files = good.clone();
                files.files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
                reseal(&mut files);
                let report = judge_with(&files, &[P256_ROOT]).unwrap();
                assert!(!report.consistent(), "{name}, byte {at}");
            }
        }
    }
}

#[test]
fn a_token_of_another_checkpoint_is_refused() {
    let bad = |change: &dyn Fn(&mut Contents)| {
        let mut files = older();
        edit(&mut files, |contents| change(contents));
        judge_with(&files, &[P256_ROOT]).map(|report| class(&report))
    };
    // Files that nothing names are refused before.
    assert!(bad(&|contents| contents.timestamps[0].checkpoint = None).is_err());
    let mut swapped = stamped();
    let stranger = begun_at(&later()).finish().unwrap();
    for (name, bytes) in &stranger.files {
        if name.ends_with("entry.tlog-proof") {
            swapped.files.insert(name.clone(), bytes.clone());
        }
    }
    reseal(&mut swapped);
    assert_eq!(class(&judge_with(&swapped, &[P256_ROOT]).unwrap()), BAD);
    let contents = Contents::parse(&older().files[CONTENTS]).unwrap();
    assert!(contents.timestamps[0].checkpoint.is_some() && contents.timestamps[0].consistency.is_some());
}

#[test]
fn the_writer_refuses_tokens_that_would_not_verify() {
    let note = note();
    let good = TimestampEvidence { response: P256, checkpoint: note.as_bytes(), consistency: &[] };
    assert!(matches!(crate::bundle::testing::writer().timestamp(&good), Err(WriteError::NoCheckpoint)));
    let cut = TimestampEvidence { response: &P256[1..], ..good };
    assert!(matches!(begun().timestamp(&cut), Err(WriteError::Timestamp(_))));
    let other = TimestampEvidence { checkpoint: b"other bytes", ..good };
    assert!(matches!(begun().timestamp(&other), Err(WriteError::Timestamp(_))));
    let mut apart = begun_at(&later());
    assert!(matches!(apart.timestamp(&good), Err(WriteError::Join(_))));
    assert!(matches!(apart.finish(), Err(WriteError::Failed)));
}
