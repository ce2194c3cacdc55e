//! The join token: `stele-join:1:` and base64url (no padding) of CA fingerprint (32 bytes), token id (16),
//! secret (32), number of addresses (1 to 16), and each address as its length in bytes and its text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stele_types::limits::JOIN_TOKEN_BYTES_MAX;
use stele_types::wire::{FormatError, Reader};

use crate::tls::authority::CaFingerprint;

const PREFIX: &str = "stele-join:1:";
const FORMAT: &str = "join token";
/// Most addresses in a token.
pub const ADDRESSES_MAX: usize = 16;

/// What a node needs to join.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Metadata nodes to ask, as `host:port`, 1 to [`ADDRESSES_MAX`] of them, at most 255 bytes each.
    pub addresses: Vec<String>,
    /// The cluster's CA.
    pub ca: CaFingerprint,
    /// Which token this is.
    pub id: [u8; 16],
    /// Its secret.
    pub secret: [u8; 32],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("JoinToken");
        out.field("addresses", &self.addresses).field("id", &hex::encode(self.id)).finish_non_exhaustive()
    }
}

impl JoinToken {
    /// The text that an operator copies: a secret.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] if there are no addresses, too many, or one is empty or too long.
    pub fn print(&self) -> Result<String, FormatError> {
        let rules = Reader::new(FORMAT, &[]);
        let count = u8::try_from(self.addresses.len()).unwrap_or(u8::MAX);
        rules.require((1..=ADDRESSES_MAX).contains(&usize::from(count)), "it must name 1 to 16 addresses")?;
        let mut out = Vec::new();
        out.extend_from_slice(&self.ca);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.secret);
        out.push(count);
        for address in &self.addresses {
            let len = u8::try_from(address.len()).unwrap_or(0);
            rules.require(len > 0, "an address must have 1 to 255 bytes")?;
            rules.require(printable(address), "an address has characters that are not printable")?;
            out.push(len);
            out.extend_from_slice(address.as_bytes());
        }
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(out)))
    }

    /// Reads a token; white space around it is ignored.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let rules = Reader::new(FORMAT, &[]);
        let text = text.trim();
        rules.require(text.len() <= JOIN_TOKEN_BYTES_MAX, "it is too long")?;
        let encoded = text.strip_prefix(PREFIX).ok_or(FormatError::Magic { format: FORMAT })?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| rules.invalid("it is not base64url; copy it whole"))?;
        let mut reader = Reader::new(FORMAT, &bytes);
        let (ca, id, secret) = (reader.array()?, reader.array()?, reader.array()?);
        let count = usize::from(reader.u8()?);
        reader.require((1..=ADDRESSES_MAX).contains(&count), "it must name 1 to 16 addresses")?;
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let len = usize::from(reader.u8()?);
            reader.require(len > 0, "an address must have 1 to 255 bytes")?;
            let taken = reader.take(len)?;
            let text = std::str::from_utf8(taken).ok().filter(|text| printable(text));
            addresses.push(text.ok_or_else(|| rules.invalid("an address is not printable text"))?.to_owned());
        }
        reader.end()?;
        Ok(Self { addresses, ca, id, secret })
    }
}

fn printable(address: &str) -> bool {
    address.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let addresses = vec!["meta-0.stele.svc:9100".to_owned(), "[::1]:9100".to_owned()];
        JoinToken { addresses, ca: [1; 32], id: [2; 16], secret: [3; 32] }
    }

    #[test]
    fn the_text_is_stable_and_survives_a_round_trip() {
        let text = token().print().unwrap();
        assert!(text.starts_with("stele-join:1:AQEBAQEB"), "{text}");
        assert_eq!(JoinToken::parse(&format!("  {text}\n")), Ok(token()));
        assert!(!format!("{:?}", token()).contains("3, 3"), "a secret must not be printed");
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let text = token().print().unwrap();
        for cut in 0..text.len() {
            assert!(JoinToken::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        assert!(JoinToken::parse(&format!("{text}AA")).is_err());
        assert!(JoinToken::parse(&text.replace(":1:", ":2:")).is_err());
        assert!(JoinToken::parse(&format!("{PREFIX}{}", "A".repeat(JOIN_TOKEN_BYTES_MAX))).is_err());
        assert!(JoinToken { addresses: vec![], ..token() }.print().is_err());
        assert!(JoinToken { addresses: vec!["a b:1".to_owned()], ..token() }.print().is_err());
        assert!(JoinToken { addresses: vec!["x".repeat(256)], ..token() }.print().is_err());
    }
}
