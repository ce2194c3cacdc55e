//! Refuses or cleans requests that s3s would misread, before it sees them.
//!
//! s3s routes by the sub-resources it knows and ignores the rest, so `DELETE /b/k?acl` would delete
//! the object. It decodes aws-chunked framing only in header-signed streaming uploads and would
//! store the framing of any other. It reads protective headers only from headers, though presigners
//! can put them into the query. All three are refused here. Pure: header and URI in, verdict out.

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Uri, Version};

use super::target::Level;

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// S3 error code.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

/// Query keys of SigV4 presigned URLs, lower case.
const PRESIGN_KEYS: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
];

/// Sub-resources of an object whose PUT may name a version.
const VERSIONED_PUTS: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];

/// Sub-resources that s3s routes to operations of their own, by method and level. A key that is not
/// listed would be ignored and the plain operation run instead.
fn owned_keys(method: &Method, level: Level) -> Option<&'static [&'static str]> {
    const BUCKET_PUT: &[&str] = &[
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "encryption",
        "id",
        "intelligent-tiering",
        "inventory",
        "lifecycle",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "tagging",
        "versioning",
        "website",
        "x-id",
    ];
    const BUCKET_DELETE: &[&str] = &[
        "analytics",
        "cors",
        "encryption",
        "id",
        "intelligent-tiering",
        "inventory",
        "lifecycle",
        "metrics",
        "ownershipControls",
        "policy",
        "publicAccessBlock",
        "replication",
        "tagging",
        "website",
        "x-id",
    ];
    const OBJECT_PUT: &[&str] =
        &["acl", "legal-hold", "partNumber", "renameObject", "retention", "tagging", "uploadId", "x-id"];
    const OBJECT_DELETE: &[&str] = &["tagging", "uploadId", "versionId", "x-id"];
    const STORE_POST: &[&str] = &["evidence", "possession-audit"];
    const BUCKET_POST: &[&str] = &["delete", "x-id"];
    const OBJECT_POST: &[&str] = &["restore", "select", "select-type", "uploadId", "uploads", "versionId", "x-id"];
    match (method.as_str(), level == Level::Object) {
        ("POST", _) if level == Level::Store => Some(STORE_POST),
        ("PUT", false) => Some(BUCKET_PUT),
        ("PUT", true) => Some(OBJECT_PUT),
        ("DELETE", false) => Some(BUCKET_DELETE),
        ("DELETE", true) => Some(OBJECT_DELETE),
        ("POST", false) => Some(BUCKET_POST),
        ("POST", true) => Some(OBJECT_POST),
        _ => None,
    }
}

pub(crate) fn query_keys(uri: &Uri) -> impl Iterator<Item = &str> {
    let query = uri.query().unwrap_or("");
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or(pair))
}

/// Of writes to an object, only those of a sub-resource of one version name that version.
fn names_version(method: &Method, uri: &Uri) -> bool {
    method == Method::PUT && query_keys(uri).any(|key| VERSIONED_PUTS.contains(&key))
}

/// Decides about one request, which addresses something of this level.
///
/// # Errors
/// The refusal to answer with.
pub fn check(method: &Method, level: Level, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    check_path(uri)?;
    check_signature_version(uri, headers)?;
    check_query(method, level, uri)?;
    check_framing(uri, headers)
}

/// Signature version 2 is HMAC-SHA1 over a part of the request only. SDKs still presign with it where
/// no version is configured, so the answer says what to set.
fn check_signature_version(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let header = headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    if header || query_keys(uri).any(|key| key == "AWSAccessKeyId") {
        return Err(Refusal::new(
            400,
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256; in the \
             AWS SDKs and CLI set signature_version = s3v4.",
        ));
    }
    Ok(())
}

/// An HTTP/1 request without length and transfer coding has an empty body. For an object that is
/// more likely a client that forgot the length than one that wants an empty object.
///
/// # Errors
/// 411.
pub fn check_length(method: &Method, level: Level, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let sized = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    let copies = headers.contains_key("x-amz-copy-source") || headers.contains_key("x-amz-rename-source");
    if method != Method::PUT || level != Level::Object || version >= Version::HTTP_2 || sized || copies {
        return Ok(());
    }
    Err(Refusal::new(411, "MissingContentLength", "You must provide the Content-Length HTTP header."))
}

fn check_path(uri: &Uri) -> Result<(), Refusal> {
    // Absolute-form and `*` targets have no meaning for path-style S3.
    if uri.path().starts_with('/') {
        Ok(())
    } else {
        Err(Refusal::new(400, "InvalidURI", "The request target must be a path such as /bucket/key."))
    }
}

fn check_query(method: &Method, level: Level, uri: &Uri) -> Result<(), Refusal> {
    let owned = owned_keys(method, level);
    for key in query_keys(uri) {
        let lower = key.to_ascii_lowercase();
        if PRESIGN_KEYS.contains(&lower.as_str()) {
            continue;
        }
        if lower.starts_with("x-amz-") {
            check_hoisted(&lower)?;
            continue;
        }
        if let Some(owned) = owned
            && !owned.contains(&key)
            && !(key == "versionId" && names_version(method, uri))
        {
            let message = format!(
                "The sub-resource or parameter {key:?} is not implemented for {method} on this resource; \
                 the request was not carried out."
            );
            return Err(Refusal::new(501, "NotImplemented", message));
        }
    }
    Ok(())
}

/// Presigners put some headers into the query. Checksums there are ignored, as SDKs sign the
/// checksum of an empty body into presigned URLs; anything that would protect or change the object
/// must not be dropped in silence.
fn check_hoisted(key: &str) -> Result<(), Refusal> {
    let harmless = key.starts_with("x-amz-checksum-")
        || matches!(key, "x-amz-sdk-checksum-algorithm" | "x-amz-content-sha256" | "x-amz-user-agent");
    if harmless {
        return Ok(());
    }
    let message = format!("The query parameter {key} is not honoured; send it as a signed header.");
    Err(Refusal::new(400, "InvalidArgument", message))
}

/// aws-chunked framing is decoded only where the headers are signed and announce streaming.
fn check_framing(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let chunked = headers.get_all(CONTENT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    let framed = chunked.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case("aws-chunked"))
        || headers.contains_key("x-amz-trailer")
        || headers.contains_key("x-amz-decoded-content-length");
    if !framed {
        return Ok(());
    }
    let signed = text(AUTHORIZATION.as_str()).starts_with("AWS4-HMAC-SHA256");
    let streaming = text("x-amz-content-sha256").starts_with("STREAMING-");
    let presigned = query_keys(uri).any(|key| key.eq_ignore_ascii_case("x-amz-signature"));
    if signed && streaming && !presigned {
        return Ok(());
    }
    Err(Refusal::new(
        400,
        "InvalidRequest",
        "aws-chunked framing and trailers need a header-signed request whose x-amz-content-sha256 names a \
         STREAMING- mode.",
    ))
}

/// Removes a Range header that is malformed or names several ranges, as such a header is to be
/// ignored; s3s would answer 400. A signed header stays, or the signature would not match.
pub fn clean_range(headers: &mut HeaderMap) {
    let Some(value) = headers.get(RANGE) else { return };
    if value.to_str().is_ok_and(is_single_range) {
        return;
    }
    let authorization = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or("");
    let signed = authorization
        .split("SignedHeaders=")
        .nth(1)
        .and_then(|rest| rest.split([',', ' ']).next())
        .is_some_and(|names| names.split(';').any(|name| name.eq_ignore_ascii_case("range")));
    if !signed {
        headers.remove(RANGE);
    }
}

fn is_single_range(value: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.len() <= 19 && s.bytes().all(|b| b.is_ascii_digit());
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return false;
    };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => false,
        (true, false) => digits(last),
        (false, true) => digits(first),
        (false, false) => digits(first) && digits(last) && first.parse::<u64>().ok() <= last.parse::<u64>().ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http::target::Hosts;

    fn verdict(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Option<(u16, &'static str)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let uri = uri.parse().unwrap();
        let level = Hosts::default().level(&uri, &map, Version::HTTP_11);
        check(&method, level, &uri, &map).err().map(|r| (r.status, r.code))
    }

    #[test]
    fn foreign_sub_resources_never_reach_the_plain_operation() {
        for (method, uri) in [
            ("DELETE", "/b/k?acl"),
            ("DELETE", "/b/k?retention"),
            ("DELETE", "/b?object-lock"),
            ("PUT", "/b/k?foo"),
            ("PUT", "/b%2Fk?policy"),
            ("PUT", "/b/k?versionId=1"),
            ("PUT", "/b?foo=1"),
            ("POST", "/b?acl"),
        ] {
            assert_eq!(verdict(method, uri, &[]), Some((501, "NotImplemented")), "{method} {uri}");
        }
        for (method, uri) in [
            ("DELETE", "/b/k?versionId=1"),
            ("PUT", "/b/k?tagging&versionId=1"),
            ("DELETE", "/b/k?tagging&versionId=1"),
            ("DELETE", "/b/k"),
            ("PUT", "/b/k?partNumber=1&uploadId=x"),
            ("PUT", "/b/"),
            ("POST", "/b?delete"),
            ("GET", "/b?list-type=2&prefix=acl"),
        ] {
            assert_eq!(verdict(method, uri, &[]), None, "{method} {uri}");
        }
    }

    #[test]
    fn signature_version_2_is_named() {
        let refused = Some((400, "InvalidRequest"));
        assert_eq!(verdict("GET", "/b/k?AWSAccessKeyId=a&Signature=b&Expires=1", &[]), refused);
        assert_eq!(verdict("GET", "/b/k", &[("authorization", "AWS a:b")]), refused);
        assert_eq!(verdict("GET", "/b/k", &[("authorization", "AWS4-HMAC-SHA256 x")]), None);
    }

    #[test]
    fn a_put_of_an_object_says_how_long_it_is() {
        let check = |uri: &str, version, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            let level = Hosts::default().level(&uri.parse().unwrap(), &map, version);
            check_length(&Method::PUT, level, version, &map).err().map(|r| r.status)
        };
        assert_eq!(check("/b/k", Version::HTTP_11, &[]), Some(411));
        assert_eq!(check("/b/k", Version::HTTP_2, &[]), None);
        assert_eq!(check("/b", Version::HTTP_11, &[]), None);
        for header in [("content-length", "0"), ("transfer-encoding", "chunked"), ("x-amz-copy-source", "b/k")] {
            assert_eq!(check("/b/k", Version::HTTP_11, &[header]), None);
        }
    }

    #[test]
    fn protective_query_parameters_are_refused_and_checksums_ignored() {
        let refused = Some((400, "InvalidArgument"));
        assert_eq!(verdict("PUT", "/b/k?x-amz-acl=private", &[]), refused);
        assert_eq!(verdict("PUT", "/b/k?X-Amz-Object-Lock-Mode=COMPLIANCE", &[]), refused);
        assert_eq!(verdict("PUT", "/b/k?x-amz-tagging=a%3Db", &[]), refused);
        assert_eq!(verdict("PUT", "/b/k?X-Amz-Signature=0&x-amz-checksum-crc32=AAAAAA%3D%3D", &[]), None);
    }

    #[test]
    fn framing_that_would_be_stored_is_refused() {
        let refused = Some((400, "InvalidRequest"));
        assert_eq!(verdict("PUT", "/b/k", &[("content-encoding", "aws-chunked")]), refused);
        assert_eq!(verdict("PUT", "/b/k", &[("x-amz-trailer", "x-amz-checksum-crc32")]), refused);
        let unsigned = [
            ("authorization", "AWS4-HMAC-SHA256 x"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ("content-encoding", "gzip, aws-chunked"),
        ];
        assert_eq!(verdict("PUT", "/b/k", &unsigned), refused);
        let streaming = [
            ("authorization", "AWS4-HMAC-SHA256 x"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("content-encoding", "aws-chunked"),
        ];
        assert_eq!(verdict("PUT", "/b/k", &streaming), None);
        assert_eq!(verdict("PUT", "/b/k", &[("content-encoding", "gzip")]), None);
    }

    #[test]
    fn only_unsigned_odd_ranges_are_dropped() {
        let after = |range: &str, authorization: Option<&str>| {
            let mut map = HeaderMap::new();
            map.insert(RANGE, HeaderValue::from_str(range).unwrap());
            if let Some(value) = authorization {
                map.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            clean_range(&mut map);
            map.contains_key(RANGE)
        };
        for good in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=3-9"] {
            assert!(after(good, None), "{good}");
        }
        for odd in ["bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=-", "bytes=a-b"] {
            assert!(!after(odd, None), "{odd}");
        }
        let signed = "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host;range;x-amz-date, Signature=y";
        assert!(after("bytes=5-2", Some(signed)));
    }
}
