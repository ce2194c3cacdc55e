//! x-amz-checksum-*: headers, trailers and what goes back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use s3s::{S3Request, S3Result, s3_error};
use stele_types::object::{Checksum, ChecksumAlgorithm, ChecksumType};

use crate::api::{BodyRequest, ExpectedDigests, Trailer};

/// The checksum fields of an s3s input or output struct, as `(algorithm, value)`.
macro_rules! checksum_fields {
    ($from:expr) => {
        [
            (ChecksumAlgorithm::Crc32, $from.checksum_crc32.take()),
            (ChecksumAlgorithm::Crc32c, $from.checksum_crc32c.take()),
            (ChecksumAlgorithm::Crc64Nvme, $from.checksum_crc64nvme.take()),
            (ChecksumAlgorithm::Sha1, $from.checksum_sha1.take()),
            (ChecksumAlgorithm::Sha256, $from.checksum_sha256.take()),
            (ChecksumAlgorithm::Sha512, $from.checksum_sha512.take()),
            (ChecksumAlgorithm::Md5, $from.checksum_md5.take()),
            (ChecksumAlgorithm::XxHash64, $from.checksum_xxhash64.take()),
            (ChecksumAlgorithm::XxHash3, $from.checksum_xxhash3.take()),
            (ChecksumAlgorithm::XxHash128, $from.checksum_xxhash128.take()),
        ]
    };
}

/// Writes checksums into the fields of an s3s output struct. `parts` is the part count of a
/// multipart object, which composite values end with.
macro_rules! set_checksums {
    ($to:expr, $checksums:expr, $parts:expr) => {
        for checksum in $checksums {
            let text = $crate::s3::checksums::text(checksum, $parts);
            match checksum.algorithm {
                stele_types::object::ChecksumAlgorithm::Crc32 => $to.checksum_crc32 = Some(text),
                stele_types::object::ChecksumAlgorithm::Crc32c => $to.checksum_crc32c = Some(text),
                stele_types::object::ChecksumAlgorithm::Crc64Nvme => $to.checksum_crc64nvme = Some(text),
                stele_types::object::ChecksumAlgorithm::Sha1 => $to.checksum_sha1 = Some(text),
                stele_types::object::ChecksumAlgorithm::Sha256 => $to.checksum_sha256 = Some(text),
                stele_types::object::ChecksumAlgorithm::Sha512 => $to.checksum_sha512 = Some(text),
                stele_types::object::ChecksumAlgorithm::Md5 => $to.checksum_md5 = Some(text),
                stele_types::object::ChecksumAlgorithm::XxHash64 => $to.checksum_xxhash64 = Some(text),
                stele_types::object::ChecksumAlgorithm::XxHash3 => $to.checksum_xxhash3 = Some(text),
                stele_types::object::ChecksumAlgorithm::XxHash128 => $to.checksum_xxhash128 = Some(text),
            }
        }
    };
}

pub(super) use {checksum_fields, set_checksums};

const ALL: [(ChecksumAlgorithm, &str, &str, usize); 10] = [
    (ChecksumAlgorithm::Crc32, "CRC32", "x-amz-checksum-crc32", 4),
    (ChecksumAlgorithm::Crc32c, "CRC32C", "x-amz-checksum-crc32c", 4),
    (ChecksumAlgorithm::Crc64Nvme, "CRC64NVME", "x-amz-checksum-crc64nvme", 8),
    (ChecksumAlgorithm::Sha1, "SHA1", "x-amz-checksum-sha1", 20),
    (ChecksumAlgorithm::Sha256, "SHA256", "x-amz-checksum-sha256", 32),
    (ChecksumAlgorithm::Sha512, "SHA512", "x-amz-checksum-sha512", 64),
    (ChecksumAlgorithm::Md5, "MD5", "x-amz-checksum-md5", 16),
    (ChecksumAlgorithm::XxHash64, "XXHASH64", "x-amz-checksum-xxhash64", 8),
    (ChecksumAlgorithm::XxHash3, "XXHASH3", "x-amz-checksum-xxhash3", 8),
    (ChecksumAlgorithm::XxHash128, "XXHASH128", "x-amz-checksum-xxhash128", 16),
];

fn row(algorithm: ChecksumAlgorithm) -> (&'static str, &'static str, usize) {
    let row = ALL.iter().find(|row| row.0 == algorithm).expect("every algorithm has a row");
    (row.1, row.2, row.3)
}

/// All that are implemented.
pub(super) fn algorithms() -> impl Iterator<Item = ChecksumAlgorithm> {
    ALL.iter().map(|row| row.0)
}

/// Each with its header.
pub(crate) fn headers() -> impl Iterator<Item = (ChecksumAlgorithm, &'static str)> {
    ALL.iter().map(|row| (row.0, row.2))
}

/// As S3 names it, for example `CRC32C`.
pub(super) fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    row(algorithm).0
}

/// The algorithm of that name.
pub(super) fn by_name(name: &str) -> S3Result<ChecksumAlgorithm> {
    ALL.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|row| row.1).collect();
        s3_error!(InvalidRequest, "There is no checksum algorithm of this name; use one of {}.", names.join(", "))
    })
}

/// A checksum as S3 writes it.
pub(super) fn text(checksum: &Checksum, parts: usize) -> String {
    let value = STANDARD.encode(&checksum.value);
    match checksum.kind {
        ChecksumType::FullObject => value,
        ChecksumType::Composite => format!("{value}-{parts}"),
    }
}

/// Decodes the base64 value of a checksum; `None` unless it has exactly the algorithm's length.
fn decode(algorithm: ChecksumAlgorithm, value: &str) -> Option<Bytes> {
    let bytes = STANDARD.decode(value).ok()?;
    (bytes.len() == row(algorithm).2).then(|| Bytes::from(bytes))
}

/// Checksums that the client declared in headers or XML; a composite value may end with `-N`.
pub(super) fn declared(
    fields: impl IntoIterator<Item = (ChecksumAlgorithm, Option<String>)>,
) -> S3Result<Vec<Checksum>> {
    let mut found = Vec::new();
    for (algorithm, value) in fields {
        let Some(value) = value else { continue };
        let (digest, kind) = match value.rsplit_once('-') {
            Some((digest, _)) => (digest, ChecksumType::Composite),
            None => (value.as_str(), ChecksumType::FullObject),
        };
        let Some(value) = decode(algorithm, digest) else {
            return Err(s3_error!(InvalidRequest, "Value for {} header is invalid.", row(algorithm).1));
        };
        found.push(Checksum { algorithm, kind, value });
    }
    if found.len() > 1 {
        return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header."));
    }
    Ok(found)
}

/// What the client promised in `x-amz-trailer`, to be read once the body has ended.
fn trailer<T>(req: &S3Request<T>) -> S3Result<Option<Trailer>> {
    let mut announced = Vec::new();
    for value in req.headers.get_all("x-amz-trailer") {
        let Ok(value) = value.to_str() else {
            return Err(s3_error!(InvalidRequest, "x-amz-trailer is not text."));
        };
        announced.extend(value.split(',').map(|name| name.trim().to_ascii_lowercase()));
    }
    announced.retain(|name| name.starts_with("x-amz-checksum-"));
    let name = match announced.as_slice() {
        [] => return Ok(None),
        [name] => name.clone(),
        _ => return Err(s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- trailer.")),
    };
    let Some(algorithm) = ALL.iter().find(|row| row.2 == name).map(|row| row.0) else {
        return Err(s3_error!(InvalidRequest, "There is no trailing checksum {}.", name));
    };
    let Some(handle) = req.trailing_headers.clone() else {
        return Err(s3_error!(InvalidRequest, "x-amz-trailer needs an aws-chunked body."));
    };
    let value = move || {
        let headers: HeaderMap = handle.take()?;
        decode(algorithm, headers.get(name.as_str())?.to_str().ok()?)
    };
    Ok(Some(Trailer { algorithm, value: Box::new(value) }))
}

/// Everything a body of PutObject or UploadPart is compared with, and what is computed besides.
pub(super) fn body_request<T>(
    req: &S3Request<T>,
    stream: crate::api::BodyStream,
    declared_len: Option<i64>,
    content_md5: Option<&str>,
    checksums: Vec<Checksum>,
) -> S3Result<BodyRequest> {
    let md5 = content_md5.map(decode_md5).transpose()?;
    let trailer = trailer(req)?;
    if trailer.is_some() && !checksums.is_empty() {
        return Err(s3_error!(InvalidRequest, "Send the checksum as a header or as a trailer, not both."));
    }
    let none = trailer.is_none() && checksums.is_empty();
    let presigned = req.uri.query().is_some_and(|q| q.to_ascii_lowercase().contains("x-amz-signature="));
    if none && req.headers.contains_key("x-amz-sdk-checksum-algorithm") && !presigned {
        return Err(s3_error!(
            InvalidRequest,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
        ));
    }
    let declared_len = match declared_len {
        None => None,
        Some(len) => Some(u64::try_from(len).map_err(|_| s3_error!(InvalidArgument, "Negative length."))?),
    };
    let compute = if none { vec![ChecksumAlgorithm::Crc64Nvme] } else { Vec::new() };
    let expected = ExpectedDigests { md5, sha256: None, checksums, trailer };
    let withheld = req.headers.contains_key(http::header::EXPECT);
    Ok(BodyRequest { stream, declared_len, expected, compute, withheld })
}

fn decode_md5(text: &str) -> S3Result<[u8; 16]> {
    STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lengths_and_doubles_are_refused() {
        let crc = |v: &str| (ChecksumAlgorithm::Crc32, Some(v.to_owned()));
        assert_eq!(declared([crc("AAAAAA==")]).unwrap()[0].value.as_ref(), [0; 4]);
        assert_eq!(declared([crc("AAAAAA==-3")]).unwrap()[0].kind, ChecksumType::Composite);
        assert!(declared([crc("AAAA")]).is_err());
        assert!(declared([crc("not base64")]).is_err());
        let sha = (ChecksumAlgorithm::Sha1, Some(STANDARD.encode([1u8; 20])));
        assert!(declared([crc("AAAAAA=="), sha]).is_err());
    }

    #[test]
    fn content_md5_must_be_sixteen_bytes() {
        assert!(decode_md5("1B2M2Y8AsgTpgAmY7PhCfg==").is_ok());
        assert!(decode_md5("1B2M2Y8AsgTpgAmY7PhC").is_err());
        assert!(decode_md5("%%%").is_err());
    }
}
