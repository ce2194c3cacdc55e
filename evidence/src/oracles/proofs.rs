//! Proofs and tiles of ours, changed in twenty and more ways: others accept the original and refuse each change.

use std::collections::BTreeSet;

use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;
use alloy_trie::proof::verify_proof;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;
use tlog_tiles::{Error, HashReader as _, Tile, TileHashReader, TileReader, stored_hash_index};

use super::theirs;
use crate::chain::evm::EvmProof;
use crate::chain::rlp::encode_number;
use crate::chain::trie::{keccak256, tests::built, value_at};
use crate::proof::{Head, consistency, inclusion, verify_consistency, verify_inclusion};
use crate::tiles::TileSource as _;
use crate::tiles::tests::{Tiles, filled};
use crate::tree::{Hash, leaf_hash, reference};

const SIZE: u64 = 70;
/// What the leaves are hashes of, at this index.
fn entry(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// All that an inclusion proof consists of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Included {
    entry: Vec<u8>,
    index: u64,
    size: u64,
    root: Hash,
    path: Vec<Hash>,
}

impl Included {
    fn we_accept(&self) -> bool {
        verify_inclusion(leaf_hash(&self.entry), self.index, self.size, &self.root, &self.path).is_ok()
    }

    fn tlog_tiles_accepts(&self) -> bool {
        let (path, leaf) = (self.path.iter().map(theirs).collect(), leaf_hash(&self.entry));
        tlog_tiles::check_record(&path, self.size, theirs(&self.root), self.index, theirs(&leaf)).is_ok()
    }

    fn ct_merkle_accepts(&self) -> bool {
        let Ok(proof) = InclusionProof::<Sha256>::try_from_bytes(self.path.concat()) else { return false };
        let root = RootHash::<Sha256>::new(self.root.into(), self.size);
        root.verify_inclusion(&self.entry, self.index, &proof).is_ok()
    }
}

/// Lists of hashes that are almost the given one.
fn other_paths(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut others: Vec<Vec<Hash>> = Vec::new();
    for at in 0..path.len() {
        let mut flipped = path.to_vec();
        flipped[at][at % 32] ^= 1;
        let mut shorter = path.to_vec();
        shorter.remove(at);
        let mut longer = path.to_vec();
        longer.insert(at, [7; 32]);
        others.extend([flipped, shorter, longer]);
    }
    others.extend((1..path.len()).map(|at| {
        let mut swapped = path.to_vec();
        swapped.swap(at - 1, at);
        swapped
    }));
    others.push([path, &[[0; 32]]].concat());
    others.push(Vec::new());
    others
}

#[test]
fn changed_inclusion_proofs_are_refused_by_others() {
    let (tiles, leaves) = filled(SIZE);
    let root = reference::root(&leaves);
    let good = Included { entry: entry(33), index: 33, size: SIZE, root, path: inclusion(&tiles, 33, SIZE).unwrap() };
    assert!(good.we_accept() && good.tlog_tiles_accepts() && good.ct_merkle_accepts());
    let mut changed: BTreeSet<Included> =
        other_paths(&good.path).into_iter().map(|path| Included { path, ..good.clone() }).collect();
    changed.extend([0, 32, 34, 65, 69, 70, u64::MAX].map(|index| Included { index, ..good.clone() }));
    changed.extend([1, 33, 64].map(|size| Included { size, ..good.clone() }));
    changed.insert(Included { root: reference::root(&leaves[..69]), ..good.clone() });
    changed.insert(Included { root: [0; 32], ..good.clone() });
    changed.insert(Included { entry: entry(34), ..good.clone() });
    assert!(changed.len() >= 20 && !changed.contains(&good));
    for proof in changed {
        assert!(!proof.we_accept(), "{proof:?}");
        assert!(!proof.tlog_tiles_accepts(), "{proof:?}");
        assert!(!proof.ct_merkle_accepts(), "{proof:?}");
    }
}

#[test]
fn changed_consistency_proofs_are_refused_by_others() {
    type Case = (u64, Hash, u64, Hash, Vec<Hash>);
    let (tiles, leaves) = filled(SIZE);
    let root = |size: usize| reference::root(&leaves[..size]);
    let we = |(old, old_root, new, new_root, proof): &Case| {
        verify_consistency(Head { size: *old, root: *old_root }, Head { size: *new, root: *new_root }, proof).is_ok()
    };
    let tlog = |(old, old_root, new, new_root, proof): &Case| {
        let proof = proof.iter().map(theirs).collect();
        tlog_tiles::check_tree(&proof, *new, theirs(new_root), *old, theirs(old_root)).is_ok()
    };
    let ct_merkle = |(old, old_root, new, new_root, proof): &Case| {
        let Ok(proof) = ConsistencyProof::<Sha256>::try_from_bytes(proof.concat()) else { return false };
        let (old, new) = (RootHash::<Sha256>::new((*old_root).into(), *old), RootHash::new((*new_root).into(), *new));
        new.verify_consistency(&old, &proof).is_ok()
    };
    let good = (37, root(37), SIZE, root(70), consistency(&tiles, 37, SIZE).unwrap());
    assert!(we(&good) && tlog(&good) && ct_merkle(&good));
    let mut changed: BTreeSet<Case> =
        other_paths(&good.4).into_iter().map(|proof| (good.0, good.1, good.2, good.3, proof)).collect();
    changed.extend([1, 36, 38, 64, 69].map(|old| (old, good.1, good.2, good.3, good.4.clone())));
    changed.extend([38, 64].map(|new| (good.0, good.1, new, good.3, good.4.clone())));
    changed.insert((good.0, root(36), good.2, good.3, good.4.clone()));
    changed.insert((good.0, good.1, good.2, root(69), good.4.clone()));
    assert!(changed.len() >= 20 && !changed.contains(&good));
    for proof in changed {
        assert!(!we(&proof), "{proof:?}");
        assert!(!tlog(&proof), "{proof:?}");
        assert!(!ct_merkle(&proof), "{proof:?}");
    }
}

/// Serves our tiles to the other implementation.
impl TileReader for Tiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let bytes = |tile: &Tile| self.tile(tile.level(), tile.level_index()).unwrap().concat();
        Ok(tiles.iter().map(bytes).collect())
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

#[test]
fn changed_tiles_are_refused_by_others() {
    const ASKED: [u64; 4] = [0, 100, 300, 570];
    // Where several subtrees of the right edge share a tile, as at size 600, tlog_tiles 0.2.0 takes as many full tiles
    // unchecked; here none do.
    let size = 576;
    let (tiles, leaves) = filled(size);
    let root = reference::root(&leaves);
    let they = |tiles: &Tiles, size, root: &Hash| {
        let places = ASKED.map(|index| stored_hash_index(0, index));
        TileHashReader::new(size, theirs(root), tiles).read_hashes(&places).is_ok()
    };
    let we = |tiles: &Tiles, size, root: &Hash| {
        ASKED.iter().all(|index| {
            let leaf = tiles.tile(0, index / 256).unwrap().get((index % 256) as usize).copied();
            let path = inclusion(tiles, *index, size);
            leaf.zip(path.ok()).is_some_and(|(leaf, path)| verify_inclusion(leaf, *index, size, root, &path).is_ok())
        })
    };
    assert!(they(&tiles, size, &root) && we(&tiles, size, &root));
    let mut changed = Vec::new();
    let widths: Vec<((u8, u64), usize)> = tiles.0.iter().map(|(place, hashes)| (*place, hashes.len())).collect();
    assert_eq!(widths, [((0, 0), 256), ((0, 1), 256), ((0, 2), 64), ((1, 0), 2)]);
    for (place, width) in widths {
        let with = |change: &dyn Fn(&mut Vec<Hash>)| {
            let mut changed = Tiles(tiles.0.clone());
            change(changed.0.get_mut(&place).unwrap());
            changed
        };
        changed.extend([0, width / 2, width - 1].map(|at| with(&|hashes| hashes[at][at % 32] ^= 0x10)));
        changed.push(with(&|hashes| hashes.swap(0, width - 1)));
        changed.push(with(&|hashes| {
            hashes.pop();
        }));
        changed.push(with(&|hashes| hashes.rotate_left(1)));
        changed.push(with(&Vec::clear));
    }
    let distinct: BTreeSet<_> = changed.iter().map(|changed| &changed.0).collect();
    assert!(distinct.len() >= 20 && !distinct.contains(&tiles.0));
    for (at, changed) in changed.iter().enumerate() {
        assert!(!they(changed, size, &root), "change {at}");
        assert!(!we(changed, size, &root), "change {at}");
    }
    for (size, root) in [(575, root), (size, [0; 32])] {
        assert!(!they(&tiles, size, &root) && !we(&tiles, size, &root));
    }
}

/// Root, key, value and nodes of a proof that a receipt stands in a block.
type Receipt = (Hash, Vec<u8>, Vec<u8>, Vec<Vec<u8>>);

fn alloy_accepts((root, key, value, nodes): &Receipt) -> bool {
    let nodes: Vec<Bytes> = nodes.iter().map(|node| Bytes::from(node.clone())).collect();
    verify_proof(B256::from(*root), Nibbles::unpack(key), Some(value.clone()), &nodes).is_ok()
}

fn we_accept((root, key, value, nodes): &Receipt) -> bool {
    value_at(root, key, nodes) == Ok(value)
}

#[test]
fn changed_receipt_proofs_are_refused_by_others() {
    let recorded = EvmProof::decode(include_bytes!("../../golden/evm-anvil.proof")).unwrap();
    assert!(recorded.verify(&recorded.pin).is_ok());
    let (root, key) = (keccak256(&recorded.receipt[0]), encode_number(recorded.transaction.into()));
    let value = value_at(&root, &key, &recorded.receipt).unwrap().to_vec();
    let recorded = (root, key, value, recorded.receipt);
    // A busy block, so that there is a way to go wrong on.
    let pairs: Vec<_> = (0..200u64).map(|n| (encode_number(n), vec![n as u8 | 1; 90])).collect();
    let (key, value) = pairs[131].clone();
    let (root, nodes) = built(&pairs, &key);
    assert!(nodes.len() >= 3);
    for good in [recorded, (root, key, value, nodes)] {
        assert!(alloy_accepts(&good) && we_accept(&good));
        let mut changed = BTreeSet::new();
        for (at, node) in good.3.iter().enumerate() {
            for byte in (0..node.len()).step_by(node.len() / 12) {
                let mut other = good.clone();
                other.3[at][byte] ^= 1 << (byte % 8);
                changed.insert(other);
            }
            let mut missing = good.clone();
            missing.3.remove(at);
            changed.insert(missing);
        }
        for byte in (0..good.2.len()).step_by(good.2.len() / 6) {
            let mut other = good.clone();
            other.2[byte] ^= 1;
            changed.insert(other);
        }
        changed.insert((keccak256(b"another"), good.1.clone(), good.2.clone(), good.3.clone()));
        changed.insert((good.0, encode_number(9), good.2.clone(), good.3.clone()));
        changed.insert((good.0, good.1.clone(), Vec::new(), good.3.clone()));
        assert!(changed.len() >= 20 && !changed.contains(&good), "{}", changed.len());
        for proof in changed {
            assert!(!we_accept(&proof), "{proof:x?}");
            assert!(!alloy_accepts(&proof), "{proof:x?}");
        }
    }
}
