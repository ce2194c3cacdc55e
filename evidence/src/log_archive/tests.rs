use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;

use super::*;
use crate::tree::Edge;

/// Items of a section or more, some of them erased.
pub(crate) fn items(count: usize) -> Vec<Item> {
    let item = |n: usize| {
        let salt = Salt::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let record = format!("record {n}").into_bytes();
        if n.is_multiple_of(7) {
            let previous = n.checked_sub(3).map(|n| LogIndex(n as u64));
            return Item::Erased { entry: Entry::new(&salt, &record), previous, by: LogIndex(1_000_000) };
        }
        Item::Kept { salt, record }
    };
    (0..count).map(item).collect()
}

fn encode(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.encode_to(&mut out));
    out
}

fn archive(height: Height, first: u64) -> (Footer, Vec<Vec<u8>>, Vec<Item>) {
    let items = items(usize::try_from(height.entries()).unwrap());
    let sections: Vec<Vec<u8>> = items.chunks(height.section_entries()).map(encode).collect();
    let footer = Footer {
        height,
        first: LogIndex(first),
        sections: sections.iter().map(|bytes| Section::of(bytes)).collect(),
        tiles: tile_roots(&items),
    };
    (footer, sections, items)
}

#[test]
fn an_archive_hashes_to_the_subtree_of_its_entries() {
    for height in [Height::Tile, Height::TileOfTiles] {
        let (footer, sections, items) = archive(height, 3 * height.entries());
        let mut edge = Edge::default();
        leaves(&items).into_iter().for_each(|leaf| edge.push(leaf));
        assert_eq!(footer.root(), edge.root());
        assert_eq!(Footer::decode(&footer.encode()), Ok(footer.clone()));
        assert_eq!(footer.encode().len(), height.footer_len());
        let whole: usize = sections.iter().map(Vec::len).sum();
        assert_eq!(footer.archive_len(), (8 + whole + height.footer_len()) as u64);
        let mut read = Vec::new();
        let mut end = 8;
        for (n, section) in sections.iter().enumerate() {
            let range = footer.range_of(n).unwrap();
            assert_eq!((range.start, range.end), (end, end + section.len() as u64));
            end = range.end;
            read.extend(footer.open_section(n, section).unwrap());
        }
        assert_eq!(read, items);
        assert_eq!(footer.range_of(sections.len()), None);
    }
}

#[test]
fn a_copied_record_is_proven_and_no_other() {
    let height = Height::TileOfTiles;
    let (footer, _, items) = archive(height, 0);
    for at in [1usize, 255, 256, 40_000, 65_535] {
        let Item::Kept { salt, record } = &items[at] else { panic!("item {at} is erased") };
        let tile = at / 256 * 256;
        let index = LogIndex(height.entries() * 5 + at as u64);
        let path = path(height, index, &leaves(&items[tile..tile + 256]), &footer.tiles).unwrap();
        let copied = Copied { index, salt: *salt, record: record.clone(), path };
        assert_eq!(copied.verify(height, &footer.root()), Ok(()));
        let mut other = copied.clone();
        other.record.push(0);
        assert!(other.verify(height, &footer.root()).is_err());
        let mut moved = copied.clone();
        moved.index.0 ^= 1;
        assert!(moved.verify(height, &footer.root()).is_err());
        let mut cut = copied;
        cut.path.pop();
        assert!(cut.verify(height, &footer.root()).is_err());
    }
}

#[test]
fn records_that_differ_are_refused_even_under_a_new_hash() {
    let (footer, sections, mut items) = archive(Height::Tile, 0);
    let Item::Kept { record, .. } = &mut items[1] else { panic!("item 1 is erased") };
    record[0] ^= 1;
    let forged = encode(&items);
    assert_eq!(footer.open_section(0, &forged), Err(ArchiveError::Mismatch("bytes")));
    let mut agreed = footer.clone();
    agreed.sections[0] = Section::of(&forged);
    assert_eq!(agreed.open_section(0, &forged), Err(ArchiveError::Mismatch("records")));
    // To erase a record is to leave its entry.
    let mut erased = self::items(256);
    erased[1] = Item::Erased { entry: erased[1].entry(), previous: None, by: LogIndex(9) };
    agreed.sections[0] = Section::of(&encode(&erased));
    assert_eq!(agreed.open_section(0, &encode(&erased)), Ok(erased));
    assert!(footer.open_section(0, &sections[0]).is_ok());
    assert!(footer.open_section(1, &sections[0]).is_err());
}

#[test]
fn the_format_stays() {
    let kept = Item::Kept { salt: Salt::from_bytes([7; 32]), record: b"abc".to_vec() };
    let first = Item::Erased { entry: Entry([8; 32]), previous: None, by: LogIndex(0x0102) };
    let bytes = encode(&[kept, first]);
    let expected = [&[1][..], &[7; 32], &[3, 0, 0, 0], b"abc", &[0], &[8; 32], &[0xff; 8], &[2, 1, 0, 0, 0, 0, 0, 0]];
    assert_eq!(bytes, expected.concat());
    let footer = Footer {
        height: Height::Tile,
        first: LogIndex(512),
        sections: vec![Section { len: 5, hash: [9; 32] }],
        tiles: vec![[4; 32]],
    };
    let expected = [&[1, 0, 2, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0][..], &[9; 32], &[4; 32]];
    assert_eq!(footer.encode(), expected.concat());
    assert_eq!(Height::TileOfTiles.footer_len(), 8_777);
}

#[test]
fn every_cut_and_what_goes_on_is_refused() {
    let (footer, sections, _) = archive(Height::Tile, 256);
    let bytes = footer.encode();
    for cut in 0..bytes.len() {
        assert!(Footer::decode(&bytes[..cut]).is_err(), "footer cut at {cut}");
    }
    assert_eq!(Footer::decode(&[&bytes[..], &[0]].concat()), Err(ArchiveError::Length));
    let section = &sections[0];
    for cut in [0, 1, 40, section.len() - 1] {
        assert_eq!(decode_section(&section[..cut], 256), Err(ArchiveError::Length));
    }
    assert_eq!(decode_section(section, 255), Err(ArchiveError::Length));
    assert!(decode_section(section, 257).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn what_decodes_is_the_one_encoding(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0u8..3) {
        if let Some(first) = bytes.first_mut() {
            *first = tag;
        }
        for count in 0..4 {
            if let Ok(items) = decode_section(&bytes, count) {
                prop_assert_eq!(encode(&items), bytes.clone());
            }
        }
        if let Ok(footer) = Footer::decode(&bytes) {
            prop_assert_eq!(footer.encode(), bytes.clone());
        }
        prop_assert!(bytes.len() < 200);
    }
}
