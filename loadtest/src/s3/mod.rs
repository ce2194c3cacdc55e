//! A lean S3 client: one connection, path style, SigV4, nothing retried behind the caller's back.
//! Own code rather than an SDK, so that the client does not eat the cores it measures.

pub(crate) mod connection;
pub(crate) mod payload;
pub(crate) mod sigv4;
pub(crate) mod xml;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use connection::{Address, CallError, Connection};
use payload::Payload;
use sigv4::{Credentials, Signer, UNSIGNED_PAYLOAD, Unsigned, encode};

/// Longest wait for a whole answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// What all clients of a run share.
pub(crate) struct Target {
    signer: Signer,
    address: Address,
    pub(crate) bucket: String,
    sign_payload: bool,
}

impl Target {
    pub(crate) fn new(address: Address, credentials: Credentials, bucket: String, sign_payload: bool) -> Arc<Self> {
        let signer = Signer::new(credentials, address.authority.clone());
        Arc::new(Self { signer, address, bucket, sign_payload })
    }
}

/// One request.
#[derive(Debug, Default)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Empty: the bucket itself.
    pub(crate) key: &'a str,
    /// Sorted by name, not encoded.
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// Lower-case, sorted by name.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) payload: Payload,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Collected body; empty where the body went to a sink.
    pub(crate) body: Bytes,
}

impl Answer {
    /// The text of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Status and error code, for reports.
    pub(crate) fn describe(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let code = xml::text(&body, "Code").unwrap_or_default();
        let message = xml::text(&body, "Message").unwrap_or_default();
        format!("{} {code} {message}", self.status.as_u16())
    }
}

/// Takes the pieces of a successful answer's body, with the answer's head.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(&http::response::Parts, &[u8]) + Send);

/// One row of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) size: u64,
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Listed>,
    pub(crate) next: Option<String>,
}

/// One client.
pub(crate) struct S3 {
    target: Arc<Target>,
    connection: Connection,
}

impl S3 {
    pub(crate) fn new(target: &Arc<Target>) -> Self {
        Self { target: Arc::clone(target), connection: Connection::new(target.address.clone()) }
    }

    /// Sends a call and collects the whole answer.
    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Answer, CallError> {
        let mut body = Vec::new();
        let mut answer = self.stream(call, &mut |_, piece| body.extend_from_slice(piece)).await?;
        if answer.body.is_empty() {
            answer.body = body.into();
        }
        Ok(answer)
    }

    /// Sends a call; the body of a successful answer goes to `sink` piece by piece, that of an error
    /// into the answer.
    pub(crate) async fn stream(&mut self, call: Call<'_>, sink: Sink<'_>) -> Result<Answer, CallError> {
        let request = self.signed(call)?;
        let answered = tokio::time::timeout(CALL_TIMEOUT, self.exchange(request, sink)).await;
        let outcome = answered.unwrap_or_else(|_| Err(CallError::Unknown("timed out".into())));
        if outcome.is_err() {
            self.connection.close();
        }
        outcome
    }

    async fn exchange(&mut self, request: Request<Payload>, sink: Sink<'_>) -> Result<Answer, CallError> {
        let response = self.connection.send(request).await?;
        let (head, mut incoming) = response.into_parts();
        let mut error_body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|e| CallError::Unknown(format!("body of the answer: {e}")))?;
            let Some(data) = frame.data_ref() else { continue };
            if head.status.is_success() {
                sink(&head, data);
            } else {
                error_body.extend_from_slice(data);
            }
        }
        Ok(Answer { status: head.status, headers: head.headers, body: error_body.into() })
    }

    fn signed(&self, call: Call<'_>) -> Result<Request<Payload>, CallError> {
        let target = &self.target;
        let path = match call.key {
            "" => format!("/{}", target.bucket),
            key => format!("/{}/{}", target.bucket, encode(key, true)),
        };
        let pairs: Vec<String> =
            call.query.iter().map(|(k, v)| format!("{}={}", encode(k, false), encode(v, false))).collect();
        let query = pairs.join("&");
        let payload_hash = if target.sign_payload { payload_sha256(&call.payload) } else { UNSIGNED_PAYLOAD.into() };
        let unsigned = Unsigned {
            method: call.method.as_str(),
            path: &path,
            query: &query,
            headers: call.headers,
            payload_hash: &payload_hash,
        };
        let signed = target.signer.sign(&unsigned, OffsetDateTime::now_utc());
        let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut builder = Request::builder()
            .method(call.method)
            .uri(uri)
            .header("host", &target.address.authority)
            .header("x-amz-content-sha256", payload_hash)
            .header("x-amz-date", signed.amz_date)
            .header("authorization", signed.authorization)
            .header("content-length", call.payload.len());
        for (name, value) in call.headers {
            builder = builder.header(*name, *value);
        }
        builder.body(call.payload).map_err(|e| CallError::NotSent(format!("request can't be built: {e}")))
    }

    /// One page of a ListObjectsV2.
    ///
    /// # Errors
    /// Also when the answer is not a complete listing.
    pub(crate) async fn list(&mut self, prefix: &str, token: Option<&str>, max: u32) -> Result<Page, String> {
        let max = max.to_string();
        let mut query = vec![("list-type", "2"), ("max-keys", max.as_str()), ("prefix", prefix)];
        if let Some(token) = token {
            query.insert(0, ("continuation-token", token));
        }
        let call = Call { method: Method::GET, query: &query, ..Call::default() };
        let answer = self.call(call).await.map_err(|e| e.to_string())?;
        if !answer.status.is_success() {
            return Err(answer.describe());
        }
        parse_page(&String::from_utf8_lossy(&answer.body)).ok_or_else(|| "malformed listing".to_owned())
    }

    /// Reads one page of ListObjectVersions.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn versions(&mut self, prefix: &str, max: u32) -> Result<(), String> {
        let max = max.to_string();
        let query = [("max-keys", max.as_str()), ("prefix", prefix), ("versions", "")];
        let answer = self.call(Call { method: Method::GET, query: &query, ..Call::default() }).await;
        let answer = answer.map_err(|e| e.to_string())?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.describe()) }
    }

    /// Value of `x-amz-copy-source` for a key of this bucket.
    pub(crate) fn copy_source(&self, key: &str) -> String {
        format!("{}/{}", self.target.bucket, encode(key, true))
    }

    /// Deletes up to 1,000 keys with one request.
    ///
    /// # Errors
    /// What the server said, also of a single key.
    pub(crate) async fn delete_many(&mut self, keys: &[String]) -> Result<(), String> {
        let objects: String =
            keys.iter().map(|key| format!("<Object><Key>{}</Key></Object>", xml::escape(key))).collect();
        let document = format!("<Delete><Quiet>true</Quiet>{objects}</Delete>");
        let sha256 = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(document.as_bytes()));
        let headers = [("x-amz-checksum-sha256", sha256.as_str())];
        let payload = Payload::new([Bytes::from(document)]);
        let call =
            Call { method: Method::POST, query: &[("delete", "")], headers: &headers, payload, ..Call::default() };
        let answer = self.call(call).await.map_err(|e| e.to_string())?;
        let failed = String::from_utf8_lossy(&answer.body).contains("<Error>");
        if answer.status.is_success() && !failed { Ok(()) } else { Err(answer.describe()) }
    }

    /// Every key below a prefix.
    ///
    /// # Errors
    /// As [`S3::list`].
    pub(crate) async fn list_all(&mut self, prefix: &str) -> Result<Vec<Listed>, String> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self.list(prefix, token.as_deref(), 1000).await?;
            all.extend(page.rows);
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Creates the bucket unless it is there and ours.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn ensure_bucket(&mut self) -> anyhow::Result<()> {
        let answer = self
            .call(Call { method: Method::PUT, ..Call::default() })
            .await
            .map_err(|e| anyhow::anyhow!("creating the bucket: {e}"))?;
        let ours = answer.status.is_success() || answer.describe().contains("BucketAlreadyOwnedByYou");
        anyhow::ensure!(ours, "creating the bucket: {}", answer.describe());
        Ok(())
    }
}

fn payload_sha256(payload: &Payload) -> String {
    let mut hasher = Sha256::new();
    for frame in payload.frames() {
        hasher.update(frame);
    }
    hex::encode(hasher.finalize())
}

fn parse_page(xml: &str) -> Option<Page> {
    let row = |inner: &str| -> Option<Listed> {
        Some(Listed { key: xml::text(inner, "Key")?, size: xml::text(inner, "Size")?.parse().ok()? })
    };
    let rows = xml::elements(xml, "Contents").map(row).collect::<Option<Vec<_>>>()?;
    let truncated = xml::text(xml, "IsTruncated")? == "true";
    let next = if truncated { Some(xml::text(xml, "NextContinuationToken")?) } else { None };
    Some(Page { rows, next })
}
