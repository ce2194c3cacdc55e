//! Proves a range of an object whose leaves come one after another, so that no list of all of them is needed: it
//! holds the range's own leaves, and of the rest one hash per level.

use std::ops::Range;

use stele_types::ids::TreeHash;

use super::proof::{ProofError, RangeProof, check_range};
use super::{Leaf, Subtree};

/// A complete subtree, and what a proof needs of it.
#[derive(Clone, Debug)]
struct Node {
    subtree: Subtree,
    /// Leaves of the range are below it.
    open: bool,
    /// Subtrees below it that lie before the range, and behind it, from left to right.
    before: Vec<(TreeHash, u64)>,
    behind: Vec<(TreeHash, u64)>,
}

impl Node {
    fn join(self, right: Self) -> Self {
        let subtree = self.subtree.join(&right.subtree);
        let beside = |subtree: Subtree| (subtree.top, subtree.bytes);
        let (mut before, mut behind) = (self.before, right.behind);
        match (self.open, right.open) {
            (false, false) | (true, true) => {}
            (true, false) => {
                behind = self.behind;
                behind.push(beside(right.subtree));
            }
            (false, true) => {
                before = vec![beside(self.subtree)];
                before.extend(right.before);
            }
        }
        Self { subtree, open: self.open || right.open, before, behind }
    }
}

/// Takes an object's leaves in order.
#[derive(Clone, Debug)]
pub struct RangeProver {
    range: Range<u64>,
    /// Bytes and leaves so far.
    bytes: u64,
    count: u64,
    /// Index of the first of `leaves`.
    first: u64,
    leaves: Vec<Leaf>,
    /// Each smaller than the one before it.
    stack: Vec<Node>,
}

impl RangeProver {
    /// A prover of these bytes.
    pub fn new(range: Range<u64>) -> Self {
        Self { range, bytes: 0, count: 0, first: 0, leaves: Vec::new(), stack: Vec::new() }
    }

    /// Takes the next leaf.
    pub fn push(&mut self, leaf: &Leaf) {
        let end = self.bytes.saturating_add(leaf.len);
        let open = self.bytes < self.range.end && self.range.start < end;
        if open {
            if self.leaves.is_empty() {
                self.first = self.count;
            }
            self.leaves.push(*leaf);
        }
        (self.bytes, self.count) = (end, self.count + 1);
        let mut new = Node { subtree: leaf.subtree(), open, before: Vec::new(), behind: Vec::new() };
        while let Some(left) = self.stack.pop_if(|left| left.subtree.chunks == new.subtree.chunks) {
            new = left.join(new);
        }
        self.stack.push(new);
    }

    /// The proof, after the last leaf.
    ///
    /// # Errors
    /// [`ProofError::Range`] for a range that is empty or not inside the object.
    pub fn finish(self) -> Result<RangeProof, ProofError> {
        check_range(&self.range, self.bytes)?;
        let top = self.stack.into_iter().rev().reduce(|right, left| left.join(right));
        let siblings = top.map(|top| [top.before, top.behind].concat()).unwrap_or_default();
        Ok(RangeProof { total_len: self.bytes, chunks: self.count, first: self.first, leaves: self.leaves, siblings })
    }
}
