//! A connection that gives up on a peer that says nothing. hyper waits without limit until it has seen whether a
//! connection begins like HTTP/1 or HTTP/2; its own limit on headers begins behind that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Length of what an HTTP/2 connection begins with. After so many bytes hyper has decided.
const DECIDED: u64 = 24;

/// Passes everything through; fails reads if the first bytes have not come after `patience`.
pub(super) struct FirstBytes<S> {
    inner: S,
    seen: u64,
    timer: Pin<Box<Sleep>>,
}

impl<S> FirstBytes<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, seen: 0, timer: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.seen = self.seen.saturating_add((buf.filled().len() - before) as u64);
        if polled.is_ready() || self.seen >= DECIDED {
            return polled;
        }
        self.timer.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer says nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up_and_one_that_spoke_is_not() {
        for begin in [b"".as_slice(), b"PRI * HTTP/2.0"] {
            let (ours, mut peer) = tokio::io::duplex(64);
            peer.write_all(begin).await.unwrap();
            let error = FirstBytes::new(ours, PATIENCE).read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let (ours, mut peer) = tokio::io::duplex(64);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            FirstBytes::new(ours, PATIENCE).read_to_end(&mut all).await.map(|_| all)
        });
        peer.write_all(b"GET / HTTP/1.1\r\nHost: stele\r\n").await.unwrap();
        tokio::time::sleep(PATIENCE * 3).await;
        peer.write_all(b"\r\n").await.unwrap();
        drop(peer);
        assert!(reader.await.unwrap().unwrap().ends_with(b"\r\n\r\n"));
    }
}
