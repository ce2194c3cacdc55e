//! The admin port: health, metrics, status. Reads only; no credentials are served here.
//!
//! | path | answers |
//! |---|---|
//! | `/health/live` | 200 while the process runs; says nothing of storage |
//! | `/health/ready` | 200 when requests are served, else 503; JSON with reasons |
//! | `/metrics` | Prometheus text |
//! | `/status` | JSON, what `stele status` prints |
//! | `/gc` | JSON, what `stele gc status` prints |
//! | `/log/...` | the evidence log ([`stele_s3_gateway::log_archive::pages`]) |

pub(crate) mod backups;
mod gc;
pub(crate) mod metrics;
pub(crate) mod status;
pub(crate) mod view;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use stele_s3_gateway::log_archive::pages::{Found, find};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use metrics::Metrics;
use view::{View, gc_status};

/// Connections served at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const SERVED: &str = "served here: /health/live /health/ready /metrics /status /gc /log/checkpoint /log/tile/\n";

/// What the pages show. Served from the first moment; the view comes once everything is open.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    view: OnceLock<View>,
    metrics: OnceLock<Metrics>,
}

impl Pages {
    /// Everything is open: from now on the pages show it.
    pub(crate) fn opened(&self, view: View, metrics: Metrics) {
        // Called once per process; a second call would change nothing.
        self.view.get_or_init(|| view);
        self.metrics.get_or_init(|| metrics);
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".into());
        }
        match path {
            "/health/live" => as_json(StatusCode::OK, &json!({ "live": true })),
            "/health/ready" => self.ready().await,
            "/metrics" => self.metrics().await,
            "/status" => self.status().await,
            "/gc" => self.gc().await,
            _ => match path.strip_prefix("/log/") {
                Some(path) => self.log(path).await,
                None => text(StatusCode::NOT_FOUND, SERVED.into()),
            },
        }
    }

    async fn log(&self, path: &str) -> Response<Full<Bytes>> {
        let Some(view) = self.view.get() else { return starting() };
        let found = match find(&view.log(), path).await {
            Ok(found) => found,
            Err(error) => return text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        };
        let (kind, cached) = found.headers();
        let body = match found {
            Found::Text(body) | Found::Tile(body) => body,
            Found::Nothing(why) => return text(StatusCode::NOT_FOUND, format!("{why}\n")),
        };
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(cached));
        response
    }

    async fn ready(&self) -> Response<Full<Bytes>> {
        let Some(view) = self.view.get() else { return starting() };
        let status = view.status().await;
        let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let details = json!({ "writable": status.placement.writable > 0, "placement": status.placement });
        as_json(code, &json!({ "ready": status.ready, "details": details, "degradedReasons": status.problems }))
    }

    async fn status(&self) -> Response<Full<Bytes>> {
        match self.view.get() {
            Some(view) => as_json(StatusCode::OK, &json!(view.status().await)),
            None => starting(),
        }
    }

    async fn gc(&self) -> Response<Full<Bytes>> {
        let Some(view) = self.view.get() else { return starting() };
        match gc_status(&view.meta).await {
            Ok(status) => as_json(StatusCode::OK, &json!(status)),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let (Some(view), Some(metrics)) = (self.view.get(), self.metrics.get()) else { return starting() };
        // Without an answer the gauges stay as they were; that nobody answers is in the status.
        let gc = gc_status(&view.meta).await.ok();
        match metrics.encode(&view.status().await, gc.as_ref()) {
            Ok(page) => {
                let mut response = text(StatusCode::OK, page);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")),
        }
    }
}

fn starting() -> Response<Full<Bytes>> {
    let reasons = ["starting: metadata and drives are being opened"];
    as_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "degradedReasons": reasons }))
}

fn as_json(code: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = text(code, format!("{value}\n"));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn text(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Serves the pages until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, pages: Arc<Pages>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin port: no connection accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            if let Err(error) = connection(stream, pages).await {
                tracing::debug!(%error, "admin connection");
            }
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(request.method(), request.uri().path()).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await
}
