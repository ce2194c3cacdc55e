//! A spawned task that ends with its owner.

use tokio::task::JoinHandle;

use crate::error::GatewayError;

/// Aborts its task when dropped.
pub(crate) struct OwnedTask<T> {
    handle: JoinHandle<T>,
}

impl<T: Send + 'static> OwnedTask<T> {
    pub(crate) fn spawn<F>(future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        Self { handle: tokio::spawn(future) }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// `Internal` if it panicked or the runtime stopped.
    pub(crate) async fn finish(mut self) -> Result<T, GatewayError> {
        (&mut self.handle)
            .await
            .map_err(|error| GatewayError::Internal { what: format!("a task ended early: {error}") })
    }
}

impl<T> Drop for OwnedTask<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
