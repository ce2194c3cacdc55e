//! Events that were erased: a hole in the chain of a key holds only with an erasure that is in the log and names what
//! is missing, and then says that nothing is known.

use stele_types::ids::{BucketId, CommitSeq, LogIndex, VersionId};

use crate::bundle::claims::{Claim, Class, Outcome, Question};
use crate::bundle::files::Files;
use crate::bundle::report::Report;
use crate::bundle::testing::{Log, event, events, judge, log, reseal, salt, writer};
use crate::record::{CLUSTER, CLUSTER_ID, Entry, Event, Record, Run};
use crate::tree::leaf_hash;

fn erasure(runs: &[(u64, u64)]) -> Record {
    let run = |(first, count): &(u64, u64)| Run { first: LogIndex(*first), count: *count };
    Record {
        event: Event::Erasure,
        bucket: CLUSTER.into(),
        bucket_id: CLUSTER_ID,
        key: "erasure".into(),
        version: VersionId { commit_seq: CommitSeq(0), nonce: 0 },
        root: None,
        len: 0,
        key_event: 3,
        previous: Some(LogIndex(1)),
        time: 1_790_000_050_000,
        retention: None,
        body_hash: None,
        digests: Vec::new(),
        detail: "records and salts of 1 entries were erased".into(),
        erased: runs.iter().map(run).collect(),
        ..events()[0].1.clone()
    }
}

/// The log with this record at an index.
fn with(at: u64, record: &Record) -> Log {
    let mut log = log();
    log.leaves[usize::try_from(at).unwrap()] = leaf_hash(&Entry::new(&salt(at), &record.encode()).0);
    log
}

/// A bundle of the deleted object's events without the middle one, and with this record in its place.
fn bundle(log: &Log, at: u64, record: &Record) -> Files {
    let mut objects = vec![(4, event(4).0), (11, event(11).0), (at, record.encode())];
    objects.sort_by_key(|(index, _)| *index);
    let mut writer = writer();
    for (index, record) in objects {
        writer.object(&record, &salt(index), &log.proof(index)).unwrap().without_bytes().unwrap();
    }
    writer.finish().unwrap()
}

/// A bundle whose middle event was erased.
pub(super) fn erased() -> Files {
    let record = erasure(&[(1, 2), (7, 1)]);
    bundle(&with(12, &record), 12, &record)
}

fn chains(report: &Report) -> Vec<&Claim> {
    report.claims.iter().filter(|claim| claim.question == Question::Chain).collect()
}

#[test]
fn an_erased_event_is_shown_as_erased_and_what_it_said_as_unknown() {
    let report = judge(&erased()).unwrap();
    assert!(report.consistent(), "{}", report.to_text());
    let [of_key, of_erasure] = chains(&report)[..] else { panic!() };
    assert_eq!((of_key.outcome, of_key.class, of_key.object), (Outcome::Open, Class::Asserted, Some(2)));
    assert_eq!((of_erasure.outcome, of_erasure.class), (Outcome::Open, Class::NotChecked));
    let says = "events 1 to 1 of this key, between log indices 4 and 11, were erased by the operator on \
                2026-09-21T14:14:10Z (erasures at log indices 12); what they said is not known";
    assert_eq!(of_key.detail.en, says);
    assert!(of_key.detail.zh.contains("第 1 至 1 号事件") && of_key.detail.zh.contains("已由运营方销毁"));
    assert!(report.to_text().contains(says) && report.to_html().contains("已由运营方销毁"));
}

#[test]
fn an_erasure_that_does_not_name_the_missing_event_explains_nothing() {
    // Other entries; those beside it; what came later than itself, or itself.
    for (at, runs) in [(12, &[(8u64, 2u64)][..]), (12, &[(5, 2)]), (12, &[(7, 6)]), (6, &[(7, 1)])] {
        let record = erasure(runs);
        let report = judge(&bundle(&with(at, &record), at, &record)).unwrap();
        let differs = chains(&report).iter().any(|claim| claim.outcome == Outcome::Differs && claim.object != Some(3));
        assert!(!report.consistent() && differs, "{at} {runs:?}: {}", report.to_text());
    }
}

#[test]
fn an_erasure_that_is_not_in_the_log_or_not_of_the_cluster_explains_nothing() {
    let record = erasure(&[(7, 1)]);
    // The log has an erasure of something else; the forger writes another one in its place.
    let forged = |said: &Record| {
        let logged = erasure(&[(8, 1)]);
        let mut files = bundle(&with(12, &logged), 12, &logged);
        files.files.insert("data/object-0003/record.cbor".to_owned(), said.encode());
        reseal(&mut files);
        judge(&files).unwrap()
    };
    let found = forged(&record);
    let differ = |question| found.claims.iter().any(|c| c.question == question && c.outcome == Outcome::Differs);
    assert!(differ(Question::Inclusion) && differ(Question::Chain), "{}", found.to_text());
    // An event of a bucket that calls itself an erasure.
    let own = Record { bucket: "scans".into(), bucket_id: BucketId(7), ..record };
    let report = judge(&bundle(&with(12, &own), 12, &own)).unwrap();
    assert!(chains(&report).iter().any(|claim| claim.outcome == Outcome::Differs), "{}", report.to_text());
}
