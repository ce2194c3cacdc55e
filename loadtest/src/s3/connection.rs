//! One keep-alive HTTP/1.1 connection per client, over TCP or TLS, reopened when it breaks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

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
    let plain = uri.scheme_str() == Some("http");
    anyhow::ensure!(plain, "{endpoint:?} is not an http:// URL; https:// needs the CA to trust (--ca)");
    let host = uri.host().with_context(|| format!("no host in {endpoint:?}"))?;
    Ok(match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => format!("{host}:80"),
    })
}

/// Where to connect to.
#[derive(Clone)]
pub(crate) struct Address {
    /// `host:port`, as the Host header says it.
    pub(crate) authority: String,
    /// TLS, and whom to find there.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Address {
    /// `host:port` without TLS.
    pub(crate) fn plain(authority: String) -> Self {
        Self { authority, tls: None }
    }

    /// Of an `http://` endpoint, or with the CA to trust of an `https://` one.
    pub(crate) fn new(endpoint: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let Some(ca) = ca else {
            return Ok(Self::plain(authority(endpoint)?));
        };
        let rest = endpoint.strip_prefix("https://").with_context(|| format!("not an https:// URL: {endpoint:?}"))?;
        let plain: http::Uri = format!("http://{rest}").parse().with_context(|| format!("not a URL: {endpoint:?}"))?;
        let host = plain.host().with_context(|| format!("no host in {endpoint:?}"))?.to_owned();
        let mut roots = rustls::RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca).with_context(|| ca.display().to_string())?;
        for certificate in certificates {
            roots.add(certificate.with_context(|| ca.display().to_string())?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = versions.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(host.clone()).with_context(|| format!("not a host: {host:?}"))?;
        let authority = format!("{host}:{}", plain.port_u16().unwrap_or(443));
        Ok(Self { authority, tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }
}

/// A lazily opened connection.
pub(crate) struct Connection {
    address: Address,
    sender: Option<SendRequest<Payload>>,
}

async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> std::io::Result<SendRequest<Payload>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Ends with the connection; its error reaches the sender.
    drop(tokio::spawn(connection));
    Ok(sender)
}

impl Connection {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, sender: None }
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
            let stream = TcpStream::connect(&self.address.authority).await?;
            stream.set_nodelay(true)?;
            match &self.address.tls {
                None => begin(stream).await,
                Some((connector, name)) => begin(connector.connect(name.clone(), stream).await?).await,
            }
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let not_sent = |why: String| CallError::NotSent(format!("connecting to {}: {why}", self.address.authority));
        opened.map_err(|_| not_sent("timed out".into()))?.map_err(|e| not_sent(e.to_string()))
    }
}
