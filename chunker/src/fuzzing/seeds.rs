//! Writes the seeds of the corpora: `cargo test -p stele-chunker write_seeds -- --ignored`. Needed
//! only when a format changes; the files are kept in git.

use std::path::Path;

use stele_types::ids::ChunkId;

use crate::slice::prove_slice;
use crate::testing::noise;
use crate::tree::{Leaf, prove_range};

fn proof(chunks: u64, start: u64, end: u64) -> Vec<u8> {
    let id = |seed: u64| ChunkId::from_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes());
    let leaves: Vec<Leaf> = (0..chunks).map(|at| Leaf { id: id(at), len: at + 1 }).collect();
    let proof = prove_range(&leaves, start..end).unwrap();
    let mut out = [proof.total_len, proof.chunks, proof.first].map(u64::to_le_bytes).concat();
    out.push(proof.leaves.len() as u8);
    for leaf in &proof.leaves {
        out.extend_from_slice(leaf.id.as_bytes());
        out.extend_from_slice(&leaf.len.to_le_bytes());
    }
    out.push(proof.siblings.len() as u8);
    for (top, bytes) in &proof.siblings {
        out.extend_from_slice(top.as_bytes());
        out.extend_from_slice(&bytes.to_le_bytes());
    }
    out.extend_from_slice(&[start, end].map(u64::to_le_bytes).concat());
    out
}

fn slice(len: usize, start: u32, end: u32) -> Vec<u8> {
    let chunk = noise(1, len);
    let mut out = blake3::hash(&chunk).as_bytes().to_vec();
    out.extend_from_slice(&[len as u32, start, end].map(u32::to_le_bytes).concat());
    out.extend_from_slice(&prove_slice(&chunk, start..end).unwrap());
    out
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
    write("range_proof", &[proof(1, 0, 1), proof(13, 20, 40), proof(100, 3000, 3001)]);
    write("slice", &[slice(10, 2, 5), slice(40_000, 17_000, 17_100)]);
    let coder = |head: [u8; 5]| [&head[..], &noise(2, 100)].concat();
    write("coder", &[coder([4, 2, 0, 0x3e, 0]), coder([1, 2, 2, 1, 0]), coder([8, 4, 11, 0xff, 0])]);
}
