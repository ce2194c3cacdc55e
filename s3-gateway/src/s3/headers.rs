//! Headers that are stored with a version and come back as they were given.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use s3s::dto::{Metadata, Timestamp};
use stele_rpc::meta::Committed;
use stele_types::ids::{LogIndex, ObjectRoot};
use stele_types::object::StoredHeaders;
use stele_types::seam::UnixMillis;

/// Header fields of PutObject and CreateMultipartUpload, taken out of the input.
macro_rules! stored_headers {
    ($input:expr) => {
        stele_types::object::StoredHeaders {
            content_type: $input.content_type.take(),
            content_encoding: $crate::s3::headers::without_aws_chunked($input.content_encoding.take()),
            content_disposition: $input.content_disposition.take(),
            content_language: $input.content_language.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            website_redirect: $input.website_redirect_location.take(),
            user: $crate::s3::headers::user_metadata($input.metadata.take()),
        }
    };
}

/// Puts stored headers into GetObject's or HeadObject's output.
macro_rules! give_back_headers {
    ($output:expr, $headers:expr) => {
        let headers: &stele_types::object::StoredHeaders = $headers;
        $output.content_type = Some(headers.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned()));
        $output.content_encoding = headers.content_encoding.clone();
        $output.content_disposition = headers.content_disposition.clone();
        $output.content_language = headers.content_language.clone();
        $output.cache_control = headers.cache_control.clone();
        $output.expires = headers.expires.clone();
        $output.website_redirect_location = headers.website_redirect.clone();
        $output.metadata = $crate::s3::headers::metadata_out(headers);
    };
}

pub(super) use {give_back_headers, stored_headers};

/// Drops the framing token that s3s leaves in place; other codings belong to the object.
pub(super) fn without_aws_chunked(value: Option<String>) -> Option<String> {
    let value = value?;
    let kept: Vec<&str> =
        value.split(',').map(str::trim).filter(|v| !v.is_empty() && !v.eq_ignore_ascii_case("aws-chunked")).collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn user_metadata(metadata: Option<Metadata>) -> BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

pub(super) fn metadata_out(headers: &StoredHeaders) -> Option<Metadata> {
    (!headers.user.is_empty()).then(|| headers.user.iter().map(|(n, v)| (n.clone(), v.clone())).collect())
}

/// A point in time as s3s writes it, in whole seconds: listings then agree with Last-Modified.
pub(super) fn timestamp(millis: UnixMillis) -> Timestamp {
    let nanos = i128::from(millis / 1000) * 1_000_000_000;
    let date = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    Timestamp::from(date)
}

/// A point in time as an HTTP date.
pub(super) fn http_date(millis: UnixMillis) -> HeaderValue {
    let mut text = Vec::new();
    let formatted = timestamp(millis).format(s3s::dto::TimestampFormat::HttpDate, &mut text);
    let valid = formatted.ok().and_then(|()| HeaderValue::from_bytes(&text).ok());
    valid.unwrap_or_else(|| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Object root and log entry: what an auditor needs to find this version's proof.
pub(super) fn evidence(headers: &mut HeaderMap, root: &ObjectRoot, log_index: LogIndex) {
    if let Ok(value) = HeaderValue::from_str(&root.to_string()) {
        headers.insert("x-stele-object-root", value);
    }
    log_entry(headers, log_index);
}

/// Log and index of an entry.
pub(super) fn log_text(log_index: LogIndex) -> String {
    format!("0/{log_index}")
}

/// Where the log has an event.
pub(super) fn log_entry(headers: &mut HeaderMap, log_index: LogIndex) {
    if let Ok(value) = HeaderValue::from_str(&log_text(log_index)) {
        headers.insert("x-stele-log", value);
    }
}

/// As [`evidence`], of a write.
pub(super) fn committed_evidence(headers: &mut HeaderMap, committed: &Committed) {
    evidence(headers, &committed.attributes.root, committed.log_index);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_token_goes_and_other_codings_stay() {
        let out = |v: &str| without_aws_chunked(Some(v.to_owned()));
        assert_eq!(out("aws-chunked"), None);
        assert_eq!(out("gzip, aws-chunked"), Some("gzip".to_owned()));
        assert_eq!(out("AWS-chunked,zstd,br"), Some("zstd,br".to_owned()));
        assert_eq!(out(""), None);
    }

    #[test]
    fn dates_are_http_dates() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
