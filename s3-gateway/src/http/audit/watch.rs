//! Learns of one request while it runs, and writes its line when nothing more is to come: behind the answer's
//! last byte, or when the client has left.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Request, Response, Uri};
use s3s::access::S3AccessContext;

use super::backlog::Room;
use super::record::{Item, Record, TARGET_BYTES_MAX, USER_AGENT_BYTES_MAX, WORD_BYTES_MAX, clip, line, rfc3339};
use super::writer::Auditor;
use crate::http::guard::Refusal;
use crate::http::request_id::RequestId;

/// TLS version of the connection, as `TLSv1.3`. In the request's extensions where there is TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsVersion(pub(crate) &'static str);

/// Bytes of an [`Item`] besides key and version.
const ITEM_BYTES: usize = 512;

#[derive(Debug)]
struct Noted {
    record: Record,
    room: Room,
}

/// The line of a request as far as it is known. In the request's extensions, for the operations.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    auditor: Auditor,
    noted: Arc<Mutex<Noted>>,
}

/// Shared counter of the bytes of a body.
pub(crate) type Count = Arc<AtomicU64>;

impl Note {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what the request turned out to be, from the verified signature and the resolved operation.
    pub(crate) fn operation(&self, cx: &S3AccessContext<'_>) {
        let version = version_of(cx.uri());
        let record = &mut self.noted().record;
        record.operation = Some(cx.s3_op().name().to_owned());
        record.principal = cx.credentials().map(|signer| signer.access_key.clone());
        record.bucket = cx.s3_path().get_bucket_name().map(str::to_owned);
        record.key = cx.s3_path().get_object_key().map(str::to_owned);
        record.version_id = version;
        (record.method, record.target, record.claimed) = (None, None, None);
    }

    /// Takes down another name for the operation that S3's rules found.
    pub(crate) fn renamed(&self, operation: &str) {
        self.noted().record.operation = Some(operation.to_owned());
    }

    /// Takes down a request that is none of S3's, from its verified signature.
    pub(crate) fn own_operation(&self, name: &str, principal: Option<String>) {
        let record = &mut self.noted().record;
        (record.operation, record.principal) = (Some(name.to_owned()), principal);
        (record.method, record.target, record.claimed) = (None, None, None);
    }

    /// Takes down the key, where it is not in the request's target.
    pub(crate) fn key(&self, key: &str) {
        self.noted().record.key = Some(clip(key.as_bytes(), TARGET_BYTES_MAX));
    }

    /// Takes down an outcome that was known only after the answer had begun.
    pub(crate) fn late(&self, headers: &HeaderMap, version: Option<String>, error: Option<String>) {
        let record = &mut self.noted().record;
        record.error = error;
        record.version_id = version.or_else(|| record.version_id.take());
        record.log = header_text(headers, "x-stele-log");
        record.object_root = header_text(headers, "x-stele-object-root");
    }

    /// Room for the lines of a bulk deletion, before anything is deleted.
    ///
    /// # Errors
    /// What to answer instead: only of a strict auditor.
    pub(crate) fn reserve_items<'a>(
        &self,
        items: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<(), Refusal> {
        let escaped = |text: &str| serde_json::to_string(text).map_or(0, |text| text.len());
        let bytes = items.map(|(key, version)| ITEM_BYTES + escaped(key) + escaped(version.unwrap_or_default())).sum();
        let room = self.auditor.reserve(bytes)?;
        self.noted().room.add(room);
        Ok(())
    }

    /// Writes the line of one key of a bulk deletion: its log entry, if it made one, or its error's code.
    pub(crate) fn item(&self, key: &str, version: Option<&str>, outcome: Result<Option<String>, &str>) {
        let mut noted = self.noted();
        let record = &noted.record;
        let item = Item {
            time: rfc3339(self.auditor.clock().unix_millis()),
            request_id: record.request_id.clone(),
            operation: "DeleteObjects.Item",
            principal: record.principal.clone(),
            remote: record.remote.clone(),
            bucket: record.bucket.clone(),
            key: key.to_owned(),
            version_id: version.map(|id| clip(id.as_bytes(), WORD_BYTES_MAX)),
            error: outcome.as_ref().err().map(|code| clip(code.as_bytes(), WORD_BYTES_MAX)),
            log: outcome.ok().flatten(),
        };
        let bytes = line(&item);
        self.auditor.push(&bytes, &mut noted.room);
    }
}

/// The line that will be written when this is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    note: Note,
    started: u64,
    bytes_in: Count,
}

impl Pending {
    /// Begins the line of a request.
    ///
    /// # Errors
    /// What to answer instead of carrying it out, with the line that says so.
    pub(crate) fn begin<B>(
        auditor: &Auditor,
        request: &Request<B>,
        id: RequestId,
        peer: SocketAddr,
        bytes_in: Count,
    ) -> (Self, Option<Refusal>) {
        let headers = request.headers();
        let record = Record {
            time: rfc3339(auditor.clock().unix_millis()),
            request_id: id.to_string(),
            remote: peer.to_string(),
            user_agent: headers.get(USER_AGENT).map(|value| clip(value.as_bytes(), USER_AGENT_BYTES_MAX)),
            method: Some(clip(request.method().as_str().as_bytes(), WORD_BYTES_MAX)),
            target: Some(clip(request.uri().path().as_bytes(), TARGET_BYTES_MAX)),
            claimed: claimed(request.uri(), headers).filter(|key| auditor.knows(key)),
            tls: request.extensions().get::<TlsVersion>().map(|tls| tls.0.to_owned()),
            ..Record::default()
        };
        let (room, refusal) = match auditor.admit() {
            Ok(room) => (room, None),
            Err(refusal) => (Room::default(), Some(refusal)),
        };
        let noted = Arc::new(Mutex::new(Noted { record, room }));
        let started = auditor.clock().monotonic_micros();
        (Self { note: Note { auditor: auditor.clone(), noted }, started, bytes_in }, refusal)
    }

    pub(crate) fn note(&self) -> Note {
        self.note.clone()
    }

    /// Takes down the answer's head. `error` is the code in its body.
    pub(crate) fn answered<B>(&self, response: &Response<B>, error: Option<String>) {
        let text = |name: &str| header_text(response.headers(), name);
        let record = &mut self.note.noted().record;
        record.status = Some(response.status().as_u16());
        record.error = error;
        record.version_id = text("x-amz-version-id").or_else(|| record.version_id.take());
        record.log = text("x-stele-log");
        record.object_root = text("x-stele-object-root");
    }

    /// Takes down that some bytes of the answer's body were handed on.
    pub(crate) fn sent(&self, bytes: u64) {
        let record = &mut self.note.noted().record;
        record.bytes_out = record.bytes_out.saturating_add(bytes);
    }

    /// Takes down that the whole answer was handed on.
    pub(crate) fn complete(&self) {
        self.note.noted().record.complete = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let auditor = &self.note.auditor;
        let mut noted = self.note.noted();
        noted.record.bytes_in = self.bytes_in.load(Ordering::Relaxed);
        noted.record.duration_us = auditor.clock().monotonic_micros().saturating_sub(self.started);
        let bytes = line(&noted.record);
        auditor.push(&bytes, &mut noted.room);
        let room = std::mem::take(&mut noted.room);
        auditor.release(room);
    }
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| clip(value.as_bytes(), WORD_BYTES_MAX))
}

/// Access key that a request names.
fn claimed(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = match header {
        Some(value) => value.split_once("Credential=")?.1,
        None => query_value(uri, "X-Amz-Credential")?,
    };
    let end = credential.find(['/', '%', ',', ' ']).unwrap_or(credential.len());
    credential.get(..end).map(str::to_owned)
}

fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

fn version_of(uri: &Uri) -> Option<String> {
    let version = query_value(uri, "versionId").filter(|version| !version.is_empty())?;
    Some(clip(version.as_bytes(), WORD_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::writer::LINE_BYTES_MAX;
    use super::*;

    #[test]
    fn the_claimed_key_is_found_in_header_and_query() {
        let claim = |uri: &str, header: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            claimed(&uri.parse().unwrap(), &headers)
        };
        let header =
            "AWS4-HMAC-SHA256 Credential=root/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x";
        assert_eq!(claim("/b/k", Some(header)).as_deref(), Some("root"));
        assert_eq!(claim("/b/k?X-Amz-Credential=root%2F20260101&X-Amz-Signature=s", None).as_deref(), Some("root"));
        assert_eq!(claim("/b/k?versionId=1", None), None);
        assert_eq!(claim("/b/k", Some("Bearer abc")), None);
    }

    #[test]
    fn the_longest_line_fits_its_room() {
        let full = |most: usize| Some("\"".repeat(most));
        let record = Record {
            time: rfc3339(u64::MAX),
            request_id: "F".repeat(16),
            operation: full(64),
            principal: full(WORD_BYTES_MAX),
            remote: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".into(),
            bucket: full(63),
            key: Some("\u{1}".repeat(1024)),
            status: Some(599),
            error: full(WORD_BYTES_MAX),
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            duration_us: u64::MAX,
            complete: false,
            user_agent: full(USER_AGENT_BYTES_MAX),
            version_id: full(WORD_BYTES_MAX),
            log: full(WORD_BYTES_MAX),
            object_root: full(WORD_BYTES_MAX),
            tls: full(8),
            ..Record::default()
        };
        assert!(line(&record).len() < LINE_BYTES_MAX, "{}", line(&record).len());
        let refused = Record { key: None, method: full(WORD_BYTES_MAX), target: full(TARGET_BYTES_MAX), ..record };
        assert!(line(&refused).len() < LINE_BYTES_MAX);
    }
}
