use proptest::prelude::*;

use super::*;

fn leaf(seed: u64, len: u64) -> Leaf {
    Leaf { id: ChunkId::from_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes()), len }
}

fn leaves(lens: &[u64]) -> Vec<Leaf> {
    lens.iter().enumerate().map(|(at, len)| leaf(at as u64, *len)).collect()
}

/// The definition of docs/formats/object-tree.md, word by word.
fn reference_top(leaves: &[Leaf]) -> (Vec<u8>, u64) {
    let b3 = |parts: &[&[u8]]| blake3::hash(&parts.concat()).as_bytes().to_vec();
    match leaves {
        [] => (b3(&[&[3]]), 0),
        [one] => (b3(&[&[0], &one.len.to_le_bytes(), one.id.as_bytes()]), one.len),
        many => {
            let mut k = 1;
            while k * 2 < many.len() {
                k *= 2;
            }
            let (left, left_len) = reference_top(&many[..k]);
            let (right, right_len) = reference_top(&many[k..]);
            let node = b3(&[&[1], &left_len.to_le_bytes(), &left, &right_len.to_le_bytes(), &right]);
            (node, left_len + right_len)
        }
    }
}

fn reference_root(leaves: &[Leaf]) -> Vec<u8> {
    let (top, total) = reference_top(leaves);
    let count = leaves.len() as u64;
    blake3::hash(&[&[2, 1][..], &total.to_le_bytes(), &count.to_le_bytes(), &top].concat()).as_bytes().to_vec()
}

#[test]
fn golden_roots() {
    let hello = Leaf { id: ChunkId::from_bytes(*blake3::hash(b"hello").as_bytes()), len: 5 };
    let found = [
        empty_object_root().to_string(),
        top_of(&[hello]).object_root().to_string(),
        top_of(&leaves(&[1, 2, 3, 4, 5])).object_root().to_string(),
    ];
    let golden = [
        "95d7db69e97ab5e6347b1b65f9e087ad10be1bfdb51c614d378c2d318d02794a",
        "d72a867d1ee78c133dcd395b632e0ec6cdc17c1f005a5f54a7c055ef127319f2",
        "3e8239099e6d903e34486fa6668f93e78f797f341d9b69db0725a3ef782a4238",
    ];
    assert_eq!(found, golden);
}

#[test]
fn builder_equals_the_reference_for_all_small_trees() {
    for count in 0..70u64 {
        let all = leaves(&(0..count).map(|i| i * 7 + 1).collect::<Vec<_>>());
        let top = top_of(&all);
        assert_eq!(top.object_root().as_bytes().as_slice(), reference_root(&all));
        assert_eq!((top.bytes, top.chunks), (all.iter().map(|l| l.len).sum(), count));
    }
}

#[test]
fn trees_that_differ_in_anything_have_other_roots() {
    let base = leaves(&[10, 20, 30]);
    let root = top_of(&base).object_root();
    let mut swapped = base.clone();
    swapped.swap(0, 1);
    assert_ne!(top_of(&swapped).object_root(), root);
    assert_ne!(top_of(&base[..2]).object_root(), root);
    let mut moved = base.clone();
    (moved[0].len, moved[1].len) = (11, 19);
    assert_ne!(top_of(&moved).object_root(), root);
    // A leaf that is a node's hash is not that node.
    let node = base[0].subtree().join(&base[1].subtree());
    let forged = Leaf { id: ChunkId::from_bytes(*node.top.as_bytes()), len: node.bytes };
    assert_ne!(top_of(&[forged, base[2]]).top, top_of(&base).top);
}

#[test]
fn full_pages_compose_to_the_same_top() {
    for count in [1024usize, 1025, 2048, 3000, 5 * 1024 + 1] {
        let all = leaves(&(0..count as u64).map(|i| i % 9 + 1).collect::<Vec<_>>());
        let mut pages = TreeBuilder::default();
        all.chunks(1024).for_each(|page| pages.push_subtree(top_of(page)));
        assert_eq!(pages.top(), top_of(&all), "{count}");
    }
}

#[test]
fn ranges_outside_the_object_are_refused() {
    let all = leaves(&[10, 20]);
    for (start, end) in [(0, 0), (5, 5), (0, 31), (30, 31), (7, 3)] {
        assert!(matches!(prove_range(&all, start..end), Err(ProofError::Range { .. })));
    }
    assert!(prove_range(&[], 0..1).is_err());
}

#[test]
fn a_proof_of_one_of_many_chunks_is_short() {
    let all = leaves(&vec![1000; 100_000]);
    let proof = prove_range(&all, 55_555_000..55_555_010).unwrap();
    assert_eq!(proof.leaves.len(), 1);
    assert!(proof.siblings.len() <= 17, "{}", proof.siblings.len());
}

/// All single changes of a proof that keep it well-formed.
fn tampered(proof: &RangeProof) -> Vec<RangeProof> {
    let mut out = Vec::new();
    let mut push = |change: &dyn Fn(&mut RangeProof)| {
        let mut copy = proof.clone();
        change(&mut copy);
        if copy != *proof {
            out.push(copy);
        }
    };
    push(&|p| p.total_len += 1);
    push(&|p| p.chunks += 1);
    push(&|p| p.chunks -= 1);
    push(&|p| p.first += 1);
    push(&|p| p.first = p.first.saturating_sub(1));
    push(&|p| p.leaves[0].len += 1);
    push(&|p| p.leaves[0].id = ChunkId::from_bytes([7; 32]));
    push(&|p| p.leaves.truncate(p.leaves.len() - 1));
    push(&|p| p.leaves.push(p.leaves[0]));
    push(&|p| p.siblings.truncate(p.siblings.len().saturating_sub(1)));
    push(&|p| p.siblings.push((TreeHash::from_bytes([0; 32]), 0)));
    push(&|p| p.siblings.reverse());
    for at in 0..proof.siblings.len() {
        push(&|p| p.siblings[at].1 += 1);
        push(&|p| p.siblings[at].0 = TreeHash::from_bytes([1; 32]));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn streaming_builder_equals_the_reference(lens in prop::collection::vec(1u64..5_000_000, 0..300)) {
        let all = leaves(&lens);
        prop_assert_eq!(top_of(&all).object_root().as_bytes().to_vec(), reference_root(&all));
    }

    #[test]
    fn every_range_is_proven_and_no_changed_proof_holds(
        lens in prop::collection::vec(1u64..50, 1..120), a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let all = leaves(&lens);
        let total: u64 = lens.iter().sum();
        let (a, b) = (a.index(total as usize) as u64, b.index(total as usize) as u64);
        let range = a.min(b)..a.max(b) + 1;
        let root = top_of(&all).object_root();
        let proof = prove_range(&all, range.clone()).unwrap();
        let verified = verify_range(&root, &proof, range.clone()).unwrap();
        let mut offset = 0;
        let mut expected = Vec::new();
        for (index, leaf) in all.iter().enumerate() {
            if offset < range.end && range.start < offset + leaf.len {
                expected.push(VerifiedLeaf { index: index as u64, offset, leaf: *leaf });
            }
            offset += leaf.len;
        }
        prop_assert_eq!(verified, expected);
        for forged in tampered(&proof) {
            prop_assert!(verify_range(&root, &forged, range.clone()).is_err(), "{:?}", forged);
        }
        if range.end < total {
            prop_assert!(verify_range(&root, &proof, range.start..total).is_err() || proof.leaves.len() == expected_to_end(&all, range.start));
        }
    }
}

/// Leaves from the one that holds `start` to the last.
fn expected_to_end(all: &[Leaf], start: u64) -> usize {
    let mut offset = 0;
    all.iter()
        .filter(|leaf| {
            offset += leaf.len;
            offset > start
        })
        .count()
}
