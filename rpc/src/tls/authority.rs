//! The cluster's certificate authority. Stele makes it itself, ECDSA P-256, and keeps its key on the
//! metadata nodes; nothing outside the cluster needs to know it.
//!
//! Keys are drawn by the cryptographic library, not by the seam: a run of the simulator does not depend
//! on them, and a key that a seed can reproduce is no key.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use stele_types::ids::ClusterId;
use stele_types::seam::{Rng, UnixMillis, random_bytes};
use time::OffsetDateTime;

use super::TlsError;
use super::identity::{Identity, ca_cluster, ca_uri};

/// How far before its time of issue a certificate is valid: clocks of new nodes may be late.
pub const SLACK: Duration = Duration::from_secs(3600);

/// SHA-256 of a CA certificate's DER: what a join token pins.
pub type CaFingerprint = [u8; 32];

/// When a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Now, by the caller's clock. The certificate is valid from [`SLACK`] before.
    pub now: UnixMillis,
    /// How long from now.
    pub lifetime: Duration,
}

impl Validity {
    pub(super) fn apply(self, params: &mut CertificateParams) -> Result<(), TlsError> {
        let at = |millis: u128| {
            let seconds = i64::try_from(millis / 1000).ok();
            let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
            time.ok_or_else(|| TlsError::library("choose a validity", "it lies beyond the year 9999"))
        };
        let now = u128::from(self.now);
        params.not_before = at(now.saturating_sub(SLACK.as_millis()))?;
        params.not_after = at(now + self.lifetime.as_millis())?;
        Ok(())
    }
}

/// A cluster's CA with its key.
pub struct ClusterCa {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterCa").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl ClusterCa {
    /// Makes a new CA for a new cluster.
    ///
    /// # Errors
    /// [`TlsError::Library`].
    pub fn create(cluster: ClusterId, validity: Validity, rng: &dyn Rng) -> Result<Self, TlsError> {
        Self::with_key(cluster, &new_key()?, validity, rng)
    }

    pub(super) fn with_key(
        cluster: ClusterId,
        key: &KeyPair,
        validity: Validity,
        rng: &dyn Rng,
    ) -> Result<Self, TlsError> {
        let mut params = params(&format!("Stele cluster {cluster}"), &ca_uri(cluster), rng)?;
        validity.apply(&mut params)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let made = params.self_signed(key).map_err(|e| TlsError::library("sign the CA certificate", e))?;
        Self::from_pem(&made.pem(), &key.serialize_pem())
    }

    /// Loads a CA from the text of its certificate and key.
    ///
    /// # Errors
    /// [`TlsError`]: not PEM, not a cluster's CA, or key and certificate differ.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let bad = |problem: String| TlsError::Pem { what: "CA certificate", problem };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let cluster = ca_cluster(&certificate)?;
        let key = KeyPair::from_pem(key_pem).map_err(|e| TlsError::Pem { what: "CA key", problem: e.to_string() })?;
        let parsed = webpki::EndEntityCert::try_from(&certificate)
            .map_err(|e| TlsError::Certificate { what: "CA certificate", problem: e.to_string() })?;
        if parsed.subject_public_key_info().as_ref() != key.subject_public_key_info() {
            return Err(TlsError::Mismatch("the CA key does not belong to the CA certificate"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|e| TlsError::Certificate { what: "CA certificate", problem: e.to_string() })?;
        Ok(Self { cluster, certificate, certificate_pem: certificate_pem.to_owned(), issuer })
    }

    /// Its cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its certificate as text.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key as text: a secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What a join token pins.
    pub fn fingerprint(&self) -> CaFingerprint {
        fingerprint(&self.certificate)
    }

    /// Issues a certificate for the key in a signing request (DER). Only the key is taken from the
    /// request; whoever holds it has proved so by signing. Names in it are ignored.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] if the request is not one, or its signature is wrong.
    pub fn issue(
        &self,
        identity: Identity,
        request: &[u8],
        validity: Validity,
        rng: &dyn Rng,
    ) -> Result<String, TlsError> {
        if identity.cluster != self.cluster {
            return Err(TlsError::Mismatch("the certificate asked for is of another cluster"));
        }
        self.certify(identity, &parse_request(request)?.public_key, validity, rng)
    }

    pub(super) fn certify(
        &self,
        identity: Identity,
        public_key: &impl PublicKeyData,
        validity: Validity,
        rng: &dyn Rng,
    ) -> Result<String, TlsError> {
        let mut params = params(&format!("{} {}", identity.role, identity.node), &identity.to_string(), rng)?;
        validity.apply(&mut params)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(public_key, &self.issuer);
        Ok(made.map_err(|e| TlsError::library("sign a node certificate", e))?.pem())
    }
}

fn parse_request(request: &[u8]) -> Result<CertificateSigningRequestParams, TlsError> {
    let bad = |problem: String| TlsError::Certificate { what: "certificate request", problem };
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|e| bad(e.to_string()))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(bad("its key is not ECDSA P-256".to_owned()));
    }
    Ok(request)
}

/// SHA-256 of the public key in a signing request (DER), as [`ClusterCa::issue`] takes it.
///
/// # Errors
/// [`TlsError::Certificate`] if the request is not one, or its signature is wrong.
pub fn key_hash(request: &[u8]) -> Result<[u8; 32], TlsError> {
    Ok(Sha256::digest(parse_request(request)?.public_key.der_bytes()).into())
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> CaFingerprint {
    Sha256::digest(certificate.as_ref()).into()
}

/// [`fingerprint`] of the first certificate in a text.
///
/// # Errors
/// [`TlsError::Pem`].
pub fn fingerprint_of_pem(pem: &str) -> Result<CaFingerprint, TlsError> {
    let bad = |e: rustls::pki_types::pem::Error| TlsError::Pem { what: "CA certificate", problem: e.to_string() };
    CertificateDer::from_pem_slice(pem.as_bytes()).map(|certificate| fingerprint(&certificate)).map_err(bad)
}

/// A node's key before it has a certificate.
pub struct NodeKey(KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

impl NodeKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`TlsError::Library`].
    pub fn generate() -> Result<Self, TlsError> {
        new_key().map(Self)
    }

    /// Loads a key from its text.
    ///
    /// # Errors
    /// [`TlsError::Pem`].
    pub fn from_pem(key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem);
        key.map(Self).map_err(|e| TlsError::Pem { what: "node key", problem: e.to_string() })
    }

    /// The key as text: a secret.
    pub fn key_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A signing request (DER, PKCS #10) for [`ClusterCa::issue`].
    ///
    /// # Errors
    /// [`TlsError::Library`].
    pub fn signing_request(&self) -> Result<Vec<u8>, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Stele node");
        let request = params.serialize_request(&self.0);
        Ok(request.map_err(|e| TlsError::library("sign a certificate request", e))?.der().to_vec())
    }
}

pub(super) fn new_key() -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| TlsError::library("draw a key", e))
}

pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

fn params(name: &str, uri: &str, rng: &dyn Rng) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    let uri = uri.try_into().map_err(|e| TlsError::library("name a certificate", e))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    // A fresh serial, so that a renewed certificate differs from the one it replaces. Positive, 16 bytes.
    let mut serial = random_bytes::<16>(rng);
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
