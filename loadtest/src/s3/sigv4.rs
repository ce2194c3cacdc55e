//! AWS Signature Version 4 for headers, as small as a load tester needs it: one region, service s3,
//! the payload unsigned or signed in one piece.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

/// Payload hash that says the payload is not part of the signature.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Who signs.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) region: String,
}

/// What is signed.
#[derive(Debug)]
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    /// Already percent-encoded.
    pub(crate) path: &'a str,
    /// Canonical: encoded and sorted.
    pub(crate) query: &'a str,
    /// Lower-case names, sorted; host, x-amz-content-sha256 and x-amz-date are added by the signer.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) payload_hash: &'a str,
}

/// Headers that carry the signature.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) amz_date: String,
    pub(crate) authorization: String,
}

type DayKey = (String, [u8; 32]);

/// Signs requests to one host; keeps the day's key.
pub(crate) struct Signer {
    credentials: Credentials,
    host: String,
    day_key: Mutex<Option<DayKey>>,
}

impl Signer {
    pub(crate) fn new(credentials: Credentials, host: String) -> Self {
        Self { credentials, host, day_key: Mutex::new(None) }
    }

    /// Signs a request made at `now`.
    pub(crate) fn sign(&self, request: &Unsigned<'_>, now: OffsetDateTime) -> Signed {
        let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
        let amz_date = format!("{day}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second());
        let mut headers = vec![
            ("host", self.host.as_str()),
            ("x-amz-content-sha256", request.payload_hash),
            ("x-amz-date", amz_date.as_str()),
        ];
        headers.extend_from_slice(request.headers);
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
        for (name, value) in &headers {
            let written = writeln!(canonical, "{name}:{}", value.trim());
            debug_assert!(written.is_ok(), "writing to a String can't fail");
        }
        canonical.push_str(&format!("\n{names}\n{}", request.payload_hash));
        let scope = format!("{day}/{}/s3/aws4_request", self.credentials.region);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical.as_bytes())));
        let signature = hex::encode(hmac(&self.key_of(&day), to_sign.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key
        );
        Signed { amz_date, authorization }
    }

    fn key_of(&self, day: &str) -> [u8; 32] {
        let mut cached = self.day_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = cached.as_ref()
            && of == day
        {
            return *key;
        }
        let secret = format!("AWS4{}", self.credentials.secret_key);
        let mut key = hmac_of_any_key(secret.as_bytes(), day.as_bytes());
        for part in [self.credentials.region.as_str(), "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        *cached = Some((day.to_owned(), key));
        key
    }
}

fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    hmac_of_any_key(key, data)
}

fn hmac_of_any_key(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// Percent-encodes as SigV4 wants it; `/` stays where it separates path segments.
pub(crate) fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    /// The GET Object example of the S3 API reference, "Signature Calculations for the
    /// Authorization Header".
    #[test]
    fn the_published_example_gets_the_published_signature() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            region: "us-east-1".into(),
        };
        let signer = Signer::new(credentials, "examplebucket.s3.amazonaws.com".into());
        let request = Unsigned {
            method: "GET",
            path: "/test.txt",
            query: "",
            headers: &[("range", "bytes=0-9")],
            payload_hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        };
        let signed = signer.sign(&request, datetime!(2013-05-24 00:00:00 UTC));
        assert_eq!(signed.amz_date, "20130524T000000Z");
        assert!(
            signed
                .authorization
                .ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{}",
            signed.authorization
        );
    }

    #[test]
    fn encoding_is_by_byte_and_keeps_only_unreserved() {
        assert_eq!(encode("a/b c+é", true), "a/b%20c%2B%C3%A9");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
