use super::*;
use crate::ids::{ChunkId, CommitSeq, PackId};
use crate::manifest::ChunkEntry;
use crate::pack::Codec;

fn etag() -> ETag {
    ETag { md5: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, parts: 0 }
}

/// A version of one inline chunk as `put` makes it, with the largest numbers a row may carry.
fn version() -> Version {
    let entry = ChunkEntry {
        id: ChunkId::from_bytes([1; 32]),
        len: 4 << 20,
        pack: PackId::from_bytes([2; 32]),
        offset: 60 << 20,
        stored_len: 4 << 20,
        codec: Codec::Raw,
        key_id: 0,
    };
    Version {
        id: VersionId { commit_seq: CommitSeq(u64::MAX), nonce: u64::MAX },
        null_version: true,
        delete_marker: false,
        modified: 1_790_000_000_000,
        owner: OwnerId::from_bytes([3; 16]),
        attributes: Attributes {
            len: 4 << 20,
            etag: etag(),
            root: ObjectRoot::from_bytes([4; 32]),
            body_hash: Some(BodyHash::from_bytes([5; 32])),
            checksums: vec![Checksum {
                algorithm: ChecksumAlgorithm::Crc64Nvme,
                kind: ChecksumType::FullObject,
                value: Bytes::from_static(&[6; 8]),
            }],
            headers: Box::new(StoredHeaders {
                content_type: Some("binary/octet-stream".into()),
                ..StoredHeaders::default()
            }),
            part_lens: Vec::new(),
            tags: Tags::default(),
            part_checksums: Bytes::new(),
        },
        manifest: Manifest::Inline(vec![entry]),
        log_index: LogIndex(u64::MAX),
        lock: Lock::default(),
    }
}

#[test]
fn a_version_row_of_one_inline_chunk_is_below_350_bytes() {
    let bytes = rmp_serde::to_vec(&version()).unwrap();
    println!("positional row of one inline chunk: {} bytes", bytes.len());
    assert!(bytes.len() < 350, "{} bytes", bytes.len());
    assert_eq!(rmp_serde::from_slice::<Version>(&bytes).unwrap(), version());
    let named = rmp_serde::to_vec_named(&version()).unwrap();
    assert_eq!(rmp_serde::from_slice::<Version>(&named).unwrap(), version());
}

#[test]
fn etags_are_16_bytes_and_come_back() {
    let bytes = rmp_serde::to_vec(&etag()).unwrap();
    assert_eq!(hex::encode(&bytes), "92c41000112233445566778899aabbccddeeff00");
    assert_eq!(rmp_serde::from_slice::<ETag>(&bytes).unwrap(), etag());
    assert!(rmp_serde::from_slice::<ETag>(&bytes[..10]).is_err());
    assert_eq!(etag().to_string(), "00112233445566778899aabbccddeeff");
    assert_eq!(ETag { parts: 12, ..etag() }.to_string(), "00112233445566778899aabbccddeeff-12");
}

#[test]
fn any_subset_of_headers_survives_a_positional_row() {
    let text = |n: usize, bits: usize| (bits >> n & 1 == 1).then(|| format!("value {n}"));
    for bits in 0..256usize {
        let mut headers = StoredHeaders {
            content_type: text(0, bits),
            content_encoding: text(1, bits),
            content_disposition: text(2, bits),
            content_language: text(3, bits),
            cache_control: text(4, bits),
            expires: text(5, bits),
            website_redirect: text(6, bits),
            user: BTreeMap::new(),
        };
        if bits & 128 != 0 {
            headers.user.insert("name".into(), "value".into());
        }
        let bytes = rmp_serde::to_vec(&headers).unwrap();
        assert_eq!(rmp_serde::from_slice::<StoredHeaders>(&bytes).unwrap(), headers);
        assert_eq!(rmp_serde::to_vec_named(&headers).unwrap(), bytes);
    }
    assert_eq!(rmp_serde::to_vec(&StoredHeaders::default()).unwrap(), [0x80]);
    // A header this program does not know yet: number 200.
    let newer = hex::decode("8201a161ccc8a162").unwrap();
    let read = rmp_serde::from_slice::<StoredHeaders>(&newer).unwrap();
    assert_eq!(read, StoredHeaders { content_type: Some("a".into()), ..StoredHeaders::default() });
}
