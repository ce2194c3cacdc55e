//! Object tree and object root: what an object is, apart from where it is stored.
//! Definition and test vectors: docs/formats/object-tree.md.
//!
//! RFC 6962 shape over an object's chunks. Lengths stand in every node, so that a path proves the
//! offset of what it leads to. Used by the pack writer, manifest pages, reads and audits.

use stele_types::ids::{ChunkId, ObjectRoot, TreeHash};

mod proof;
mod prover;
#[cfg(test)]
mod tests;

pub use proof::{ProofError, RangeProof, VerifiedLeaf, prove_range, verify_range};
pub use prover::RangeProver;

const LEAF: u8 = 0x00;
const NODE: u8 = 0x01;
const ROOT: u8 = 0x02;
const EMPTY: u8 = 0x03;
const ROOT_VERSION: u8 = 1;

/// One chunk as the tree sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// BLAKE3 of the chunk.
    pub id: ChunkId,
    /// Bytes of the chunk.
    pub len: u64,
}

/// A subtree: its hash, the object bytes and the chunks below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subtree {
    /// Hash of its topmost node.
    pub top: TreeHash,
    /// Object bytes below it.
    pub bytes: u64,
    /// Chunks below it.
    pub chunks: u64,
}

impl Leaf {
    /// The leaf as a subtree of one chunk.
    pub fn subtree(&self) -> Subtree {
        let mut input = [LEAF; 41];
        input[1..9].copy_from_slice(&self.len.to_le_bytes());
        input[9..].copy_from_slice(self.id.as_bytes());
        Subtree { top: hash(&input), bytes: self.len, chunks: 1 }
    }
}

impl Subtree {
    /// The subtree of no chunks.
    pub fn empty() -> Self {
        Self { top: hash(&[EMPTY]), bytes: 0, chunks: 0 }
    }

    /// The parent of two neighbours. The caller keeps to the tree's shape.
    #[must_use]
    pub fn join(&self, right: &Self) -> Self {
        Self {
            top: node(self.bytes, &self.top, right.bytes, &right.top),
            bytes: self.bytes.saturating_add(right.bytes),
            chunks: self.chunks.saturating_add(right.chunks),
        }
    }

    /// The object root, if this is the whole tree.
    pub fn object_root(&self) -> ObjectRoot {
        object_root(self.bytes, self.chunks, &self.top)
    }
}

fn node(left_len: u64, left: &TreeHash, right_len: u64, right: &TreeHash) -> TreeHash {
    let mut input = [NODE; 81];
    input[1..9].copy_from_slice(&left_len.to_le_bytes());
    input[9..41].copy_from_slice(left.as_bytes());
    input[41..49].copy_from_slice(&right_len.to_le_bytes());
    input[49..].copy_from_slice(right.as_bytes());
    hash(&input)
}

/// Object root over a tree's top.
pub fn object_root(total_len: u64, chunks: u64, top: &TreeHash) -> ObjectRoot {
    let mut input = [ROOT; 50];
    input[1] = ROOT_VERSION;
    input[2..10].copy_from_slice(&total_len.to_le_bytes());
    input[10..18].copy_from_slice(&chunks.to_le_bytes());
    input[18..].copy_from_slice(top.as_bytes());
    ObjectRoot::from_bytes(*blake3::hash(&input).as_bytes())
}

fn hash(input: &[u8]) -> TreeHash {
    TreeHash::from_bytes(*blake3::hash(input).as_bytes())
}

/// Object root of an object of no bytes.
pub fn empty_object_root() -> ObjectRoot {
    Subtree::empty().object_root()
}

/// Largest power of two below `n`; `n` is at least 2.
const fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Builds a tree from left to right, holding one subtree per level.
#[derive(Clone, Debug, Default)]
pub struct TreeBuilder {
    /// Complete subtrees, each smaller than the one before it.
    stack: Vec<Subtree>,
}

impl TreeBuilder {
    /// Appends one chunk.
    pub fn push(&mut self, leaf: &Leaf) {
        self.push_subtree(leaf.subtree());
    }

    /// Appends a complete subtree (its chunks a power of two, no larger than any appended before
    /// and dividing what was appended before), or, as the very last, any smaller one. Manifest
    /// pages are such subtrees.
    pub fn push_subtree(&mut self, subtree: Subtree) {
        let mut new = subtree;
        while let Some(left) = self.stack.pop_if(|left| left.chunks == new.chunks) {
            new = left.join(&new);
        }
        self.stack.push(new);
    }

    /// The tree over everything appended so far; appending may go on.
    pub fn top(&self) -> Subtree {
        let mut subtrees = self.stack.iter().rev();
        let Some(last) = subtrees.next() else { return Subtree::empty() };
        subtrees.fold(*last, |right, left| left.join(&right))
    }

    /// Chunks appended so far.
    pub fn chunks(&self) -> u64 {
        self.stack.iter().map(|s| s.chunks).sum()
    }
}

/// The tree over these chunks.
pub fn top_of(leaves: &[Leaf]) -> Subtree {
    let mut builder = TreeBuilder::default();
    leaves.iter().for_each(|leaf| builder.push(leaf));
    builder.top()
}
