//! A size and a root that somebody showed, where, and what shows it.

use stele_anchor::evm::reader::Event;
use stele_evidence::proof::Head;

/// A tree of the log as somebody showed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sighting {
    pub(super) head: Head,
    /// Where, in words.
    pub(super) place: String,
    pub(super) found: Found,
}

/// What shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A signed checkpoint.
    Note(String),
    /// A chain.
    Anchor(Recorded),
}

/// What a chain recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Recorded {
    /// Which chain, in one line that stays the same.
    pub(super) chain: String,
    /// Height of the block.
    pub(super) block: u64,
    /// A transaction's hash, or the whole block of a ledger.
    pub(super) what: Vec<u8>,
    /// Proof that needs nobody; `None`: a node only said so, about this event.
    pub(super) proof: Result<Vec<u8>, Event>,
}
