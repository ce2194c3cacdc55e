//! How many requests one key may make per second. The decision is pure: a moment in, yes or a pause out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stele_types::seam::Clock;

/// Keys that are remembered; beyond, those that could make a full burst again are forgotten.
const KEYS_MAX: usize = 1024;

/// An allowance that fills up steadily.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Requests per second; at least 1.
    pub per_second: u32,
    /// Requests at once after a pause; at least 1.
    pub burst: u32,
}

/// When the allowance of one key will be full again, nanoseconds since the clock's start. This is the generic cell
/// rate algorithm: a token bucket that needs no timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Full(u64);

impl Rate {
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }

    /// Takes one request from the allowance, or says after what pause there will be one.
    fn take(self, full: Full, now: u64) -> Result<Full, Duration> {
        let interval = self.interval();
        let next = full.0.max(now).saturating_add(interval);
        let latest = now.saturating_add(interval.saturating_mul(u64::from(self.burst.max(1))));
        if next > latest { Err(Duration::from_nanos(next - latest)) } else { Ok(Full(next)) }
    }
}

/// Allowances of all keys.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    rate: Rate,
    clock: Arc<dyn Clock>,
    keys: Arc<Mutex<BTreeMap<String, Full>>>,
}

impl RateLimit {
    pub(crate) fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self { rate, clock, keys: Arc::default() }
    }

    /// Takes one request of this key, whose signature was verified: nobody else can use its allowance up.
    ///
    /// # Errors
    /// The pause after which a request will pass.
    pub(crate) fn take(&self, access_key: &str) -> Result<(), Duration> {
        let now = self.clock.monotonic_micros().saturating_mul(1000);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let full = keys.get(access_key).copied().unwrap_or_default();
        let full = self.rate.take(full, now)?;
        if keys.len() >= KEYS_MAX {
            keys.retain(|_, full| full.0 > now);
        }
        keys.insert(access_key.to_owned(), full);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let rate = Rate { per_second: 10, burst: 3 };
        let (mut full, now) = (Full::default(), 5 * SECOND);
        for _ in 0..3 {
            full = rate.take(full, now).unwrap();
        }
        assert_eq!(rate.take(full, now), Err(Duration::from_millis(100)));
        full = rate.take(full, now + SECOND / 10).unwrap();
        assert_eq!(rate.take(full, now + SECOND / 10 + 1), Err(Duration::from_nanos(SECOND / 10 - 1)));
        for _ in 0..3 {
            full = rate.take(full, now + 60 * SECOND).unwrap();
        }
        assert!(rate.take(full, now + 60 * SECOND).is_err(), "a long pause gives no more than a burst");
    }

    proptest! {
        #[test]
        fn no_more_than_rate_and_burst_ever_pass(
            per_second in 1u32..2000, burst in 1u32..50, pauses in prop::collection::vec(0u64..SECOND / 5, 1..300),
        ) {
            let rate = Rate { per_second, burst };
            let (mut full, mut now, mut passed) = (Full::default(), SECOND, 0u64);
            for pause in pauses {
                now += pause;
                match rate.take(full, now) {
                    Ok(next) => { full = next; passed += 1; }
                    Err(wait) => {
                        let wait = u64::try_from(wait.as_nanos()).unwrap();
                        prop_assert!(rate.take(full, now + wait).is_ok() && rate.take(full, now + wait - 1).is_err());
                    }
                }
            }
            let most = u64::from(burst) + (now - SECOND) / rate.interval() + 1;
            prop_assert!(passed <= most, "{} of {}", passed, most);
        }
    }

    #[test]
    fn keys_have_allowances_of_their_own_and_memory_is_bounded() {
        let limit = RateLimit::new(Rate { per_second: 1, burst: 1 }, crate::tests::clock());
        for key in 0..KEYS_MAX {
            assert!(limit.take(&format!("{key}")).is_ok());
        }
        assert!(limit.take("0").unwrap_err() <= Duration::from_secs(1));
        assert!(limit.take("other").is_ok());
    }
}
