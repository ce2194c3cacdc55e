//! The real clock, the real randomness and what the machine has: the seam that `sim` replaces.

use std::num::NonZeroUsize;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stele_types::seam::{Clock, Rng, UnixMillis};

/// Time of this machine.
#[derive(Debug)]
pub(crate) struct RealClock {
    started: Instant,
}

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam itself")]
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam itself")]
    fn unix_millis(&self) -> UnixMillis {
        // A clock before 1970 reads as 0; the leader's clock check reports it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Randomness of the operating system.
#[derive(Debug)]
pub(crate) struct OsRng;

impl Rng for OsRng {
    #[expect(clippy::disallowed_methods, reason = "this is the seam itself")]
    fn fill(&self, out: &mut [u8]) {
        // Ids, salts and keys need it: without it nothing may go on.
        getrandom::fill(out).expect("the operating system has randomness");
    }
}

/// Processors this process may use.
pub(crate) fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Memory of the machine, bytes; `None` where /proc does not say.
#[expect(clippy::disallowed_methods, reason = "/proc is no data of ours")]
pub(crate) fn machine_memory() -> Option<u64> {
    let text = std::fs::read("/proc/meminfo").ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// CPU seconds and resident bytes of this process.
#[expect(clippy::disallowed_methods, reason = "/proc is no data of ours")]
pub(crate) fn process_usage() -> Option<(f64, u64)> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let read = |path: &str| Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned());
    let stat = read("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let cpu = (ticks(11)? + ticks(12)?) as f64 / TICKS_PER_SECOND;
    let status = read("/proc/self/status")?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rss.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((cpu, kib.saturating_mul(1024)))
}
