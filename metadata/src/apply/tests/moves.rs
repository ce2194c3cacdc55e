//! Append and rename: references, log entries, and what is refused.

use stele_evidence::record::{Event, Record};
use stele_rpc::meta::{AppendVersion, Committed, Expected, RenameKey, RenameToken};
use stele_types::ids::{BucketId, Salt};

use super::*;
use crate::rows::RecordRow;
use crate::testing::{chunk, pack_row};

fn current(m: &Machine, b: BucketId, key: &str) -> Box<stele_types::object::Version> {
    match m.resolve(b, key, VersionSelector::Current) {
        Ok(MetaReply::Version { version, .. }) => version,
        other => panic!("{other:?}"),
    }
}

/// One more chunk in a pack of its own, behind those of the current version.
pub(super) fn append_to(m: &mut Machine, b: BucketId, key: &str) -> AppendVersion {
    let base = current(m, b, key);
    let mut put = m.draws.put(guard(b, 1), key);
    let Manifest::Inline(mut entries) = base.manifest.clone() else { panic!("a paged manifest") };
    let Manifest::Inline(more) = put.contents.manifest else { panic!("a paged manifest") };
    entries.extend(more);
    put.attributes.len += base.attributes.len;
    put.attributes.etag.parts = base.attributes.etag.parts.max(1) + 1;
    put.contents.owner = base.owner;
    put.contents.manifest = Manifest::Inline(entries);
    AppendVersion { put, base: base.id, released: Vec::new() }
}

pub(super) fn rename(m: &mut Machine, b: BucketId, from: &str, to: &str) -> RenameKey {
    let moved = current(m, b, from).id;
    RenameKey {
        guard: guard(b, 1),
        source: from.to_owned(),
        destination: to.to_owned(),
        moved,
        replaced: Expected::Any,
        nonce: m.draws.number(),
        salt: Salt::from_bytes(m.draws.bytes()),
        replaced_salt: Salt::from_bytes(m.draws.bytes()),
        moved_salt: Salt::from_bytes(m.draws.bytes()),
        token: None,
    }
}

fn committed(answer: Result<MetaReply, RpcError>) -> Committed {
    match answer {
        Ok(MetaReply::Committed(committed)) => committed,
        other => panic!("{other:?}"),
    }
}

fn append(m: &mut Machine, append: AppendVersion) -> Result<MetaReply, RpcError> {
    m.run(Command::AppendVersion(Box::new(append)))
}

fn run(m: &mut Machine, rename: RenameKey) -> Result<MetaReply, RpcError> {
    m.run(Command::RenameKey(Box::new(rename)))
}

/// Events and keys of the log, from `first` on.
fn events(m: &Machine, first: usize) -> Vec<(Event, String)> {
    let rows = m.table(Tag::Record);
    let record = |value: &Vec<u8>| {
        let row: RecordRow = crate::rows::decode(&[], value).unwrap();
        Record::decode(&row.record).unwrap()
    };
    rows.iter().skip(first).map(|(_, value)| record(value)).map(|record| (record.event, record.key)).collect()
}

#[test]
fn an_append_takes_over_owner_references_and_headers_and_is_logged_as_an_overwrite() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let before_all = m.table(Tag::Record).len();
    let mut put = m.draws.put(guard(b, 1), "k");
    put.attributes.headers.content_type = Some("text/x-log".into());
    let first = m.put_as(put).unwrap();
    let owner = current(&m, b, "k").owner;
    let more = append_to(&mut m, b, "k");
    let second = committed(append(&mut m, more));
    assert_eq!((second.attributes.len, second.attributes.etag.parts), (200, 2));
    assert_ne!(first.id, second.id);
    let now = current(&m, b, "k");
    assert_eq!((now.owner, now.id), (owner, second.id));
    assert_eq!(now.attributes.headers.content_type.as_deref(), Some("text/x-log"));
    assert_eq!(code(m.resolve(b, "k", VersionSelector::Id(first.id))), Code::NoSuchVersion);
    assert_eq!(m.table(Tag::Reference).len(), 2);
    let k = || "k".to_owned();
    assert_eq!(events(&m, before_all), [(Event::Put, k()), (Event::Overwrite, k()), (Event::Put, k())]);
    let Ok(MetaReply::Status(status)) = m.read(&MetaRequest::Status) else { panic!() };
    assert_eq!((status.versions, status.logical_bytes), (1, 200));
    m.delete(b, "k", VersionSelector::Current);
    for table in [Tag::Reference, Tag::Pack, Tag::OwnerPack] {
        assert!(m.table(table).is_empty(), "{table:?}: nothing is left");
    }
}

/// The longer manifest is a page: what the old one named inline is listed from then on.
#[test]
fn packs_stay_referenced_when_an_append_makes_a_page_and_are_released_when_it_says_so() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "k");
    let paged = |append: &mut AppendVersion, pack: PackId| {
        let len = append.put.attributes.len;
        let page = stele_types::manifest::PageRef {
            page: chunk(pack, 500),
            top: stele_types::ids::TreeHash::from_bytes([1; 32]),
            bytes: len,
            chunks: 3,
        };
        append.put.contents.manifest = Manifest::Paged { root: page, index_levels: 0 };
        append.put.contents.packs.push(pack_row(pack));
    };
    let (page_one, page_two) = (PackId::from_bytes([0xe1; 32]), PackId::from_bytes([0xe2; 32]));
    let mut longer = append_to(&mut m, b, "k");
    paged(&mut longer, page_one);
    committed(append(&mut m, longer));
    assert_eq!((m.table(Tag::Reference).len(), m.table(Tag::OwnerPack).len()), (3, 3));

    let base = current(&m, b, "k");
    let mut longer = AppendVersion { put: m.draws.put(guard(b, 1), "k"), base: base.id, released: vec![page_one] };
    longer.put.attributes.len = base.attributes.len + 100;
    longer.put.contents.owner = base.owner;
    paged(&mut longer, page_two);
    let mut wrong = longer.clone();
    wrong.released = vec![page_two];
    assert_eq!(code(append(&mut m, wrong)), Code::Malformed, "it is named");
    let mut wrong = longer.clone();
    wrong.released = vec![PackId::from_bytes([0xe9; 32])];
    assert_eq!(code(append(&mut m, wrong)), Code::Malformed, "it is not referred to");
    committed(append(&mut m, longer));
    let packs: Vec<PackId> =
        m.table(Tag::Pack).iter().map(|(k, _)| PackId::from_bytes(k[1..].try_into().unwrap())).collect();
    assert!(!packs.contains(&page_one) && packs.contains(&page_two));
    assert_eq!(packs.len(), 4);
    m.delete(b, "k", VersionSelector::Current);
    assert!(m.table(Tag::Reference).is_empty() && m.table(Tag::Pack).is_empty() && m.table(Tag::OwnerPack).is_empty());
}

#[test]
fn an_append_to_anything_but_the_version_it_continues_changes_nothing() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "k");
    let late = append_to(&mut m, b, "k");
    let first = append_to(&mut m, b, "k");
    committed(append(&mut m, first));
    let refuse = |m: &mut Machine, wrong: AppendVersion, expected: Code| {
        let before = m.table(Tag::Reference);
        assert_eq!(code(append(m, wrong)), expected);
        assert_eq!(m.table(Tag::Reference), before);
    };
    refuse(&mut m, late.clone(), Code::StaleVersion);
    let good = append_to(&mut m, b, "k");
    let mut wrong = good.clone();
    wrong.put.contents.owner = OwnerId::from_bytes([1; 16]);
    refuse(&mut m, wrong, Code::Malformed);
    let mut wrong = good.clone();
    wrong.put.attributes.len += 1;
    refuse(&mut m, wrong, Code::Malformed);
    let mut wrong = good.clone();
    wrong.put.contents.packs.clear();
    refuse(&mut m, wrong, Code::Malformed);
    let mut absent = good.clone();
    absent.put.key = "absent".into();
    refuse(&mut m, absent, Code::StaleVersion);
    for versioning in [Versioning::Enabled, Versioning::Suspended] {
        m.set_versioning(b, versioning);
        refuse(&mut m, good.clone(), Code::Malformed);
    }
    m.set_versioning(b, Versioning::Unset);
    m.delete(b, "k", VersionSelector::Current);
    refuse(&mut m, good, Code::StaleVersion);
}

#[test]
fn a_rename_moves_the_version_and_logs_both_keys_in_one_apply() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let before_all = m.table(Tag::Record).len();
    let put = m.put(b, "from");
    m.put(b, "to");
    let before = current(&m, b, "from");
    m.now += 5000;
    let command = rename(&mut m, b, "from", "to");
    let moved = committed(run(&mut m, command));
    let now = current(&m, b, "to");
    assert_eq!((now.id, &now.attributes), (moved.id, &before.attributes));
    assert_eq!((now.owner, now.modified), (before.owner, put.modified), "the same object, not younger");
    assert_eq!(code(m.resolve(b, "from", VersionSelector::Current)), Code::NoSuchKey);
    let (from, to) = ("from".to_owned(), "to".to_owned());
    assert_eq!(events(&m, before_all + 2), [(Event::Overwrite, to.clone()), (Event::Delete, from), (Event::Put, to)]);
    assert_eq!(m.table(Tag::Reference).len(), 1, "what was replaced has no references left");
    let Ok(MetaReply::Status(status)) = m.read(&MetaRequest::Status) else { panic!() };
    assert_eq!((status.versions, status.logical_bytes), (1, 100));
    m.delete(b, "to", VersionSelector::Current);
    assert!(m.table(Tag::Pack).is_empty());
}

#[test]
fn a_rename_whose_keys_changed_meanwhile_changes_nothing() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "from");
    let planned = rename(&mut m, b, "from", "to");
    let to = m.put(b, "to");
    let refuse = |m: &mut Machine, wrong: RenameKey, expected: Code| {
        let before = m.table(Tag::Version);
        assert_eq!(code(run(m, wrong)), expected);
        assert_eq!(m.table(Tag::Version), before);
    };
    refuse(&mut m, RenameKey { replaced: Expected::Absent, ..planned.clone() }, Code::StaleVersion);
    let other = Expected::Version(VersionId { nonce: 0, ..to.id });
    refuse(&mut m, RenameKey { replaced: other, ..planned.clone() }, Code::StaleVersion);
    refuse(&mut m, RenameKey { destination: "from".into(), ..planned.clone() }, Code::Malformed);
    refuse(&mut m, RenameKey { source: "absent".into(), ..planned.clone() }, Code::StaleVersion);
    m.set_versioning(b, Versioning::Suspended);
    refuse(&mut m, planned.clone(), Code::Malformed);
    m.set_versioning(b, Versioning::Unset);
    m.put(b, "from");
    refuse(&mut m, planned, Code::StaleVersion);
    let good = rename(&mut m, b, "from", "to");
    committed(run(&mut m, RenameKey { replaced: Expected::Version(to.id), ..good }));
}

#[test]
fn a_token_makes_a_rename_happen_once_and_is_forgotten_after_a_day() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "from");
    let token = Some(RenameToken { id: [1; 32], request: [2; 32] });
    let first = RenameKey { token, ..rename(&mut m, b, "from", "to") };
    let done = committed(run(&mut m, first.clone()));
    // Again, under another envelope, after the key was written anew.
    m.put(b, "from");
    assert_eq!(committed(run(&mut m, first.clone())), done);
    assert_eq!(current(&m, b, "to").id, done.id);
    let other = RenameKey { token: Some(RenameToken { id: [1; 32], request: [3; 32] }), ..first.clone() };
    assert_eq!(code(run(&mut m, other)), Code::TokenReused);
    m.now += 24 * 60 * 60 * 1000;
    let lease = m.grant(LEASE_MS);
    m.lease = lease;
    let next = RenameKey { token: Some(RenameToken { id: [4; 32], request: [2; 32] }), ..rename(&mut m, b, "to", "x") };
    committed(run(&mut m, next));
    assert_eq!((m.table(Tag::Renamed).len(), m.table(Tag::RenamedAt).len()), (1, 1));
}
