//! Has checkpoints time-stamped (RFC 3161): the whole note, so that the token dates the signatures, too.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use stele_evidence::note::Note;
use stele_evidence::timestamp::request::encode_request;
use stele_evidence::timestamp::response::Response;
use stele_evidence::timestamp::roots::Roots;
use stele_evidence::timestamp::{RESPONSE_MAX, TimestampError};
use stele_types::seam::{Rng, random_bytes};

use crate::http::{Address, client, post};

/// For one question with its answer.
pub const TIMEOUT: Duration = Duration::from_secs(20);
const REQUEST_KIND: &str = "application/timestamp-query";

/// Why there is no time stamp.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// The address can't be used.
    #[error("the address of the time-stamping authority is no http or https URL")]
    Url,
    /// No answer.
    #[error("the time-stamping authority at {host} gave no answer: {why}")]
    Unreachable {
        /// Its host.
        host: String,
        /// Why.
        why: String,
    },
    /// Another answer than 200.
    #[error("the time-stamping authority at {host} answered with HTTP status {status}: {words:?}")]
    Refused {
        /// Its host.
        host: String,
        /// The status.
        status: u16,
        /// Its own words, cut.
        words: String,
    },
    /// The answer shows nothing of this note.
    #[error("the answer of the time-stamping authority at {host} is of no use: {source}")]
    Useless {
        /// Its host.
        host: String,
        /// Why.
        source: TimestampError,
    },
}

/// Has `note` stamped by the authority at `url`. Returns the exact bytes of its response, verified: over this note,
/// with our nonce, and with certificates that lead to one of `roots`, if there are any.
///
/// # Errors
/// [`StampError`]; another try may help.
pub async fn stamp(url: &str, note: &Note, roots: &Roots, rng: &dyn Rng) -> Result<Bytes, StampError> {
    let address = Address::parse(url).ok_or(StampError::Url)?;
    let host = || address.host().to_owned();
    let useless = |source| StampError::Useless { host: host(), source };
    let nonce = u64::from_be_bytes(random_bytes(rng));
    let request = encode_request(note.as_bytes(), nonce).map_err(useless)?;
    let unreachable = |why| StampError::Unreachable { host: host(), why };
    let http = client(TIMEOUT).map_err(unreachable)?;
    let answer = post(&http, &address, (REQUEST_KIND, request), RESPONSE_MAX).await.map_err(unreachable)?;
    if answer.status != 200 {
        return Err(StampError::Refused { host: host(), status: answer.status, words: answer.words() });
    }
    let response = Response::parse(&answer.body).map_err(useless)?;
    response.verify(note.as_bytes(), roots, Some(nonce)).map_err(useless)?;
    Ok(answer.body)
}
