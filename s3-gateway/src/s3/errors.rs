//! From the gateway's errors to S3's, in one exhaustive match.

use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{S3Error, S3ErrorCode};
use stele_types::seam::UnixMillis;

use super::headers::http_date;
use crate::api::{BodyError, DigestKind, GatewayError, Shown};

/// Translates a gateway error. `request_id` goes into the log line of those that are our fault.
pub(super) fn to_s3(error: GatewayError, request_id: &str) -> S3Error {
    use GatewayError as E;
    let message = error.to_string();
    match error {
        E::NoSuchBucket { .. } => coded(S3ErrorCode::NoSuchBucket, message),
        E::NoSuchKey { marker } => no_such_key(marker),
        E::NoSuchVersion => coded(S3ErrorCode::NoSuchVersion, message),
        E::DeleteMarker { id, modified } => delete_marker(id, modified),
        E::Locked { .. } => coded(S3ErrorCode::AccessDenied, message),
        E::NoObjectLock => coded(S3ErrorCode::InvalidRequest, message),
        E::BucketState { .. } => coded(S3ErrorCode::InvalidBucketState, message),
        E::MarkerOnly => coded(S3ErrorCode::MethodNotAllowed, message),
        E::NoSuchUpload => coded(S3ErrorCode::NoSuchUpload, message),
        E::InvalidPart { .. } => coded(S3ErrorCode::InvalidPart, message),
        E::InvalidPartOrder => coded(S3ErrorCode::InvalidPartOrder, message),
        E::PartTooSmall { .. } => coded(S3ErrorCode::EntityTooSmall, message),
        E::PreconditionFailed => coded(S3ErrorCode::PreconditionFailed, message),
        E::PreconditionNoKey => coded(S3ErrorCode::NoSuchKey, message),
        E::NotModified { etag, modified } => not_modified(&etag.to_string(), modified),
        E::RangeNotSatisfiable { len } => range_error(len, message),
        E::NoSuchPartNumber { .. } => custom("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, message),
        E::DigestMismatch { which } => digest_mismatch(which),
        E::TrailerMissing => coded(S3ErrorCode::InvalidRequest, message),
        E::BodyTooShort { .. } | E::BodyTooLong { .. } => coded(S3ErrorCode::IncompleteBody, message),
        E::BodyStalled { .. } => coded(S3ErrorCode::RequestTimeout, message),
        E::BodyFailed(source) => body_failed(source, request_id),
        E::EntityTooLarge { .. } => coded(S3ErrorCode::EntityTooLarge, message),
        E::KeyTooLong { .. } => coded(S3ErrorCode::KeyTooLongError, message),
        E::MetadataTooLarge { .. } => coded(S3ErrorCode::MetadataTooLarge, message),
        E::InvalidArgument { .. } => coded(S3ErrorCode::InvalidArgument, message),
        E::InvalidWriteOffset { .. } => custom("InvalidWriteOffset", StatusCode::BAD_REQUEST, message),
        E::TooManyParts { .. } => custom("TooManyParts", StatusCode::BAD_REQUEST, message),
        E::TokenReused => custom("IdempotencyParameterMismatch", StatusCode::BAD_REQUEST, message),
        E::InvalidRequest { .. } => coded(S3ErrorCode::InvalidRequest, message),
        E::SlowDown { .. } => retry_later(S3ErrorCode::SlowDown, message),
        E::DrivesMissing { .. } | E::Unavailable { .. } => {
            tracing::warn!(request_id, %message, "request refused");
            retry_later(S3ErrorCode::ServiceUnavailable, message)
        }
        E::StoreFull { .. } => {
            tracing::warn!(request_id, %message, "request refused");
            retry_later(S3ErrorCode::ServiceUnavailable, message)
        }
        E::EvidenceNotReady { .. } => retry_later(S3ErrorCode::Custom("EvidenceNotReady".into()), message),
        E::NoSuchEvidence { .. } => custom("NoSuchEvidence", StatusCode::NOT_FOUND, message),
        E::BucketAlreadyOwned => coded(S3ErrorCode::BucketAlreadyOwnedByYou, message),
        E::BucketExists => coded(S3ErrorCode::BucketAlreadyExists, message),
        E::BucketNotEmpty => coded(S3ErrorCode::BucketNotEmpty, message),
        E::Conflict { .. } => coded(S3ErrorCode::OperationAborted, message),
        E::Corrupt { .. } | E::Internal { .. } => {
            tracing::error!(request_id, %message, "request failed");
            coded(S3ErrorCode::InternalError, "We encountered an internal error; the operator's log has the details.")
        }
    }
}

/// An error with one of s3s' codes.
pub(super) fn coded(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// An error whose code s3s does not list; those have no status of their own.
pub(super) fn custom(code: &'static str, status: StatusCode, message: impl Into<String>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message.into());
    error.set_status_code(status);
    error
}

fn retry_later(code: S3ErrorCode, message: String) -> S3Error {
    let mut error = coded(code, message);
    error.set_status_code(StatusCode::SERVICE_UNAVAILABLE);
    let mut headers = HeaderMap::new();
    headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    error.set_headers(headers);
    error
}

fn marker_headers(id: Option<Shown>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Some(value) = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
        headers.insert("x-amz-version-id", value);
    }
    headers
}

fn no_such_key(marker: Option<Shown>) -> S3Error {
    let mut error = coded(S3ErrorCode::NoSuchKey, "The specified key does not exist.");
    if marker.is_some() {
        error.set_headers(marker_headers(marker));
    }
    error
}

fn delete_marker(id: Shown, modified: UnixMillis) -> S3Error {
    let mut error = coded(S3ErrorCode::MethodNotAllowed, "The specified version is a delete marker.");
    let mut headers = marker_headers(Some(id));
    headers.insert(http::header::ALLOW, HeaderValue::from_static("DELETE"));
    headers.insert(http::header::LAST_MODIFIED, http_date(modified));
    error.set_headers(headers);
    error
}

fn not_modified(etag: &str, modified: UnixMillis) -> S3Error {
    let mut error = coded(S3ErrorCode::NotModified, "Not Modified");
    error.set_status_code(StatusCode::NOT_MODIFIED);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        headers.insert(http::header::ETAG, value);
    }
    headers.insert(http::header::LAST_MODIFIED, http_date(modified));
    error.set_headers(headers);
    error
}

fn range_error(len: u64, message: String) -> S3Error {
    let mut error = coded(S3ErrorCode::InvalidRange, message);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{len}")) {
        headers.insert(http::header::CONTENT_RANGE, value);
    }
    error.set_headers(headers);
    error
}

fn digest_mismatch(which: DigestKind) -> S3Error {
    match which {
        DigestKind::Md5 => {
            coded(S3ErrorCode::BadDigest, "The Content-MD5 you specified did not match what we received.")
        }
        DigestKind::PayloadSha256 => custom(
            "XAmzContentSHA256Mismatch",
            StatusCode::BAD_REQUEST,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
        DigestKind::Checksum(algorithm) => coded(
            S3ErrorCode::BadDigest,
            format!("The {algorithm:?} checksum you specified did not match what we received."),
        ),
    }
}

fn body_failed(error: BodyError, request_id: &str) -> S3Error {
    let source = match error {
        BodyError::Store(error) => return to_s3(*error, request_id),
        BodyError::Incoming(source) => source,
    };
    let message = source.to_string();
    if let Some(error) = source.downcast_ref::<AwsChunkedStreamError>() {
        let code = match error {
            AwsChunkedStreamError::Underlying(_) => S3ErrorCode::IncompleteBody,
            _ => error.to_s3_error_code(),
        };
        return coded(code, message);
    }
    if let Some(error) = source.downcast_ref::<UploadStreamError>() {
        let code = match error.to_s3_error_code() {
            S3ErrorCode::InternalError => S3ErrorCode::IncompleteBody,
            S3ErrorCode::BadDigest => return digest_mismatch(DigestKind::PayloadSha256),
            code => code,
        };
        return coded(code, message);
    }
    // The client went away or broke its own framing: not our fault, so never a 5xx.
    coded(S3ErrorCode::IncompleteBody, message)
}
