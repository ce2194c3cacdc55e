//! A cluster that lies with its own keys: whatever it signs, it signs well. Forged proofs, origins and keys are in
//! `forgery`; here are trees and checkpoints that don't fit what was said before or to others.

use crate::bundle::claims::{Claim, Class, Outcome, Question};
use crate::bundle::files::Files;
use crate::bundle::report::Report;
use crate::bundle::testing::{Log, deletion, judge, log, reseal, without_bytes};
use crate::fetched::{Answer, FetchedTiles};
use crate::proof::Head;
use crate::tlog_proof::TlogProof;
use crate::tree::leaf_hash;
use crate::watch::{Comparison, Judgement, Watch, compare};

/// The log as it was at a smaller size.
fn older(size: usize) -> Log {
    let mut log = log();
    log.leaves.truncate(size);
    log
}

/// The same log, but nothing is where the deletion was; with more entries behind it.
fn other_history(more: usize) -> Log {
    let mut log = log();
    log.leaves[11] = leaf_hash(b"nothing was deleted");
    log.leaves.extend((0..more).map(|at| leaf_hash(&at.to_be_bytes())));
    log
}

fn claim(report: &Report, question: Question) -> &Claim {
    report.claims.iter().find(|claim| claim.question == question).unwrap()
}

fn head(files: &Files) -> Head {
    let proof = TlogProof::parse(&files.files["data/object-0001/entry.tlog-proof"]).unwrap();
    crate::checkpoint::Checkpoint::parse(proof.checkpoint.text()).unwrap().head()
}

/// The tree was cut, and the cut one signed and cosigned: what was behind the cut is not in it.
#[test]
fn a_truncated_tree_does_not_hold_what_was_cut_off() {
    for size in [8, 11] {
        let cut = older(size);
        let mut files = deletion();
        let lost = TlogProof::parse(&log().proof(11)).unwrap();
        for (number, index) in [(1, 4), (2, 7)] {
            files.files.insert(format!("data/object-{number:04}/entry.tlog-proof"), cut.proof(index));
        }
        let checkpoint = TlogProof::parse(&cut.proof(4)).unwrap().checkpoint;
        for index in [4, 7, 11] {
            let forged = TlogProof { index, checkpoint: checkpoint.clone(), ..lost.clone() };
            files.files.insert("data/object-0003/entry.tlog-proof".to_owned(), forged.print());
            reseal(&mut files);
            let report = judge(&files).unwrap();
            assert!(!report.consistent());
            let differs = |claim: &&Claim| claim.outcome == Outcome::Differs && claim.question == Question::Inclusion;
            assert_eq!(report.claims.iter().filter(differs).count(), 1, "size {size}, as index {index}");
        }
    }
}

/// An old checkpoint is as good as it was: the report says when it was cosigned, and that nobody looked at what came
/// after it. A newer one that was seen elsewhere extends it, and there the deletion is.
#[test]
fn a_replayed_checkpoint_proves_nothing_of_what_came_after_it() {
    let replayed = without_bytes(&older(9), &[4, 7]).unwrap();
    let report = judge(&replayed).unwrap();
    assert!(report.consistent());
    let later = claim(&report, Question::Later);
    assert_eq!((later.class, later.outcome), (Class::NotChecked, Outcome::Open));
    assert_eq!(claim(&report, Question::Time).class, Class::Verified);
    assert!(without_bytes(&older(9), &[4, 7, 11]).is_err());
    let (old, new) = (head(&replayed), head(&deletion()));
    assert_eq!((old.size, new.size), (9, 13));
    let watch = Watch::new([new]).unwrap();
    assert_eq!(watch.judge(old), Judgement::Prove(vec![(old, new)]));
    assert_eq!(compared(&log(), old, new), Comparison::Consistent);
}

fn compared(newer: &Log, old: Head, new: Head) -> Comparison {
    let mut tiles = FetchedTiles::default();
    loop {
        match compare(&tiles, old, new).unwrap() {
            Answer::Known(comparison) => return comparison,
            Answer::Lacks { level, index } => {
                assert_eq!((level, index), (0, 0));
                tiles.add(level, index, newer.leaves.clone());
            }
        }
    }
}

/// Two auditors, each shown a history of their own, signed by the log and by the witness that it owns. Each bundle
/// holds; together they convict.
#[test]
fn two_views_of_one_log_convict_it() {
    let first = deletion();
    for more in [0, 3] {
        let shown = other_history(more);
        let second = without_bytes(&shown, &[4, 7]).unwrap();
        assert!(judge(&first).unwrap().consistent() && judge(&second).unwrap().consistent());
        let (one, two) = (head(&first), head(&second));
        let watch = Watch::new([one]).unwrap();
        let judgement = watch.judge(two);
        if more == 0 {
            assert_eq!(judgement, Judgement::Forked { other: one });
        } else {
            assert_eq!(judgement, Judgement::Prove(vec![(one, two)]));
            assert_eq!(compared(&shown, one, two), Comparison::Forked);
        }
    }
}

/// An event between two others shows by itself; the last one only by asking later, and no bundle says that there is
/// none.
#[test]
fn an_omitted_event_is_a_gap_or_not_spoken_of() {
    let gap = judge(&without_bytes(&log(), &[4, 11]).unwrap()).unwrap();
    assert_eq!(claim(&gap, Question::Chain).outcome, Outcome::Differs);
    let last = judge(&without_bytes(&log(), &[4, 7]).unwrap()).unwrap();
    assert!(last.consistent());
    assert_eq!(claim(&last, Question::Later).class, Class::NotChecked);
    assert!(last.to_text().contains("Events after the checkpoint, or after the last one in the bundle"));
}
