//! A body whose client keeps sending. One that stops, or sends a byte now and then, would hold memory and a place
//! among the requests under way for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use s3s::StdError;
use tokio::time::{Instant, Sleep};

use super::fault::Fault;
use super::linger::Unread;

/// Bytes per second that a client must send on average while the server waits for it.
const RATE_MIN: u64 = 1024;

/// Counts what a client has sent against how long it was waited for. The server's own pauses don't count.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// How long the next bytes may take: at most `pause`, and less if all so far took long.
    fn patience(&self, pause: Duration) -> Duration {
        let earned = pause.saturating_add(Duration::from_secs(self.bytes / RATE_MIN));
        earned.saturating_sub(self.waited).min(pause)
    }
}

/// Whether anybody has asked for a body. With `Expect: 100-continue` that is when its client is told to send it.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(super) fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request's body as it comes from the connection.
#[derive(Debug)]
pub(super) struct Paced<B: Body> {
    inner: B,
    pause: Duration,
    pace: Pace,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    asked: Asked,
    fault: Fault,
    unread: Unread,
}

impl<B: Body> Paced<B> {
    /// Allows pauses of this length.
    pub(super) fn new(inner: B, pause: Duration, unread: Unread) -> Self {
        let (pace, asked, fault) = (Pace::default(), Asked::default(), Fault::default());
        Self { inner, pause, pace, waiting: None, timer: None, asked, fault, unread }
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// What goes wrong with this body is told there.
    pub(super) fn fault(&self) -> Fault {
        self.fault.clone()
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<StdError> {
        let until = match self.waiting {
            Some(_) => None,
            None => {
                let now = Instant::now();
                self.waiting = Some(now);
                Some(now + self.pace.patience(self.pause))
            }
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::ZERO)));
        if let Some(until) = until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx).map(|()| {
            let message =
                "Your socket connection to the server was not read from or written to within the timeout period.";
            self.fault.note("RequestTimeout", message).into()
        })
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        this.asked.0.store(true, Ordering::Relaxed);
        let Poll::Ready(polled) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return this.poll_patience(cx).map(|broken| Some(Err(broken)));
        };
        if let Some(since) = this.waiting.take() {
            this.pace.waited = this.pace.waited.saturating_add(since.elapsed());
        }
        if let Some(Ok(frame)) = &polled {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.pace.bytes = this.pace.bytes.saturating_add(bytes);
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> Drop for Paced<B> {
    fn drop(&mut self) {
        if !self.inner.is_end_stream() {
            self.unread.note();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    /// Reads a body that comes in pieces of `bytes`, each after `every`; how it ends and how long it took.
    async fn read(pieces: usize, bytes: usize, every: Duration) -> (Option<&'static str>, Duration) {
        let pieces = stream::unfold(0, move |n| async move {
            if n == pieces {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; bytes]))), n + 1))
        });
        let body = Paced::new(StreamBody::new(Box::pin(pieces)), PAUSE, Unread::default());
        let (fault, begun) = (body.fault(), Instant::now());
        let read = body.collect().await;
        assert_eq!(read.is_err(), fault.refusal().is_some());
        (fault.refusal().map(|refusal| refusal.code), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_or_drips_is_given_up_and_a_slow_one_is_not() {
        let seconds = Duration::from_secs;
        assert_eq!(read(1, 1, seconds(61)).await, (Some("RequestTimeout"), PAUSE));
        // One byte every 20 s: 60 s are free, and so many bytes earn nothing.
        assert_eq!(read(1000, 1, seconds(20)).await, (Some("RequestTimeout"), PAUSE));
        // At 900 bytes per second the free time is used up bit by bit.
        let (code, took) = read(1000, 9000, seconds(10)).await;
        assert_eq!(code, Some("RequestTimeout"));
        assert!((seconds(400)..seconds(600)).contains(&took), "{took:?}");
        assert_eq!(read(500, 11_000, seconds(10)).await, (None, seconds(5000)));
        assert_eq!(read(500, 110_000, seconds(59)).await.0, None);
    }

    #[tokio::test]
    async fn a_body_that_was_not_read_to_its_end_is_noted() {
        let body = |unread: &Unread| Paced::new(http_body_util::Full::new(Bytes::from("ab")), PAUSE, unread.clone());
        let (read, left) = (Unread::default(), Unread::default());
        body(&read).collect().await.unwrap();
        drop(body(&left));
        let noted = |unread: &Unread| format!("{unread:?}").contains("true");
        assert_eq!((noted(&read), noted(&left)), (false, true));
    }
}
