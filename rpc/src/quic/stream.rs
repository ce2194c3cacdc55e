//! Frames on QUIC streams: bounded reading, uncopied writing, and the guard that resets a stream whose
//! call was given up.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::OwnedSemaphorePermit;

use super::budget::Budget;
use super::errors::STREAM_CANCELLED;
use super::frame::{FrameLimits, PREFIX_LEN, Prefix};
use crate::error::{Code, RpcError};

/// Why a frame could not be read.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The stream or its connection ended first.
    Lost(String),
    /// What arrived breaks the format.
    Broken(RpcError),
}

impl From<ReadError> for FrameError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::Lost(super::errors::describe(&error)),
            ReadError::Reset(code) => Self::Lost(format!("the peer gave up the stream ({code})")),
            error => Self::Lost(error.to_string()),
        }
    }
}

impl From<ReadExactError> for FrameError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(error) => error.into(),
            ReadExactError::FinishedEarly(_) => Self::Lost("the peer ended the stream early".to_owned()),
        }
    }
}

/// One frame and its share of the budget.
pub(super) struct Frame {
    pub(super) header: Bytes,
    pub(super) body: Bytes,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Reads one frame and the end of the stream. Waits for room in the budget before anything is allocated.
/// Dropping it loses what was read.
pub(super) async fn read_frame(
    recv: &mut RecvStream,
    limits: FrameLimits,
    budget: &Budget,
) -> Result<Frame, FrameError> {
    let mut prefix = [0; PREFIX_LEN];
    recv.read_exact(&mut prefix).await?;
    let prefix = Prefix::decode(prefix, limits).map_err(FrameError::Broken)?;
    let room = budget.take(prefix.total()).await;
    let header = read_bytes(recv, prefix.header).await?;
    let body = read_bytes(recv, prefix.body).await?;
    if recv.read_chunk(1, true).await?.is_some() {
        let detail = "there are bytes behind the length that was announced";
        return Err(FrameError::Broken(RpcError::new(Code::Malformed, detail)));
    }
    Ok(Frame { header, body, room })
}

async fn read_bytes(recv: &mut RecvStream, len: usize) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::with_capacity(len);
    while out.len() < len {
        let Some(chunk) = recv.read_chunk(len - out.len(), true).await? else {
            return Err(FrameError::Lost("the peer ended the stream early".to_owned()));
        };
        out.extend_from_slice(&chunk.bytes);
    }
    Ok(out.freeze())
}

/// Writes one frame and ends the stream. The body is not copied.
pub(super) async fn write_frame(send: &mut SendStream, prefix: Prefix, parts: [Bytes; 2]) -> Result<(), WriteError> {
    let [header, body] = parts;
    let mut head = BytesMut::with_capacity(PREFIX_LEN + header.len());
    head.extend_from_slice(&prefix.encode());
    head.extend_from_slice(&header);
    send.write_all_chunks(&mut [head.freeze(), body]).await?;
    send.finish()?;
    Ok(())
}

/// Both halves of a call's stream. Dropped before [`Call::done`], it resets them, so that the peer stops
/// working for nobody.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    done: bool,
    code: VarInt,
}

impl Call {
    pub(super) fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, done: false, code: STREAM_CANCELLED }
    }

    /// Nothing more to read or write.
    pub(super) const fn done(&mut self) {
        self.done = true;
    }

    /// The rest of what the peer sends is not wanted: the answer says why.
    pub(super) fn stop_reading(&mut self, code: VarInt) {
        drop(self.recv.stop(code));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            // Both fail only if that half has ended already.
            drop(self.send.reset(self.code));
            drop(self.recv.stop(self.code));
        }
    }
}

/// One request and one answer without bodies on a connection of its own.
///
/// # Errors
/// `DeadlineExceeded` if the answer is lost, `Malformed` if it breaks the format.
pub(crate) async fn exchange_once(
    connection: &quinn::Connection,
    header: Bytes,
    limits: FrameLimits,
) -> Result<Bytes, RpcError> {
    let lost = |problem: String| RpcError::new(Code::DeadlineExceeded, format!("the answer was lost: {problem}"));
    let stream = connection.open_bi().await.map_err(|e| lost(super::errors::describe(&e)))?;
    let mut call = Call::new(stream);
    let prefix = Prefix::new(header.len(), 0, limits)?;
    // If the write fails, the read says why.
    drop(write_frame(&mut call.send, prefix, [header, Bytes::new()]).await);
    let budget = Budget::new(2 * limits.header.max(PREFIX_LEN));
    let frame = match read_frame(&mut call.recv, limits, &budget).await {
        Ok(frame) => frame,
        Err(FrameError::Broken(error)) => return Err(error),
        Err(FrameError::Lost(problem)) => return Err(lost(problem)),
    };
    call.done();
    Ok(frame.header)
}
