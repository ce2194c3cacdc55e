//! What is remembered of a chain: one row, replaced by compare-and-swap.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_rpc::meta::TreeHead;

const VERSION: u32 = 1;
/// Longest row, in bytes.
pub const STATE_BYTES_MAX: usize = 64 * 1024;
/// Most transactions that compete for one number of the account.
pub const CANDIDATES_MAX: usize = 12;
/// Longest signed transaction, in bytes.
pub const RAW_BYTES_MAX: usize = 2048;

/// A transaction's hash, or a block's.
pub type Hash = [u8; 32];

/// One step of a log on a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Growth {
    /// Size anchored before; 0 if none was.
    pub previous: u64,
    /// The checkpoint.
    pub head: TreeHead,
}

/// What a transaction offers, in the chain's smallest coin per unit of gas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fee {
    /// The most it pays.
    pub max: u128,
    /// How much of it goes to who makes the block; `None`: a transaction with a plain gas price.
    pub tip: Option<u128>,
}

/// A signed transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Its hash, by which it is looked up.
    pub id: Hash,
    /// Exactly what is sent.
    pub raw: Bytes,
    /// What it offers; `None` on a chain without fees.
    pub fee: Option<Fee>,
    /// Most gas that it uses.
    pub gas: u64,
    /// Newest block when it was signed.
    pub height: u64,
}

/// A growth that was begun. It stands in the row before anything is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// What is being anchored.
    pub growth: Growth,
    /// Number of the transaction within its account: at most one of the candidates takes it.
    pub nonce: u64,
    /// The transaction, then the same with higher fees.
    pub candidates: Vec<Candidate>,
}

/// What was anchored last, with its proof kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The checkpoint.
    pub head: TreeHead,
    /// Block that holds it.
    pub height: u64,
}

/// The row of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainState {
    version: u32,
    /// Which chain, contract and account this is about, as [`super::backend::Chain::place`] says it.
    pub place: String,
    /// Anchored last.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// Begun and not yet kept.
    #[serde(default)]
    pub intent: Option<Intent>,
}

/// Why a row can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// Longer than a row may be.
    #[error("it has {found} bytes, and a row has at most {STATE_BYTES_MAX}")]
    TooLong {
        /// Bytes.
        found: usize,
    },
    /// Not what [`ChainState::encode`] makes.
    #[error("it can't be read: {0}")]
    Format(String),
    /// A later program wrote it.
    #[error("it has version {0}; a newer stele wrote it")]
    Version(u32),
    /// It breaks a rule.
    #[error("it has {0}")]
    Broken(&'static str),
    /// Another chain, contract or account.
    #[error(
        "it is about {stored}, and the configuration now names {configured}: what was begun there would be lost. Give \
         the changed chain a new name, or set the configuration back"
    )]
    OtherPlace {
        /// In the row.
        stored: String,
        /// As configured.
        configured: String,
    },
}

impl ChainState {
    /// Nothing was ever done on this chain.
    pub fn new(place: String) -> Self {
        Self { version: VERSION, place, kept: None, intent: None }
    }

    /// Size that was kept last; 0 if none was.
    pub fn kept_size(&self) -> u64 {
        self.kept.map_or(0, |kept| kept.head.size)
    }

    /// The row's bytes: MessagePack with named fields.
    ///
    /// # Errors
    /// It would be too long, or break a rule.
    pub fn encode(&self) -> Result<Bytes, StateError> {
        self.check()?;
        let bytes = rmp_serde::to_vec_named(self).map_err(|error| StateError::Format(error.to_string()))?;
        if bytes.len() > STATE_BYTES_MAX {
            return Err(StateError::TooLong { found: bytes.len() });
        }
        Ok(bytes.into())
    }

    /// Reads a row about `place`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn decode(bytes: &[u8], place: &str) -> Result<Self, StateError> {
        if bytes.len() > STATE_BYTES_MAX {
            return Err(StateError::TooLong { found: bytes.len() });
        }
        let state: Self = rmp_serde::from_slice(bytes).map_err(|error| StateError::Format(error.to_string()))?;
        if state.version != VERSION {
            return Err(StateError::Version(state.version));
        }
        state.check()?;
        if state.place != place {
            return Err(StateError::OtherPlace { stored: state.place, configured: place.to_owned() });
        }
        Ok(state)
    }

    fn check(&self) -> Result<(), StateError> {
        let Some(intent) = &self.intent else { return Ok(()) };
        if intent.candidates.is_empty() || intent.candidates.len() > CANDIDATES_MAX {
            return Err(StateError::Broken("an intent without transactions, or with too many"));
        }
        if intent.candidates.iter().any(|candidate| candidate.raw.len() > RAW_BYTES_MAX) {
            return Err(StateError::Broken("a transaction that is too long"));
        }
        if intent.growth.head.size <= intent.growth.previous {
            return Err(StateError::Broken("an intent that does not grow the log"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> ChainState {
        let candidate = Candidate {
            id: [7; 32],
            raw: Bytes::from(vec![9; RAW_BYTES_MAX]),
            fee: Some(Fee { max: u128::MAX, tip: Some(u128::MAX) }),
            gas: u64::MAX,
            height: u64::MAX,
        };
        let head = TreeHead { size: u64::MAX, root: [255; 32] };
        let growth = Growth { previous: 5, head };
        let intent = Intent { growth, nonce: u64::MAX, candidates: vec![candidate; CANDIDATES_MAX] };
        let kept = Some(Kept { head, height: 1 });
        ChainState { kept, intent: Some(intent), ..ChainState::new("evm:1".to_owned()) }
    }

    #[test]
    fn the_longest_row_fits_and_comes_back() {
        let bytes = full().encode().unwrap();
        assert_eq!(ChainState::decode(&bytes, "evm:1"), Ok(full()));
        assert!(matches!(ChainState::decode(&bytes, "evm:2"), Err(StateError::OtherPlace { .. })));
    }

    /// docs/formats/chain-row.md explains these bytes. A later program has to read them.
    #[test]
    fn a_row_of_today_is_read_for_ever() {
        let candidate = Candidate {
            id: [7; 32],
            raw: Bytes::from_static(&[0xf8, 1]),
            fee: Some(Fee { max: 9, tip: Some(2) }),
            gas: 66_000,
            height: 12,
        };
        let head = |size| TreeHead { size, root: [1; 32] };
        let growth = Growth { previous: 3, head: head(9) };
        let intent = Intent { growth, nonce: 4, candidates: vec![candidate] };
        let kept = Some(Kept { head: head(3), height: 11 });
        let state = ChainState { kept, intent: Some(intent), ..ChainState::new("evm:1".to_owned()) };
        let golden = hex::decode(include_str!("../../golden/chain-row.hex").trim()).unwrap();
        assert_eq!(hex::encode(state.encode().unwrap()), hex::encode(&golden));
        assert_eq!(ChainState::decode(&golden, "evm:1"), Ok(state));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_row_or_an_error(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            byte in proptest::prelude::any::<u8>(),
            cut in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let mut bytes = full().encode().unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let keep = cut.index(bytes.len() + 1);
            for bytes in [&bytes[..], &bytes[..keep]] {
                if let Ok(state) = ChainState::decode(bytes, "evm:1") {
                    proptest::prop_assert!(state.encode().is_ok());
                }
            }
        }
    }

    #[test]
    fn rows_that_make_no_sense_are_refused() {
        type Change = fn(&mut ChainState);
        let changes: [Change; 5] = [
            |state| state.intent.as_mut().unwrap().candidates.clear(),
            |state| state.intent.as_mut().unwrap().candidates.push(full().intent.unwrap().candidates.remove(0)),
            |state| state.intent.as_mut().unwrap().candidates[0].raw = Bytes::from(vec![0; RAW_BYTES_MAX + 1]),
            |state| state.intent.as_mut().unwrap().growth.previous = u64::MAX,
            |state| state.version = 2,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut state = full();
            change(&mut state);
            let bytes = rmp_serde::to_vec_named(&state).unwrap();
            assert!(ChainState::decode(&bytes, "evm:1").is_err(), "change {at}");
        }
        assert!(ChainState::decode(&vec![0; STATE_BYTES_MAX + 1], "").is_err());
    }
}
