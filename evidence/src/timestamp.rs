//! Time stamps after RFC 3161: an authority that the log's operator does not run signs that some bytes existed
//! at some time. Stele has whole checkpoints stamped, signatures included.
//!
//! | module | holds |
//! |---|---|
//! | [`request`] | what is sent to an authority |
//! | [`response`] | what comes back, read and not yet believed |
//! | [`roots`] | the certificates that an auditor trusts |
//! | `verify` | from the response to the time that it shows |
//! | `algorithms` | signatures of certificates and tokens, in pure Rust |
//! | `time` | times of tokens |
//! | `asn1` | the shapes of RFC 3161 and of the part of CMS that it uses |

mod algorithms;
mod asn1;
pub mod request;
pub mod response;
pub mod roots;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod verify;

pub use verify::Stamped;

/// Largest response, bytes: a token with a long chain has under 20,000.
pub const RESPONSE_MAX: usize = 64 * 1024;

/// Why a response shows nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TimestampError {
    /// More than [`RESPONSE_MAX`] bytes.
    #[error("larger than {RESPONSE_MAX} bytes")]
    TooLarge,
    /// Not the DER of a response with a token.
    #[error("not a time-stamp response in DER: {0}")]
    Malformed(String),
    /// The authority refused.
    #[error("the authority did not grant a time stamp: status {0}")]
    NotGranted(u8),
    /// It breaks a rule of RFC 3161.
    #[error("{0}")]
    Rule(&'static str),
    /// It is over other bytes.
    #[error("the token is over other bytes")]
    OtherBytes,
    /// The nonce is not that of the request.
    #[error("the token has another nonce than the request")]
    OtherNonce,
    /// Its signature is wrong.
    #[error("the signature of the token is wrong, or of a kind that is not known here")]
    Signature,
    /// The certificate may not stamp.
    #[error("the certificate is not one for time stamps alone (extended key usage)")]
    KeyUsage,
    /// The certificates don't lead to a root of the auditor, or not at the time of the token.
    #[error("the certificates do not lead to a root of yours at the time of the token: {0}")]
    Chain(String),
}
