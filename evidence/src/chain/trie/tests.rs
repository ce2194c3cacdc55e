//! Held against the tries of alloy-trie: what it proves is accepted, and what it refuses is refused.

use alloy_primitives::B256;
use alloy_trie::proof::{ProofRetainer, verify_proof};
use alloy_trie::{HashBuilder, Nibbles};
use proptest::prelude::*;

use super::*;
use crate::chain::rlp::encode_number;

/// Root of a trie with these values, and the nodes on the way to one of the keys.
pub(crate) fn built(pairs: &[(Vec<u8>, Vec<u8>)], target: &[u8]) -> (Hash, Vec<Vec<u8>>) {
    let mut sorted: Vec<_> = pairs.iter().map(|(key, value)| (Nibbles::unpack(key), value)).collect();
    sorted.sort();
    let retainer = ProofRetainer::new(vec![Nibbles::unpack(target)]);
    let mut builder = HashBuilder::default().with_proof_retainer(retainer);
    for (key, value) in sorted {
        builder.add_leaf(key, value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    // alloy-trie lists a node that stands inside its parent once more; the parent has it already.
    let apart = nodes.into_iter().filter(|(path, node)| path.is_empty() || node.len() >= 32);
    (root.0, apart.map(|(_, node)| node.to_vec()).collect())
}

/// A trie of receipts, in the order of their transactions.
fn receipts(values: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    values.iter().enumerate().map(|(at, value)| (encode_number(at as u64), value.clone())).collect()
}

fn oracle(root: &Hash, key: &[u8], value: &[u8], nodes: &[Vec<u8>]) -> bool {
    let nodes: Vec<_> = nodes.iter().map(|node| alloy_primitives::Bytes::from(node.clone())).collect();
    verify_proof(B256::from(*root), Nibbles::unpack(key), Some(value.to_vec()), &nodes).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn values_of_other_peoples_tries_are_found(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 32..80), 1..300),
        pick in any::<prop::sample::Index>(),
    ) {
        let (pairs, at) = (receipts(&values), pick.index(values.len()));
        let key = encode_number(at as u64);
        let (root, nodes) = built(&pairs, &key);
        prop_assert_eq!(value_at(&root, &key, &nodes), Ok(values[at].as_slice()));
        prop_assert!(oracle(&root, &key, &values[at], &nodes));
        // The same nodes say nothing of another key.
        let other = encode_number(values.len() as u64 + at as u64);
        prop_assert!(value_at(&root, &other, &nodes).is_err());
        let mut spare = nodes.clone();
        spare.push(nodes[0].clone());
        prop_assert!(value_at(&root, &key, &spare).is_err());
        spare.truncate(nodes.len() - 1);
        prop_assert_eq!(value_at(&root, &key, &spare), Err(TrieError::Count));
    }

    #[test]
    fn short_values_stand_inside_their_parents(
        pairs in prop::collection::btree_map(prop::array::uniform4(0u8..4), prop::collection::vec(1u8..9, 1..4), 1..40),
        pick in any::<prop::sample::Index>(),
    ) {
        let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
        let (key, value) = &pairs[pick.index(pairs.len())];
        let (root, nodes) = built(&pairs, key);
        prop_assert_eq!(value_at(&root, key, &nodes), Ok(value.as_slice()));
    }
}

#[test]
fn every_flipped_bit_of_a_proof_is_refused() {
    let values: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n | 1; 40]).collect();
    let key = encode_number(131);
    let (root, nodes) = built(&receipts(&values), &key);
    assert_eq!(value_at(&root, &key, &nodes), Ok(values[131].as_slice()));
    assert!(nodes.len() >= 3);
    for node in 0..nodes.len() {
        for bit in 0..nodes[node].len() * 8 {
            let mut flipped = nodes.clone();
            flipped[node][bit / 8] ^= 1 << (bit % 8);
            assert_eq!(value_at(&root, &key, &flipped), Err(TrieError::Hash(node)));
            assert!(bit % 31 != 0 || !oracle(&root, &key, &values[131], &flipped), "node {node}, bit {bit}");
        }
    }
    for bit in 0..256 {
        let mut other = root;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(value_at(&other, &key, &nodes), Err(TrieError::Hash(0)));
    }
}

#[test]
fn nodes_that_no_trie_has_are_refused() {
    use crate::chain::rlp::tests::{list, string};
    let hashes = |node: Vec<u8>, key: &[u8]| value_at(&keccak256(&node), key, &[node]).map(<[u8]>::to_vec);
    let leaf = |path: &[u8], value: &[u8]| list(&[string(path), string(value)]);
    assert_eq!(hashes(leaf(&[0x20, 0x80], b"v"), &[0x80]), Ok(b"v".to_vec()));
    assert_eq!(hashes(leaf(&[0x20, 0x81], b"v"), &[0x80]), Err(TrieError::OtherKey));
    assert_eq!(hashes(leaf(&[0x20], b"v"), &[0x80]), Err(TrieError::OtherKey), "a path that is too short");
    assert_eq!(hashes(leaf(&[0x20, 0x80, 0x80], b"v"), &[0x80]), Err(TrieError::OtherKey), "too long");
    for flags in [0x21, 0x40, 0x0f, 0xf0] {
        assert_eq!(hashes(leaf(&[flags, 0x80], b"v"), &[0x80]), Err(TrieError::Node(0)), "{flags:#x}");
    }
    assert_eq!(hashes(leaf(&[0x20, 0x80], b""), &[0x80]), Err(TrieError::Node(0)));
    assert_eq!(hashes(list(&[string(&[0]), leaf(&[0x20, 0x80], b"v")]), &[0x80]), Err(TrieError::Node(0)));
    assert_eq!(hashes(list(&vec![string(b""); 16]), &[0x80]), Err(TrieError::Node(0)));
    assert_eq!(hashes(list(&vec![string(b""); 17]), &[0x80]), Err(TrieError::OtherKey));
    assert_eq!(hashes(list(&vec![string(b"x"); 17]), &[0x80]), Err(TrieError::Node(0)), "a hash of one byte");
    assert_eq!(value_at(&[0; 32], &[], &[]), Err(TrieError::Count));
    assert_eq!(value_at(&[0; 32], &[], &vec![Vec::new(); NODES_MAX + 1]), Err(TrieError::Count));
}
