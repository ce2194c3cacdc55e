//! Bodies that are XML documents: their digests, and honest errors.
//!
//! s3s reads such a body whole, after authorisation. It does not compare Content-MD5 and checksums
//! with it, and answers 500 where the client broke off or signed another body. [`Document`] sits
//! between the connection and s3s; the fault it notes replaces s3s' answer.
//! Bodies of objects never come here: the PUT flow checks those.

use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body::{Body, Frame, SizeHint};
use md5::{Digest as _, Md5};
use stele_types::object::ChecksumAlgorithm;

use super::elements;
use super::fault::{Broken, Fault};
use super::guard::{Refusal, query_keys};
use super::target::Level;
use crate::digests::checksum_of;
use crate::s3::checksums::headers as checksum_headers;

/// Longest document: 1,000 escaped keys to delete, or a Complete of 10,000 parts with checksums.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Sub-resources of an object that are set by a document.
const OBJECT_DOCUMENTS: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];

/// Digests that the client declared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Declared {
    md5: Option<Vec<u8>>,
    payload_sha256: Option<Vec<u8>>,
    checksums: Vec<(ChecksumAlgorithm, Vec<u8>)>,
    /// Names that its elements may have; any, without.
    elements: Option<&'static [&'static str]>,
}

/// True for requests whose body s3s reads whole.
pub(crate) fn is_document(method: &Method, level: Level, uri: &Uri) -> bool {
    let of_object = || query_keys(uri).any(|key| OBJECT_DOCUMENTS.contains(&key));
    method == Method::POST || (method == Method::PUT && (level != Level::Object || of_object()))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads what the client declares of a document.
///
/// # Errors
/// Digests that can't be decoded; a bulk deletion without one, as a flipped bit there deletes
/// another key; framed documents, which are not implemented.
pub(crate) fn declared(uri: &Uri, headers: &HeaderMap) -> Result<Declared, Refusal> {
    let refuse = |status, code, message: &str| Err(Refusal { status, code, message: message.to_owned() });
    let payload = text(headers, "x-amz-content-sha256").unwrap_or("");
    if payload.starts_with("STREAMING-") {
        return refuse(501, "NotImplemented", "aws-chunked framing is implemented for objects and parts only.");
    }
    let mut declared =
        Declared { payload_sha256: hex::decode(payload).ok().filter(|sha| sha.len() == 32), ..Declared::default() };
    declared.elements = elements::known(query_keys(uri));
    if let Some(md5) = text(headers, "content-md5") {
        match STANDARD.decode(md5).ok().filter(|md5| md5.len() == 16) {
            Some(md5) => declared.md5 = Some(md5),
            None => return refuse(400, "InvalidDigest", "The Content-MD5 you specified is not valid."),
        }
    }
    for (algorithm, name) in checksum_headers() {
        let Some(value) = text(headers, name) else { continue };
        match STANDARD.decode(value) {
            Ok(value) => declared.checksums.push((algorithm, value)),
            Err(_) => return refuse(400, "InvalidRequest", &format!("Value for {name} header is invalid.")),
        }
    }
    let deletes = query_keys(uri).any(|key| key == "delete");
    if deletes && declared.md5.is_none() && declared.checksums.is_empty() {
        let message = "Missing required header for this request: Content-MD5 or x-amz-checksum-*.";
        return refuse(400, "InvalidRequest", message);
    }
    // Of Complete, x-amz-checksum-* describe the object, not this document.
    if query_keys(uri).any(|key| key == "uploadId") {
        declared.checksums.clear();
    }
    Ok(declared)
}

/// A document on its way to s3s.
pub(super) struct Document<B> {
    inner: B,
    /// `None` once compared.
    declared: Option<Declared>,
    seen: Vec<Bytes>,
    seen_bytes: usize,
    fault: Fault,
}

impl<B> Document<B> {
    pub(super) fn new(inner: B, declared: Declared, fault: Fault) -> Self {
        Self { inner, declared: Some(declared), seen: Vec::new(), seen_bytes: 0, fault }
    }

    fn take_note(&mut self, frame: &Frame<Bytes>) -> Result<(), Broken>
    where
        B: Body,
    {
        if let Some(data) = frame.data_ref() {
            self.seen_bytes = self.seen_bytes.saturating_add(data.len());
            self.seen.push(data.clone());
        }
        if self.seen_bytes > DOCUMENT_BYTES_MAX {
            self.seen.clear();
            return Err(self.fault.note("MaxMessageLengthExceeded", "Your request was too big."));
        }
        // Readers may stop here, without asking for the end.
        if self.inner.is_end_stream() { self.compare() } else { Ok(()) }
    }

    fn compare(&mut self) -> Result<(), Broken> {
        let Some(declared) = self.declared.take() else { return Ok(()) };
        let seen = std::mem::take(&mut self.seen).concat();
        if declared.md5.is_some_and(|md5| md5 != Md5::digest(&seen).as_slice()) {
            return Err(self.fault.note("BadDigest", "The Content-MD5 you specified did not match what we received."));
        }
        for (algorithm, value) in declared.checksums {
            if checksum_of(algorithm, &seen) != value {
                let message = format!("The {algorithm:?} checksum you specified did not match what we received.");
                return Err(self.fault.note("BadDigest", &message));
            }
        }
        let sha256 = declared.payload_sha256;
        if sha256.is_some_and(|sha256| checksum_of(ChecksumAlgorithm::Sha256, &seen) != sha256) {
            let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
            return Err(self.fault.note("XAmzContentSHA256Mismatch", message));
        }
        if let Some(unknown) = declared.elements.and_then(|known| elements::unknown(&seen, known)) {
            let message = format!("The element {unknown:?} does not belong into this document; nothing was changed.");
            return Err(self.fault.note("MalformedXML", &message));
        }
        Ok(())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Document<B> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(this.take_note(&frame).map(|()| frame))),
            Poll::Ready(Some(Err(_))) => {
                let message = "You did not provide the number of bytes specified by the Content-Length HTTP header.";
                Poll::Ready(Some(Err(this.fault.note("IncompleteBody", message))))
            }
            Poll::Ready(None) => Poll::Ready(this.compare().err().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn refused(uri: &str, pairs: &[(&'static str, &str)]) -> Option<(u16, &'static str)> {
        declared(&uri.parse().unwrap(), &headers(pairs)).err().map(|r| (r.status, r.code))
    }

    async fn read(body: &'static [u8], pairs: &[(&'static str, &str)]) -> Option<&'static str> {
        let declared = declared(&"/b?delete".parse().unwrap(), &headers(pairs)).unwrap();
        let fault = Fault::default();
        let document = Document::new(Full::new(Bytes::from_static(body)), declared, fault.clone());
        let read = document.collect().await;
        assert_eq!(read.is_err(), fault.refusal().is_some());
        fault.refusal().map(|r| r.code)
    }

    #[test]
    fn bulk_deletions_need_a_digest_and_other_documents_do_not() {
        assert_eq!(refused("/b?delete", &[]), Some((400, "InvalidRequest")));
        assert_eq!(refused("/b?delete", &[("content-md5", "xx")]), Some((400, "InvalidDigest")));
        assert_eq!(refused("/b?delete", &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]), None);
        assert_eq!(refused("/b?delete", &[("x-amz-checksum-crc32", "AAAAAA==")]), None);
        assert_eq!(refused("/b", &[]), None);
        let framed = [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")];
        assert_eq!(refused("/b", &framed), Some((501, "NotImplemented")));
    }

    #[tokio::test]
    async fn every_declared_digest_is_compared() {
        assert_eq!(read(b"hello", &[("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")]).await, None);
        assert_eq!(read(b"hellp", &[("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")]).await, Some("BadDigest"));
        assert_eq!(read(b"", &[("x-amz-checksum-crc32", "AAAAAA==")]).await, None);
        assert_eq!(read(b"x", &[("x-amz-checksum-crc32", "AAAAAA==")]).await, Some("BadDigest"));
        let sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let md5 = ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==");
        assert_eq!(read(b"hello", &[md5, ("x-amz-content-sha256", sha)]).await, None);
        let wrong = [md5, ("x-amz-content-sha256", &*"00".repeat(32))];
        assert_eq!(read(b"hello", &wrong).await, Some("XAmzContentSHA256Mismatch"));
    }

    #[tokio::test]
    async fn long_documents_are_refused() {
        for (len, code) in [(DOCUMENT_BYTES_MAX, None), (DOCUMENT_BYTES_MAX + 1, Some("MaxMessageLengthExceeded"))] {
            let fault = Fault::default();
            let body = Full::new(Bytes::from(vec![b' '; len]));
            let read = Document::new(body, Declared::default(), fault.clone()).collect().await;
            assert_eq!(read.is_err(), code.is_some());
            assert_eq!(fault.refusal().map(|r| r.code), code);
        }
    }
}
