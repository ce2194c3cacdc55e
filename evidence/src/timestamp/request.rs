//! What is sent to a time-stamping authority.

use der::Encode as _;
use der::asn1::OctetString;
use sha2::{Digest as _, Sha256};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::TimestampError;
use super::asn1::{Imprint, SHA_256, TimeStampReq};

/// A TimeStampReq in DER over the SHA-256 of `content`, which asks for the authority's certificates. The
/// caller draws the nonce, and hands it to [`super::response::Response::verify`] again.
///
/// # Errors
/// None for any content; DER has limits that this stays far below.
pub fn encode_request(content: &[u8], nonce: u64) -> Result<Vec<u8>, TimestampError> {
    let malformed = |error: der::Error| TimestampError::Malformed(error.to_string());
    let hash = OctetString::new(Sha256::digest(content).to_vec()).map_err(malformed)?;
    // OpenSSL and others write the parameters of SHA-256 out as NULL, and some authorities compare bytes.
    let algorithm = AlgorithmIdentifierOwned { oid: SHA_256, parameters: Some(der::Any::null()) };
    let imprint = Imprint { algorithm, hash };
    let request = TimeStampReq { version: 1, imprint, policy: None, nonce: Some(nonce), certificates: true };
    request.to_der().map_err(malformed)
}
