//! The seam to CPU time: hashing and coding run on named threads, or inline in the simulator.
//!
//! Work moves in and its result moves out, so no state is shared. The queue is bounded: whoever
//! submits waits for a place in it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::api::Cpu;
use crate::error::{GatewayError, StartError};

/// Bodies up to this size are hashed where they are: a thread hop costs more than it saves.
pub(crate) const INLINE_BYTES: usize = 64 * 1024;
/// Jobs that may wait per thread.
const QUEUE_PER_THREAD: usize = 64;

type Job = (Box<dyn FnOnce() + Send>, OwnedSemaphorePermit);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

/// Runs CPU work.
pub(crate) struct CpuPool {
    threads: Option<(Arc<Shared>, Arc<Semaphore>)>,
}

impl std::fmt::Debug for CpuPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuPool").field("inline", &self.threads.is_none()).finish()
    }
}

/// Result of submitted work.
pub(crate) enum Pending<T> {
    Ready(T),
    Running(oneshot::Receiver<T>),
}

impl<T> Pending<T> {
    /// Waits for the work's end.
    ///
    /// # Errors
    /// `Internal` if it panicked or the pool stopped.
    pub(crate) async fn finish(self) -> Result<T, GatewayError> {
        match self {
            Self::Ready(value) => Ok(value),
            Self::Running(receiver) => receiver.await.map_err(|_| stopped()),
        }
    }
}

impl CpuPool {
    pub(crate) fn start(cpu: Cpu) -> Result<Self, StartError> {
        let Cpu::Threads(count) = cpu else {
            return Ok(Self { threads: None });
        };
        let shared = Arc::new(Shared { queue: Mutex::default(), ready: Condvar::new() });
        for index in 0..count.get() {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("gw-cpu-{index}")).spawn(move || work(&shared))?;
        }
        let places = Arc::new(Semaphore::new(count.get() * QUEUE_PER_THREAD));
        Ok(Self { threads: Some((shared, places)) })
    }

    /// Queues work and returns at once when there is a place in the queue, so that the caller can
    /// go on beside it.
    ///
    /// # Errors
    /// `Internal` if the pool stopped.
    pub(crate) async fn submit<T, F>(&self, job: F) -> Result<Pending<T>, GatewayError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let Some((shared, places)) = &self.threads else {
            return Ok(Pending::Ready(job()));
        };
        let place = Arc::clone(places).acquire_owned().await.map_err(|_| stopped())?;
        let (reply, receiver) = oneshot::channel();
        let job = Box::new(move || {
            // The caller may have gone: its result is not wanted any more.
            reply.send(job()).ok();
        });
        shared.queue.lock().unwrap_or_else(PoisonError::into_inner).jobs.push_back((job, place));
        shared.ready.notify_one();
        Ok(Pending::Running(receiver))
    }

    /// Runs work of about `bytes` bytes to its end: on a thread if that pays, else here.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(crate) async fn run<T, F>(&self, bytes: usize, job: F) -> Result<T, GatewayError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if bytes <= INLINE_BYTES {
            return Ok(job());
        }
        self.submit(job).await?.finish().await
    }
}

impl Drop for CpuPool {
    fn drop(&mut self) {
        if let Some((shared, _)) = &self.threads {
            shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            shared.ready.notify_all();
        }
    }
}

fn stopped() -> GatewayError {
    GatewayError::Internal { what: "a CPU thread stopped before its work was done".into() }
}

fn work(shared: &Shared) {
    loop {
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
        let queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = shared.ready.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        let Some((job, place)) = queue.jobs.pop_front() else { return };
        drop(queue);
        job();
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    #[tokio::test]
    async fn threads_and_inline_give_the_same_results() {
        let threads = CpuPool::start(Cpu::Threads(NonZeroUsize::new(2).unwrap())).unwrap();
        let inline = CpuPool::start(Cpu::Inline).unwrap();
        for pool in [&threads, &inline] {
            let all =
                (0..300u64).map(|n| async move { pool.submit(move || n * n).await.unwrap().finish().await.unwrap() });
            let squares = futures::future::join_all(all).await;
            assert!(squares.into_iter().eq((0..300u64).map(|n| n * n)));
        }
    }
}
