//! C2SP tlog-proof: one file per entry that shows, without any server, that the entry stands in a
//! log that known parties signed for.

use crate::lines::{parse_base64, parse_decimal, parse_hash, print_base64, split_line};
use crate::note::{NOTE_MAX, Note, NoteError};
use crate::policy::{Evaluation, Policy, Refusal};
use crate::proof::{ProofError, verify_inclusion};
use crate::tree::{Hash, leaf_hash};

/// First line of every proof.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes of a path: the height of the highest tree.
const PATH_MAX: usize = 64;
/// Most bytes of extra data.
pub const EXTRA_MAX: usize = 64 * 1024;
/// Largest proof in bytes: extra data in base64, the path, and a note.
pub const TLOG_PROOF_MAX: usize = NOTE_MAX + 2 * EXTRA_MAX;

/// Why bytes are not a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlogProofError {
    /// More than [`TLOG_PROOF_MAX`] bytes.
    #[error("the proof is larger than {TLOG_PROOF_MAX} bytes")]
    TooLarge,
    /// The first line is another one.
    #[error("the first line is not c2sp.org/tlog-proof@v1")]
    Header,
    /// A line has no line feed where more must follow.
    #[error("the proof ends early")]
    Truncated,
    /// Not canonical base64, empty, or more than [`EXTRA_MAX`] bytes.
    #[error("the extra data is not canonical base64 of 1 to {EXTRA_MAX} bytes")]
    Extra,
    /// No index line, or not a canonical decimal number.
    #[error("the index is not a canonical decimal number")]
    Index,
    /// A line of the path is not a hash.
    #[error("line {number} of the path is not 32 bytes in canonical base64")]
    Path {
        /// Which one, from 1.
        number: usize,
    },
    /// More than 64 lines.
    #[error("the path is longer than any tree is high")]
    LongPath,
    /// The checkpoint is malformed.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
}

/// Why a proof does not prove.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotProven {
    /// The policy does not accept the checkpoint.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The path does not lead from the entry to the checkpoint's root.
    #[error("the path from entry to checkpoint: {0}")]
    Path(#[from] ProofError),
}

/// A proof, well-formed but not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// Index of the entry in the log.
    pub index: u64,
    /// Siblings from the leaf's up to the root's child.
    pub path: Vec<Hash>,
    /// Anything; nobody signed it. Empty: the proof has no such line.
    pub extra: Vec<u8>,
    /// Checkpoint and signatures, byte for byte.
    pub checkpoint: Note,
}

impl TlogProof {
    /// Reads a proof.
    ///
    /// # Errors
    /// What is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > TLOG_PROOF_MAX {
            return Err(TlogProofError::TooLarge);
        }
        let (header, rest) = split_line(bytes).ok_or(TlogProofError::Header)?;
        if header != HEADER.as_bytes() {
            return Err(TlogProofError::Header);
        }
        let (mut line, mut rest) = split_line(rest).ok_or(TlogProofError::Truncated)?;
        let mut extra = Vec::new();
        if let Some(text) = line.strip_prefix(b"extra ") {
            extra = parse_base64(text)
                .filter(|extra| (1..=EXTRA_MAX).contains(&extra.len()))
                .ok_or(TlogProofError::Extra)?;
            (line, rest) = split_line(rest).ok_or(TlogProofError::Truncated)?;
        }
        let index = line.strip_prefix(b"index ").and_then(parse_decimal).ok_or(TlogProofError::Index)?;
        let mut path = Vec::new();
        loop {
            (line, rest) = split_line(rest).ok_or(TlogProofError::Truncated)?;
            if line.is_empty() {
                break;
            }
            if path.len() == PATH_MAX {
                return Err(TlogProofError::LongPath);
            }
            path.push(parse_hash(line).ok_or(TlogProofError::Path { number: path.len() + 1 })?);
        }
        Ok(Self { index, path, extra, checkpoint: Note::parse(rest)? })
    }

    /// Writes the proof. What [`Self::parse`] made of some bytes becomes the same bytes again.
    pub fn print(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if !self.extra.is_empty() {
            text.push_str(&format!("extra {}\n", print_base64(&self.extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&format!("{}\n", print_base64(hash)));
        }
        text.push('\n');
        [text.as_bytes(), self.checkpoint.as_bytes()].concat()
    }

    /// Checks that the log holds this entry and that the policy accepts the log's checkpoint. The
    /// entry must come from what the caller has, never from the proof.
    ///
    /// # Errors
    /// Why it is not proven.
    pub fn verify(&self, entry: &[u8], policy: &Policy) -> Result<Evaluation, NotProven> {
        self.verify_leaf(leaf_hash(entry), policy)
    }

    /// As [`Self::verify`], for a caller who has the entry's leaf hash and made it himself: whoever
    /// takes it from others may be handed an inner node.
    ///
    /// # Errors
    /// Why it is not proven.
    pub fn verify_leaf(&self, leaf: Hash, policy: &Policy) -> Result<Evaluation, NotProven> {
        let evaluation = policy.evaluate(&self.checkpoint)?;
        let head = evaluation.checkpoint.head();
        verify_inclusion(leaf, self.index, head.size, &head.root, &self.path)?;
        Ok(evaluation)
    }
}

#[cfg(test)]
mod tests;
