//! Request ids: 16 upper-case hex digits, sent as `x-amz-request-id` with every response.

use std::fmt;

use http::HeaderValue;
use stele_types::seam::{Rng, random_bytes};

/// Id of one request; in the response's headers, in error bodies and in log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(u64);

impl RequestId {
    /// Draws a new id.
    pub fn draw(rng: &dyn Rng) -> Self {
        Self(u64::from_be_bytes(random_bytes(rng)))
    }

    /// As a header value.
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).expect("hex digits are a valid header value")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}
