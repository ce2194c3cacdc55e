//! Round trips, golden bytes, and every refusal.

use super::*;

fn shard() -> RecordHeader {
    let scheme: Scheme = "rs-4-2".parse().unwrap();
    let payload = 1_000_000u32;
    let payload_len = u32::try_from(scheme.shard_len(payload as usize)).unwrap();
    RecordHeader {
        drive: DriveId::from_bytes([1; 16]),
        segment: SegmentNumber(7),
        sequence: RecordSequence(99),
        body: RecordBody::Shard(Box::new(ShardHeader {
            pack: PackId::from_bytes([2; 32]),
            pg: PgId(3),
            pg_epoch: PgEpoch(4),
            shard: 5,
            preimage: PackPreimage {
                start_epoch: Epoch(6),
                nonce: [7; 16],
                payload_len: payload,
                chunk_list_offset: 999_000,
                chunk_list_hash: TreeHash::from_bytes([8; 32]),
            },
            encoding: Encoding {
                generation: 0,
                scheme,
                slots: vec![0, 1, 2, 3, 4, 5],
                roots: (0..6).map(|i| ShardRoot::from_bytes([i; 32])).collect(),
            },
            payload_len,
            crcs: vec![11, 12, 13, 14],
        })),
    }
}

fn list() -> RecordHeader {
    let item = |n: u8| ListItem {
        pack: PackId::from_bytes([n; 32]),
        epoch: Epoch(u64::from(n)),
        at: RecordSequence(50 + u64::from(n)),
    };
    RecordHeader {
        drive: DriveId::from_bytes([1; 16]),
        segment: SegmentNumber(7),
        sequence: RecordSequence(100),
        body: RecordBody::List(ListKind::Condemn, vec![item(1), item(2)]),
    }
}

#[test]
fn records_round_trip_in_whole_blocks() {
    for record in [shard(), list()] {
        let bytes = record.encode().unwrap();
        assert_eq!(bytes.len(), SEGMENT_ALIGN);
        assert_eq!(RecordHeader::peek_len(&bytes), Ok(bytes.len()));
        assert_eq!(RecordHeader::decode(&bytes), Ok(record));
    }
}

#[test]
fn preimage_and_encoding_stay_under_one_kib() {
    // 12 shards, the widest default scheme; header without padding and CRCs.
    let mut record = shard();
    if let RecordBody::Shard(s) = &mut record.body {
        s.encoding.scheme = "rs-8-4".parse().unwrap();
        s.encoding.slots = (0..12).collect();
        s.encoding.roots = (0..12).map(|i| ShardRoot::from_bytes([i; 32])).collect();
        s.payload_len = u32::try_from(s.encoding.scheme.shard_len(1_000_000)).unwrap();
        s.crcs = vec![1, 2];
    }
    let bytes = record.encode().unwrap();
    let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    assert!(len < 1024, "{len}");
}

#[test]
fn golden_bytes_do_not_move() {
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex()[..16].to_string();
    let segment = SegmentHeader {
        drive: DriveId::from_bytes([1; 16]),
        cluster: ClusterId::from_bytes([2; 16]),
        number: SegmentNumber(3),
    };
    let found = [hash(&shard().encode().unwrap()), hash(&list().encode().unwrap()), hash(&segment.encode())];
    assert_eq!(found, ["d76598966bedddab", "cbf9ec065217ccfd", "376fecf26aa6311a"]);
}

#[test]
fn segment_header_round_trips_and_notices_every_flip() {
    let header = SegmentHeader {
        drive: DriveId::from_bytes([1; 16]),
        cluster: ClusterId::from_bytes([2; 16]),
        number: SegmentNumber(3),
    };
    let block = header.encode();
    assert_eq!(block.len(), SEGMENT_ALIGN);
    assert_eq!(SegmentHeader::decode(&block), Ok(header));
    for at in 0..56 {
        let mut bad = block.clone();
        bad[at] ^= 1;
        assert!(SegmentHeader::decode(&bad).is_err(), "flip at {at}");
    }
}

#[test]
fn every_flipped_header_byte_is_noticed() {
    for record in [shard(), list()] {
        let good = record.encode().unwrap();
        let len = u32::from_le_bytes(good[8..12].try_into().unwrap()) as usize;
        for at in 0..len {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(RecordHeader::decode(&bad).is_err(), "flip at {at}");
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    let good = shard().encode().unwrap();
    let len = u32::from_le_bytes(good[8..12].try_into().unwrap()) as usize;
    for cut in 0..len {
        assert!(RecordHeader::decode(&good[..cut]).is_err(), "cut at {cut}");
    }
    assert!(RecordHeader::decode(&good[..len]).is_ok());
}

#[test]
fn oversized_and_contradicting_headers_are_refused() {
    let refuse = |change: fn(&mut ShardHeader)| {
        let mut record = shard();
        if let RecordBody::Shard(s) = &mut record.body {
            change(s);
        }
        assert!(matches!(record.encode(), Err(SegmentFormatError::OutOfBounds(_))));
    };
    refuse(|s| s.shard = 6);
    refuse(|s| s.payload_len += 16384);
    refuse(|s| s.preimage.payload_len = u32::MAX);
    refuse(|s| s.preimage.chunk_list_offset = s.preimage.payload_len + 1);
    refuse(|s| s.encoding.slots.push(1));
    refuse(|s| {
        s.encoding.roots.pop();
    });
    refuse(|s| {
        s.crcs.pop();
    });
    let item = ListItem { pack: PackId::from_bytes([0; 32]), epoch: Epoch(0), at: RecordSequence(0) };
    for items in [vec![], vec![item; LIST_ITEMS_MAX + 1]] {
        let record = RecordHeader { body: RecordBody::List(ListKind::Delete, items), ..list() };
        assert!(record.encode().is_err());
    }
    let full = RecordHeader { body: RecordBody::List(ListKind::Delete, vec![item; LIST_ITEMS_MAX]), ..list() };
    assert_eq!(RecordHeader::decode(&full.encode().unwrap()), Ok(full));
}

#[test]
fn fuzz_entry_survives_mutations() {
    let good = shard().encode().unwrap();
    for at in 0..2000usize {
        let mut bad = good.clone();
        bad[(at * 31) % 600] = u8::try_from(at % 251).unwrap();
        fuzz_record(&bad);
        fuzz_record(&bad[..(at * 7) % good.len()]);
    }
    fuzz_record(&good);
}
