//! Entry point for the fuzz target of this crate: everything of a request that is read by code of
//! ours, before or beside s3s. Any bytes at all; it panics only if a promise is broken. `fuzz/` runs it
//! under libFuzzer; the test below replays its corpus.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use crate::http::document;
use crate::http::guard;
use crate::http::target::Hosts;

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

    #[test]
    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn corpus_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/s3_request");
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for file in files {
            super::fuzz_request(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", folder.display());
    }
}
