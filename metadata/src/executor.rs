//! Where blocking work runs: on threads of its own in a real process, inline in a simulator, which
//! owns time and has one thread.

use std::time::Duration;

/// Where blocking work runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Executor {
    /// On threads; needs a tokio runtime with several.
    Threads,
    /// On the calling task. A durable write of the raft log takes `sync_delay` of tokio time.
    Inline {
        /// How long a durable write takes.
        sync_delay: Duration,
    },
}

impl Executor {
    /// Runs work that may block on media.
    ///
    /// # Errors
    /// The work panicked or the runtime is stopping.
    pub(crate) async fn blocking<T, F>(self, work: F) -> std::io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other),
            Self::Inline { .. } => Ok(work()),
        }
    }
}
