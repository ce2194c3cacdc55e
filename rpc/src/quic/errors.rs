//! Codes with which connections and streams are closed, and what a lost connection means in words.

use quinn::{ConnectionError, VarInt};

/// The process is stopping.
pub(super) const CLOSE_STOPPING: VarInt = VarInt::from_u32(1);
/// The peer did not show a certificate, or said something else than its certificate.
pub(super) const CLOSE_UNKNOWN_PEER: VarInt = VarInt::from_u32(2);
/// The first exchange failed.
pub(super) const CLOSE_HELLO: VarInt = VarInt::from_u32(3);
/// Nothing more to say: end of a join.
pub(super) const CLOSE_DONE: VarInt = VarInt::from_u32(4);

/// The caller no longer wants the answer.
pub(super) const STREAM_CANCELLED: VarInt = VarInt::from_u32(1);
/// The call was refused before its body was read; the answer says why.
pub(super) const STREAM_REFUSED: VarInt = VarInt::from_u32(2);

/// A lost connection in words. Text that the peer sent is cut to a bounded length.
pub(crate) fn describe(error: &ConnectionError) -> String {
    let text = match error {
        ConnectionError::TimedOut => "nothing arrived for too long".to_owned(),
        ConnectionError::Reset => "the peer restarted and does not know the connection".to_owned(),
        ConnectionError::LocallyClosed => "this process closed it".to_owned(),
        ConnectionError::ApplicationClosed(close) => {
            format!("the peer closed it: {}", String::from_utf8_lossy(bounded(&close.reason)))
        }
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(bounded(&close.reason)).into_owned();
            format!("the peer refused it: {} {reason}", close.error_code)
        }
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

fn bounded(reason: &[u8]) -> &[u8] {
    reason.get(..400).unwrap_or(reason)
}
