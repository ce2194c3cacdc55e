//! A request body made of shared buffers: nothing is copied on its way to the socket.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Buffers sent in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload {
    frames: VecDeque<Bytes>,
    left: u64,
}

impl Payload {
    /// A body of these buffers.
    pub(crate) fn new(frames: impl IntoIterator<Item = Bytes>) -> Self {
        let frames: VecDeque<Bytes> = frames.into_iter().filter(|f| !f.is_empty()).collect();
        let left = frames.iter().map(|f| f.len() as u64).sum();
        Self { frames, left }
    }

    /// Bytes not yet sent.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// The buffers, for hashing.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Bytes> {
        self.frames.iter()
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.frames.pop_front();
        if let Some(frame) = &next {
            self.left -= frame.len() as u64;
        }
        Poll::Ready(next.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
