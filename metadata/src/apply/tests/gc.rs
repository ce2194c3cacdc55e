//! What garbage collection leaves in the rows, and what is counted of packs.

use stele_rpc::meta::{BucketSpace, GcBegun, GcCommand, GcRun, GcStatus, PackCount};
use stele_types::pack::PackRow;

use super::*;
use crate::rows::decode;

pub(super) fn status(m: &Machine) -> GcStatus {
    match m.read(&MetaRequest::GcStatus) {
        Ok(MetaReply::GcStatus(status)) => *status,
        other => panic!("{other:?}"),
    }
}

/// What is counted of packs is what their rows add up to.
pub(super) fn check_counts(m: &Machine) {
    let rows: Vec<PackRow> = m.table(Tag::Pack).iter().map(|(key, value)| decode(key, value).unwrap()).collect();
    let payload: u64 = rows.iter().map(|row| u64::from(row.payload_len)).sum();
    let shards = |row: &PackRow| (row.scheme.shard_len(row.payload_len as usize) * row.scheme.shards()) as u64;
    let found = status(m);
    assert_eq!(found.unique, PackCount { packs: rows.len() as u64, bytes: payload });
    assert_eq!(found.stored_bytes, rows.iter().map(shards).sum::<u64>());
    let sum = |of: fn(&BucketSpace) -> u64| found.buckets.iter().map(of).sum::<u64>();
    assert_eq!(sum(|bucket| bucket.logical_bytes), found.logical_bytes);
    assert_eq!(PackCount { packs: sum(|b| b.unique.packs), bytes: sum(|b| b.unique.bytes) }, found.unique);
    assert_eq!(sum(|bucket| bucket.stored_bytes), found.stored_bytes);
    assert_eq!(sum(|bucket| bucket.versions), m.table(Tag::Version).len() as u64);
    assert_eq!(m.table(Tag::PackBucket).len(), rows.len(), "as long as the pack row, and no longer");
}

fn begin(m: &mut Machine, grace_ms: u64) -> GcBegun {
    match m.cluster(Command::Gc(GcCommand::Begin { grace_ms })) {
        Ok(MetaReply::GcBegun(begun)) => begun,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fence_is_ripe_after_the_grace_time_and_below_a_newer_one_only() {
    let mut m = Machine::new();
    m.now = 1000;
    let first = begin(&mut m, 500);
    assert_eq!(
        (first.number, first.fence, first.ripe, first.began),
        (1, Epoch(0), None, 1000),
        "a lease has epoch 1 open"
    );
    m.now = 2000;
    assert_eq!(begin(&mut m, 500).ripe, None, "the fence did not move");
    m.cluster(Command::ReleaseLease { lease: m.lease }).unwrap();
    let third = begin(&mut m, 500);
    assert_eq!((third.fence, third.ripe), (Epoch(3), Some(Epoch(0))));
    m.now = 2400;
    assert_eq!(begin(&mut m, 500).ripe, Some(Epoch(0)), "the third is too young");
    m.now = 2500;
    let fifth = begin(&mut m, 500);
    assert_eq!((fifth.fence, fifth.ripe), (Epoch(5), Some(Epoch(3))));
    assert_eq!(begin(&mut m, 0).ripe, Some(Epoch(5)), "without grace the last run is ripe");
    assert_eq!(status(&m).last_begun, Some(2500));
}

#[test]
fn what_a_run_did_is_kept_and_added_up_once() {
    let mut m = Machine::new();
    let mut run = GcRun { number: 2, ..GcRun::default() };
    run.deleted.add(10);
    run.strays.deleted.add(5);
    run.condemned.add(7);
    run.voided = (0..100).map(|n| (PgId(n), "x".repeat(1000))).collect();
    m.now = 5000;
    for _ in 0..2 {
        m.cluster(Command::Gc(GcCommand::Finish(Box::new(run.clone())))).unwrap();
    }
    let late = GcRun { number: 1, ..GcRun::default() };
    m.cluster(Command::Gc(GcCommand::Finish(Box::new(late)))).unwrap();
    let found = status(&m);
    assert_eq!((found.totals.runs, found.totals.condemned), (1, 1));
    assert_eq!(found.totals.deleted, PackCount { packs: 2, bytes: 15 });
    let last = found.last.unwrap();
    assert_eq!((last.number, last.ended, last.voided.len()), (2, 5000, GcRun::TOLD_MAX));
    assert!(last.voided.iter().all(|(_, why)| why.len() <= 300));
}

#[test]
fn packs_are_counted_while_something_refers_to_them() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "a");
    let id = m.put(b, "b").id;
    check_counts(&m);
    assert_eq!(status(&m).unique, PackCount { packs: 2, bytes: 8192 });
    m.delete(b, "b", VersionSelector::Id(id));
    m.put(b, "a");
    check_counts(&m);
    assert_eq!((status(&m).unique.packs, status(&m).logical_bytes), (1, 100));
}

#[test]
fn uploads_under_way_are_told_with_the_age_of_the_oldest() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    for n in 1..=3 {
        m.now = 1000 * u64::from(n);
        m.run(create_upload(guard(b, 1), "k", UploadId::from_bytes([n; 16]))).unwrap();
    }
    assert_eq!((status(&m).uploads, status(&m).oldest_upload), (3, Some(1000)));
    m.run(Command::AbortUpload { guard: guard(b, 1), key: "k".into(), upload: UploadId::from_bytes([1; 16]) }).unwrap();
    assert_eq!((status(&m).uploads, status(&m).oldest_upload), (2, Some(2000)));
}

#[test]
fn space_is_told_by_bucket_and_a_copy_counts_where_the_bytes_came_first() {
    let mut m = Machine::new();
    let (a, b) = (m.bucket("a"), m.bucket("b"));
    let put = m.draws.put(guard(a, 1), "k");
    let mut copy = m.draws.put(guard(b, 1), "k");
    copy.contents.manifest = put.contents.manifest.clone();
    copy.contents.packs = put.contents.packs.clone();
    let id = m.put_as(put).unwrap().id;
    m.put_as(copy).unwrap();
    let told = |m: &Machine| -> Vec<(String, u64, u64, u64)> {
        let row = |row: BucketSpace| (row.name, row.versions, row.logical_bytes, row.unique.packs);
        status(m).buckets.into_iter().map(row).collect()
    };
    assert_eq!(told(&m), [("a".into(), 1, 100, 1), ("b".into(), 1, 100, 0)]);
    check_counts(&m);
    m.delete(a, "k", VersionSelector::Id(id));
    assert_eq!(told(&m), [("a".into(), 0, 0, 1), ("b".into(), 1, 100, 0)], "the copy holds the pack");
    m.run(Command::DeleteBucket { name: "a".into() }).unwrap();
    assert_eq!(told(&m)[0], (String::new(), 0, 0, 1));
    m.delete(b, "k", VersionSelector::Current);
    assert_eq!(told(&m), []);
    check_counts(&m);
}
