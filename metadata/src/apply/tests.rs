//! The state machine, command by command. Random histories against a model: `model_tests.rs`.

use stele_rpc::meta::{BucketChange, Command, DeleteItem, MetaReply, MetaRequest, VersionSelector};
use stele_types::ids::{
    ClusterId, CommitSeq, DriveId, Epoch, LeaseId, MapEpoch, NodeId, OwnerId, PackId, PgId, UploadId, VersionId,
};
use stele_types::manifest::Manifest;
use stele_types::map::{ClusterMap, DriveRow, DriveState};
use stele_types::object::{Part, Precondition, Versioning};

use super::*;
use crate::keyspace::Tag;
use crate::testing::{LEASE_MS, Machine, create_upload, envelope, guard, range};

mod acts;
mod archives;
mod backups;
mod checkpoint;
mod cluster_events;
mod erasure;
mod gc;
mod lifecycle;
mod lock;
mod model;
mod moves;
mod nodes;
mod slots;
mod tags;
mod trash;

fn code<T: std::fmt::Debug>(answer: Result<T, RpcError>) -> Code {
    answer.unwrap_err().code
}

#[test]
fn a_repeat_is_answered_without_applying_it_again() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let put = m.draws.put(guard(b, 1), "k");
    let first = m.next(Command::PutVersion(Box::new(put)));
    let answer = m.apply(&first).unwrap();
    // Another gateway overwrites in between: the repeat must not undo that.
    let own = std::mem::replace(&mut m.lease, LeaseId(0));
    m.lease = m.grant(LEASE_MS);
    let other = m.put(b, "k");
    m.lease = own;
    let before = m.dump();
    assert_eq!(m.apply(&first).unwrap(), answer);
    assert_eq!(m.dump(), before, "nothing changed");
    let Ok(MetaReply::Version { version, .. }) = m.resolve(b, "k", VersionSelector::Current) else { panic!() };
    assert_eq!(version.id, other.id);
    // Refusals are remembered as well.
    let mut refused = m.draws.put(guard(b, 1), "k");
    refused.precondition = Precondition::Absent;
    let refused = m.next(Command::PutVersion(Box::new(refused)));
    assert_eq!(code(m.apply(&refused)), Code::PreconditionFailed);
    m.delete(b, "k", VersionSelector::Current);
    assert_eq!(code(m.apply(&first)), Code::Forgotten, "its reply was given up");
}

#[test]
fn leases_and_the_fence() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let stranger = envelope(Some(LeaseId(77)), 1, 0, Command::AdvanceEpoch);
    assert_eq!(code(m.apply(&stranger)), Code::NoLease);
    let put = m.draws.put(guard(b, 1), "k");
    assert_eq!(code(m.cluster(Command::PutVersion(Box::new(put)))), Code::NoLease);
    let epochs = |answer| match answer {
        Ok(MetaReply::Epochs { fence, epoch }) => (fence.0, epoch.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(epochs(m.cluster(Command::AdvanceEpoch)), (0, 2));
    assert_eq!(epochs(m.cluster(Command::Fence { limit: Epoch(99) })), (0, 2), "epoch 1 is open");
    let late = m.grant(500);
    let renew = Command::RenewLease { lease: m.lease, ttl_ms: LEASE_MS, lowest_open: Epoch(2) };
    assert!(matches!(m.cluster(renew), Ok(MetaReply::Lease(lease)) if lease.epoch == Epoch(2)));
    assert_eq!(epochs(m.cluster(Command::Fence { limit: Epoch(0) })), (0, 2), "the limit holds");
    assert_eq!(epochs(m.cluster(Command::Fence { limit: Epoch(99) })), (1, 2));
    let put = m.draws.put(guard(b, 1), "k");
    assert_eq!(code(m.put_as(put)), Code::Fenced);
    let put = m.draws.put(guard(b, 2), "k");
    assert!(m.put_as(put).is_ok());
    let put = m.draws.put(guard(b, 3), "k");
    assert_eq!(code(m.put_as(put)), Code::Malformed, "an epoch from the future");
    // A report below an earlier one does not reopen epochs.
    let renew = Command::RenewLease { lease: m.lease, ttl_ms: LEASE_MS, lowest_open: Epoch(1) };
    m.cluster(renew).unwrap();
    m.cluster(Command::AdvanceEpoch).unwrap();
    assert_eq!(epochs(m.cluster(Command::Fence { limit: Epoch(99) })), (1, 3));
    // `late` expires: it neither commits nor holds the fence, and its replies go.
    m.now += 1000;
    let own = std::mem::replace(&mut m.lease, late);
    let put = m.draws.put(guard(b, 3), "k");
    assert_eq!(code(m.put_as(put)), Code::NoLease);
    let renew = Command::RenewLease { lease: late, ttl_ms: 1, lowest_open: Epoch(3) };
    assert_eq!(code(m.cluster(renew)), Code::NoLease);
    m.lease = own;
    m.cluster(Command::ReleaseLease { lease: own }).unwrap();
    assert!(m.table(Tag::Reply).is_empty());
    assert_eq!(epochs(m.cluster(Command::Fence { limit: Epoch(99) })), (2, 3), "never past the current epoch");
    assert!(m.table(Tag::Lease).is_empty());
}

#[test]
fn commit_time_never_goes_back() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.now = 5000;
    let first = m.put(b, "k").modified;
    m.now = 10;
    let second = m.put(b, "k").modified;
    assert_eq!((first, second), (5000, 5000));
}

#[test]
fn buckets() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let create = Command::CreateBucket { name: "b".into(), object_lock: false };
    assert_eq!(code(m.run(create.clone())), Code::BucketAlreadyOwned);
    let mut foreign = m.next(create);
    foreign.origin.principal = "someone else".into();
    assert_eq!(code(m.apply(&foreign)), Code::BucketExists);
    let id = m.put(b, "k").id;
    let delete = || Command::DeleteBucket { name: "b".into() };
    assert_eq!(code(m.run(delete())), Code::BucketNotEmpty);
    m.delete(b, "k", VersionSelector::Id(id));
    let upload = UploadId::from_bytes([1; 16]);
    m.run(create_upload(guard(b, 1), "k", upload)).unwrap();
    assert_eq!(code(m.run(delete())), Code::BucketNotEmpty);
    m.run(Command::AbortUpload { guard: guard(b, 1), key: "k".into(), upload }).unwrap();
    m.run(delete()).unwrap();
    assert_eq!(code(m.run(delete())), Code::NoSuchBucket);
    let put = m.draws.put(guard(b, 1), "k");
    assert_eq!(code(m.put_as(put)), Code::NoSuchBucket);
    assert_ne!(m.bucket("b"), b, "ids are not reused");
}

#[test]
fn a_new_configuration_refuses_writes_planned_with_the_old_one() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let set = |versioning| Command::ConfigureBucket { name: "b".into(), change: BucketChange::Versioning(versioning) };
    assert_eq!(code(m.run(set(Versioning::Unset))), Code::Malformed);
    let MetaReply::Bucket(row) = m.run(set(Versioning::Enabled)).unwrap() else { panic!("no bucket") };
    assert_eq!((row.config_epoch.0, row.versioning), (2, Versioning::Enabled));
    let MetaReply::Bucket(again) = m.run(set(Versioning::Enabled)).unwrap() else { panic!("no bucket") };
    assert_eq!(again, row, "nothing changed, so nothing is planned anew");
    let planned_before = m.draws.put(guard(b, 1), "k");
    assert_eq!(code(m.put_as(planned_before)), Code::StaleConfig);
    let mut put = m.draws.put(guard(b, 1), "k");
    put.guard.config_epoch = row.config_epoch;
    assert!(!m.put_as(put).unwrap().null_version);
    let gone = Command::ConfigureBucket { name: "c".into(), change: BucketChange::Versioning(Versioning::Enabled) };
    assert_eq!(code(m.run(gone)), Code::NoSuchBucket);
}

#[test]
fn guards_and_preconditions() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let mut put = m.draws.put(guard(b, 1), "k");
    put.guard.config_epoch.0 = 9;
    assert_eq!(code(m.put_as(put)), Code::StaleConfig);
    let mut put = m.draws.put(guard(b, 1), "k");
    put.guard.range.epoch.0 = 9;
    assert_eq!(code(m.put_as(put)), Code::StaleRange);
    let with = |m: &mut Machine, precondition| {
        let mut put = m.draws.put(guard(b, 1), "k");
        put.precondition = precondition;
        m.put_as(put).map(|committed| committed.attributes.etag.to_string())
    };
    assert_eq!(code(with(&mut m, Precondition::Present)), Code::PreconditionNoKey);
    assert_eq!(code(with(&mut m, Precondition::Matches(vec!["x".into()]))), Code::PreconditionNoKey);
    let etag = with(&mut m, Precondition::Absent).unwrap();
    assert_eq!(code(with(&mut m, Precondition::Absent)), Code::PreconditionFailed);
    assert_eq!(code(with(&mut m, Precondition::Matches(vec!["x".into()]))), Code::PreconditionFailed);
    let etag = with(&mut m, Precondition::Matches(vec!["x".into(), etag])).unwrap();
    assert!(with(&mut m, Precondition::Present).is_ok());
    assert_eq!(code(with(&mut m, Precondition::Matches(vec![etag]))), Code::PreconditionFailed, "it was replaced");
    let mut put = m.draws.put(guard(b, 1), &"x".repeat(1025));
    assert_eq!(code(m.put_as(put.clone())), Code::Malformed);
    put.key = String::new();
    assert_eq!(code(m.put_as(put.clone())), Code::Malformed);
    put.key = "k".into();
    put.attributes.len = 1;
    assert_eq!(code(m.put_as(put.clone())), Code::Malformed, "length and manifest differ");
    put.attributes.len = 100;
    put.contents.packs.clear();
    assert_eq!(code(m.put_as(put)), Code::Malformed, "a pack that nobody refers to");
}

#[test]
fn a_delete_settles_each_item_by_itself() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "a");
    m.put(b, "b");
    let mut items: Vec<DeleteItem> =
        ["a", "missing", "", "b"].map(|key| m.draws.delete(key, VersionSelector::Current)).into();
    items[3].precondition = Precondition::Matches(vec!["other".into()]);
    let Ok(MetaReply::Deleted(outcomes)) = m.run(Command::Delete { guard: guard(b, 1), items }) else { panic!() };
    assert!(outcomes[0].removed.is_some() && outcomes[0].removed_null);
    assert_eq!((outcomes[1].removed, &outcomes[1].error), (None, &None));
    assert_eq!(outcomes[2].error.as_ref().unwrap().code, Code::Malformed);
    assert_eq!(outcomes[3].error.as_ref().unwrap().code, Code::PreconditionFailed);
    let many = vec![m.draws.delete("x", VersionSelector::Current); 1001];
    assert_eq!(code(m.run(Command::Delete { guard: guard(b, 1), items: many })), Code::Malformed);
}

#[test]
fn a_wrong_nonce_deletes_nothing() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let id = m.put(b, "k").id;
    let guessed = VersionId { commit_seq: id.commit_seq, nonce: id.nonce ^ 1 };
    assert_eq!(m.delete(b, "k", VersionSelector::Id(guessed)).removed, None);
    assert!(m.resolve(b, "k", VersionSelector::Id(id)).is_ok());
    assert_eq!(code(m.resolve(b, "k", VersionSelector::Id(guessed))), Code::NoSuchVersion);
}

fn part(
    m: &mut Machine,
    b: stele_types::ids::BucketId,
    upload: UploadId,
    number: u16,
    len: u32,
) -> Result<Part, RpcError> {
    let (part, packs) = m.draws.part(number, len);
    match m.run(Command::PutPart { guard: guard(b, 1), key: "k".into(), upload, part, packs })? {
        MetaReply::Part(part) => Ok(*part),
        other => panic!("{other:?}"),
    }
}

const FULL: u32 = 5 << 20;

#[test]
fn multipart() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let upload = UploadId::from_bytes([1; 16]);
    assert_eq!(code(part(&mut m, b, upload, 1, FULL)), Code::NoSuchUpload);
    m.run(create_upload(guard(b, 1), "k", upload)).unwrap();
    assert_eq!(code(m.run(create_upload(guard(b, 1), "k", upload))), Code::Malformed);
    let stale = part(&mut m, b, upload, 1, FULL).unwrap();
    let first = part(&mut m, b, upload, 1, FULL).unwrap();
    assert_eq!((stale.generation, first.generation), (1, 2));
    assert_eq!(m.table(Tag::Pack).len(), 1, "the replaced part's pack is not referenced any more");
    let last = part(&mut m, b, upload, 7, 10).unwrap();
    let unlisted = part(&mut m, b, upload, 9, FULL).unwrap();
    assert_eq!(code(part(&mut m, b, upload, 0, FULL)), Code::Malformed);
    assert_eq!(code(part(&mut m, b, upload, 10_001, FULL)), Code::Malformed);
    let complete = |m: &mut Machine, parts: &[Part]| {
        let complete = m.draws.complete(guard(b, 1), "k", upload, parts);
        m.run(Command::CompleteUpload(Box::new(complete)))
    };
    assert_eq!(code(complete(&mut m, &[])), Code::Malformed);
    assert_eq!(code(complete(&mut m, &[last.clone(), first.clone()])), Code::Malformed);
    assert_eq!(code(complete(&mut m, &[stale, last.clone()])), Code::StaleUpload);
    assert_eq!(code(complete(&mut m, &[last.clone(), unlisted])), Code::PartTooSmall);
    let gone = Part { number: 8, ..last.clone() };
    assert_eq!(code(complete(&mut m, &[first.clone(), gone])), Code::InvalidPart);
    let Ok(MetaReply::Committed(done)) = complete(&mut m, &[first.clone(), last.clone()]) else { panic!() };
    assert_eq!(done.attributes.len, u64::from(FULL) + 10);
    assert_eq!(done.attributes.headers.content_type.as_deref(), Some("text/plain"), "headers of the upload");
    let Ok(MetaReply::Version { version, packs, .. }) = m.resolve(b, "k", VersionSelector::Current) else { panic!() };
    assert_eq!((version.id, packs.len()), (done.id, 2));
    assert!(m.table(Tag::Part).is_empty() && m.table(Tag::Upload).is_empty());
    assert_eq!((m.table(Tag::Pack).len(), m.table(Tag::Reference).len()), (2, 2), "the unlisted part's went");
    // A repeat under another lease and sequence gives the same result and changes nothing.
    m.lease = m.grant(LEASE_MS);
    let size = m.table(Tag::Record).len();
    let Ok(MetaReply::Committed(again)) = complete(&mut m, &[first, last]) else { panic!() };
    assert_eq!((again, m.table(Tag::Record).len()), (done, size));
    let abort = Command::AbortUpload { guard: guard(b, 1), key: "k".into(), upload };
    assert_eq!(code(m.run(abort)), Code::NoSuchUpload);
    m.delete(b, "k", VersionSelector::Current);
    assert!(m.table(Tag::Pack).is_empty() && m.table(Tag::Reference).is_empty());
    // Old results are forgotten once they are a day old.
    m.now += 2 * 24 * 3600 * 1000;
    m.lease = m.grant(LEASE_MS);
    let other = UploadId::from_bytes([2; 16]);
    m.run(create_upload(guard(b, 1), "k", other)).unwrap();
    let only = part(&mut m, b, other, 1, 10).unwrap();
    let complete = m.draws.complete(guard(b, 1), "k", other, &[only]);
    m.run(Command::CompleteUpload(Box::new(complete))).unwrap();
    assert_eq!((m.table(Tag::Completed).len(), m.table(Tag::CompletedAt).len()), (1, 1));
}

#[test]
fn aborted_uploads_leave_nothing() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let upload = UploadId::from_bytes([1; 16]);
    m.run(create_upload(guard(b, 1), "k", upload)).unwrap();
    for number in 1..=3 {
        part(&mut m, b, upload, number, 10).unwrap();
    }
    let parts = |after, max| {
        let request = MetaRequest::Parts { range: range(b), key: "k".into(), upload, after, max };
        let Ok(MetaReply::Parts { parts, truncated, .. }) = m.read(&request) else { panic!() };
        (parts.iter().map(|part| part.number).collect::<Vec<_>>(), truncated)
    };
    assert_eq!(parts(0, 2), (vec![1, 2], true));
    assert_eq!(parts(2, 2), (vec![3], false));
    m.run(Command::AbortUpload { guard: guard(b, 1), key: "k".into(), upload }).unwrap();
    for tag in [Tag::Upload, Tag::Part, Tag::Reference, Tag::Pack, Tag::OwnerPack] {
        assert!(m.table(tag).is_empty(), "{tag:?}");
    }
}

#[test]
fn staged_references_commit_or_go_with_the_fence() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let rows = |m: &mut Machine| {
        (0..5).map(|_| crate::testing::pack_row(PackId::from_bytes(m.draws.bytes()))).collect::<Vec<_>>()
    };
    let (kept, abandoned) = (rows(&mut m), rows(&mut m));
    let (owner, lost) = (OwnerId::from_bytes([1; 16]), OwnerId::from_bytes([2; 16]));
    m.run(Command::StageReferences { guard: guard(b, 1), owner, packs: kept.clone() }).unwrap();
    m.run(Command::StageReferences { guard: guard(b, 1), owner: lost, packs: abandoned }).unwrap();
    let mut put = m.draws.put(guard(b, 1), "k");
    put.contents.owner = owner;
    put.contents.packs.clear();
    put.contents.manifest = Manifest::Inline(vec![crate::testing::chunk(kept[0].pack, 100)]);
    m.put_as(put).unwrap();
    m.cluster(Command::AdvanceEpoch).unwrap();
    let renew = Command::RenewLease { lease: m.lease, ttl_ms: LEASE_MS, lowest_open: Epoch(2) };
    m.cluster(renew).unwrap();
    m.cluster(Command::Fence { limit: Epoch(1) }).unwrap();
    assert_eq!(m.table(Tag::Reference).len(), 5, "the committed owner keeps its references, the other lost them");
    assert!(m.table(Tag::Staged).is_empty());
    let mut referenced = Vec::new();
    for pg in 0..3 {
        let request = MetaRequest::ReferencedPacks { pg: PgId(pg), fence: Epoch(1), after: None, max: 100 };
        let Ok(MetaReply::Referenced { packs, more: false }) = m.read(&request) else { panic!() };
        referenced.extend(packs);
    }
    referenced.sort();
    assert_eq!(referenced, kept.iter().map(|row| row.pack).collect::<Vec<_>>());
    m.cluster(Command::AdvanceEpoch).unwrap();
    let items = vec![m.draws.delete("k", VersionSelector::Current)];
    m.run(Command::Delete { guard: guard(b, 2), items }).unwrap();
    assert!(m.table(Tag::Reference).is_empty() && m.table(Tag::Pack).is_empty() && m.table(Tag::OwnerPack).is_empty());
}

#[test]
fn shared_packs_go_with_their_last_reference_and_pages_of_references_add_up() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let pack = PackId::from_bytes([1; 32]);
    for key in ["a", "b", "c"] {
        let mut put = m.draws.put(guard(b, 1), key);
        put.contents.manifest = Manifest::Inline(vec![crate::testing::chunk(pack, 100)]);
        put.contents.packs = vec![crate::testing::pack_row(pack)];
        m.put_as(put).unwrap();
    }
    for n in 10..30u8 {
        let mut put = m.draws.put(guard(b, 1), &format!("{n}"));
        let mut row = crate::testing::pack_row(PackId::from_bytes([n; 32]));
        row.pg = crate::testing::pack_row(pack).pg;
        put.contents.manifest = Manifest::Inline(vec![crate::testing::chunk(row.pack, 100)]);
        put.contents.packs = vec![row];
        m.put_as(put).unwrap();
    }
    let pg = crate::testing::pack_row(pack).pg;
    let mut found = Vec::new();
    loop {
        let request = MetaRequest::ReferencedPacks { pg, fence: Epoch(0), after: found.last().copied(), max: 7 };
        let Ok(MetaReply::Referenced { packs, more }) = m.read(&request) else { panic!() };
        found.extend(packs);
        if !more {
            break;
        }
    }
    assert_eq!(found.len(), 21);
    assert!(found.is_sorted());
    for key in ["a", "b"] {
        m.delete(b, key, VersionSelector::Current);
        assert!(m.kv.view().unwrap().get(&crate::keyspace::pack(&pack)).unwrap().is_some());
    }
    m.delete(b, "c", VersionSelector::Current);
    assert!(m.kv.view().unwrap().get(&crate::keyspace::pack(&pack)).unwrap().is_none());
}

#[test]
fn suspended_versioning_replaces_the_null_version_only() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let null = m.put(b, "k");
    m.set_versioning(b, Versioning::Enabled);
    let kept = m.put(b, "k");
    assert!(null.null_version && !kept.null_version);
    m.set_versioning(b, Versioning::Suspended);
    let newer = m.put(b, "k");
    assert!(newer.null_version);
    assert_eq!(code(m.resolve(b, "k", VersionSelector::Id(null.id))), Code::NoSuchVersion);
    let deleted = m.delete(b, "k", VersionSelector::Current);
    assert_eq!(deleted.removed, Some(newer.id));
    assert!(deleted.marker.is_some() && deleted.removed_null);
    let Ok(MetaReply::Version { version, .. }) = m.resolve(b, "k", VersionSelector::Current) else { panic!() };
    assert!(version.delete_marker, "404 names the marker");
    assert!(m.resolve(b, "k", VersionSelector::Id(kept.id)).is_ok());
    // Removing the marker brings the version below back.
    let removed = m.delete(b, "k", VersionSelector::Null);
    assert!(removed.removed_marker && removed.removed_null);
    let Ok(MetaReply::Version { version, latest, .. }) = m.resolve(b, "k", VersionSelector::Current) else { panic!() };
    assert_eq!((version.id, latest), (kept.id, true));
}

#[test]
fn cluster_map() {
    let mut m = Machine::new();
    let drive = |n: u8| DriveRow {
        id: DriveId::from_bytes([n; 16]),
        node: NodeId(1),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let drives: Vec<_> = (0..3).rev().map(drive).collect();
    let cluster = ClusterId::from_bytes([1; 16]);
    let map = crate::placement::initial_map(cluster, &drives, "rs-1-2".parse().unwrap()).unwrap();
    let init = |cluster, map: &ClusterMap| Command::InitCluster {
        cluster,
        drives: drives.clone(),
        map: Box::new(map.clone()),
    };
    let state = |state| Command::SetDriveState { drive: DriveId::from_bytes([2; 16]), state, reason: "because".into() };
    assert_eq!(code(m.cluster(state(DriveState::Failed))), Code::NoSuchDrive);
    let mut strange = map.clone();
    strange.pgs[0].slots[0].drive = DriveId::from_bytes([9; 16]);
    assert_eq!(code(m.cluster(init(cluster, &strange))), Code::Malformed);
    m.cluster(init(cluster, &map)).unwrap();
    m.cluster(init(cluster, &map)).unwrap();
    assert_eq!(code(m.cluster(init(ClusterId::from_bytes([2; 16]), &map))), Code::Malformed);
    let read = |m: &Machine, known| match m.read(&MetaRequest::ClusterMap { known }) {
        Ok(MetaReply::ClusterMap(map)) => map,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&m, MapEpoch(1)), None);
    for _ in 0..2 {
        m.cluster(state(DriveState::Failed)).unwrap();
        let map = read(&m, MapEpoch(1)).unwrap();
        assert_eq!(map.epoch, MapEpoch(2), "a repeated report changes nothing");
        assert_eq!(map.drive(DriveId::from_bytes([2; 16])).unwrap().state, DriveState::Failed);
    }
}

/// A writer that planned with the first bucket "b" commits after that was deleted and created again. It
/// does what a gateway does: refused, it reads the bucket again and repeats. Returns whether the
/// acknowledged key is in the bucket that exists.
fn stale_plan_lands_in_the_present_bucket(m: &mut Machine) -> bool {
    let planned = m.bucket("b");
    m.run(Command::DeleteBucket { name: "b".into() }).unwrap();
    let present = m.bucket("b");
    let put = m.draws.put(guard(planned, 1), "k");
    if let Err(refused) = m.put_as(put) {
        assert_eq!(refused.code, Code::NoSuchBucket);
        m.put(present, "k");
    }
    m.read(&MetaRequest::Resolve { range: range(present), key: "k".into(), version: VersionSelector::Current }).is_ok()
}

#[test]
fn a_plan_for_a_deleted_bucket_is_refused() {
    assert!(stale_plan_lands_in_the_present_bucket(&mut Machine::new()));
}

#[cfg(feature = "sabotage")]
#[test]
fn accepting_stale_configuration_loses_acknowledged_writes() {
    let mut m = Machine::new();
    m.options.stale_bucket_configuration_accepted = true;
    assert!(!stale_plan_lands_in_the_present_bucket(&mut m));
    let b = m.bucket("c");
    let mut put = m.draws.put(guard(b, 1), "k");
    put.guard.config_epoch.0 = 9;
    assert!(m.put_as(put).is_ok(), "an old configuration epoch of a bucket that exists, too");
}

#[cfg(feature = "sabotage")]
#[test]
fn sabotages_break_what_they_say() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.cluster(Command::AdvanceEpoch).unwrap();
    let renew = Command::RenewLease { lease: m.lease, ttl_ms: LEASE_MS, lowest_open: Epoch(2) };
    m.cluster(renew).unwrap();
    m.cluster(Command::Fence { limit: Epoch(1) }).unwrap();
    m.options.accept_fenced = true;
    let put = m.draws.put(guard(b, 1), "k");
    assert!(m.put_as(put).is_ok());
    m.options.no_replies = true;
    let put = m.draws.put(guard(b, 2), "k");
    let put = m.next(Command::PutVersion(Box::new(put)));
    assert_ne!(m.apply(&put), m.apply(&put), "the repeat is not answered from the replies");
    m.options.log_left_out = true;
    let records = m.table(Tag::Record);
    m.put(b, "k");
    assert_eq!(m.table(Tag::Record), records, "a version that the log does not know of");
}

#[test]
fn versions_are_listed_by_commit_sequence() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    assert_eq!(m.put(b, "k").id.commit_seq, CommitSeq(1));
    assert_eq!(m.put(b, "a").id.commit_seq, CommitSeq(2));
}
