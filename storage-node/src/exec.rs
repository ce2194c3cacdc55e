//! Where drive loops run: threads of their own in production, tasks of the runtime at hand in the
//! simulator. The only place of this crate that makes threads.

use std::future::Future;

use tokio::sync::oneshot;

/// Where drive loops run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Executor {
    /// Each loop on a named thread with a runtime of its own: real files block.
    Threads,
    /// Each loop as a task of the current runtime: for media that never block.
    Tasks,
}

/// The system refused a thread.
#[derive(Debug, thiserror::Error)]
#[error("can't start thread {name}: {source}; raise the process's limit on threads")]
pub struct SpawnError {
    name: String,
    source: std::io::Error,
}

impl Executor {
    /// Starts a loop; it ends when its future does.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn spawn(self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> Result<(), SpawnError> {
        match self {
            Self::Tasks => {
                tokio::spawn(work);
                Ok(())
            }
            Self::Threads => {
                let refused = |source| SpawnError { name: name.to_owned(), source };
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(refused)?;
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || runtime.block_on(work))
                    .map_err(refused)?;
                Ok(())
            }
        }
    }

    /// Runs something to its end and returns what it gave; `None` if it panicked or the runtime
    /// is stopping.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub async fn run<T: Send + 'static>(
        self,
        name: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Option<T>, SpawnError> {
        let (tell, told) = oneshot::channel();
        self.spawn(name, async move {
            let _nobody_waits = tell.send(work.await);
        })?;
        Ok(told.await.ok())
    }
}
