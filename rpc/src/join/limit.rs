//! How often strangers may ask: a bucket of tokens that refills at a steady rate.

use std::sync::{Arc, Mutex, PoisonError};

use stele_types::seam::Clock;

const SECOND: u64 = 1_000_000;

/// At most `rate` per second over time, and at most `rate` at once.
#[derive(Debug)]
pub struct RateLimit {
    rate: u64,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Millionths of a token.
    filled: u64,
    at: u64,
}

impl RateLimit {
    /// A full bucket.
    pub fn new(per_second: u32, clock: Arc<dyn Clock>) -> Self {
        let rate = u64::from(per_second);
        let at = clock.monotonic_micros();
        Self { rate, clock, state: Mutex::new(State { filled: rate * SECOND, at }) }
    }

    /// Whether one more may ask now.
    pub fn take(&self) -> bool {
        let now = self.clock.monotonic_micros();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_sub(state.at).saturating_mul(self.rate);
        state.filled = state.filled.saturating_add(gained).min(self.rate * SECOND);
        state.at = now.max(state.at);
        let granted = state.filled >= SECOND;
        if granted {
            state.filled -= SECOND;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn unix_millis(&self) -> u64 {
            0
        }
        fn monotonic_micros(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_burst_is_cut_and_time_refills() {
        let clock = Arc::new(Hand::default());
        let limit = RateLimit::new(3, Arc::<Hand>::clone(&clock));
        let granted = |limit: &RateLimit| (0..10).filter(|_| limit.take()).count();
        assert_eq!(granted(&limit), 3);
        assert_eq!(granted(&limit), 0);
        clock.0.store(SECOND / 3, Ordering::Relaxed);
        assert_eq!(granted(&limit), 0, "a third of a second gives almost one");
        clock.0.store(SECOND / 3 + 1, Ordering::Relaxed);
        assert_eq!(granted(&limit), 1);
        clock.0.store(100 * SECOND, Ordering::Relaxed);
        assert_eq!(granted(&limit), 3, "never more than a second's worth");
    }
}
