//! openraft's runtime: tokio, with randomness that a simulator can seed. openraft draws election
//! timeouts and first ticks from it, nothing secret.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use openraft::impls::TokioRuntime;
use openraft::{AsyncRuntime, OptionalSend};
use rand_core::{Rng as _, TryRng};

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes openraft's randomness on this thread a function of `seed`. For simulators, which run on one
/// thread; other threads keep the operating system's randomness.
pub fn seed_thread(seed: u64) {
    SEED.set(Some(seed));
}

/// Randomness of the current thread.
#[derive(Debug)]
pub(crate) struct ThreadRng(Option<<TokioRuntime as AsyncRuntime>::ThreadLocalRng>);

/// A number nobody else draws.
pub(crate) fn random_u64() -> u64 {
    SeamRuntime::thread_rng().next_u64()
}

fn next_seeded() -> Option<u64> {
    // SplitMix64.
    let state = SEED.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEED.set(Some(state));
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(z ^ (z >> 31))
}

impl TryRng for ThreadRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let low = self.try_next_u64()? & u64::from(u32::MAX);
        Ok(u32::try_from(low).unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match &mut self.0 {
            Some(rng) => Ok(rng.next_u64()),
            None => Ok(next_seeded().unwrap_or_default()),
        }
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(8) {
            let bytes = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

/// tokio, but for randomness.
#[derive(Debug)]
pub(crate) struct SeamRuntime(TokioRuntime);

impl AsyncRuntime for SeamRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = ThreadRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ThreadRng(SEED.get().is_none().then(TokioRuntime::thread_rng))
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_thread_repeats_itself() {
        let draw = || {
            seed_thread(42);
            let mut rng = SeamRuntime::thread_rng();
            let mut bytes = [0u8; 11];
            rng.try_fill_bytes(&mut bytes).unwrap();
            (rng.next_u64(), rng.next_u32(), bytes)
        };
        assert_eq!(draw(), draw());
        let first = draw();
        let other = SeamRuntime::thread_rng().next_u64();
        assert_ne!(first.0, other, "the sequence goes on");
    }
}
