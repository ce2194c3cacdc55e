//! CPU time for what runs in this thread, wall time for other processes, and comparisons of two sides.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 7;

fn now(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// CPU time of this thread for `work`.
pub(crate) fn cpu<T>(work: impl FnOnce() -> T) -> Duration {
    let start = now(ClockId::ThreadCPUTime);
    std::hint::black_box(work());
    now(ClockId::ThreadCPUTime) - start
}

/// Wall time of `work`.
pub(crate) fn wall<T>(work: impl FnOnce() -> T) -> Duration {
    let start = now(ClockId::Monotonic);
    std::hint::black_box(work());
    now(ClockId::Monotonic) - start
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Median seconds of both sides, measured A-B-B-A after one round of each that does not count.
pub(crate) fn compare(a: &mut dyn FnMut() -> Duration, b: &mut dyn FnMut() -> Duration) -> (f64, f64) {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let _warm = (a(), b());
    for _ in 0..ROUNDS {
        of_a.push(a());
        of_b.push(b());
        of_b.push(b());
        of_a.push(a());
    }
    (median(of_a), median(of_b))
}
