//! Writes the seeds of the corpora: `cargo test -p stele-types write_seeds -- --ignored`. Needed
//! only when a format changes; the files are kept in git.

use std::path::Path;

use crate::ids::{ChunkId, DriveId, Epoch, ObjectRoot, OwnerId, PackId, PgEpoch, PgId, ShardRoot, TreeHash, VersionId};
use crate::manifest::{ChunkEntry, Manifest, Page, PageRef, encode_page};
use crate::object::{
    Attributes, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Lock, Retention, RetentionMode, StoredHeaders, Tags,
    Version,
};
use crate::pack::{Codec, Encoding, PackChunk, PackPreimage, chunk_list_len, encode_chunk_list};
use crate::segment::{ListItem, ListKind, RecordBody, RecordHeader, RecordSequence, SegmentNumber, ShardHeader};

fn entry(seed: u8, len: u32) -> ChunkEntry {
    ChunkEntry {
        id: ChunkId::from_bytes([seed; 32]),
        len,
        pack: PackId::from_bytes([if seed.is_multiple_of(3) { 0xee } else { seed / 2 }; 32]),
        offset: 77,
        stored_len: len,
        codec: Codec::Raw,
        key_id: 0,
    }
}

fn list(count: u8) -> Vec<u8> {
    let row = |seed: u8| PackChunk {
        id: ChunkId::from_bytes([seed; 32]),
        len: 1000,
        stored_len: 1000,
        codec: Codec::Raw,
        key_id: 0,
    };
    encode_chunk_list(&(0..count).map(row).collect::<Vec<_>>())
}

fn preimage(count: u8) -> PackPreimage {
    let offset = u32::from(count) * 1000;
    PackPreimage {
        start_epoch: Epoch(3),
        nonce: [9; 16],
        payload_len: offset + chunk_list_len(usize::from(count)) as u32,
        chunk_list_offset: offset,
        chunk_list_hash: TreeHash::from_bytes(*blake3::hash(&list(count)).as_bytes()),
    }
}

fn page(page: &Page) -> Vec<u8> {
    encode_page(page, PackId::from_bytes([0xee; 32])).unwrap()
}

fn page_ref(seed: u8, chunks: u64) -> PageRef {
    let top = TreeHash::from_bytes([seed; 32]);
    PageRef { page: entry(seed, 5000), top, bytes: chunks * 900, chunks }
}

fn version(manifest: Manifest) -> Vec<u8> {
    let mut headers = StoredHeaders { content_type: Some("text/plain".into()), ..StoredHeaders::default() };
    headers.user.insert("colour".into(), "grey".into());
    let value = bytes::Bytes::from_static(&[1, 2, 3, 4]);
    let (algorithm, kind) = (ChecksumAlgorithm::Crc32c, ChecksumType::FullObject);
    let version = Version {
        id: VersionId::parse(&"0a".repeat(16)).unwrap(),
        null_version: false,
        delete_marker: false,
        modified: 1_790_000_000_000,
        owner: OwnerId::from_bytes([3; 16]),
        attributes: Attributes {
            len: 900,
            etag: ETag { md5: 77, parts: 2 },
            root: ObjectRoot::from_bytes([4; 32]),
            body_hash: None,
            checksums: vec![Checksum { algorithm, kind, value }],
            headers: Box::new(headers),
            part_lens: vec![400, 500],
            tags: Tags::new([("site".to_owned(), "north".to_owned())], 10).unwrap(),
            part_checksums: bytes::Bytes::new(),
        },
        manifest,
        log_index: crate::ids::LogIndex(12),
        lock: Lock {
            retention: Some(Retention { mode: RetentionMode::Governance, until: 1_800_000_000_000 }),
            legal_hold: Some(true),
        },
    };
    rmp_serde::to_vec(&version).unwrap()
}

fn record(body: RecordBody) -> Vec<u8> {
    let drive = DriveId::from_bytes([1; 16]);
    RecordHeader { drive, segment: SegmentNumber(7), sequence: RecordSequence(99), body }.encode().unwrap()
}

fn shard_record() -> Vec<u8> {
    let payload = PackPreimage { payload_len: 100_000, ..preimage(3) };
    record(RecordBody::Shard(Box::new(ShardHeader {
        pack: payload.pack_id(),
        pg: PgId(3),
        pg_epoch: PgEpoch(4),
        shard: 1,
        encoding: Encoding {
            generation: 0,
            scheme: "rs-1-2".parse().unwrap(),
            slots: vec![4, 5, 0],
            roots: vec![ShardRoot::from_bytes([8; 32]); 3],
        },
        payload_len: 114_688,
        crcs: vec![11, 12],
        preimage: payload,
    })))
}

#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write(target: &str, seeds: &[Vec<u8>]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    for (at, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{at}")), seed).unwrap();
    }
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn write_seeds() {
    write("pack_preimage", &[preimage(0).encode().to_vec(), preimage(9).encode().to_vec()]);
    write("chunk_list", &[list(0), list(2), [&preimage(2).encode()[..], &list(2)].concat()]);
    let entries = |count: u8| Page::Entries((0..count).map(|i| entry(i, 900)).collect());
    let index = Page::Index(vec![page_ref(1, 1024), page_ref(2, 1024), page_ref(4, 7)]);
    write("manifest_page", &[page(&entries(1)), page(&entries(5)), page(&index)]);
    let inline = Manifest::Inline(vec![entry(1, 400), entry(2, 500)]);
    let paged = Manifest::Paged { root: page_ref(3, 2000), index_levels: 1 };
    write("version_row", &[version(inline), version(paged)]);
    let item = ListItem { pack: PackId::from_bytes([2; 32]), epoch: Epoch(1), at: RecordSequence(3) };
    write("segment_record", &[shard_record(), record(RecordBody::List(ListKind::Condemn, vec![item]))]);
}
