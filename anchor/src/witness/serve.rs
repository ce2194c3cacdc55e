//! A witness over HTTP. Anybody may ask, so connections, headers, bodies and times are bounded. TLS is for a proxy
//! in front.
//!
//! | request | answers |
//! |---|---|
//! | `POST /add-checkpoint` | cosignatures, or why there are none (C2SP tlog-witness) |
//! | `GET /<hex SHA-256 of the origin>/checkpoint` | the newest cosigned checkpoint of that log |
//! | `GET /` | the witness's name, keys and logs |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use stele_evidence::witness::REQUEST_MAX;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Answer, Witness};

/// Connections served at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// For one request with its answer; there is one per connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves a witness until the task is dropped.
pub async fn serve(listener: TcpListener, witness: Arc<Witness>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "witness: no connection accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let witness = Arc::clone(&witness);
        tokio::spawn(async move {
            match tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, witness)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "witness: connection"),
                Err(_) => tracing::debug!("witness: a connection was too slow"),
            }
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, witness: Arc<Witness>) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let witness = Arc::clone(&witness);
        async move { Ok::<_, Infallible>(respond(answer(request, &witness).await)) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(request: Request<Incoming>, witness: &Arc<Witness>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/add-checkpoint") => match body(request.into_body()).await {
            Ok(body) => witness.add_checkpoint(body).await,
            Err(refused) => refused,
        },
        (_, "/add-checkpoint") => Answer::because(405, "add-checkpoint is to be posted"),
        (&Method::GET | &Method::HEAD, "/") => Answer::new(200, witness.about()),
        (&Method::GET | &Method::HEAD, path) => {
            let hash = path.strip_prefix('/').and_then(|path| path.strip_suffix("/checkpoint"));
            match hash.and_then(|hash| witness.checkpoint(hash)) {
                Some(note) => Answer::new(200, note),
                None => Answer::because(404, "nothing was cosigned of such a log"),
            }
        }
        _ => Answer::because(405, "only add-checkpoint is to be posted here"),
    }
}

async fn body(body: Incoming) -> Result<Bytes, Answer> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, REQUEST_MAX).collect()).await;
    let read = read.map_err(|_| Answer::because(408, "the body took too long"))?;
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Answer::because(400, format_args!("the body is larger than {REQUEST_MAX} bytes")))
        }
        Err(_) => Err(Answer::because(400, "the body broke off")),
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
