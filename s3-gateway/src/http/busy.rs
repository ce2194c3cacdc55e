//! Knows whether a connection carries requests. Between the requests of HTTP/1 hyper has a limit; an HTTP/2
//! connection that answers pings would stay for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The requests of one connection that are under way.
#[derive(Clone, Debug)]
pub(super) struct Requests(Arc<watch::Sender<usize>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Busy(Requests);

impl Requests {
    pub(super) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Counts one until the value is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.0.send_modify(|count| *count += 1);
        Busy(self.clone())
    }

    /// Ends once there was no request for so long.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut count = self.0.subscribe();
        loop {
            // The sender lives as long as `self`.
            if count.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                _ = count.wait_for(|count| *count > 0) => {}
                () = tokio::time::sleep(time) => return,
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_end_of_the_last_request() {
        let requests = Requests::none();
        let begun = Instant::now();
        let held = requests.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let (first, second) = (held.begin(), held.begin());
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(first);
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(second);
        });
        requests.idle_for(Duration::from_secs(10)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(50));
    }
}
