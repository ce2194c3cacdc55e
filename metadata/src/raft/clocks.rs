//! The leader's clock rule: commit times come from the leader's clock, so it proposes nothing while
//! that clock is far from the median of its voters' clocks. Readings come with every reply of a peer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use stele_rpc::error::{Code, RpcError};
use stele_types::seam::{Clock, UnixMillis};

/// How far the leader's clock may be from the median, milliseconds.
pub(crate) const CLOCK_SKEW_MAX_MS: u64 = 2000;

/// A peer's clock as it was read, and when, by our monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Reading {
    unix: UnixMillis,
    at_micros: u64,
}

/// Why a leader may not propose.
#[derive(Debug)]
pub(crate) struct ClockError {
    /// Its clock is known to be off: another voter should lead. Otherwise too little is known yet.
    pub(crate) off: bool,
    /// What the caller is told.
    pub(crate) error: RpcError,
}

/// The clocks of this node and its peers.
#[derive(Debug)]
pub(crate) struct PeerClocks {
    clock: Arc<dyn Clock>,
    readings: Mutex<BTreeMap<u64, Reading>>,
}

impl PeerClocks {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, readings: Mutex::default() }
    }

    /// This node's wall clock.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.unix_millis()
    }

    pub(crate) fn note(&self, peer: u64, unix: UnixMillis) {
        let reading = Reading { unix, at_micros: self.clock.monotonic_micros() };
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, reading);
    }

    /// Microseconds since any peer answered; `None` if none ever did.
    pub(crate) fn unheard_micros(&self) -> Option<u64> {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let last = readings.values().map(|reading| reading.at_micros).max()?;
        Some(self.clock.monotonic_micros().saturating_sub(last))
    }

    /// Whether `node` may propose at `now`.
    ///
    /// # Errors
    /// `Unreachable`, so that the command certainly had no effect: its clock is off, or a majority's
    /// clocks are not known yet.
    pub(crate) fn check(&self, node: u64, now: UnixMillis, voters: &[u64]) -> Result<(), ClockError> {
        if voters == [node] {
            return Ok(());
        }
        let micros = self.clock.monotonic_micros();
        let mut clocks = vec![now];
        {
            let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
            let peers = voters.iter().filter(|voter| **voter != node).filter_map(|voter| readings.get(voter));
            clocks.extend(
                peers.map(|reading| reading.unix.saturating_add(micros.saturating_sub(reading.at_micros) / 1000)),
            );
        }
        if clocks.len() * 2 <= voters.len() {
            let detail = format!(
                "the clocks of {} of {} voters are not known yet: retry",
                voters.len() - clocks.len(),
                voters.len()
            );
            return Err(ClockError { off: false, error: RpcError::new(Code::Unreachable, detail) });
        }
        let skew = skew_from_median(now, &mut clocks);
        if skew > CLOCK_SKEW_MAX_MS {
            let detail = format!(
                "the clock of node {node}, which leads, is {skew} ms from its voters' median, at most \
                 {CLOCK_SKEW_MAX_MS} ms are allowed: set the clocks of the metadata nodes"
            );
            return Err(ClockError { off: true, error: RpcError::new(Code::Unreachable, detail) });
        }
        Ok(())
    }
}

/// Distance of `now` from the median of `clocks`; of two middle ones, from the farther.
fn skew_from_median(now: UnixMillis, clocks: &mut [UnixMillis]) -> u64 {
    clocks.sort_unstable();
    let middle = [clocks.len().saturating_sub(1) / 2, clocks.len() / 2];
    middle.iter().filter_map(|at| clocks.get(*at)).map(|clock| clock.abs_diff(now)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn unix_millis(&self) -> UnixMillis {
            100_000
        }

        fn monotonic_micros(&self) -> u64 {
            0
        }
    }

    #[test]
    fn a_leader_far_from_the_median_proposes_nothing() {
        let clocks = PeerClocks::new(Arc::new(Still));
        assert!(clocks.check(1, 100_000, &[1]).is_ok(), "alone there is nothing to compare with");
        assert!(!clocks.check(1, 100_000, &[1, 2, 3]).unwrap_err().off, "no peer was heard of");
        clocks.note(2, 101_000);
        assert!(clocks.check(1, 100_000, &[1, 2, 3]).is_ok());
        clocks.note(3, 900_000);
        assert!(clocks.check(1, 100_000, &[1, 2, 3]).is_ok(), "one wrong peer does not matter");
        clocks.note(2, 102_001);
        let ClockError { off, error } = clocks.check(1, 100_000, &[1, 2, 3]).unwrap_err();
        assert!(off);
        assert_eq!(error.code, Code::Unreachable);
        assert!(error.detail.contains("2001 ms"), "{error}");
        clocks.note(2, 97_999);
        assert!(clocks.check(1, 100_000, &[1, 2, 3]).is_ok(), "it is the median itself");
        clocks.note(3, 97_000);
        assert!(clocks.check(1, 100_000, &[1, 2, 3]).is_err());
    }
}
