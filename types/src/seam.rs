//! The only ways to time and randomness. `cli` passes the real ones in, `sim` its own.

/// Milliseconds since the Unix epoch.
pub type UnixMillis = u64;

/// Wall and monotonic time.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Wall-clock time. May jump.
    fn unix_millis(&self) -> UnixMillis;
    /// Monotonic time since an arbitrary start, in microseconds.
    fn monotonic_micros(&self) -> u64;
}

/// A source of random bytes. The real one is cryptographically secure.
pub trait Rng: Send + Sync + std::fmt::Debug + 'static {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// Draws `N` random bytes.
pub fn random_bytes<const N: usize>(rng: &dyn Rng) -> [u8; N] {
    let mut out = [0u8; N];
    rng.fill(&mut out);
    out
}
