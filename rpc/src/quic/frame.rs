//! What a call and its answer look like on a stream: header length and body length (u32, little-endian
//! both), header (MessagePack with field names), body, end of stream. Lengths are checked before anything
//! is allocated.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stele_types::limits::{RPC_BODY_BYTES_MAX, RPC_HEADER_BYTES_MAX};

use crate::error::{Code, RpcError};
use crate::transport::{Class, Message, Reply};

/// Bytes of the two lengths.
pub const PREFIX_LEN: usize = 8;

/// Largest header and body that are accepted, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Of the header.
    pub header: usize,
    /// Of the body.
    pub body: usize,
}

impl FrameLimits {
    /// Of calls and answers.
    pub const CALL: Self = Self { header: RPC_HEADER_BYTES_MAX, body: RPC_BODY_BYTES_MAX };
}

/// The two lengths, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Of the header, bytes.
    pub header: usize,
    /// Of the body, bytes.
    pub body: usize,
}

impl Prefix {
    /// Checks the lengths of something to be sent.
    ///
    /// # Errors
    /// `Malformed` if a length is over its limit.
    pub fn new(header: usize, body: usize, limits: FrameLimits) -> Result<Self, RpcError> {
        for (what, len, max) in [("header", header, limits.header), ("body", body, limits.body)] {
            if len > max {
                let detail = format!("a {what} of {len} bytes is over the limit of {max}; split the request");
                return Err(RpcError::new(Code::Malformed, detail));
            }
        }
        Ok(Self { header, body })
    }

    /// As it is sent. Lengths were checked, so they fit.
    pub fn encode(self) -> [u8; PREFIX_LEN] {
        let mut out = [0; PREFIX_LEN];
        let (header, body) = out.split_at_mut(4);
        header.copy_from_slice(&u32::try_from(self.header).unwrap_or(u32::MAX).to_le_bytes());
        body.copy_from_slice(&u32::try_from(self.body).unwrap_or(u32::MAX).to_le_bytes());
        out
    }

    /// Reads what [`Prefix::encode`] wrote.
    ///
    /// # Errors
    /// `Malformed` if a length is over its limit.
    pub fn decode(bytes: [u8; PREFIX_LEN], limits: FrameLimits) -> Result<Self, RpcError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let (header, body) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let len = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
        Self::new(len(header), len(body), limits)
    }

    /// Bytes behind the prefix.
    pub const fn total(self) -> usize {
        self.header.saturating_add(self.body)
    }
}

/// Header of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallHeader {
    /// What is asked.
    pub message: Message,
    /// How long the caller still waits, milliseconds.
    pub timeout_ms: u64,
    /// How urgent it is.
    #[serde(default)]
    pub class: Class,
}

/// Header of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplyHeader {
    /// The answer, or why there is none.
    pub result: Result<Reply, RpcError>,
}

/// Encodes a header.
///
/// # Errors
/// `Internal`, for a type that has no wire form: a defect.
pub fn encode<T: Serialize>(header: &T) -> Result<Bytes, RpcError> {
    match rmp_serde::to_vec_named(header) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(RpcError::new(Code::Internal, format!("a header has no wire form: {error}"))),
    }
}

/// Decodes a header. Fields that are unknown here are skipped.
///
/// # Errors
/// `Malformed`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RpcError> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        let detail = format!("a header can't be decoded: {error}; both sides must run compatible releases");
        RpcError::new(Code::Malformed, detail)
    })
}
