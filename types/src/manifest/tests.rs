use super::*;
use crate::limits::{CHUNK_BYTES_MAX, MANIFEST_PAGE_ENTRIES, PACK_BYTES_MAX};

const OWN: PackId = PackId::from_bytes([0xee; 32]);

fn entry(seed: u8, pack: PackId) -> ChunkEntry {
    ChunkEntry {
        id: ChunkId::from_bytes([seed; 32]),
        len: 0x0a00 + u32::from(seed),
        pack,
        offset: 0x0b0000,
        stored_len: 0x0a00 + u32::from(seed),
        codec: Codec::Raw,
        key_id: 3,
    }
}

fn pack(seed: u8) -> PackId {
    PackId::from_bytes([seed; 32])
}

fn page_ref(seed: u8, chunks: u64) -> PageRef {
    let top = TreeHash::from_bytes([seed; 32]);
    PageRef { page: entry(seed, pack(seed % 3)), top, bytes: chunks * 1000, chunks }
}

#[test]
fn golden_manifest_page() {
    let page = Page::Entries(vec![entry(1, pack(0xa1)), entry(2, OWN), entry(3, pack(0xa1))]);
    let row =
        |seed: &str, number: &str| format!("{}{seed}0a000000000b00{seed}0a000003000000{number}0000", seed.repeat(32));
    let expected = [
        "7374656c65706167010000000300".to_owned() + "0100",
        "a1".repeat(32),
        row("01", "0000"),
        row("02", "ffff"),
        row("03", "0000"),
    ];
    assert_eq!(hex::encode(encode_page(&page, OWN).unwrap()), expected.concat());
}

#[test]
fn golden_index_page() {
    let page = Page::Index(vec![page_ref(4, 1024), page_ref(5, 2)]);
    let expected = [
        "7374656c65706167010001000200".to_owned() + "0200",
        "01".repeat(32),
        "02".repeat(32),
        "04".repeat(32) + "040a000000000b00040a00000300000000000000",
        "04".repeat(32) + "00a00f0000000000" + "0004000000000000",
        "05".repeat(32) + "050a000000000b00050a00000300000001000000",
        "05".repeat(32) + "d0a70f0000000000" + "0200000000000000",
    ];
    assert_eq!(hex::encode(encode_page(&page, OWN).unwrap()), expected.concat());
}

#[test]
fn pages_round_trip_and_stay_within_their_size() {
    for count in [1usize, 2, 3, 700, MANIFEST_PAGE_ENTRIES] {
        let entries = (0..count).map(|i| entry(i as u8, if i % 5 == 0 { OWN } else { pack((i / 7) as u8) }));
        let page = Page::Entries(entries.collect());
        let bytes = encode_page(&page, OWN).unwrap();
        assert_eq!(decode_page(&bytes, OWN).unwrap(), page);
        let mut refs: Vec<PageRef> = (1..count).map(|i| page_ref(i as u8, 1024 * 1024)).collect();
        refs.push(page_ref(9, 77));
        let page = Page::Index(refs);
        let bytes = encode_page(&page, OWN).unwrap();
        assert!(bytes.len() <= PAGE_BYTES_MAX);
        assert_eq!(decode_page(&bytes, OWN).unwrap(), page);
    }
    assert!(encode_page(&Page::Entries(Vec::new()), OWN).is_err());
    assert!(encode_page(&Page::Entries(vec![entry(1, OWN); 1025]), OWN).is_err());
}

#[test]
fn one_entry_costs_52_bytes() {
    let of = |count: usize| encode_page(&Page::Entries(vec![entry(1, pack(1)); count]), OWN).unwrap().len();
    assert_eq!(of(2) - of(1), 52);
    assert_eq!(of(1024), 16 + 32 + 1024 * 52);
}

#[test]
fn bad_pages_are_refused() {
    let good = encode_page(&Page::Entries(vec![entry(1, pack(1)), entry(2, pack(2))]), OWN).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut page = good.clone();
        page[at..at + bytes.len()].copy_from_slice(bytes);
        decode_page(&page, OWN)
    };
    assert!(with(0, b"X").is_err(), "magic");
    assert!(with(8, &[2]).is_err(), "version");
    assert!(with(10, &[2]).is_err(), "kind");
    assert!(with(11, &[1]).is_err(), "reserved");
    assert!(with(12, &[0, 0]).is_err(), "no entries");
    assert!(with(12, &[0xff, 0xff]).is_err(), "too many entries");
    assert!(with(14, &[3, 0]).is_err(), "too many packs");
    assert!(with(16, &[2; 32]).is_err(), "a pack twice");
    assert!(with(16, &[0xee; 32]).is_err(), "own pack in the table");
    let row = 16 + 64;
    let too_long = (CHUNK_BYTES_MAX as u32 + 1).to_le_bytes();
    assert!(with(row + 32, &[0; 4]).is_err(), "length 0");
    assert!(with(row + 32, &[too_long, [0; 4], too_long].concat()).is_err(), "length");
    assert!(with(row + 36, &(PACK_BYTES_MAX as u32 - 5).to_le_bytes()).is_err(), "behind the pack");
    assert!(with(row + 40, &[1, 0, 0, 0]).is_err(), "stored length");
    assert!(with(row + 48, &[1, 0]).is_err(), "packs out of order");
    assert!(with(row + 48, &[0xfe, 0xff]).is_err(), "no such pack");
    assert!(with(row + 52 + 48, &[0, 0]).is_err(), "unused pack");
    assert!(with(row + 50, &[7]).is_err(), "codec");
    for len in 0..good.len() {
        assert!(decode_page(&good[..len], OWN).is_err(), "cut to {len}");
    }
    assert!(decode_page(&[&good[..], &[0]].concat(), OWN).is_err());
}

#[test]
fn bad_index_pages_are_refused() {
    let decode = |refs: Vec<PageRef>| decode_page(&encode_page(&Page::Index(refs), OWN).unwrap(), OWN);
    assert!(decode(vec![page_ref(1, 1024), page_ref(2, 1024)]).is_ok());
    assert!(decode(vec![page_ref(1, 1024), page_ref(2, 1025)]).is_err(), "last larger than the first");
    assert!(decode(vec![page_ref(1, 1023), page_ref(2, 5)]).is_err(), "an incomplete page before the last");
    assert!(decode(vec![page_ref(1, 1024), page_ref(2, 7), page_ref(3, 1024)]).is_err(), "a gap");
    assert!(decode(vec![PageRef { bytes: 0, ..page_ref(1, 1) }]).is_err(), "no bytes");
    assert!(decode(vec![PageRef { bytes: 3, ..page_ref(1, 4) }]).is_err(), "more chunks than bytes");
    assert!(decode(vec![PageRef { bytes: u64::MAX, ..page_ref(1, 4) }]).is_err(), "larger than any object");
}

#[test]
fn manifests_count_their_bytes_and_chunks() {
    let inline = Manifest::Inline(vec![entry(1, pack(1)), entry(2, pack(1))]);
    assert_eq!((inline.total_len(), inline.chunks()), (0x1403, 2));
    let paged = Manifest::Paged { root: page_ref(1, 40), index_levels: 0 };
    assert_eq!((paged.total_len(), paged.chunks()), (40_000, 40));
}
