//! Removed versions that can be brought back: their references stay, and go with them.

use stele_rpc::meta::{Committed, LOG_BUCKET, RestoreVersion, TrashCommand, TrashPage, TrashQuery, TrashedVersion};
use stele_types::ids::{BucketId, Salt};

use super::gc::{check_counts, status};
use super::*;

const WINDOW: u64 = 10_000;

fn keep(m: &mut Machine, window_ms: Option<u64>) {
    m.cluster(Command::Trash(TrashCommand::Keep { window_ms })).unwrap();
}

fn page(m: &Machine, query: TrashQuery) -> TrashPage {
    match m.read(&MetaRequest::Trash(query)) {
        Ok(MetaReply::Trash(page)) => page,
        other => panic!("{other:?}"),
    }
}

fn listed(m: &Machine) -> Vec<TrashedVersion> {
    page(m, TrashQuery { max: 100, ..TrashQuery::default() }).rows
}

fn restore(
    m: &mut Machine,
    (bucket, key): (BucketId, &str),
    version: VersionId,
    replace: bool,
) -> Result<Committed, RpcError> {
    let nonce = m.draws.number();
    restore_as(m, RestoreVersion { bucket, key: key.into(), version, replace, nonce, salt: Salt::from_bytes([7; 32]) })
}

fn restore_as(m: &mut Machine, restore: RestoreVersion) -> Result<Committed, RpcError> {
    match m.cluster(Command::Trash(TrashCommand::Restore(Box::new(restore))))? {
        MetaReply::Committed(committed) => Ok(committed),
        other => panic!("{other:?}"),
    }
}

fn expire(m: &mut Machine) -> u64 {
    match m.cluster(Command::Trash(TrashCommand::Expire { max: 100 })) {
        Ok(MetaReply::Purged(count)) => count,
        other => panic!("{other:?}"),
    }
}

fn references(m: &Machine) -> [usize; 3] {
    [Tag::Reference, Tag::Pack, Tag::OwnerPack].map(|tag| m.table(tag).len())
}

#[test]
fn without_a_window_nothing_is_kept() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "k");
    m.put(b, "k");
    m.delete(b, "k", VersionSelector::Current);
    assert_eq!((listed(&m), references(&m)), (vec![], [0, 0, 0]));
}

#[test]
fn a_deleted_and_an_overwritten_version_come_back_whole_and_the_log_tells_it() {
    let mut m = Machine::new();
    keep(&mut m, Some(WINDOW));
    let b = m.bucket("b");
    let old = m.put(b, "k");
    m.now = 2000;
    let new = m.put(b, "k");
    m.now = 3000;
    m.delete(b, "k", VersionSelector::Current);
    assert_eq!(code(m.resolve(b, "k", VersionSelector::Current)), Code::NoSuchKey);
    let rows = listed(&m);
    let told: Vec<_> =
        rows.iter().map(|row| (row.id, row.removed, row.overwritten, row.bucket_name.as_str())).collect();
    assert_eq!(told, [(new.id, 3000, false, "b"), (old.id, 2000, true, "b")]);
    assert_eq!((references(&m), status(&m).trash_versions, status(&m).trash_bytes), ([2, 2, 0], 2, 200));
    assert_eq!(status(&m).logical_bytes, 0);
    check_counts(&m);
    let entries = m.table(Tag::Record).len();
    let back = restore(&mut m, (b, "k"), old.id, false).unwrap();
    assert!(back.id.commit_seq > new.id.commit_seq && back.null_version);
    assert_eq!((back.attributes.etag, back.modified), (old.attributes.etag, 3000));
    assert_eq!(m.table(Tag::Record).len(), entries + 1, "a creation like any other");
    let Ok(MetaReply::Version { version, packs, .. }) = m.resolve(b, "k", VersionSelector::Current) else { panic!() };
    assert_eq!((version.id, packs.len()), (back.id, 1), "its pack is where it was");
    assert_eq!((references(&m), status(&m).trash_versions, status(&m).logical_bytes), ([2, 2, 0], 1, 100));
    assert_eq!(code(restore(&mut m, (b, "k"), old.id, false)), Code::NoSuchVersion, "it is in the trash no more");
    assert_eq!(code(restore(&mut m, (b, "k"), new.id, false)), Code::PreconditionFailed, "the key is taken");
    let again = restore(&mut m, (b, "k"), new.id, true).unwrap();
    assert_eq!(again.attributes.etag, new.attributes.etag);
    assert_eq!(m.table(Tag::Record).len(), entries + 3, "a removal and a creation");
    let rows = listed(&m);
    assert_eq!(
        (rows.len(), rows[0].id, rows[0].overwritten),
        (1, back.id, true),
        "what it replaced can come back, too"
    );
    check_counts(&m);
}

#[test]
fn a_repeated_restore_restores_once() {
    let mut m = Machine::new();
    keep(&mut m, Some(WINDOW));
    let b = m.bucket("b");
    let id = m.put(b, "k").id;
    m.delete(b, "k", VersionSelector::Current);
    let wish = RestoreVersion {
        bucket: b,
        key: "k".into(),
        version: id,
        replace: false,
        nonce: 99,
        salt: Salt::from_bytes([7; 32]),
    };
    let first = restore_as(&mut m, wish.clone()).unwrap();
    let before = m.dump();
    assert_eq!(restore_as(&mut m, wish).unwrap(), first);
    assert_eq!(m.dump(), before);
}

#[test]
fn kept_for_long_enough_it_goes_with_its_references() {
    let mut m = Machine::new();
    keep(&mut m, Some(WINDOW));
    let b = m.bucket("b");
    for (at, key) in [(1000, "a"), (2000, "b"), (3000, "c")] {
        m.now = at;
        m.put(b, key);
        m.delete(b, key, VersionSelector::Current);
    }
    m.now = 1000 + WINDOW - 1;
    assert_eq!(expire(&mut m), 0);
    m.now = 2000 + WINDOW;
    assert_eq!((expire(&mut m), listed(&m).len(), references(&m)), (2, 1, [1, 1, 0]));
    keep(&mut m, None);
    assert_eq!((expire(&mut m), references(&m)), (1, [0, 0, 0]), "switched off, nothing stays");
    assert!(m.table(Tag::TrashAt).is_empty());
    assert_eq!((status(&m).trash_versions, status(&m).trash_bytes), (0, 0));
    check_counts(&m);
}

#[test]
fn what_must_go_is_purged_at_once_also_of_a_deleted_bucket() {
    let mut m = Machine::new();
    keep(&mut m, Some(WINDOW));
    let b = m.bucket("b");
    m.set_versioning(b, Versioning::Enabled);
    let ids: Vec<_> = (0..3).map(|_| m.put(b, "k").id).collect();
    for id in &ids {
        m.delete(b, "k", VersionSelector::Id(*id));
    }
    m.run(Command::DeleteBucket { name: "b".into() }).unwrap();
    assert!(listed(&m).iter().all(|row| row.bucket_name.is_empty()));
    assert_eq!(code(restore(&mut m, (b, "k"), ids[0], false)), Code::NoSuchBucket);
    let purge = |version| Command::Trash(TrashCommand::Purge { bucket: b, key: "k".into(), version });
    let guessed = VersionId { nonce: ids[0].nonce ^ 1, ..ids[0] };
    let entries = m.table(Tag::Record).len();
    assert_eq!(m.cluster(purge(Some(guessed))), Ok(MetaReply::Purged(0)));
    assert_eq!(m.table(Tag::Record).len(), entries, "nothing was done, and nothing is said");
    assert_eq!(m.cluster(purge(Some(ids[0]))), Ok(MetaReply::Purged(1)));
    assert_eq!(m.cluster(purge(None)), Ok(MetaReply::Purged(2)));
    assert_eq!((references(&m), m.table(Tag::Record).len()), ([0, 0, 0], entries + 2));
    check_counts(&m);
}

#[test]
fn pages_of_the_trash_add_up_and_keep_to_bucket_and_prefix() {
    let mut m = Machine::new();
    keep(&mut m, Some(WINDOW));
    let (b, c) = (m.bucket("b"), m.bucket("c"));
    for bucket in [b, c] {
        for key in ["a/1", "a/2", "b\0c"] {
            m.put(bucket, key);
            m.put(bucket, key);
            m.delete(bucket, key, VersionSelector::Current);
        }
    }
    let all = listed(&m);
    assert_eq!(all.len(), 12);
    for (bucket, prefix, count) in
        [(None, "", 12), (Some(b), "", 6), (Some(c), "a/", 4), (Some(c), "b\0", 2), (Some(b), "x", 0)]
    {
        let mut query = TrashQuery { bucket, prefix: prefix.into(), after: None, max: 1 };
        let mut found = Vec::new();
        loop {
            let page = page(&m, query.clone());
            query.after = page.rows.last().map(|row| (row.bucket, row.key.clone(), row.id));
            found.extend(page.rows);
            if !page.more {
                break;
            }
        }
        let wanted = |row: &&TrashedVersion| bucket.is_none_or(|b| row.bucket == b) && row.key.starts_with(prefix);
        assert_eq!(found, all.iter().filter(wanted).cloned().collect::<Vec<_>>(), "{bucket:?} {prefix:?}");
        assert_eq!(found.len(), count);
    }
    let without_bucket = TrashQuery { prefix: "a".into(), max: 1, ..TrashQuery::default() };
    assert_eq!(code(m.read(&MetaRequest::Trash(without_bucket))), Code::Malformed);
}

#[test]
fn markers_and_archives_of_the_log_are_not_kept() {
    let mut m = Machine::new();
    keep(&mut m, Some(WINDOW));
    let b = m.bucket("b");
    m.set_versioning(b, Versioning::Enabled);
    let marker = m.delete(b, "k", VersionSelector::Current).marker.unwrap();
    m.delete(b, "k", VersionSelector::Id(marker));
    let log = m.bucket(LOG_BUCKET);
    m.put(log, "erased since");
    m.delete(log, "erased since", VersionSelector::Current);
    assert_eq!((listed(&m), references(&m)), (vec![], [0, 0, 0]));
}
