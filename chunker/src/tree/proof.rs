//! Proof that a byte range of an object lies in certain chunks: the chunks, and the hash and length
//! of every subtree beside the paths to them.

use std::ops::Range;

use stele_types::ids::{ObjectRoot, TreeHash};

use super::{Leaf, RangeProver, Subtree, object_root, split};

/// Everything that ties the leaves of a range to an object root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeProof {
    /// Bytes of the object.
    pub total_len: u64,
    /// Chunks of the object.
    pub chunks: u64,
    /// Index of the first of `leaves`.
    pub first: u64,
    /// The chunks that hold the range, in order.
    pub leaves: Vec<Leaf>,
    /// Hash and bytes of each subtree outside the range, from left to right.
    pub siblings: Vec<(TreeHash, u64)>,
}

/// A leaf whose position in the object is proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedLeaf {
    /// Index of the chunk.
    pub index: u64,
    /// Object offset of its first byte.
    pub offset: u64,
    /// The chunk.
    pub leaf: Leaf,
}

/// A range can't be proven, or a proof does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// The range is empty or reaches behind the object's end.
    #[error("bytes {start}..{end} are not a range of an object of {total} bytes")]
    Range {
        /// First byte.
        start: u64,
        /// Byte behind the last.
        end: u64,
        /// Bytes of the object.
        total: u64,
    },
    /// The proof's counts contradict each other.
    #[error("the proof is malformed: {0}; ask for another")]
    Malformed(&'static str),
    /// The proof leads to another object root.
    #[error("the proof leads to another object root; the bytes or the proof are not this object's")]
    Root,
}

/// Proves that the bytes `range` of the object with these leaves lie in the leaves that hold them.
///
/// # Errors
/// [`ProofError::Range`] for a range that is empty or not inside the object.
pub fn prove_range(leaves: &[Leaf], range: Range<u64>) -> Result<RangeProof, ProofError> {
    let mut prover = RangeProver::new(range);
    leaves.iter().for_each(|leaf| prover.push(leaf));
    prover.finish()
}

pub(super) fn check_range(range: &Range<u64>, total: u64) -> Result<(), ProofError> {
    let inside = range.start < range.end && range.end <= total;
    inside.then_some(()).ok_or(ProofError::Range { start: range.start, end: range.end, total })
}

/// Checks a proof against an object root and returns where each of its leaves lies. The leaves
/// cover `range` completely.
///
/// # Errors
/// [`ProofError`]: then nothing about the leaves may be believed.
pub fn verify_range(root: &ObjectRoot, proof: &RangeProof, range: Range<u64>) -> Result<Vec<VerifiedLeaf>, ProofError> {
    check_range(&range, proof.total_len)?;
    let count = proof.leaves.len() as u64;
    let end = proof.first.checked_add(count).ok_or(ProofError::Malformed("leaf index overflows"))?;
    if count == 0 || end > proof.chunks {
        return Err(ProofError::Malformed("leaves outside the object"));
    }
    if proof.leaves.iter().any(|leaf| leaf.len == 0) {
        return Err(ProofError::Malformed("a chunk of no bytes"));
    }
    let mut walk = Walk { wanted: proof.first..end, proof, siblings: proof.siblings.iter(), verified: Vec::new() };
    let top = walk.subtree(0, proof.chunks, 0)?;
    if walk.siblings.next().is_some() {
        return Err(ProofError::Malformed("more siblings than the tree has"));
    }
    if top.bytes != proof.total_len {
        return Err(ProofError::Malformed("lengths do not add up"));
    }
    if object_root(proof.total_len, proof.chunks, &top.top) != *root {
        return Err(ProofError::Root);
    }
    let covers = |leaf: &VerifiedLeaf| leaf.offset < range.end && range.start < leaf.offset + leaf.leaf.len;
    let starts = walk.verified.first().is_some_and(|leaf| leaf.offset <= range.start);
    let ends = walk.verified.last().is_some_and(|leaf| leaf.offset + leaf.leaf.len >= range.end);
    if !starts || !ends || !walk.verified.iter().all(covers) {
        return Err(ProofError::Malformed("leaves are not those of the range"));
    }
    Ok(walk.verified)
}

struct Walk<'a> {
    wanted: Range<u64>,
    proof: &'a RangeProof,
    siblings: std::slice::Iter<'a, (TreeHash, u64)>,
    verified: Vec<VerifiedLeaf>,
}

impl Walk<'_> {
    /// The subtree of `chunks` chunks from index `at` on, which begins at byte `offset`. Recursion
    /// ends after 64 levels, as `chunks` at least loses a bit at each.
    fn subtree(&mut self, at: u64, chunks: u64, offset: u64) -> Result<Subtree, ProofError> {
        if at + chunks <= self.wanted.start || self.wanted.end <= at {
            let (top, bytes) =
                *self.siblings.next().ok_or(ProofError::Malformed("fewer siblings than the tree has"))?;
            return Ok(Subtree { top, bytes, chunks });
        }
        if chunks == 1 {
            let place = (at - self.wanted.start) as usize;
            let leaf = *self.proof.leaves.get(place).ok_or(ProofError::Malformed("a leaf is missing"))?;
            self.verified.push(VerifiedLeaf { index: at, offset, leaf });
            return Ok(leaf.subtree());
        }
        let left_chunks = split(chunks);
        let left = self.subtree(at, left_chunks, offset)?;
        let middle = offset.checked_add(left.bytes).ok_or(ProofError::Malformed("lengths overflow"))?;
        let right = self.subtree(at + left_chunks, chunks - left_chunks, middle)?;
        middle.checked_add(right.bytes).ok_or(ProofError::Malformed("lengths overflow"))?;
        Ok(left.join(&right))
    }
}
