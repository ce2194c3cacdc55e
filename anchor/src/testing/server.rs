//! An HTTP server on the loopback that answers what it is told. Stops when it is dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What came, content type and body.
pub(crate) type Asked = (String, Bytes);
type Answering = Pin<Box<dyn Future<Output = (u16, Bytes)> + Send>>;

pub(crate) struct Server {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(Asked) -> Answering + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer: Arc<dyn Fn(Asked) -> Answering + Send + Sync> = Arc::new(answer);
        let task = tokio::spawn(async move {
            // Connections end with the server.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(converse(stream, Arc::clone(&answer)));
            }
        });
        Self { url, task }
    }
}

async fn converse(stream: TcpStream, answer: Arc<dyn Fn(Asked) -> Answering + Send + Sync>) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let kind = request.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let (status, body) = answer((kind.unwrap_or_default(), body)).await;
            let mut response = http::Response::new(Full::new(body));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    // Clients hang up as they like.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
