//! TLS configurations of both sides. Made anew from credentials whenever these are replaced;
//! connections that live keep what they were made with.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use stele_types::seam::Clock;

use super::TlsError;
use super::authority::CaFingerprint;
use super::credentials::Credentials;
use super::verify::{NodeClientVerifier, NodeServerVerifier, PinnedCaVerifier, Trust};

/// Protocol between nodes.
pub const ALPN_NODE: &[u8] = b"stele/1";
/// Protocol of the join channel.
pub const ALPN_JOIN: &[u8] = b"stele-join/1";

#[derive(Debug)]
struct SeamTime(Arc<dyn Clock>);

impl TimeProvider for SeamTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.unix_millis())))
    }
}

fn trust(credentials: &Credentials, provider: &CryptoProvider) -> Trust {
    Trust {
        cluster: credentials.cluster(),
        anchors: credentials.anchors(),
        algorithms: provider.signature_verification_algorithms,
    }
}

fn refused(error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch("the node key does not belong to the certificate"),
        error => TlsError::library("build a TLS configuration", error),
    }
}

/// What a node answers with, on both protocols.
///
/// # Errors
/// [`TlsError::Mismatch`] if the key is not the certificate's.
pub fn server(credentials: &Credentials, clock: Arc<dyn Clock>) -> Result<ServerConfig, TlsError> {
    let provider = credentials.provider();
    let verifier = NodeClientVerifier { trust: trust(credentials, &provider) };
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(SeamTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(credentials.chain(), credentials.key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN_NODE.to_vec(), ALPN_JOIN.to_vec()];
    // A resumed session would carry on with a certificate that may have expired since.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a node dials another node with.
///
/// # Errors
/// [`TlsError::Mismatch`] if the key is not the certificate's.
pub fn client(credentials: &Credentials, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let provider = credentials.provider();
    let verifier = NodeServerVerifier { trust: trust(credentials, &provider) };
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(SeamTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credentials.chain(), credentials.key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN_NODE.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a joining node dials a metadata node with: no certificate, the CA pinned.
///
/// # Errors
/// [`TlsError::Library`].
pub fn join(fingerprint: CaFingerprint, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(SeamTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCaVerifier { fingerprint, algorithms }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
