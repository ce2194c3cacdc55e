//! HTTPS on the S3 port: a certificate that can be replaced while connections live, and the handshake.
//!
//! TLS 1.2 and 1.3, X25519MLKEM768 first, HTTP/2 and HTTP/1.1 by ALPN. Bytes in memory only: whoever starts
//! the gateway reads the files and calls [`Tls::replace`] when they change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::linger::Linger;
use super::wire::Watched;
use super::write_idle::WriteIdle;

/// Longest chain that is taken: the server's certificate and what links it to a root.
const CHAIN_MAX: usize = 16;
/// First byte of every TLS connection: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 22;

/// Why a certificate can't be served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadCertificate {
    /// The chain is no chain.
    #[error("the certificate can't be read: {0}; give PEM with the server's certificate first, then those above it")]
    Chain(String),
    /// The key is no key.
    #[error("the private key can't be read: {0}; give one PEM key, not encrypted")]
    Key(String),
    /// Both can be read, but not be used together.
    #[error("certificate and key can't be used together: {0}")]
    Pair(String),
}

/// The certificate of the S3 port.
pub struct Tls {
    config: ArcSwap<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// [`BadCertificate`] says which of the two is wrong. Expiry is not looked at: clients judge it.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, BadCertificate> {
        Ok(Self { config: ArcSwap::from_pointee(config(chain, key)?) })
    }

    /// Serves another certificate from the next connection on.
    ///
    /// # Errors
    /// As [`Tls::from_pem`]; the old one stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), BadCertificate> {
        self.config.store(Arc::new(config(chain, key)?));
        Ok(())
    }

    /// Shakes hands. A client that speaks plain HTTP is told so.
    ///
    /// # Errors
    /// The client spoke no TLS, or none that we do, or was gone.
    pub(super) async fn accept(&self, stream: TcpStream, idle: Duration) -> io::Result<TlsStream<Watched>> {
        let mut first = [0u8];
        if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE_RECORD] {
            if first[0].is_ascii_uppercase() {
                answer_plain(stream).await?;
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
        }
        TlsAcceptor::from(self.config.load_full()).accept(WriteIdle::new(Linger::new(stream), idle)).await
    }
}

fn config(chain: &[u8], key: &[u8]) -> Result<ServerConfig, BadCertificate> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .take(CHAIN_MAX)
        .collect::<Result<_, _>>()
        .map_err(|e| BadCertificate::Chain(e.to_string()))?;
    if chain.is_empty() {
        return Err(BadCertificate::Chain("it holds none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| BadCertificate::Key(e.to_string()))?;
    let pair = |e: rustls::Error| BadCertificate::Pair(e.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Tells a client that speaks plain HTTP what is wrong, in a form that S3 clients show.
async fn answer_plain(stream: TcpStream) -> io::Result<()> {
    const BODY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidRequest</Code><Message>This \
                        port speaks HTTPS: use https:// in the endpoint.</Message></Error>";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut stream = Linger::new(stream);
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
