//! Serves S3 over HTTP/1.1 and HTTP/2, plain or in TLS, on a listener, until told to stop.
//!
//! Limits come before s3s: connections, header size, header time, idle time. Every response carries
//! a request id. The server never looks into a body.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use s3s::Body;
use s3s::service::S3Service;
use stele_types::seam::Rng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::audit::watch::TlsVersion;
use super::busy::Requests;
use super::cors::{self, CrossOrigin};
use super::document::{self, Document};
use super::door::{Counted, Door, error_code};
use super::first_bytes::FirstBytes;
use super::form::{self, FormBody};
use super::guard::{self, Refusal};
use super::linger::Linger;
use super::pace::Paced;
use super::request_id::RequestId;
use super::tls::Tls;
use super::version_order;
use super::wire::Wire;
use super::write_idle::WriteIdle;
use crate::s3::service::Endpoint;

/// Limits of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Connections at once; past it, accepting waits.
    pub connections_max: usize,
    /// A request's header must be complete this long after the connection was opened or, on a kept-alive
    /// connection, after the last response. A connection without requests ends after this time.
    pub header_timeout: Duration,
    /// Bytes of one request's header.
    pub header_bytes_max: usize,
    /// Longest pause within a request's body, and longest time a peer may read nothing of an answer.
    pub idle_max: Duration,
    /// How long running requests may go on after a stop.
    pub drain_max: Duration,
    /// Limits of requests, and the audit log.
    pub door: Door,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// With it the port speaks HTTPS and nothing else.
    pub tls: Option<Arc<Tls>>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            header_timeout: Duration::from_secs(75),
            header_bytes_max: 64 * 1024,
            idle_max: Duration::from_secs(60),
            drain_max: Duration::from_secs(30),
            door: Door::default(),
            handshake_timeout: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// Address of the peer, for records and logs. Never taken from a header.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub SocketAddr);

/// Serves until `stop` turns true, then lets running requests finish for at most
/// [`HttpConfig::drain_max`].
pub async fn serve(
    listener: TcpListener,
    endpoint: Endpoint,
    rng: Arc<dyn Rng>,
    config: HttpConfig,
    mut stop: watch::Receiver<bool>,
) {
    let all = config.connections_max.min(Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(all));
    loop {
        let slot = Arc::clone(&slots).acquire_owned();
        let (slot, accepted) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async { (slot.await, listener.accept().await) } => accepted,
        };
        let Ok(slot) = slot else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the peer has gone already: neither ends the server.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (endpoint, rng, config, mut stop) = (endpoint.clone(), Arc::clone(&rng), config.clone(), stop.clone());
        tokio::spawn(async move {
            let opened = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                opened = open(stream, &config) => opened,
            };
            let ended = match opened {
                Ok(wire) => converse(wire, Caller { peer, endpoint, rng }, &config, stop).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    let ended = slots.acquire_many(u32::try_from(all).unwrap_or(u32::MAX));
    if tokio::time::timeout(config.drain_max, ended).await.is_err() {
        tracing::warn!("requests still running after {} s were cut off", config.drain_max.as_secs());
    }
}

/// Makes a connection ready for HTTP. Its slot is taken while it shakes hands.
async fn open(stream: TcpStream, config: &HttpConfig) -> io::Result<Wire> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let Some(tls) = &config.tls else { return Ok(Wire::Plain(WriteIdle::new(Linger::new(stream), config.idle_max))) };
    match tokio::time::timeout(config.handshake_timeout, tls.accept(stream, config.idle_max)).await {
        Ok(shaken) => Ok(Wire::Tls(Box::new(shaken?))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
    }
}

/// Who is at the other end of a connection, and what answers.
struct Caller {
    peer: SocketAddr,
    endpoint: Endpoint,
    rng: Arc<dyn Rng>,
}

/// Answers the requests of one connection until it ends: by the peer, by `stop`, or idle.
async fn converse(
    wire: Wire,
    caller: Caller,
    config: &HttpConfig,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (idle, door) = (config.idle_max, config.door.clone());
    let (tls, unread) = (wire.tls_version().map(TlsVersion), wire.unread());
    let requests = Requests::none();
    let under_way = requests.clone();
    let handler = service_fn(move |mut request: Request<Incoming>| {
        let endpoint = caller.endpoint.clone();
        let id = RequestId::draw(caller.rng.as_ref());
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(PeerAddr(caller.peer));
        if let Some(tls) = tls {
            request.extensions_mut().insert(tls);
        }
        let (request, pass, refusal) = door.enter(request, id, caller.peer, under_way.begin());
        let request = request.map(|body| Paced::new(body, idle, unread.clone()));
        async move {
            let response = respond(request, refusal, id, endpoint).await;
            let error = error_code(&response);
            Ok::<_, Infallible>(pass.leave(response, error))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        // Not with pipeline_flush: that copies frames into a buffer without bound for a slow reader.
        .max_buf_size(config.header_bytes_max.max(512 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .adaptive_window(true);
    let stream = TokioIo::new(FirstBytes::new(wire, config.header_timeout));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, handler));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = told_to_end(&mut stop, &requests, config.header_timeout), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn told_to_end(stop: &mut watch::Receiver<bool>, requests: &Requests, idle: Duration) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = requests.idle_for(idle) => {}
    }
}

/// A body as it comes in: its bytes are counted, and its client must keep sending.
type BodyIn = Paced<Counted<Incoming>>;

async fn respond(
    request: Request<BodyIn>,
    refusal: Option<Refusal>,
    id: RequestId,
    endpoint: Endpoint,
) -> Response<Body> {
    let head = request.method() == http::Method::HEAD;
    let (fault, asked, expects) = (request.body().fault(), request.body().asked(), expects(&request));
    // A client that waits for 100 Continue and gets a final answer may send its body or not, and nobody could tell
    // that body from the next request: botocore keeps it back and goes on. So the connection ends, and says so.
    let closing = || expects && !asked.yet();
    let (method, uri, version) = (request.method(), request.uri(), request.version());
    let bucket = || endpoint.hosts.bucket(uri, request.headers(), version);
    let cross_origin = CrossOrigin::of(method, request.headers(), bucket);
    if method == http::Method::OPTIONS && refusal.is_none() {
        let answer = cors::preflight(&endpoint.gateway, request.headers(), bucket()).await;
        let mut answer = answer.map_or_else(|refusal| refuse(&refusal, id, head), empty);
        answer.headers_mut().insert(http::header::VARY, cors::depends());
        return finish(answer, id, closing());
    }
    let admitted = refusal.map_or_else(|| admit(request, &endpoint), Err);
    let mut response = match admitted {
        Err(refusal) => refuse(&refusal, id, head),
        Ok((request, service)) => {
            let answer = service.call(request).await;
            match (fault.refusal(), answer) {
                (Some(refusal), _) => refuse(refusal, id, head),
                (None, Ok(response)) => with_id_in_error(restored(response), id),
                (None, Err(error)) => {
                    tracing::error!(request_id = %id, %error, "the request could not be answered");
                    let message = "We encountered an internal error. Please try again.".to_owned();
                    refuse(&Refusal { status: 500, code: "InternalError", message }, id, head)
                }
            }
        }
    };
    if let Some(cross_origin) = cross_origin {
        cross_origin.decorate(&endpoint.gateway, response.headers_mut()).await;
    }
    finish(response, id, closing())
}

/// What s3s answers otherwise than S3.
fn restored(response: Response<Body>) -> Response<Body> {
    with_partial_status(version_order::restore(form::denied(response)))
}

/// An answer of headers only.
fn empty(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers;
    response
}

/// What every answer carries.
fn finish(mut response: Response<Body>, id: RequestId, closing: bool) -> Response<Body> {
    let unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert("x-amz-request-id", id.header());
    headers.insert("x-amz-id-2", id.header());
    headers.insert(http::header::SERVER, HeaderValue::from_static("Stele"));
    if unavailable && !headers.contains_key(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if closing {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request that waits for 100 Continue.
fn expects<B>(request: &Request<B>) -> bool {
    request.version() <= http::Version::HTTP_11 && request.headers().contains_key(http::header::EXPECT)
}

/// s3s' own errors carry no request id in their body; people copy the body, not the headers.
fn with_id_in_error(response: Response<Body>, id: RequestId) -> Response<Body> {
    const END: &str = "</Error>";
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = body.bytes().unwrap_or_default();
    let body = match std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix(END)) {
        Some(text) if !text.contains("<RequestId>") => Body::from(format!("{text}<RequestId>{id}</RequestId>{END}")),
        _ => body,
    };
    Response::from_parts(parts, body)
}

/// s3s answers HEAD of a range with 200, whatever the operation says; it is 206, as for GET.
fn with_partial_status(mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::OK && response.headers().contains_key(http::header::CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Makes a request ready for s3s, or refuses it.
fn admit(mut request: Request<BodyIn>, endpoint: &Endpoint) -> Result<(Request<Body>, &S3Service), Refusal> {
    let level = endpoint.hosts.level(request.uri(), request.headers(), request.version());
    guard::check(request.method(), level, request.uri(), request.headers())?;
    guard::check_length(request.method(), level, request.version(), request.headers())?;
    guard::clean_range(request.headers_mut());
    if form::is_form(request.method(), request.headers()) {
        form::check(level, request.uri(), request.headers())?;
        let mut request = request.map(FormBody::new);
        let head = request.body().head();
        request.extensions_mut().insert(head);
        return Ok((request.map(Body::http_body), &endpoint.forms));
    }
    if !document::is_document(request.method(), level, request.uri()) {
        return Ok((request.map(Body::http_body), &endpoint.service));
    }
    let declared = document::declared(request.uri(), request.headers())?;
    let fault = request.body().fault();
    let document = request.map(|body| Body::http_body(Document::new(body, declared, fault)));
    Ok((document, &endpoint.service))
}

fn refuse(refusal: &Refusal, id: RequestId, head: bool) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message><RequestId>{id}</RequestId></Error>",
        refusal.code,
        escape_xml(&refusal.message),
    );
    let bytes = if head { Bytes::new() } else { Bytes::from(body) };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
