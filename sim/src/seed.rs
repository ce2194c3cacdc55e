//! Randomness of a run: independent streams drawn from one seed.
//!
//! Every part of the simulator and every process gets a stream of its own, named by a label, so that
//! one more draw in one place does not shift all the others. Never reads the operating system's
//! randomness.

use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use stele_types::seam::Rng;

/// One stream of randomness; clones share it.
#[derive(Clone, Debug)]
pub struct SimRng {
    key: [u8; 32],
    state: Arc<Mutex<ChaCha8Rng>>,
}

impl SimRng {
    /// The root stream of a run.
    pub fn new(seed: u64) -> Self {
        Self::from_key(blake3::derive_key("stele sim seed v1", &seed.to_le_bytes()))
    }

    fn from_key(key: [u8; 32]) -> Self {
        Self { key, state: Arc::new(Mutex::new(ChaCha8Rng::from_seed(key))) }
    }

    /// The stream called `label`: the same for the same seed however much was drawn from this one.
    pub fn stream(&self, label: &str) -> Self {
        Self::from_key(*blake3::keyed_hash(&self.key, label.as_bytes()).as_bytes())
    }

    /// 32 bytes that stand for this stream, for seeding something else.
    pub fn key(&self) -> [u8; 32] {
        self.key
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// A number below `bound`; 0 for a bound of 0. The bias is far below what a run could show.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.number() % bound }
    }

    /// A number in `low..=high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// An index below `len`.
    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }
}

impl Rng for SimRng {
    fn fill(&self, out: &mut [u8]) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_label_only() {
        let a = SimRng::new(7);
        let early = a.stream("net").number();
        a.number();
        assert_eq!(a.stream("net").number(), early);
        assert_ne!(a.stream("plan").number(), early);
        assert_ne!(SimRng::new(8).stream("net").number(), early);
    }
}
