//! One node's key, certificate and trusted CAs, loaded from text.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use sha2::{Digest, Sha256};
use stele_types::ids::ClusterId;

use super::TlsError;
use super::identity::{Identity, ca_cluster};

/// Most CA certificates trusted at once: the current one and those it replaces.
const CAS_MAX: usize = 8;

/// What a node shows, and whom it trusts.
pub struct Credentials {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    anchors: Vec<TrustAnchor<'static>>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Loads a node's certificate, its key, and one or more CA certificates of the cluster: the first is
    /// the one that issued the certificate, the others are trusted too, while a CA is replaced.
    ///
    /// Nothing is said about expiry; a handshake checks it.
    ///
    /// # Errors
    /// [`TlsError`]: not PEM, or the three don't belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, TlsError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| TlsError::Pem { what: "node certificate", problem: e.to_string() })?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| TlsError::Pem { what: "node key", problem: e.to_string() })?;
        let cas: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).take(CAS_MAX).collect();
        let cas = cas.map_err(|e| TlsError::Pem { what: "CA certificate", problem: e.to_string() })?;
        let identity = Identity::of_certificate(&certificate)?;
        let mut anchors = Vec::new();
        for ca in &cas {
            if ca_cluster(ca)? != identity.cluster {
                return Err(TlsError::Mismatch("a CA certificate is of another cluster than the node certificate"));
            }
            let anchor = webpki::anchor_from_trusted_cert(ca)
                .map_err(|e| TlsError::Certificate { what: "CA certificate", problem: e.to_string() })?;
            anchors.push(anchor.to_owned());
        }
        let Some(issuer) = cas.into_iter().next() else {
            return Err(TlsError::Pem { what: "CA certificate", problem: "the text holds none".to_owned() });
        };
        // The CA travels along, so that a joining node finds the one whose fingerprint it knows.
        // aws-lc-rs with its default groups, of which X25519MLKEM768 comes first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Self { identity, chain: vec![certificate, issuer], key, anchors, provider })
    }

    /// Who the node is.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Its cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    #[cfg(feature = "simulation")]
    pub(super) fn with_provider(self, provider: CryptoProvider) -> Self {
        Self { provider: Arc::new(provider), ..self }
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(super) fn anchors(&self) -> Vec<TrustAnchor<'static>> {
        self.anchors.clone()
    }

    /// A secret that survives a restart of the node: a peer whose connection died with the process
    /// learns it at once, from a stateless reset, instead of after the idle timeout.
    pub(crate) fn reset_secret(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"stele stateless reset\0");
        hash.update(self.key.secret_der());
        hash.finalize().into()
    }
}
