//! Checks of the other side's certificate: signed by the cluster's CA, in force, for this use, of this
//! cluster, and, where a node was dialled, of that node.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::role::Role;
use webpki::KeyUsage;

use super::TlsError;
use super::authority::{CaFingerprint, fingerprint};
use super::identity::Identity;

/// The TLS server name under which a node is dialled.
pub(crate) fn server_name(node: NodeId) -> String {
    format!("n{node}.stele")
}

fn dialled(name: &ServerName<'_>) -> Option<NodeId> {
    let ServerName::DnsName(name) = name else { return None };
    let digits = name.as_ref().strip_prefix('n')?.strip_suffix(".stele")?;
    digits.parse().ok().map(NodeId)
}

/// Which certificates are good.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    pub(super) cluster: ClusterId,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<Identity, Error> {
        check_chain(leaf, intermediates, &self.anchors, (self.algorithms, now, usage))?;
        let identity = Identity::of_certificate(leaf).map_err(other)?;
        if identity.cluster == self.cluster {
            Ok(identity)
        } else {
            Err(other(TlsError::Mismatch("the peer's certificate is of another cluster")))
        }
    }
}

fn check_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    (algorithms, now, usage): (WebPkiSupportedAlgorithms, UnixTime, KeyUsage),
) -> Result<(), Error> {
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(chain_error)?;
    parsed.verify_for_usage(algorithms.all, anchors, intermediates, now, usage, None, None).map_err(chain_error)?;
    Ok(())
}

fn chain_error(error: webpki::Error) -> Error {
    let error = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::BadDer => CertificateError::BadEncoding,
        error => CertificateError::Other(OtherError(Arc::new(error))),
    };
    Error::InvalidCertificate(error)
}

fn other(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

const NO_TLS12: &str = "TLS 1.2 is not spoken here";

macro_rules! signatures {
    ($($algorithms:ident).+) => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General(NO_TLS12.to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.$($algorithms).+)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$($algorithms).+.supported_schemes()
        }
    };
}

/// A node checks the node it dialled.
#[derive(Debug)]
pub(super) struct NodeServerVerifier {
    pub(super) trust: Trust,
}

impl ServerCertVerifier for NodeServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let identity = self.trust.check(leaf, intermediates, now, KeyUsage::server_auth())?;
        if dialled(name) == Some(identity.node) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(other(TlsError::Mismatch("another node than the one dialled answers at this address")))
        }
    }

    signatures!(trust.algorithms);
}

/// A node checks who dialled it. Without a certificate only the join channel answers; that is decided
/// once the protocol is known.
#[derive(Debug)]
pub(super) struct NodeClientVerifier {
    pub(super) trust: Trust,
}

impl ClientCertVerifier for NodeClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.check(leaf, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!(trust.algorithms);
}

/// A joining node knows nothing but the CA's fingerprint: the answering node must show that CA's
/// certificate, and be a metadata node under it.
#[derive(Debug)]
pub(super) struct PinnedCaVerifier {
    pub(super) fingerprint: CaFingerprint,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedCaVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(ca) = intermediates.iter().find(|ca| fingerprint(ca) == self.fingerprint) else {
            return Err(other(TlsError::Mismatch("the answering cluster's CA is not the one named by the join token")));
        };
        let anchor = webpki::anchor_from_trusted_cert(ca).map_err(chain_error)?;
        check_chain(leaf, &[], &[anchor], (self.algorithms, now, KeyUsage::server_auth()))?;
        if Identity::of_certificate(leaf).map_err(other)?.role == Role::Metadata {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(other(TlsError::Mismatch("the answering node is not a metadata node")))
        }
    }

    signatures!(algorithms);
}
