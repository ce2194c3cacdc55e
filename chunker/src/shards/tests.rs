use super::*;
use crate::pack::{padded_len, seal};
use crate::testing::noise;
use proptest::prelude::*;
use stele_types::ids::{ChunkId, Epoch, PackId};
use stele_types::pack::{Codec, PackChunk};

fn scheme(text: &str) -> Scheme {
    text.parse().unwrap()
}

/// A sealed pack of one chunk of `len` bytes.
fn pack(len: usize) -> SealedPack {
    let data = noise(len as u64, len);
    let mut buffer = PackBuffer::with_capacity(0, &BufferPool::default());
    buffer.extend_from_slice(&data);
    let id = ChunkId::from_bytes(*blake3::hash(&data).as_bytes());
    let len = len as u32;
    let chunk = PackChunk { id, len, stored_len: len, codec: Codec::Raw, key_id: 0 };
    let (id, preimage, payload) = seal(buffer, &[chunk], Epoch(1), [1; 16]).unwrap();
    SealedPack { id, preimage, payload, chunks: Vec::new(), manifests: Vec::new() }
}

const SCHEMES: [&str; 9] = ["rs-1-0", "rs-1-1", "rs-1-2", "rs-2-1", "rs-2-2", "rs-4-2", "rs-6-3", "rs-8-4", "rs-8-0"];

#[test]
fn data_shards_are_slices_of_the_payload() {
    for len in [4096, 700_000, 3 << 20, 9_000_001] {
        let pack = pack(len);
        let whole = pack.payload.as_ptr() as usize..pack.payload.as_ptr() as usize + pack.payload.len();
        for pg in SCHEMES {
            let used = scheme(pg).for_payload(pack.payload_len(), 32).unwrap();
            let encoded = Coder::new(used).unwrap().with_pool(&BufferPool::new(1 << 25)).encode(&pack).unwrap();
            assert_eq!(encoded.shards.len(), used.shards());
            assert_eq!(encoded.shard_len, used.shard_len(pack.payload_len()));
            for (at, shard) in encoded.shards.iter().enumerate() {
                let start = shard.as_ptr() as usize;
                assert_eq!(start % 4096, 0, "{used} shard {at} is aligned");
                assert_eq!(shard.len(), encoded.shard_len);
                assert_eq!(root_of(shard), encoded.roots[at]);
                assert!(at >= used.k() || whole.contains(&start), "{used} of {len}: shard {at} was copied");
            }
            let joined: Vec<u8> = encoded.shards[..used.k()].concat();
            assert_eq!(&joined[..pack.payload_len()], &pack.payload[..pack.payload_len()]);
            assert!(joined[pack.payload_len()..].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn padding_covers_every_scheme_of_every_group() {
    let mut payload = 1usize;
    while payload <= 64 << 20 {
        for k in 1..=28u8 {
            let used = Scheme::new(k, 4).unwrap().for_payload(payload, 32).unwrap();
            let needed = used.k() * used.shard_len(payload);
            assert!(needed <= padded_len(payload), "{used} of {payload}");
        }
        payload = payload * 5 / 4 + 777;
    }
}

#[test]
fn a_payload_without_padding_is_coded_too() {
    let data = noise(5, 100_000);
    let coder = Coder::new(scheme("rs-4-2")).unwrap().with_pool(&BufferPool::new(1 << 25));
    let encoded = coder.encode_payload(&Bytes::from(data.clone()), data.len()).unwrap();
    assert_eq!(&encoded.shards[..4].concat()[..data.len()], &data);
    let have = [
        (0, encoded.shards[0].clone()),
        (2, encoded.shards[2].clone()),
        (4, encoded.shards[4].clone()),
        (5, encoded.shards[5].clone()),
    ];
    assert_eq!(coder.reconstruct_range(3, &have).unwrap(), encoded.shards[3]);
}

#[test]
fn parity_is_what_the_library_says() {
    let pack = pack(5_000_000);
    for text in ["rs-2-1", "rs-4-2", "rs-6-3", "rs-8-4"] {
        let used = scheme(text);
        let coder = Coder::new(used).unwrap().with_pool(&BufferPool::new(1 << 25));
        let encoded = coder.encode(&pack).unwrap();
        let mut whole: Vec<Vec<u8>> = encoded.shards.iter().map(|s| s.to_vec()).collect();
        whole[used.k()..].iter_mut().for_each(|p| p.fill(0));
        ReedSolomon::new(used.k(), used.m()).unwrap().encode(&mut whole).unwrap();
        assert_eq!(whole, encoded.shards, "{text}");
        assert_eq!(coder.parity(&encoded.shards[..used.k()]).unwrap(), encoded.shards[used.k()..]);
    }
}

#[test]
fn golden_parity() {
    let coder = Coder::new(scheme("rs-4-2")).unwrap().with_pool(&BufferPool::new(1 << 25));
    let data: Vec<Bytes> = (0..4u8).map(|i| Bytes::from(vec![i * 3 + 1, 200 - i])).collect();
    let parity = coder.parity(&data).unwrap();
    assert_eq!((hex::encode(&parity[0]), hex::encode(&parity[1])), ("9d64".into(), "a843".into()));
}

/// All subsets of `n` shard numbers of size `k`.
fn subsets(n: u8, k: usize) -> Vec<Vec<u8>> {
    (0u32..1 << n)
        .filter(|mask| mask.count_ones() as usize == k)
        .map(|mask| (0..n).filter(|bit| mask >> bit & 1 == 1).collect())
        .collect()
}

#[test]
fn any_k_shards_give_any_other_one() {
    let payload = Bytes::from(noise(9, 300_000));
    for text in ["rs-1-2", "rs-2-2", "rs-4-2", "rs-6-3", "rs-8-4"] {
        let used = scheme(text);
        let coder = Coder::new(used).unwrap().with_pool(&BufferPool::new(1 << 25));
        let encoded = coder.encode_payload(&payload, payload.len()).unwrap();
        let range = 5000..5000 + 77;
        for chosen in subsets(used.shards() as u8, used.k()) {
            let have: Vec<(u8, Bytes)> =
                chosen.iter().map(|shard| (*shard, encoded.shards[usize::from(*shard)].slice(range.clone()))).collect();
            for wanted in 0..used.shards() as u8 {
                let got = coder.reconstruct_range(wanted, &have).unwrap();
                assert_eq!(got, encoded.shards[usize::from(wanted)].slice(range.clone()), "{text} {chosen:?}");
            }
        }
    }
}

#[test]
fn bad_inputs_are_refused() {
    let coder = Coder::new(scheme("rs-4-2")).unwrap().with_pool(&BufferPool::new(1 << 25));
    let piece = |shard: u8, len: usize| (shard, Bytes::from(vec![shard; len]));
    let few = [piece(1, 9), piece(1, 9), piece(2, 9), piece(3, 9)];
    assert!(matches!(coder.reconstruct_range(0, &few), Err(CoderError::TooFew { have: 3, .. })));
    let uneven = [piece(1, 9), piece(2, 9), piece(3, 8), piece(4, 9)];
    assert_eq!(coder.reconstruct_range(0, &uneven), Err(CoderError::Lengths(9, 8)));
    let alien = [piece(1, 9), piece(2, 9), piece(3, 9), piece(6, 9)];
    assert!(matches!(coder.reconstruct_range(0, &alien), Err(CoderError::NoSuchShard { shard: 6, .. })));
    assert!(matches!(coder.reconstruct_range(9, &few), Err(CoderError::NoSuchShard { shard: 9, .. })));
    let empty = [piece(1, 0), piece(2, 0), piece(3, 0), piece(4, 0)];
    assert!(coder.reconstruct_range(0, &empty).unwrap().is_empty());
    assert!(coder.parity(&[Bytes::new()]).is_err());
    let lonely = Coder::new(scheme("rs-1-0")).unwrap().with_pool(&BufferPool::new(1 << 25));
    assert!(lonely.reconstruct_range(0, &[]).is_err());
}

#[test]
fn slots_rotate_with_the_pack_id() {
    let healthy = [0, 1, 2, 3, 5, 7];
    let of = |seed: u8| slots_for(&PackId::from_bytes([seed; 32]), scheme("rs-1-2"), &healthy).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let slots = of(seed);
        assert_eq!(slots.len(), 3);
        let distinct: std::collections::BTreeSet<u8> = slots.iter().copied().collect();
        assert_eq!(distinct.len(), 3);
        seen.insert(slots[0]);
    }
    assert_eq!(seen.len(), healthy.len(), "every slot comes first for some pack");
    assert_eq!(slots_for(&PackId::from_bytes([0; 32]), scheme("rs-4-2"), &healthy[..5]), None);
}

/// Simd code really is linked: the library's C functions stand in this program. Where it would be
/// built without them, its pure Rust loops have no such symbols.
#[test]
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "reads its own executable, not a stored file")]
fn simd_code_is_linked() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    // The names are put together here, so that this test does not find itself.
    for parts in [&["reedsolomon", "gal", "mul"][..], &["reedsolomon", "gal", "mul", "xor"]] {
        let name = format!("\0{}\0", parts.join("_"));
        let found = program.windows(name.len()).filter(|window| *window == name.as_bytes()).count();
        assert_eq!(found, 1, "{name:?}: none is a scalar build, several are a clash of two coders");
    }
    crate::cpu::check().unwrap();
}

proptest! {
    #[test]
    fn planned_ranges_are_the_payload(len in 1u32..3_000_000, a: prop::sample::Index, b: prop::sample::Index, which in 0usize..9) {
        let used = scheme(SCHEMES[which]);
        let shard_len = used.shard_len(len as usize);
        let (a, b) = (a.index(len as usize) as u32, b.index(len as usize) as u32);
        let (start, end) = (a.min(b), a.max(b));
        let mut at = u64::from(start);
        for range in plan_read(used, shard_len, start, end - start) {
            prop_assert_eq!(u64::from(range.shard) * shard_len as u64 + u64::from(range.offset), at);
            prop_assert!(range.len > 0 && u64::from(range.offset) + u64::from(range.len) <= shard_len as u64);
            at += u64::from(range.len);
        }
        prop_assert_eq!(at, u64::from(end));
    }
}
