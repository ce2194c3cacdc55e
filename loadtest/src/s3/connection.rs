//! One keep-alive HTTP/1.1 connection per client, reopened when it breaks.

use std::time::Duration;

use anyhow::Context as _;
use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::payload::Payload;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nothing was sent: certainly without effect.
    NotSent(String),
    /// The request, or a part of it, was sent: it may or may not have taken effect.
    Unknown(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Unknown(why) => write!(f, "no answer, outcome unknown: {why}"),
        }
    }
}

/// `host:port` of an `http://` endpoint.
pub(crate) fn authority(endpoint: &str) -> anyhow::Result<String> {
    let uri: http::Uri = endpoint.parse().with_context(|| format!("not a URL: {endpoint:?}"))?;
    anyhow::ensure!(uri.scheme_str() == Some("http"), "only http:// endpoints are driven: {endpoint:?}");
    let host = uri.host().with_context(|| format!("no host in {endpoint:?}"))?;
    Ok(match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => format!("{host}:80"),
    })
}

/// A lazily opened connection.
#[derive(Debug)]
pub(crate) struct Connection {
    authority: String,
    sender: Option<SendRequest<Payload>>,
}

impl Connection {
    pub(crate) fn new(authority: String) -> Self {
        Self { authority, sender: None }
    }

    /// Sends one request; waits for the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Payload>) -> Result<http::Response<Incoming>, CallError> {
        let mut sender = self.ready().await?;
        match sender.try_send_request(request).await {
            Ok(response) => {
                self.sender = Some(sender);
                Ok(response)
            }
            Err(mut failed) => {
                let unsent = failed.take_message().is_some();
                let why = failed.into_error().to_string();
                Err(if unsent { CallError::NotSent(why) } else { CallError::Unknown(why) })
            }
        }
    }

    /// Forgets the connection, for example after half an answer.
    pub(crate) fn close(&mut self) {
        self.sender = None;
    }

    async fn ready(&mut self) -> Result<SendRequest<Payload>, CallError> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let connect = async {
            let stream = TcpStream::connect(&self.authority).await?;
            stream.set_nodelay(true)?;
            handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let not_sent = |why: String| CallError::NotSent(format!("connecting to {}: {why}", self.authority));
        let (sender, connection) =
            opened.map_err(|_| not_sent("timed out".into()))?.map_err(|e| not_sent(e.to_string()))?;
        // Ends with the connection; its error reaches the sender.
        drop(tokio::spawn(connection));
        Ok(sender)
    }
}
