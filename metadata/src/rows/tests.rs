//! Golden sizes and bytes of the rows that there are most of.

use stele_rpc::meta::Origin;
use stele_types::ids::{ChunkId, PackId};
use stele_types::manifest::ChunkEntry;
use stele_types::pack::Codec;

use super::*;
use crate::keyspace;
use crate::rows::current::etag_text;

pub(crate) fn small_version() -> VersionRow {
    let entry = ChunkEntry {
        id: ChunkId::from_bytes([0xaa; 32]),
        len: 4096,
        pack: PackId::from_bytes([0xbb; 32]),
        offset: 1_000_000,
        stored_len: 4096,
        codec: Codec::Raw,
        key_id: 0,
    };
    VersionRow {
        nonce: u64::MAX,
        null_version: true,
        delete_marker: false,
        modified: 1_790_000_000_000,
        log_index: LogIndex(1_000_000_000),
        owner: OwnerId::from_bytes([0xcc; 16]),
        len: 4096,
        etag: ETag { md5: u128::MAX, parts: 0 },
        root: ObjectRoot::from_bytes([0xdd; 32]),
        body_hash: Some(BodyHash::from_bytes([0xee; 32])),
        checksums: vec![Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumType::FullObject,
            value: vec![1, 2, 3, 4, 5, 6, 7, 8].into(),
        }],
        headers: Box::default(),
        part_lens: Vec::new(),
        manifest: Manifest::Inline(vec![entry]),
        tags: Tags::default(),
        lock: Lock::default(),
        part_checksums: bytes::Bytes::new(),
    }
}

/// DESIGN section 5: a version row with one inline chunk stays under 350 bytes.
#[test]
fn sizes_of_common_rows() {
    let version = encode(&small_version());
    let current = CurrentRow::of(&small_version(), CommitSeq(1_000_000_000)).encode();
    println!("version row {} bytes, current row {} bytes", version.len(), current.len());
    assert!(version.len() < 350, "{}", version.len());
    assert!(current.len() < 100, "{}", current.len());
    let key = keyspace::version(BucketId(1), "ct/0001.dcm", CommitSeq(1));
    assert_eq!(key.len(), 1 + 8 + 11 + 2 + 8);
    let back: VersionRow = decode(&key, &version).unwrap();
    assert_eq!(back, small_version());
}

#[test]
fn golden_bytes() {
    let key = KeyRow { events: 3, last_entry: Some(LogIndex(900)), newest: Some(CommitSeq(42)), null: None, erased: 0 };
    assert_eq!(encode(&key), [0x94, 3, 0xcd, 0x03, 0x84, 42, 0xc0]);
    let lease =
        LeaseRow { node: NodeId(1), expires: 70_000, lowest_epoch: Epoch(4), lowest_sequence: CommandSequence(9) };
    assert_eq!(encode(&lease), [0x94, 1, 0xce, 0x00, 0x01, 0x11, 0x70, 4, 9]);
    let version = encode(&small_version());
    assert_eq!(blake3::hash(&version).to_hex()[..16], *"d0fd339e9c236ebe");
}

#[test]
fn headers_that_leave_fields_out_survive() {
    let headers = StoredHeaders {
        content_encoding: Some("zstd".into()),
        user: [("a".to_owned(), "b".to_owned())].into(),
        ..StoredHeaders::default()
    };
    let row = VersionRow { headers: Box::new(headers.clone()), ..small_version() };
    let key = keyspace::version(BucketId(1), "k", CommitSeq(1));
    let back: VersionRow = decode(&key, &encode(&row)).unwrap();
    let version = back.into_version(CommitSeq(1));
    assert_eq!(*version.attributes.headers, headers);
    let envelope = stele_rpc::meta::CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin: Origin::default(),
        salt: None,
        command: crate::testing::create_upload(
            crate::testing::guard(BucketId(1), 1),
            "k",
            UploadId::from_bytes([1; 16]),
        ),
    };
    let back: stele_rpc::meta::CommandEnvelope = decode(&key, &encode_named(&envelope)).unwrap();
    assert_eq!(back, envelope);
}

#[test]
fn damaged_rows_name_their_table() {
    let error = decode::<KeyRow>(&keyspace::named(keyspace::Tag::Key, BucketId(1), "k"), &[0x93, 1]).unwrap_err();
    assert!(error.to_string().contains("table 0x22"), "{error}");
}

#[test]
fn etag_texts_agree() {
    for (md5, parts) in [(0, 0), (u128::MAX, 0), (0x0123_4567_89ab_cdef_0011_2233_4455_6677, 0), (7, 12)] {
        let etag = ETag { md5, parts };
        assert_eq!(etag_text(etag), etag.to_string());
        let row = VersionRow { etag, ..small_version() };
        let row = CurrentRow::of(&row, CommitSeq(1));
        let bytes = row.encode();
        assert_eq!(CurrentRow::decode(&[0x21], &bytes).unwrap(), row);
        for cut in (0..bytes.len()).filter(|cut| *cut != bytes.len() - 2) {
            assert!(CurrentRow::decode(&[0x21], &bytes[..cut]).is_err(), "cut at {cut}");
        }
        for (at, wrong) in [(0, 2), (1, 2), (bytes.len() - 1, 9), (bytes.len() - 2, 0)] {
            let mut damaged = bytes.clone();
            damaged[at] = wrong;
            assert!(CurrentRow::decode(&[0x21], &damaged).is_err(), "byte {at}");
        }
    }
}
