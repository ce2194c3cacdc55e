//! RFC 6962 tree over SHA-256: leaf and node hashes, and the right edge from which the root follows
//! and to which a leaf is appended. The state machine keeps the edge in a row.

use sha2::{Digest, Sha256};

/// One node of the tree.
pub type Hash = [u8; 32];

/// Root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest(b"").into()
}

/// Hash of a leaf: SHA-256(0x00 | entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0u8]).chain_update(entry).finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 | left | right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1u8]).chain_update(left).chain_update(right).finalize().into()
}

/// The roots of the complete subtrees that a tree of `size` leaves consists of, largest first: one
/// for each set bit of the size.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edge {
    size: u64,
    peaks: Vec<Hash>,
}

impl Edge {
    /// An edge as it was stored; `None` if the number of hashes does not fit the size.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut carry = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            let left = self.peaks.pop().expect("one peak for each set bit of the size");
            carry = node_hash(&left, &carry);
            size >>= 1;
        }
        self.peaks.push(carry);
        self.size += 1;
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
pub(crate) mod reference {
    //! The definition, word for word, as slow as it is plain.
    use super::{Hash, empty_root, node_hash};

    pub(crate) fn split(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    pub(crate) fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node_hash(&root(left), &root(right))
            }
        }
    }

    /// RFC 6962 section 2.1.1.
    pub(crate) fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut below, sibling) =
            if m < left.len() { (path(m, left), root(right)) } else { (path(m - left.len(), right), root(left)) };
        below.push(sibling);
        below
    }

    /// RFC 6962 section 2.1.2, SUBPROOF.
    pub(crate) fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut proof, sibling) = if m <= left.len() {
            (subproof(m, left, whole), root(right))
        } else {
            (subproof(m - left.len(), right, false), root(left))
        };
        proof.push(sibling);
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight inputs of the Certificate Transparency reference tests and their roots.
    #[test]
    fn known_vectors() {
        let inputs =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut edge = Edge::default();
        assert_eq!(edge.root(), empty_root());
        for (input, root) in inputs.iter().zip(roots) {
            edge.push(leaf_hash(&hex::decode(input).unwrap()));
            assert_eq!(hex::encode(edge.root()), root, "size {}", edge.size());
        }
    }

    #[test]
    fn edge_matches_the_reference_and_survives_storage() {
        let mut edge = Edge::default();
        let mut leaves = Vec::new();
        for i in 0u64..600 {
            let leaf = leaf_hash(&i.to_be_bytes());
            leaves.push(leaf);
            edge.push(leaf);
            edge = Edge::from_parts(edge.size(), edge.peaks().to_vec()).unwrap();
            assert_eq!(edge.root(), reference::root(&leaves), "size {}", i + 1);
        }
        assert!(Edge::from_parts(3, vec![[0; 32]]).is_none());
    }
}
