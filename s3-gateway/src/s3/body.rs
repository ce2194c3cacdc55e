//! Bodies across the edge: s3s streams in, gateway streams out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use s3s::StdError;
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};

use crate::api::{BodyError, BodyStream};

/// A request's body as the gateway reads it.
pub(super) fn incoming(body: Option<StreamingBlob>) -> BodyStream {
    match body {
        Some(body) => Box::pin(body.map_err(BodyError::Incoming)),
        None => Box::pin(futures::stream::empty()),
    }
}

/// A response's body of exactly `len` bytes, so that hyper sends Content-Length.
pub(super) fn outgoing(stream: BodyStream, len: u64) -> StreamingBlob {
    StreamingBlob::new(Sized { stream, remaining: usize::try_from(len).unwrap_or(usize::MAX) })
}

struct Sized {
    stream: BodyStream,
    remaining: usize,
}

impl Stream for Sized {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.remaining = self.remaining.saturating_sub(bytes.len());
        }
        polled.map(|item| item.map(|result| result.map_err(|error| Box::new(error) as StdError)))
    }
}

impl ByteStream for Sized {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.remaining)
    }
}
