//! Closes a connection so that the peer still reads the answer. A socket that is closed while bytes of the peer
//! are unread makes the kernel take back what was sent: a client that uploads and is refused would see a reset
//! instead of the reason.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A peer that sends nothing for so long has heard.
const SILENCE: Duration = Duration::from_secs(2);
/// Longest time that what a peer still sends is thrown away.
const LONGEST: Duration = Duration::from_secs(30);
const SCRATCH_BYTES: usize = 16 * 1024;

/// Says that a request's body was not read to its end, so that more of it may come.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Passes everything through; a shutdown is over when the peer has stopped sending.
pub(super) struct Linger<S> {
    inner: S,
    unread: Unread,
    /// Once shut down: until when, if the peer goes on; and if it falls silent.
    ending: Option<[Pin<Box<Sleep>>; 2]>,
}

impl<S> Linger<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, unread: Unread::default(), ending: None }
    }

    /// For the bodies of this connection's requests.
    pub(super) fn unread(&self) -> Unread {
        self.unread.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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
        let this = &mut *self;
        if this.ending.is_none() {
            std::task::ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let [longest, silence] =
            this.ending.get_or_insert_with(|| [LONGEST, SILENCE].map(|time| Box::pin(tokio::time::sleep(time))));
        loop {
            let mut scratch = [0; SCRATCH_BYTES];
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.inner).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    this.unread.note();
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                }
                // The peer has closed too, or is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
        // Nobody waits for a peer that had nothing more to say.
        let over = !this.unread.0.load(Ordering::Relaxed)
            || silence.as_mut().poll(cx).is_ready()
            || longest.as_mut().poll(cx).is_ready();
        if over { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_waits_for_a_peer_that_still_sends_and_for_no_other() {
        let (ours, _peer) = duplex(64);
        let begun = Instant::now();
        Linger::new(ours).shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "nothing was unread");

        let (ours, mut peer) = duplex(64);
        let mut ours = Linger::new(ours);
        ours.unread().note();
        let sender = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                peer.write_all(&[0; 64]).await.unwrap();
            }
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.unwrap();
            answer
        });
        ours.write_all(b"refused").await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(sender.await.unwrap(), b"refused");

        let (ours, peer) = duplex(64);
        let mut ours = Linger::new(ours);
        ours.unread().note();
        let begun = Instant::now();
        ours.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), SILENCE, "a silent peer");
        drop(peer);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_stops_is_left() {
        let (ours, mut peer) = duplex(64);
        let sender = tokio::spawn(async move {
            while peer.write_all(&[0; 64]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        let mut ours = Linger::new(ours);
        ours.unread().note();
        let begun = Instant::now();
        ours.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LONGEST);
        drop(ours);
        sender.await.unwrap();
    }
}
