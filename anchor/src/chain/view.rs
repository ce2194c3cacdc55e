//! What a chain answers when it is asked where things stand.

use stele_rpc::meta::TreeHead;

use super::state::Fee;

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The chain does not know it: never sent, dropped, or displaced.
    Unknown,
    /// It waits for a block.
    Pending,
    /// A block holds it.
    Included {
        /// The block.
        height: u64,
        /// It did what it should; false: it was reverted and had no effect.
        took_effect: bool,
        /// The block stays, by the chain's rule of finality.
        is_final: bool,
    },
}

/// What a transaction has to offer now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Price {
    /// Whoever offers less is not taken into a block.
    pub floor: u128,
    /// What a new transaction should offer.
    pub offer: Fee,
}

/// Where a chain stands, and what it knows of an intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Newest block.
    pub height: u64,
    /// Newest anchored checkpoint of the log as of that block.
    pub anchored: Option<TreeHead>,
    /// Number of the account's next transaction as of that block.
    pub nonce: u64,
    /// The same as of the newest final block.
    pub final_nonce: u64,
    /// One for each candidate of the intent, in its order.
    pub fates: Vec<Fate>,
    /// `None`: nothing is to be paid.
    pub price: Option<Price>,
}

impl View {
    /// Size anchored; 0 if none is.
    pub fn anchored_size(&self) -> u64 {
        self.anchored.map_or(0, |head| head.size)
    }
}
