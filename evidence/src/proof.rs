//! Inclusion and consistency proofs: generated from tiles, verified as RFC 9162 sections 2.1.3.2 and
//! 2.1.4.2 say. The verifier treats every input as hostile: too long and too short both fail.

use crate::tiles::{TileError, TileSource, range_root};
use crate::tree::{Hash, empty_root, node_hash};

/// Why a proof does not prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// Index or size make no sense together.
    #[error("the index does not lie within the tree, or the old size exceeds the new one")]
    OutOfRange,
    /// The proof has too few or too many hashes.
    #[error("the proof has too few or too many hashes for these sizes")]
    WrongLength,
    /// The computed root differs.
    #[error("the computed root differs from the given one")]
    Mismatch,
}

/// Largest power of two smaller than n (n > 1).
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Siblings from the leaf at `index` up to the root's child, in a tree of `size` leaves.
///
/// # Errors
/// `index` is not below `size`, or the tiles don't hold the tree.
pub fn inclusion<S: TileSource>(source: &S, index: u64, size: u64) -> Result<Vec<Hash>, TileError<S::Error>> {
    if index >= size {
        return Err(TileError::OutOfRange);
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(source, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(source, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proof that the tree of `new` leaves extends the tree of `old` leaves.
///
/// # Errors
/// `old` exceeds `new`, or the tiles don't hold the tree.
pub fn consistency<S: TileSource>(source: &S, old: u64, new: u64) -> Result<Vec<Hash>, TileError<S::Error>> {
    if old > new {
        return Err(TileError::OutOfRange);
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new);
    let mut proof = Vec::new();
    // `old` lies in (start, end]; descend to the node that ends at `old`.
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_root(source, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(source, start, middle)?);
            start = middle;
        }
    }
    // The old root itself is left out where it is a node of the new tree.
    if start != 0 {
        proof.push(range_root(source, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` stands at `index` in the tree (`size`, `root`).
///
/// # Errors
/// Why it is not proven.
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, root: &Hash, path: &[Hash]) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Mismatch),
        _ => Err(ProofError::WrongLength),
    }
}

/// A tree head without signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: Hash,
}

/// Checks that the tree `new` extends the tree `old`.
///
/// # Errors
/// Why it is not proven.
pub fn verify_consistency(old: Head, new: Head, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::OutOfRange);
    }
    if old.size == new.size || old.size == 0 {
        // Every tree extends the empty one, but a root of no leaves is not up to the log.
        let rooted = |head: Head| head.size != 0 || head.root == empty_root();
        let same = rooted(old) && rooted(new) && (old.size == 0 || old.root == new.root);
        return match (proof.is_empty(), same) {
            (false, _) => Err(ProofError::WrongLength),
            (true, false) => Err(ProofError::Mismatch),
            (true, true) => Ok(()),
        };
    }
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut rest = proof.iter();
    let first = if old.size.is_power_of_two() { old.root } else { *rest.next().ok_or(ProofError::WrongLength)? };
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, old_hash == old.root && new_hash == new.root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Mismatch),
        _ => Err(ProofError::WrongLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::tests::filled;
    use crate::tree::reference;

    fn at(n: u64) -> usize {
        usize::try_from(n).unwrap()
    }

    #[test]
    fn inclusion_proofs_match_the_reference_and_verify() {
        let (tiles, leaves) = filled(600);
        for size in [1u64, 2, 3, 7, 8, 255, 256, 257, 300, 511, 512, 513, 600] {
            let tree = &leaves[..at(size)];
            let root = reference::root(tree);
            for index in (0..size).step_by(if size > 64 { 13 } else { 1 }) {
                let path = inclusion(&tiles, index, size).unwrap();
                assert_eq!(path, reference::path(at(index), tree), "{index} of {size}");
                assert_eq!(verify_inclusion(leaves[at(index)], index, size, &root, &path), Ok(()));
                hostile_inclusion(leaves[at(index)], index, Head { size, root }, &path);
            }
        }
        assert_eq!(inclusion(&tiles, 5, 5), Err(TileError::OutOfRange));
        assert_eq!(verify_inclusion(leaves[0], 0, 0, &empty_root(), &[]), Err(ProofError::OutOfRange));
    }

    fn hostile_inclusion(leaf: Hash, index: u64, head: Head, path: &[Hash]) {
        let mut longer = path.to_vec();
        longer.push([7; 32]);
        assert!(verify_inclusion(leaf, index, head.size, &head.root, &longer).is_err());
        assert!(verify_inclusion([7; 32], index, head.size, &head.root, path).is_err());
        if head.size > 1 {
            assert!(verify_inclusion(leaf, index ^ 1, head.size, &head.root, path).is_err());
            assert!(verify_inclusion(leaf, index, head.size, &head.root, &path[1..]).is_err());
        }
        for at in 0..path.len() {
            let mut flipped = path.to_vec();
            flipped[at][0] ^= 1;
            assert!(verify_inclusion(leaf, index, head.size, &head.root, &flipped).is_err());
        }
    }

    fn hostile_consistency(old: Head, new: Head, proof: &[Hash]) {
        let forged = Head { size: old.size, root: [9; 32] };
        assert!(verify_consistency(forged, new, proof).is_err());
        let mut longer = proof.to_vec();
        longer.push([7; 32]);
        assert!(verify_consistency(old, new, &longer).is_err());
        for hash in 0..proof.len() {
            let mut flipped = proof.to_vec();
            flipped[hash][31] ^= 0x80;
            assert!(verify_consistency(old, new, &flipped).is_err());
        }
    }

    #[test]
    fn every_pair_of_sizes_is_consistent_and_nothing_else() {
        let (tiles, leaves) = filled(300);
        let roots: Vec<Hash> = (0..=300).map(|n| reference::root(&leaves[..n])).collect();
        let head = |size: u64| Head { size, root: roots[at(size)] };
        for new in (0..=300u64).filter(|n| *n < 70 || n % 23 == 0 || (250..260).contains(n)) {
            for old in 0..=new {
                let proof = consistency(&tiles, old, new).unwrap();
                let expected =
                    if old > 0 { reference::subproof(at(old), &leaves[..at(new)], true) } else { Vec::new() };
                assert_eq!(proof, expected, "{old} to {new}");
                assert_eq!(verify_consistency(head(old), head(new), &proof), Ok(()), "{old} to {new}");
                hostile_consistency(head(old), head(new), &proof);
            }
        }
        assert_eq!(verify_consistency(head(3), head(2), &[]), Err(ProofError::OutOfRange));
        let rootless = Head { size: 0, root: [9; 32] };
        assert_eq!(verify_consistency(head(0), rootless, &[]), Err(ProofError::Mismatch));
        assert_eq!(verify_consistency(rootless, rootless, &[]), Err(ProofError::Mismatch));
    }
}
