//! Retention and legal hold: who may remove a version, judged by commit time, and what the log says of it.

use stele_evidence::record::{Event, Record};
use stele_rpc::meta::{ChangeVersion, Deleted, NewRetention, VersionChange};
use stele_types::ids::{BucketId, Salt};
use stele_types::object::{BucketRow, DefaultRetention, Lock, ObjectLock, Retention, RetentionMode, RetentionPeriod};

use super::*;
use crate::rows::{RecordRow, VersionRow};

pub(super) const fn governance(until: u64) -> Retention {
    Retention { mode: RetentionMode::Governance, until }
}

const fn compliance(until: u64) -> Retention {
    Retention { mode: RetentionMode::Compliance, until }
}

fn lock(retention: Retention) -> Lock {
    Lock { retention: Some(retention), legal_hold: None }
}

/// A bucket with object lock.
pub(super) fn locked_bucket(m: &mut Machine) -> BucketId {
    match m.run(Command::CreateBucket { name: "b".into(), object_lock: true }) {
        Ok(MetaReply::Bucket(row)) => {
            assert_eq!((row.versioning, row.object_lock), (Versioning::Enabled, Some(ObjectLock::default())));
            row.id
        }
        other => panic!("{other:?}"),
    }
}

fn configure(change: BucketChange) -> Command {
    Command::ConfigureBucket { name: "b".into(), change }
}

fn put(m: &mut Machine, b: BucketId, lock: Lock) -> Result<VersionId, RpcError> {
    let mut put = m.draws.put(guard(b, 1), "k");
    put.lock = lock;
    m.put_as(put).map(|committed| committed.id)
}

fn change(m: &mut Machine, b: BucketId, id: VersionId, change: VersionChange) -> Result<MetaReply, RpcError> {
    let (guard, version) = (guard(b, 1), VersionSelector::Id(id));
    m.run(Command::ChangeVersion(Box::new(ChangeVersion { guard, key: "k".into(), version, change })))
}

fn retain(
    m: &mut Machine,
    b: BucketId,
    id: VersionId,
    (retention, bypass): (Option<Retention>, bool),
) -> Result<MetaReply, RpcError> {
    let salt = Salt::from_bytes(m.draws.bytes());
    change(m, b, id, VersionChange::Retention(NewRetention { retention, bypass, salt }))
}

pub(super) fn hold(m: &mut Machine, b: BucketId, id: VersionId, on: bool) -> Result<MetaReply, RpcError> {
    let salt = Salt::from_bytes(m.draws.bytes());
    change(m, b, id, VersionChange::LegalHold { on, salt })
}

fn delete(m: &mut Machine, b: BucketId, id: VersionId, bypass: bool) -> Deleted {
    let mut item = m.draws.delete("k", VersionSelector::Id(id));
    item.bypass = bypass;
    match m.run(Command::Delete { guard: guard(b, 1), items: vec![item] }) {
        Ok(MetaReply::Deleted(mut outcomes)) => outcomes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn refused_delete(m: &mut Machine, b: BucketId, id: VersionId, bypass: bool) -> String {
    let before = m.table(Tag::Version);
    let deleted = delete(m, b, id, bypass);
    let error = deleted.error.clone().unwrap();
    assert_eq!((error.code, Deleted { error: None, ..deleted }), (Code::Locked, Deleted::default()));
    assert_eq!(m.table(Tag::Version), before);
    error.detail
}

fn lock_of(m: &Machine, b: BucketId, id: VersionId) -> Lock {
    match m.resolve(b, "k", VersionSelector::Id(id)) {
        Ok(MetaReply::Version { version, .. }) => version.lock,
        other => panic!("{other:?}"),
    }
}

fn records(m: &Machine) -> Vec<Record> {
    let rows = m.table(Tag::Record);
    rows.iter()
        .map(|(_, value)| {
            let row: RecordRow = crate::rows::decode(&[], value).unwrap();
            Record::decode(&row.record).unwrap()
        })
        .collect()
}

#[test]
fn a_retention_keeps_a_version_until_its_date_and_no_longer() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let (soft, firm) =
        (put(&mut m, b, lock(governance(5000))).unwrap(), put(&mut m, b, lock(compliance(6000))).unwrap());
    assert_eq!((lock_of(&m, b, soft), lock_of(&m, b, firm)), (lock(governance(5000)), lock(compliance(6000))));
    // A plain delete adds a marker, and removing that is free.
    let marker = m.delete(b, "k", VersionSelector::Current).marker.unwrap();
    assert_eq!(delete(&mut m, b, marker, false).removed, Some(marker));
    assert!(refused_delete(&mut m, b, soft, false).contains("1970-01-01T00:00:05Z in GOVERNANCE"));
    assert!(refused_delete(&mut m, b, firm, true).contains("1970-01-01T00:00:06Z in COMPLIANCE"));
    m.now = 4999;
    refused_delete(&mut m, b, soft, false);
    // Commit time decides, and it never goes back: a leader whose clock stands wrong shortens nothing.
    m.now = 5000;
    assert_eq!(delete(&mut m, b, soft, false).removed, Some(soft));
    m.now = 5999;
    refused_delete(&mut m, b, firm, true);
    m.now = 1;
    refused_delete(&mut m, b, firm, true);
    m.now = 6000;
    assert_eq!(delete(&mut m, b, firm, false).removed, Some(firm));
}

#[test]
fn governance_can_be_bypassed_and_a_legal_hold_can_not() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let id = put(&mut m, b, Lock { retention: Some(governance(5000)), legal_hold: Some(true) }).unwrap();
    assert!(refused_delete(&mut m, b, id, true).contains("legal hold"));
    hold(&mut m, b, id, false).unwrap();
    assert_eq!(lock_of(&m, b, id).legal_hold, Some(false));
    hold(&mut m, b, id, true).unwrap();
    m.now = 5001;
    assert!(refused_delete(&mut m, b, id, true).contains("legal hold"), "the date does not end a hold");
    m.now = 4000;
    hold(&mut m, b, id, false).unwrap();
    let other = put(&mut m, b, lock(governance(9000))).unwrap();
    refused_delete(&mut m, b, other, false);
    assert_eq!(delete(&mut m, b, other, true).removed, Some(other));
}

#[test]
fn compliance_is_extended_only_and_governance_needs_a_bypass() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let id = put(&mut m, b, lock(compliance(5000))).unwrap();
    for bypass in [false, true] {
        for refused in [Some(compliance(4999)), Some(governance(9000)), None] {
            assert_eq!(code(retain(&mut m, b, id, (refused, bypass))), Code::Locked, "{refused:?} {bypass}");
        }
    }
    retain(&mut m, b, id, (Some(compliance(5000)), false)).unwrap();
    retain(&mut m, b, id, (Some(compliance(6000)), false)).unwrap();
    assert_eq!(lock_of(&m, b, id).retention, Some(compliance(6000)));

    let id = put(&mut m, b, lock(governance(5000))).unwrap();
    for needs_bypass in [Some(governance(4999)), Some(compliance(9000)), None] {
        assert_eq!(code(retain(&mut m, b, id, (needs_bypass, false))), Code::Locked, "{needs_bypass:?}");
    }
    retain(&mut m, b, id, (Some(governance(6000)), false)).unwrap();
    retain(&mut m, b, id, (Some(governance(2000)), true)).unwrap();
    retain(&mut m, b, id, (None, true)).unwrap();
    assert_eq!(lock_of(&m, b, id), Lock::default());
    // What is in the past is refused, whatever stood there before.
    assert_eq!(code(retain(&mut m, b, id, (Some(governance(1000)), true))), Code::Malformed);
    assert_eq!(code(put(&mut m, b, lock(governance(1000)))), Code::Malformed);
    // What has run out can be changed in any way, and is shown until then.
    retain(&mut m, b, id, (Some(compliance(3000)), false)).unwrap();
    m.now = 3000;
    assert_eq!(lock_of(&m, b, id).retention, Some(compliance(3000)));
    retain(&mut m, b, id, (Some(governance(3001)), false)).unwrap();
}

#[test]
fn the_default_is_counted_from_the_commit() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let default = DefaultRetention { mode: RetentionMode::Compliance, period: RetentionPeriod::Days(2) };
    m.run(configure(BucketChange::ObjectLock(ObjectLock { default: Some(default) }))).unwrap();
    let mut planned_before = m.draws.put(guard(b, 1), "k");
    assert_eq!(code(m.put_as(planned_before.clone())), Code::StaleConfig, "the default is in force at once");
    planned_before.guard.config_epoch.0 = 2;
    m.now = 7000;
    let id = m.put_as(planned_before.clone()).unwrap().id;
    assert_eq!(lock_of(&m, b, id).retention, Some(compliance(7000 + 2 * 86_400_000)));
    // What a version brings comes first; a legal hold goes with either.
    let mut own = m.draws.put(guard(b, 1), "k");
    own.guard.config_epoch.0 = 2;
    own.lock = Lock { retention: Some(governance(8000)), legal_hold: Some(true) };
    let id = m.put_as(own.clone()).unwrap().id;
    assert_eq!(lock_of(&m, b, id), own.lock);
    let mut held = m.draws.put(guard(b, 1), "k");
    held.guard.config_epoch.0 = 2;
    held.lock.legal_hold = Some(true);
    let id = m.put_as(held).unwrap().id;
    assert_eq!(lock_of(&m, b, id), Lock { retention: Some(compliance(7000 + 2 * 86_400_000)), legal_hold: Some(true) });
}

#[test]
fn uploads_bring_their_lock() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let upload = UploadId::from_bytes([1; 16]);
    let create = |upload, lock| Command::CreateUpload {
        guard: guard(b, 1),
        key: "k".into(),
        upload,
        headers: Box::default(),
        checksum: None,
        tags: stele_types::object::Tags::default(),
        lock,
    };
    assert_eq!(code(m.run(create(upload, lock(governance(900))))), Code::Malformed, "a date in the past");
    m.run(create(upload, lock(governance(2000)))).unwrap();
    let (part, packs) = m.draws.part(1, 10);
    let put = Command::PutPart { guard: guard(b, 1), key: "k".into(), upload, part, packs };
    let Ok(MetaReply::Part(part)) = m.run(put) else { panic!() };
    let mut complete = m.draws.complete(guard(b, 1), "k", upload, &[*part]);
    complete.put.lock = lock(compliance(9000));
    // The date may pass while the parts come: that is no reason to lose them.
    m.now = 3000;
    let Ok(MetaReply::Committed(done)) = m.run(Command::CompleteUpload(Box::new(complete))) else { panic!() };
    assert_eq!(lock_of(&m, b, done.id), lock(governance(2000)), "the upload's, not what Complete says");
}

#[test]
fn a_lock_needs_a_bucket_with_object_lock_and_that_needs_versioning() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    assert_eq!(code(put(&mut m, b, lock(governance(5000)))), Code::NoObjectLock);
    assert_eq!(code(put(&mut m, b, Lock { retention: None, legal_hold: Some(true) })), Code::NoObjectLock);
    let id = put(&mut m, b, Lock::default()).unwrap();
    assert_eq!(code(retain(&mut m, b, id, (Some(governance(5000)), false))), Code::NoObjectLock);
    assert_eq!(code(hold(&mut m, b, id, true)), Code::NoObjectLock);
    let enable = || configure(BucketChange::ObjectLock(ObjectLock::default()));
    assert_eq!(code(m.run(enable())), Code::BucketState);
    m.run(configure(BucketChange::Versioning(Versioning::Suspended))).unwrap();
    assert_eq!(code(m.run(enable())), Code::BucketState);
    m.run(configure(BucketChange::Versioning(Versioning::Enabled))).unwrap();
    m.run(enable()).unwrap();
    assert_eq!(code(m.run(configure(BucketChange::Versioning(Versioning::Suspended)))), Code::BucketState);
    let period = RetentionPeriod::Years(101);
    let default = Some(DefaultRetention { mode: RetentionMode::Governance, period });
    assert_eq!(code(m.run(configure(BucketChange::ObjectLock(ObjectLock { default })))), Code::Malformed);
}

/// Object lock forbids suspending, so no write should meet a locked null version. If one did, it would be
/// refused before it wrote anything.
#[test]
fn no_overwrite_takes_the_place_of_a_locked_null_version() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let null = m.put(b, "k").id;
    m.set_versioning(b, Versioning::Enabled);
    let key = crate::keyspace::bucket(b);
    let mut row: BucketRow = crate::rows::load(&*m.kv.view().unwrap(), &key).unwrap().unwrap();
    row.object_lock = Some(ObjectLock::default());
    m.kv.write(&mut |txn| txn.put(&key, &crate::rows::encode(&row))).unwrap();
    retain(&mut m, b, null, (Some(governance(5000)), false)).unwrap();
    let upload = UploadId::from_bytes([1; 16]);
    m.run(create_upload(guard(b, 1), "k", upload)).unwrap();
    let (part, packs) = m.draws.part(1, 10);
    let put_part = Command::PutPart { guard: guard(b, 1), key: "k".into(), upload, part, packs };
    let Ok(MetaReply::Part(part)) = m.run(put_part) else { panic!() };
    for versioning in [Versioning::Suspended, Versioning::Unset] {
        m.set_versioning(b, versioning);
        let complete = m.draws.complete(guard(b, 1), "k", upload, std::slice::from_ref(&*part));
        let rows = |m: &Machine| {
            [Tag::Version, Tag::Record, Tag::Reference, Tag::Pack, Tag::Upload, Tag::Key].map(|tag| m.table(tag))
        };
        let before = rows(&m);
        assert_eq!(code(put(&mut m, b, Lock::default())), Code::Locked);
        assert_eq!(code(m.run(Command::CompleteUpload(Box::new(complete)))), Code::Locked);
        assert_eq!(m.delete(b, "k", VersionSelector::Current).error.unwrap().code, Code::Locked);
        assert_eq!(m.delete(b, "k", VersionSelector::Null).error.unwrap().code, Code::Locked);
        assert_eq!(rows(&m), before);
    }
}

#[test]
fn the_log_tells_of_locks_and_of_nothing_else_that_is_new() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let first = m.table(Tag::Record).len() as u64;
    let id = put(&mut m, b, lock(governance(5000))).unwrap();
    let Ok(MetaReply::Changed(changed)) = hold(&mut m, b, id, true) else { panic!() };
    assert_eq!((changed.id, changed.log_index.map(|index| index.0)), (id, Some(first + 1)));
    retain(&mut m, b, id, (Some(governance(6000)), false)).unwrap();
    assert!(retain(&mut m, b, id, (None, false)).is_err());
    hold(&mut m, b, id, false).unwrap();
    assert!(delete(&mut m, b, id, false).error.is_some());
    delete(&mut m, b, id, true);
    put(&mut m, b, Lock::default()).unwrap();
    let of_objects = &records(&m)[usize::try_from(first).unwrap()..];
    let told: Vec<_> = of_objects.iter().map(|record| (record.event, record.retention, record.legal_hold)).collect();
    let (earlier, second) = (Some(governance(5000)), Some(governance(6000)));
    assert_eq!(
        told,
        [
            (Event::Put, earlier, false),
            (Event::LegalHold, earlier, true),
            (Event::Retention, second, true),
            (Event::LegalHold, second, false),
            (Event::Delete, second, false),
            (Event::Put, None, false),
        ]
    );
    let chain: Vec<_> = of_objects.iter().map(|record| (record.key_event, record.previous.map(|at| at.0))).collect();
    let before = |n: u64| Some(first + n);
    assert_eq!(chain, [(0, None), (1, before(0)), (2, before(1)), (3, before(2)), (4, before(3)), (5, before(4))]);
}

#[test]
fn delete_markers_have_no_lock() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    put(&mut m, b, lock(governance(5000))).unwrap();
    let marker = m.delete(b, "k", VersionSelector::Current).marker.unwrap();
    assert_eq!(code(retain(&mut m, b, marker, (Some(governance(5000)), false))), Code::DeleteMarker);
    assert_eq!(code(hold(&mut m, b, marker, true)), Code::DeleteMarker);
}

/// I-6: what can't be read is not removed. The node stops, as other nodes may still read their rows.
#[test]
fn a_version_whose_row_is_damaged_is_not_removed() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let id = put(&mut m, b, lock(governance(5000))).unwrap();
    let key = crate::keyspace::version(b, "k", id.commit_seq);
    let good = crate::rows::encode(&crate::rows::load::<VersionRow>(&*m.kv.view().unwrap(), &key).unwrap().unwrap());
    let mut unknown_mode = good.clone();
    let at = good.windows(10).position(|window| window == b"Governance").unwrap();
    unknown_mode[at] = b'X';
    // An array that claims to end before the lock.
    assert_eq!(good[..3], [0xdc, 0, 17]);
    let mut shortened = good.clone();
    shortened[2] = 15;
    for damaged in [unknown_mode, shortened, good[..good.len() - 1].to_vec(), Vec::new()] {
        m.kv.write(&mut |txn| txn.put(&key, &damaged)).unwrap();
        let mut item = m.draws.delete("k", VersionSelector::Id(id));
        item.bypass = true;
        let command = m.next(Command::Delete { guard: guard(b, 1), items: vec![item] });
        let outcome = m.kv.write(&mut |txn| {
            let mut batch = Batch::begin(txn, ApplyOptions::default())?;
            batch.apply(1001, &command).map(|reply| panic!("{reply:?}"))
        });
        assert!(matches!(outcome, Err(KvError::Corrupt { .. })), "{outcome:?}");
        assert_eq!(m.kv.view().unwrap().get(&key).unwrap().as_deref(), Some(&*damaged));
    }
}
