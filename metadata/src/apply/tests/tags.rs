//! Tags change a version in place and leave everything else as it was.

use stele_rpc::meta::{ChangeVersion, VersionChange};
use stele_types::ids::BucketId;
use stele_types::object::Tags;

use super::*;
use crate::rows::VersionRow;

pub(super) fn tags(pairs: &[(&str, &str)]) -> Tags {
    Tags::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), 50).unwrap()
}

pub(super) fn put_tags(b: BucketId, key: &str, version: VersionSelector, tags: &Tags) -> Command {
    let change = VersionChange::Tags(tags.clone());
    Command::ChangeVersion(Box::new(ChangeVersion { guard: guard(b, 1), key: key.to_owned(), version, change }))
}

fn tags_of(m: &Machine, b: BucketId, version: VersionSelector) -> Tags {
    match m.resolve(b, "k", version) {
        Ok(MetaReply::Version { version, .. }) => version.attributes.tags,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tags_change_in_place_and_nothing_else_does() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.set_versioning(b, Versioning::Enabled);
    let mut put = m.draws.put(guard(b, 1), "k");
    put.attributes.tags = tags(&[("a", "1")]);
    let old = m.put_as(put).unwrap();
    let new = m.put(b, "k");
    let rows_before = [Tag::Key, Tag::Current, Tag::Record, Tag::Reference].map(|tag| m.table(tag));
    let changed = match m.run(put_tags(b, "k", VersionSelector::Id(old.id), &tags(&[("b", "2"), ("c", "")]))).unwrap() {
        MetaReply::Changed(changed) => changed,
        other => panic!("{other:?}"),
    };
    assert_eq!((changed.id, changed.null_version, changed.log_index), (old.id, false, None));
    assert_eq!(tags_of(&m, b, VersionSelector::Id(old.id)), tags(&[("b", "2"), ("c", "")]));
    assert_eq!(tags_of(&m, b, VersionSelector::Current), Tags::default());
    m.run(put_tags(b, "k", VersionSelector::Current, &tags(&[("now", "x")]))).unwrap();
    assert_eq!(tags_of(&m, b, VersionSelector::Id(new.id)), tags(&[("now", "x")]));
    m.run(put_tags(b, "k", VersionSelector::Current, &Tags::default())).unwrap();
    assert_eq!(tags_of(&m, b, VersionSelector::Current), Tags::default());
    assert_eq!(rows_before, [Tag::Key, Tag::Current, Tag::Record, Tag::Reference].map(|tag| m.table(tag)));
}

#[test]
fn what_has_no_tags_is_refused() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let set = tags(&[("a", "1")]);
    assert_eq!(code(m.run(put_tags(b, "k", VersionSelector::Current, &set))), Code::NoSuchKey);
    assert_eq!(code(m.run(put_tags(b, "k", VersionSelector::Null, &set))), Code::NoSuchVersion);
    m.set_versioning(b, Versioning::Enabled);
    let id = m.put(b, "k").id;
    let guessed = VersionId { nonce: id.nonce ^ 1, ..id };
    assert_eq!(code(m.run(put_tags(b, "k", VersionSelector::Id(guessed), &set))), Code::NoSuchVersion);
    assert_eq!(code(m.run(put_tags(b, "", VersionSelector::Current, &set))), Code::Malformed);
    let marker = m.delete(b, "k", VersionSelector::Current).marker.unwrap();
    assert_eq!(code(m.run(put_tags(b, "k", VersionSelector::Current, &set))), Code::NoSuchKey);
    assert_eq!(code(m.run(put_tags(b, "k", VersionSelector::Id(marker), &set))), Code::DeleteMarker);
    let many: Vec<(String, String)> = (0..11).map(|n| (n.to_string(), String::new())).collect();
    let many = Tags::new(many, 50).unwrap();
    assert_eq!(code(m.run(put_tags(b, "k", VersionSelector::Id(id), &many))), Code::Malformed);
    let mut put = m.draws.put(guard(b, 1), "k");
    put.attributes.tags = many;
    assert_eq!(code(m.put_as(put)), Code::Malformed);
}

#[test]
fn tags_of_an_upload_become_those_of_its_object() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let upload = UploadId::from_bytes([1; 16]);
    let Command::CreateUpload { guard: at, key, headers, checksum, lock, .. } = create_upload(guard(b, 1), "k", upload)
    else {
        panic!()
    };
    let set = tags(&[("site", "north")]);
    m.run(Command::CreateUpload { guard: at, key, upload, headers, checksum, tags: set.clone(), lock }).unwrap();
    let (part, packs) = m.draws.part(1, 10);
    let put = Command::PutPart { guard: guard(b, 1), key: "k".into(), upload, part, packs };
    let Ok(MetaReply::Part(part)) = m.run(put) else { panic!() };
    let mut complete = m.draws.complete(guard(b, 1), "k", upload, &[*part]);
    complete.put.attributes.tags = tags(&[("not", "these")]);
    m.run(Command::CompleteUpload(Box::new(complete))).unwrap();
    assert_eq!(tags_of(&m, b, VersionSelector::Current), set);
}

#[test]
fn tags_of_a_bucket() {
    let mut m = Machine::new();
    m.bucket("b");
    let configure = |tags| Command::ConfigureBucket { name: "b".into(), change: BucketChange::Tags(tags) };
    let MetaReply::Bucket(row) = m.run(configure(tags(&[("team", "ct")]))).unwrap() else { panic!() };
    assert_eq!(row.tags, tags(&[("team", "ct")]));
    let MetaReply::Bucket(row) = m.run(configure(Tags::default())).unwrap() else { panic!() };
    assert!(row.tags.is_empty());
    let many: Vec<(String, String)> = (0..51).map(|n| (n.to_string(), String::new())).collect();
    assert_eq!(code(m.run(configure(Tags::new(many, 60).unwrap()))), Code::Malformed);
}

/// Rows of earlier versions end before tags, lock and checksums of parts.
#[test]
fn rows_of_earlier_versions_are_read() {
    let row = crate::rows::tests::small_version();
    let mut bytes = crate::rows::encode(&row);
    assert_eq!(bytes[..3], [0xdc, 0, 17], "17 fields");
    let cut = bytes.split_off(bytes.len() - 6);
    assert_eq!(cut, [0x80, 0x92, 0xc0, 0xc0, 0xc4, 0], "no tags, no lock and no checksums of parts");
    bytes.splice(..3, [0x9e]);
    assert_eq!(crate::rows::decode::<VersionRow>(&[], &bytes).unwrap(), row);
}
