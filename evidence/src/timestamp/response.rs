//! What a time-stamping authority answers. Nothing is believed here.

use der::Decode as _;

use super::asn1::{ContentInfo, SIGNED_DATA, SignerInfo, TST_INFO, TimeStampResp, TstInfo};
use super::{RESPONSE_MAX, TimestampError};

/// Granted, and granted with changes that the token itself shows.
const GRANTED: [u8; 2] = [0, 1];

/// A response with a token, not yet verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub(super) token: ContentInfo,
    /// Exactly the bytes that are signed for.
    pub(super) content: Vec<u8>,
    pub(super) info: TstInfo,
}

impl Response {
    /// Reads a TimeStampResp in DER.
    ///
    /// # Errors
    /// It is malformed, has no token, or a token of another kind.
    pub fn parse(bytes: &[u8]) -> Result<Self, TimestampError> {
        if bytes.len() > RESPONSE_MAX {
            return Err(TimestampError::TooLarge);
        }
        let malformed = |error: der::Error| TimestampError::Malformed(error.to_string());
        let response = TimeStampResp::from_der(bytes).map_err(malformed)?;
        if !GRANTED.contains(&response.status.status) {
            return Err(TimestampError::NotGranted(response.status.status));
        }
        let token = response.token.ok_or(TimestampError::Rule("the response has no token"))?;
        let signed = &token.signed;
        if token.content_type != SIGNED_DATA || signed.content.content_type != TST_INFO || signed.version != 3 {
            return Err(TimestampError::Rule("the token is not a TSTInfo in SignedData of version 3"));
        }
        let content = signed.content.content.as_ref().ok_or(TimestampError::Rule("the token has no content"))?;
        let content = content.as_bytes().to_vec();
        let info = TstInfo::from_der(&content).map_err(malformed)?;
        if info.version != 1 {
            return Err(TimestampError::Rule("the TSTInfo has another version than 1"));
        }
        if info.extensions.iter().flatten().any(|extension| extension.critical) {
            return Err(TimestampError::Rule("the TSTInfo has a critical extension that is not known here"));
        }
        Ok(Self { token, content, info })
    }

    /// The only signer that a token may have.
    pub(super) fn signer(&self) -> Result<&SignerInfo, TimestampError> {
        let mut signers = self.token.signed.signers.iter();
        match (signers.next(), signers.next()) {
            (Some(signer), None) => Ok(signer),
            _ => Err(TimestampError::Rule("a token has exactly one signature")),
        }
    }
}
