//! Virtual time and one seeded, single-threaded runtime per boot phase.
//!
//! A power loss ends a phase: the runtime is dropped, which drops every task at once, and the next
//! phase goes on with the clock where it stopped. Time passes only when every task waits.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stele_types::seam::{Clock, UnixMillis};
use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio::time::Instant;

use crate::seed::SimRng;

#[cfg(not(tokio_unstable))]
compile_error!("build with --cfg tokio_unstable (see .cargo/config.toml): the runtime's own randomness must be seeded");

/// Wall-clock time at virtual time zero, ms since the Unix epoch.
pub(crate) const EPOCH_UNIX_MILLIS: u64 = 1_760_000_000_000;

/// The clock of a run; goes on over power losses.
#[derive(Debug, Default)]
pub struct SimClock {
    before_micros: AtomicU64,
    phase_start: Mutex<Option<Instant>>,
}

impl SimClock {
    /// Virtual time since the run began, microseconds.
    pub fn micros(&self) -> u64 {
        let start = *self.phase_start.lock().unwrap_or_else(PoisonError::into_inner);
        // Outside a phase (tasks being dropped) time stands still.
        let here = start.map_or(0, |at| u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.before_micros.load(Ordering::Relaxed).saturating_add(here)
    }

    fn begin_phase(&self) {
        *self.phase_start.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn end_phase(&self) {
        let now = self.micros();
        self.before_micros.store(now, Ordering::Relaxed);
        *self.phase_start.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Clock for SimClock {
    fn unix_millis(&self) -> UnixMillis {
        EPOCH_UNIX_MILLIS + self.micros() / 1000
    }

    fn monotonic_micros(&self) -> u64 {
        self.micros()
    }
}

/// The clock of one node: virtual time, and how far its wall clock is off.
#[derive(Debug)]
pub struct NodeClock {
    clock: Arc<SimClock>,
    off_millis: AtomicI64,
}

impl NodeClock {
    /// A right clock.
    pub fn new(clock: Arc<SimClock>) -> Self {
        Self { clock, off_millis: AtomicI64::new(0) }
    }

    /// Steps the wall clock; its monotonic clock goes on as before.
    pub fn set_off(&self, millis: i64) {
        self.off_millis.store(millis, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn unix_millis(&self) -> UnixMillis {
        self.clock.unix_millis().saturating_add_signed(self.off_millis.load(Ordering::Relaxed))
    }

    fn monotonic_micros(&self) -> u64 {
        self.clock.micros()
    }
}

/// Runs one boot phase to its end and drops everything that still runs in it.
///
/// # Errors
/// When the runtime cannot be built.
pub fn run_phase<T>(clock: &SimClock, rng: &SimRng, phase: u32, main: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = build(&rng.stream(&format!("runtime {phase}")))?;
    let out = runtime.block_on(async {
        clock.begin_phase();
        let out = main.await;
        clock.end_phase();
        out
    });
    drop(runtime);
    Ok(out)
}

fn build(rng: &SimRng) -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).rng_seed(RngSeed::from_bytes(&rng.key())).build()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_is_virtual_and_goes_on_over_phases() {
        let clock = SimClock::default();
        let rng = SimRng::new(1);
        for phase in 0..2 {
            run_phase(&clock, &rng, phase, async { tokio::time::sleep(Duration::from_secs(1000)).await }).unwrap();
        }
        assert_eq!(clock.micros() / 1_000_000, 2000);
        assert_eq!(clock.unix_millis() / 1000, EPOCH_UNIX_MILLIS / 1000 + 2000);
    }
}
