//! Forgery: whoever forges writes all digests of the bag anew, so only records, proofs and trees are left
//! to show it.

use crate::bundle::claims::{Outcome, Question};
use crate::bundle::contents::Contents;
use crate::bundle::files::Files;
use crate::bundle::names::{CONTENTS, PAYLOAD, POLICY};
use crate::bundle::testing::{
    Log, deletion, edit, event, judge, log, policy_of, range, reseal, salt, whole, without_bytes,
};
use crate::bundle::verify::{Request, verify};
use crate::record::Event;
use crate::tree::leaf_hash;

/// Which questions were answered with "differs".
fn differing(files: &Files) -> Vec<Question> {
    let report = judge(files).unwrap();
    report.claims.iter().filter(|claim| claim.outcome == Outcome::Differs).map(|claim| claim.question).collect()
}

fn replace(files: &mut Files, name: &str, bytes: Vec<u8>) {
    assert!(files.files.insert(name.to_owned(), bytes).is_some(), "{name}");
    reseal(files);
}

#[test]
fn every_flipped_byte_of_the_evidence_is_refused_although_the_bag_is_sealed_anew() {
    for good in [whole(true), range(), deletion()] {
        for (name, bytes) in good.files.iter().filter(|(name, _)| name.starts_with(PAYLOAD) && *name != POLICY) {
            for at in 0..bytes.len() {
                let mut files = good.clone();
                files.files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
                reseal(&mut files);
                assert!(judge(&files).is_ok_and(|report| !report.consistent()), "{name}, byte {at}");
            }
        }
    }
}

/// Nothing backs the name of the exporter and the time of the export. Slices hold whole groups, so a range
/// that was changed within these is proven all the same, and reported as what it is.
#[test]
fn every_flipped_byte_of_the_contents_is_refused_although_the_bag_is_sealed_anew() {
    for good in [whole(true), range(), deletion()] {
        let was = Contents::parse(&good.files[CONTENTS]).unwrap();
        for at in 0..good.files[CONTENTS].len() {
            let mut files = good.clone();
            files.files.get_mut(CONTENTS).unwrap()[at] ^= 1 << (at % 8);
            reseal(&mut files);
            if judge(&files).is_ok_and(|report| report.consistent()) {
                let mut is = Contents::parse(&files.files[CONTENTS]).unwrap();
                (is.tool, is.created) = (was.tool.clone(), was.created.clone());
                if let (Some(is), Some(was)) = (&mut is.objects[0].range, &was.objects[0].range) {
                    assert!(is.first >= 16_384 && is.end() <= 17_300, "byte {at}");
                    (is.first, is.length) = (was.first, was.length);
                }
                assert_eq!(is, was, "byte {at}");
            }
        }
    }
}

#[test]
fn evidence_of_another_entry_does_not_fit() {
    let mut swapped = deletion();
    replace(&mut swapped, "data/object-0001/entry.tlog-proof", log().proof(7));
    assert_eq!(differing(&swapped), [Question::Inclusion]);
    let mut salted = deletion();
    edit(&mut salted, |contents| contents.objects[1].salt = salt(4));
    assert!(differing(&salted).contains(&Question::Inclusion));
    let mut other_index = deletion();
    edit(&mut other_index, |contents| contents.objects[2].index = 12);
    assert!(differing(&other_index).contains(&Question::Inclusion));
    // The record of another key with its own salt and proof: in the log, and not what the contents say.
    let mut other_key = whole(true);
    replace(&mut other_key, "data/object-0001/record.cbor", event(4).0);
    replace(&mut other_key, "data/object-0001/entry.tlog-proof", log().proof(4));
    edit(&mut other_key, |contents| (contents.objects[0].salt, contents.objects[0].index) = (salt(4), 4));
    let found = differing(&other_key);
    assert!(found.contains(&Question::Record) && found.contains(&Question::Root), "{found:?}");
    let mut renamed = deletion();
    edit(&mut renamed, |contents| contents.objects[2].event = Event::DeleteMarker);
    assert_eq!(differing(&renamed), [Question::Record]);
}

#[test]
fn other_logs_and_keys_are_not_accepted() {
    let mut other_origin = deletion();
    edit(&mut other_origin, |contents| contents.origin = "log.stele.example/other".to_owned());
    assert!(differing(&other_origin).contains(&Question::Checkpoint));
    // Another log altogether, with a policy of its own inside the bundle.
    let stranger = Log { origin: "log.example/stranger".to_owned(), seed: 99, ..log() };
    let mut strange = deletion();
    for (number, index) in [(1, 4), (2, 7), (3, 11)] {
        replace(&mut strange, &format!("data/object-{number:04}/entry.tlog-proof"), stranger.proof(index));
    }
    let report = judge(&strange).unwrap();
    assert!(!report.consistent() && report.to_text().contains("lists no log \"log.example/stranger\""));
    // The same origin, signed with another key.
    let impostor = Log { seed: 99, ..log() };
    let mut forged = deletion();
    for (number, index) in [(1, 4), (2, 7), (3, 11)] {
        replace(&mut forged, &format!("data/object-{number:04}/entry.tlog-proof"), impostor.proof(index));
    }
    replace(&mut forged, POLICY, policy_of(99));
    assert!(differing(&forged).contains(&Question::Checkpoint));
    // By the policy that the forger put into the bundle all is well, and the report says what that is worth.
    let report = verify(&forged, &Request::default(), None).unwrap();
    assert!(report.consistent() && !report.own_policy);
    assert!(
        report.to_text().contains("proves nothing about who signed") && report.verdict().en.contains("WITHIN ITSELF")
    );
}

#[test]
fn a_checkpoint_that_no_witness_saw_is_refused() {
    let mut alone = deletion();
    let unseen = Log { witnessed: false, ..log() };
    for (number, index) in [(1, 4), (2, 7), (3, 11)] {
        replace(&mut alone, &format!("data/object-{number:04}/entry.tlog-proof"), unseen.proof(index));
    }
    let found = judge(&alone).unwrap();
    assert!(!found.consistent() && found.to_text().contains("too few witnesses cosigned"));
}

#[test]
fn two_checkpoints_in_one_bundle_are_refused() {
    let mut longer = log();
    longer.leaves.push(leaf_hash(b"one more"));
    let mut files = deletion();
    replace(&mut files, "data/object-0003/entry.tlog-proof", longer.proof(11));
    assert_eq!(differing(&files), [Question::OneCheckpoint]);
}

#[test]
fn an_omitted_middle_event_shows() {
    let files = without_bytes(&log(), &[4, 11]).unwrap();
    assert_eq!(differing(&files), [Question::Chain]);
    assert!(judge(&files).unwrap().to_text().contains("events 1 to 1"));
    let tail = judge(&without_bytes(&log(), &[7, 11]).unwrap()).unwrap();
    assert!(tail.consistent() && tail.to_text().contains("those before are not in the bundle"));
}
