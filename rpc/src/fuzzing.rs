//! Entry points for the fuzz targets of what this crate parses. Each takes any bytes at all and panics
//! only if a promise of the format is broken. `fuzz/` runs them under libFuzzer; the tests below replay
//! its corpora, so that every find stays found.

use crate::error::RpcError;
use crate::join::token::JoinToken;
use crate::join::{JoinReply, JoinRequest};
use crate::quic::frame::{CallHeader, FrameLimits, PREFIX_LEN, Prefix, ReplyHeader, decode, encode};
use crate::quic::hello::Hello;
use crate::tls::identity::Identity;

/// An identity that parses prints to the same text; any bytes are a certificate or are refused.
pub fn fuzz_identity(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(identity) = Identity::parse(text)
    {
        assert_eq!(identity.to_string(), text);
    }
    drop(Identity::of_certificate(&data.into()));
}

/// A token that parses prints to a text that parses to the same token.
pub fn fuzz_join_token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(token) = JoinToken::parse(text)
    {
        assert_eq!(token.print().and_then(|text| JoinToken::parse(&text)), Ok(token));
    }
}

/// A prefix within its limits and a header that decodes survive a round trip.
pub fn fuzz_rpc_frame(data: &[u8]) {
    let Some((prefix, header)) = data.split_first_chunk::<PREFIX_LEN>() else { return };
    if let Ok(decoded) = Prefix::decode(*prefix, FrameLimits::CALL) {
        assert!(decoded.header <= FrameLimits::CALL.header && decoded.body <= FrameLimits::CALL.body);
        assert_eq!(decoded.encode(), *prefix);
    }
    if let Ok(call) = decode::<CallHeader>(header) {
        let again = encode(&call).and_then(|bytes| decode::<CallHeader>(&bytes));
        assert!(again.is_ok_and(|again| again.timeout_ms == call.timeout_ms && again.class == call.class));
    }
    drop(decode::<ReplyHeader>(header));
}

/// What strangers and peers say first: any bytes decode or are refused.
pub fn fuzz_rpc_hello(data: &[u8]) {
    if let Ok(hello) = decode::<Hello>(data) {
        assert_eq!(encode(&hello).and_then(|bytes| decode::<Hello>(&bytes)), Ok(hello));
    }
    drop(decode::<Result<Hello, RpcError>>(data));
    if let Ok(request) = decode::<JoinRequest>(data) {
        assert_eq!(encode(&request).and_then(|bytes| decode::<JoinRequest>(&bytes)), Ok(request));
    }
    drop(decode::<Result<JoinReply, RpcError>>(data));
}

#[cfg(test)]
mod tests;
