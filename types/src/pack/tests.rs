use super::*;
use crate::ids::TreeHash;
use crate::limits::{CHUNK_BYTES_MAX, PACK_CHUNKS_MAX};
use crate::wire::FormatError;

fn chunk(seed: u8, len: u32) -> PackChunk {
    PackChunk { id: ChunkId::from_bytes([seed; 32]), len, stored_len: len, codec: Codec::Raw, key_id: 0 }
}

fn preimage() -> PackPreimage {
    let list = encode_chunk_list(&[chunk(1, 5), chunk(2, 0x0102)]);
    PackPreimage {
        start_epoch: Epoch(7),
        nonce: [0xab; 16],
        payload_len: 263 + list.len() as u32,
        chunk_list_offset: 263,
        chunk_list_hash: TreeHash::from_bytes(*blake3::hash(&list).as_bytes()),
    }
}

#[test]
fn golden_chunk_list() {
    let encoded = encode_chunk_list(&[chunk(1, 5), chunk(2, 0x0102)]);
    let expected = concat!(
        "7374656c6570636c",
        "0100",
        "0000",
        "02000000",
        "0101010101010101010101010101010101010101010101010101010101010101",
        "05000000",
        "05000000",
        "00000000",
        "00000000",
        "0202020202020202020202020202020202020202020202020202020202020202",
        "02010000",
        "02010000",
        "00000000",
        "00000000",
    );
    assert_eq!(hex::encode(&encoded), expected);
    assert_eq!(encoded.len(), chunk_list_len(2));
}

#[test]
fn golden_preimage_and_pack_id() {
    let preimage = preimage();
    let encoded = hex::encode(preimage.encode());
    let expected = concat!(
        "7374656c65706964",
        "01",
        "0700000000000000",
        "abababababababababababababababab",
        "77010000",
        "07010000",
    );
    assert_eq!(&encoded[..expected.len()], expected);
    assert_eq!(encoded[expected.len()..], preimage.chunk_list_hash.to_string());
    assert_eq!(preimage.pack_id().to_string(), "e4df6bf61239541729af7c7de60ae04111190b0c138245cede89e6bedff5dd78");
}

#[test]
fn preimages_round_trip_and_every_cut_or_flip_is_noticed() {
    let preimage = preimage();
    let encoded = preimage.encode();
    assert_eq!(PackPreimage::decode(&encoded).unwrap(), preimage);
    for len in 0..encoded.len() {
        assert!(PackPreimage::decode(&encoded[..len]).is_err(), "cut to {len}");
    }
    for at in 0..encoded.len() {
        let mut flipped = encoded;
        flipped[at] ^= 0x80;
        let differs = PackPreimage::decode(&flipped).map_or(true, |p| p.pack_id() != preimage.pack_id());
        assert!(differs, "flip at {at}");
    }
    let long = [&encoded[..], &[0]].concat();
    assert!(PackPreimage::decode(&long).is_err());
}

#[test]
fn chunk_lists_round_trip_up_to_the_limit() {
    for count in [0, 1, 2, 100, PACK_CHUNKS_MAX] {
        let chunks: Vec<PackChunk> = (0..count).map(|i| chunk(i as u8, 1 + i as u32)).collect();
        assert_eq!(decode_chunk_list(&encode_chunk_list(&chunks)).unwrap(), chunks);
    }
    assert_eq!(CHUNK_LIST_BYTES_MAX, chunk_list_len(PACK_CHUNKS_MAX));
}

#[test]
fn bad_chunk_lists_are_refused() {
    let good = encode_chunk_list(&[chunk(1, 5), chunk(2, 6)]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        decode_chunk_list(&bytes)
    };
    assert_eq!(with(0, b'x'), Err(FormatError::Magic { format: "chunk list" }));
    assert_eq!(with(8, 2), Err(FormatError::Version { format: "chunk list", found: 2 }));
    assert!(with(10, 1).is_err(), "flags");
    assert!(with(12, 1).is_err(), "count");
    assert!(with(15, 0xff).is_err(), "huge count");
    assert!(with(48, 0).is_err(), "length 0");
    assert!(with(52, 6).is_err(), "stored length of a raw chunk");
    assert!(with(60, 9).is_err(), "codec");
    assert!(with(61, 1).is_err(), "reserved");
    for len in 0..good.len() {
        assert!(decode_chunk_list(&good[..len]).is_err(), "cut to {len}");
    }
    let large = CHUNK_BYTES_MAX as u32;
    assert!(decode_chunk_list(&encode_chunk_list(&[chunk(1, large + 1)])).is_err());
    assert!(decode_chunk_list(&encode_chunk_list(&vec![chunk(1, large); 17])).is_err(), "more than a pack");
}

#[test]
fn a_chunk_list_must_fit_its_preimage() {
    let preimage = preimage();
    let list = encode_chunk_list(&[chunk(1, 5), chunk(2, 0x0102)]);
    let payload = [vec![9u8; 263], list.clone()].concat();
    assert_eq!(chunk_list_of(&preimage, &payload).unwrap().len(), 2);
    assert!(chunk_list_of(&preimage, &payload[1..]).is_err());
    let other = encode_chunk_list(&[chunk(1, 5), chunk(3, 0x0102)]);
    assert!(decode_chunk_list_of(&preimage, &other).is_err(), "another hash");
    let moved = PackPreimage { chunk_list_offset: 262, payload_len: preimage.payload_len - 1, ..preimage };
    assert!(decode_chunk_list_of(&moved, &list).is_err(), "does not add up");
}

#[test]
fn codecs_are_numbers_and_unknown_ones_are_refused() {
    let bytes = rmp_serde::to_vec(&Codec::Raw).unwrap();
    assert_eq!(bytes, [0]);
    assert_eq!(rmp_serde::from_slice::<Codec>(&bytes).unwrap(), Codec::Raw);
    assert!(rmp_serde::from_slice::<Codec>(&[1]).is_err());
}
