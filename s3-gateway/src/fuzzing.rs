//! Entry points for the fuzz targets of this crate: everything of a request that is read by code of
//! ours, before or beside s3s. Any bytes at all; it panics only if a promise is broken. `fuzz/` runs it
//! under libFuzzer; the test below replays its corpus.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use s3s::dto::{
    CORSConfiguration, CompletedMultipartUpload, CreateBucketConfiguration, Delete, ObjectLockConfiguration,
    ObjectLockLegalHold, ObjectLockRetention, Tagging, VersioningConfiguration,
};
use s3s::xml::{Deserialize, Deserializer};

use crate::http::target::Hosts;
use crate::http::{document, elements, form, guard};

/// `METHOD URI`, then a header per line: refused or passed on, and values of headers and of the query
/// are refused or mean the same when written back.
pub fn fuzz_request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some((method, uri)) = lines.next().and_then(start_line) else { return };
    let mut headers: HeaderMap = lines.filter_map(header).collect();
    let Ok(hosts) = Hosts::new(["s3.example.com", "localhost"]) else { return };
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let level = hosts.level(&uri, &headers, version);
        drop(hosts.bucket(&uri, &headers, version));
        drop(guard::check(&method, level, &uri, &headers));
        drop(guard::check_length(&method, level, version, &headers));
        if document::is_document(&method, level, &uri) {
            drop(document::declared(&uri, &headers));
        }
    }
    guard::clean_range(&mut headers);
    let values = headers.values().filter_map(|value| value.to_str().ok());
    for text in values.chain(uri.query().into_iter().flat_map(|query| query.split(['&', '=']))) {
        crate::s3::fuzz_value(text);
    }
}

/// A sub-resource in the first line, its document behind it: refused or read, and what is read is read alike
/// when it is written back.
pub fn fuzz_document(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (name, document) = data.split_at(at);
    let document = document.get(1..).unwrap_or_default();
    if let Some(known) = std::str::from_utf8(name).ok().and_then(|name| elements::known([name].into_iter())) {
        drop(elements::unknown(document, known));
    }
    read::<Delete>(document);
    read::<CompletedMultipartUpload>(document);
    read::<CORSConfiguration>(document);
    read::<CreateBucketConfiguration>(document);
    read::<ObjectLockConfiguration>(document);
    read::<ObjectLockRetention>(document);
    read::<ObjectLockLegalHold>(document);
    read::<VersioningConfiguration>(document);
    read::<Tagging>(document);
}

fn read<T: for<'xml> Deserialize<'xml>>(document: &[u8]) {
    let mut reader = Deserializer::new(document);
    drop(T::deserialize(&mut reader).and_then(|read| reader.expect_eof().map(|()| read)));
}

/// A boundary in the first line, the beginning of a form behind it; and each line as what a form's field may hold.
pub fn fuzz_form(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (boundary, head) = data.split_at(at);
    let head = Bytes::copy_from_slice(head.get(1..).unwrap_or_default());
    let Ok(boundary) = std::str::from_utf8(boundary) else { return };
    let Some(fields) = form::fields(boundary, head) else { return };
    for (name, value) in fields {
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        crate::s3::fuzz_field(&name, &value);
    }
}

fn start_line(line: &[u8]) -> Option<(Method, Uri)> {
    let (method, uri) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((method.parse().ok()?, uri.parse().ok()?))
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let at = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(at);
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn replay(corpus: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(corpus);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for file in files {
            target(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", folder.display());
    }

    #[test]
    fn corpora_hold() {
        replay("s3_request", super::fuzz_request);
        replay("s3_document", super::fuzz_document);
        replay("s3_form", super::fuzz_form);
    }
}
