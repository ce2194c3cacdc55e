//! Browser uploads: a form that is posted to a bucket, with a policy that the bucket's owner signed. s3s reads the
//! form, its signature and its policy; here is what it leaves open.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use s3s::Body;
use s3s_multipart::{Boundary, Multipart, parse_content_disposition};

use super::guard::Refusal;
use super::target::Level;

/// Most bytes in front of the file: s3s takes fields of 64 KiB.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of the headers of one field, as in s3s.
const FIELD_HEADER_BYTES_MAX: usize = 64 * 1024;

/// What a form's body begins with. s3s does not hand on the fields that it does not know.
#[derive(Clone, Debug)]
pub(crate) struct Head(Arc<Mutex<Option<BytesMut>>>);

impl Head {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(BytesMut::new()))))
    }

    fn keep(&self, data: &[u8]) {
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let room = HEAD_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(data.get(..room).unwrap_or(data));
        }
    }

    /// The fields in front of the file, with names in lower case; `None` if there are more bytes than are kept.
    /// From here on nothing is kept.
    pub(crate) fn fields(&self, headers: &HeaderMap) -> Option<Vec<(String, String)>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let kind: mime::Mime = headers.get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()?;
        fields(kind.get_param(mime::BOUNDARY)?.as_str(), kept.freeze())
    }
}

/// Fields in front of the file.
pub(crate) fn fields(boundary: &str, head: Bytes) -> Option<Vec<(String, String)>> {
    let boundary = Boundary::new(boundary.as_bytes()).ok()?;
    let whole = stream::iter([Ok(head)]);
    let mut form = Multipart::new(whole, &boundary, FIELD_HEADER_BYTES_MAX);
    // All bytes are there, so nothing waits.
    let read = async {
        let mut fields = Vec::new();
        while let Some(mut part) = form.next_part().await.ok()? {
            let mut name = None;
            while let Some(header) = part.next_header().await.ok()? {
                if header.name.eq_ignore_ascii_case("content-disposition") {
                    let found = parse_content_disposition(header.value).and_then(|found| found.name);
                    name = found.and_then(|found| std::str::from_utf8(found).ok()).map(str::to_ascii_lowercase);
                }
            }
            let name = name?;
            if name == "file" {
                return Some(fields);
            }
            let mut value = BytesMut::new();
            while let Some(data) = part.next_data().await.ok()? {
                value.extend_from_slice(&data);
            }
            fields.push((name, String::from_utf8(value.to_vec()).ok()?));
        }
        None
    };
    read.now_or_never().flatten()
}

/// A form's body, whose beginning is kept.
pub(super) struct FormBody<B> {
    inner: B,
    head: Head,
}

impl<B> FormBody<B> {
    pub(super) fn new(inner: B) -> Self {
        Self { inner, head: Head::new() }
    }

    pub(super) fn head(&self) -> Head {
        self.head.clone()
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for FormBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.head.keep(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// True for requests whose body is a form.
pub(super) fn is_form(method: &Method, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    method == Method::POST && kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
}

/// Decides about the head of a form.
///
/// # Errors
/// Forms for anything but a bucket; another signature than the form's; no length, as s3s would then hold the
/// whole file in memory.
pub(super) fn check(level: Level, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |status, code, message: &str| Err(Refusal { status, code, message: message.to_owned() });
    if level != Level::Bucket {
        let message = "A form is posted to a bucket; its field key names the object.";
        return refuse(405, "MethodNotAllowed", message);
    }
    if uri.query().is_some_and(|query| !query.is_empty()) || headers.contains_key(AUTHORIZATION) {
        let message = "A form carries its signature and all parameters in its fields, not in the query or headers.";
        return refuse(400, "InvalidRequest", message);
    }
    if !headers.contains_key(CONTENT_LENGTH) {
        return refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header.");
    }
    Ok(())
}

/// A form that its policy does not allow: s3s takes the policy for invalid, S3 denies access.
pub(super) fn denied(response: Response<Body>) -> Response<Body> {
    const INVALID: &str = "<Code>InvalidPolicyDocument</Code><Message>Policy condition";
    const DENIED: &str = "<Code>AccessDenied</Code><Message>Invalid according to Policy: Policy condition";
    let text = response.body().bytes().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let Some(text) = text.filter(|text| text.contains(INVALID)) else { return response };
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::FORBIDDEN;
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text.replacen(INVALID, DENIED, 1)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn forms_are_known_by_their_content_type() {
        for (kind, form) in [
            ("multipart/form-data; boundary=x", true),
            ("Multipart/Form-Data;boundary=x", true),
            ("multipart/mixed; boundary=x", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_form(&Method::POST, &headers(&[("content-type", kind)])), form, "{kind}");
        }
        assert!(!is_form(&Method::PUT, &headers(&[("content-type", "multipart/form-data")])));
        assert!(!is_form(&Method::POST, &HeaderMap::new()));
    }

    #[test]
    fn fields_are_read_up_to_the_file_and_no_more_than_is_kept() {
        let field = |name: &str, value: &str| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let file = "--x\r\nContent-Disposition: form-data; name=\"FILE\"; filename=\"f\"\r\n\r\nbytes";
        let read = |text: String| fields("x", Bytes::from(text));
        let found = read([field("Key", "k"), field("a", ""), field("a", "2"), file.to_owned()].concat()).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, [pair("key", "k"), pair("a", ""), pair("a", "2")]);
        assert_eq!(read(field("key", "k")), None);
        assert_eq!(read([field("key", "k"), "--x--\r\n".to_owned()].concat()), None);
        assert_eq!(read(String::new()), None);

        let head = Head::new();
        let kind = headers(&[("content-type", "multipart/form-data; boundary=x")]);
        head.keep(field("key", "k").as_bytes());
        head.keep(file.as_bytes());
        assert_eq!(head.fields(&kind), Some(vec![pair("key", "k")]));
        head.keep(b"more of the file");
        assert_eq!(head.fields(&kind), None, "nothing is kept any more");
        let head = Head::new();
        head.keep(field("long", &"v".repeat(HEAD_BYTES_MAX)).as_bytes());
        head.keep(file.as_bytes());
        assert_eq!(head.fields(&kind), None);
    }

    #[test]
    fn a_form_goes_to_a_bucket_and_signs_itself() {
        let verdict = |level, uri: &str, pairs: &[(&'static str, &str)]| {
            check(level, &uri.parse().unwrap(), &headers(pairs)).err().map(|refusal| refusal.status)
        };
        let length = ("content-length", "9");
        assert_eq!(verdict(Level::Bucket, "/b", &[length]), None);
        assert_eq!(verdict(Level::Bucket, "/b?", &[length]), None);
        assert_eq!(verdict(Level::Bucket, "/b", &[]), Some(411));
        assert_eq!(verdict(Level::Object, "/b/k", &[length]), Some(405));
        assert_eq!(verdict(Level::Store, "/", &[length]), Some(405));
        assert_eq!(verdict(Level::Bucket, "/b?delete", &[length]), Some(400));
        assert_eq!(verdict(Level::Bucket, "/b", &[length, ("authorization", "AWS4-HMAC-SHA256 x")]), Some(400));
    }
}
