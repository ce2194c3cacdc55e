//! The body of a GET on its way out: counts its bytes, so that it ends with all of them or with an
//! error, and carries the memory charge of each chunk until the chunk's last byte was sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use crate::api::BodyStream;
use crate::budget::Charge;
use crate::error::{BodyError, GatewayError};

struct Charged {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes, which keep `charge` until the last reference to them is gone.
pub(crate) fn charged(bytes: Bytes, charge: &Arc<Charge>) -> Bytes {
    Bytes::from_owner(Charged { bytes, _charge: Arc::clone(charge) })
}

enum Source {
    Ready(std::vec::IntoIter<Bytes>),
    Producer(mpsc::Receiver<Result<Bytes, GatewayError>>),
}

struct CountedBody {
    source: Source,
    remaining: u64,
    ended: bool,
}

/// A body of pieces that are in memory.
pub(crate) fn ready(pieces: Vec<Bytes>, len: u64) -> BodyStream {
    Box::pin(CountedBody { source: Source::Ready(pieces.into_iter()), remaining: len, ended: false })
}

/// A body that a task produces.
pub(crate) fn produced(receiver: mpsc::Receiver<Result<Bytes, GatewayError>>, len: u64) -> BodyStream {
    Box::pin(CountedBody { source: Source::Producer(receiver), remaining: len, ended: false })
}

/// A body whose length nobody knows before: it ends with `None`. A producer that stops without it is an error.
pub(crate) fn marked(receiver: mpsc::Receiver<Result<Option<Bytes>, GatewayError>>) -> BodyStream {
    let ended = || GatewayError::Internal { what: "a body ended without its end mark".into() };
    Box::pin(futures::stream::unfold(Some(receiver), move |receiver| async move {
        let mut receiver = receiver?;
        let failed = |error| Some((Err(BodyError::Store(Box::new(error))), None));
        match receiver.recv().await {
            Some(Ok(Some(bytes))) => Some((Ok(bytes), Some(receiver))),
            Some(Ok(None)) => None,
            Some(Err(error)) => failed(error),
            None => failed(ended()),
        }
    }))
}

impl CountedBody {
    fn fail(&mut self, error: GatewayError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.ended = true;
        Poll::Ready(Some(Err(BodyError::Store(Box::new(error)))))
    }
}

impl Stream for CountedBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match &mut self.source {
            Source::Ready(pieces) => pieces.next().map(Ok),
            Source::Producer(receiver) => match receiver.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            },
        };
        match next {
            Some(Ok(bytes)) => match self.remaining.checked_sub(bytes.len() as u64) {
                Some(remaining) => {
                    self.remaining = remaining;
                    Poll::Ready(Some(Ok(bytes)))
                }
                None => self.fail(GatewayError::Internal { what: "a body grew past its length".into() }),
            },
            Some(Err(error)) => self.fail(error),
            None if self.remaining > 0 => {
                let what = format!("a body ended {} bytes early", self.remaining);
                self.fail(GatewayError::Internal { what })
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn a_producer_that_stops_early_or_sends_too_much_is_an_error_not_an_end() {
        for (sent, len, want_error) in [(3usize, 3u64, false), (3, 4, true), (3, 2, true), (0, 0, false)] {
            let (tx, rx) = mpsc::channel(4);
            tx.send(Ok(Bytes::from(vec![1; sent]))).await.unwrap();
            drop(tx);
            let got: Vec<_> = produced(rx, len).collect().await;
            assert_eq!(got.iter().any(Result::is_err), want_error, "{sent} of {len}");
        }
    }

    #[tokio::test]
    async fn a_body_without_length_ends_with_its_mark_or_with_an_error() {
        for (mark, errors) in [(Some(Ok(None)), 0), (None, 1), (Some(Err(GatewayError::NoSuchVersion)), 1)] {
            let (tx, rx) = mpsc::channel(4);
            tx.send(Ok(Some(Bytes::from_static(b"abc")))).await.unwrap();
            if let Some(mark) = mark {
                tx.send(mark).await.unwrap();
            }
            drop(tx);
            let got: Vec<_> = marked(rx).collect().await;
            assert_eq!(got.iter().filter(|piece| piece.is_err()).count(), errors);
            assert_eq!(got.len(), 1 + errors);
        }
    }
}
