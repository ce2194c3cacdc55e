//! A certificate for the S3 port of a store on one's own machine, where nobody wants to run a CA.
//!
//! A CA is drawn, issues the one certificate, and its key is thrown away: whoever trusts that CA trusts
//! nothing else. It has nothing to do with the cluster's CA.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SerialNumber,
};
use stele_types::seam::{Rng, random_bytes};

use super::TlsError;
use super::authority::{Validity, common_name, new_key};

/// A certificate, its key, and the CA certificate that clients must trust; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalCertificate {
    /// For `AWS_CA_BUNDLE` and the like.
    pub ca_pem: String,
    /// What the server shows.
    pub certificate_pem: String,
    /// Its key: a secret.
    pub key_pem: String,
}

impl std::fmt::Debug for LocalCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalCertificate(..)")
    }
}

impl LocalCertificate {
    /// Makes one for these names and IP addresses.
    ///
    /// # Errors
    /// [`TlsError::Library`], also for a name that no certificate can carry.
    pub fn create(names: &[String], validity: Validity, rng: &dyn Rng) -> Result<Self, TlsError> {
        let serial = || {
            let mut serial = random_bytes::<16>(rng);
            serial[0] = serial[0] & 0x7f | 0x40;
            SerialNumber::from_slice(&serial)
        };
        let ca_key = new_key()?;
        let mut ca = CertificateParams::default();
        // The name differs, so that a trust store can hold those of several stores.
        let id = hex::encode(random_bytes::<4>(rng));
        ca.distinguished_name = common_name(&format!("Stele local CA {id}"));
        ca.serial_number = Some(serial());
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity.apply(&mut ca)?;
        let ca_certificate = ca.self_signed(&ca_key).map_err(|e| TlsError::library("sign a local CA", e))?;

        let key = new_key()?;
        let mut params = CertificateParams::new(names).map_err(|e| TlsError::library("name a certificate", e))?;
        params.distinguished_name = common_name("Stele S3");
        params.serial_number = Some(serial());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity.apply(&mut params)?;
        let made = params.signed_by(&key, &Issuer::new(ca, ca_key));
        let made = made.map_err(|e| TlsError::library("sign a local certificate", e))?;
        Ok(Self { ca_pem: ca_certificate.pem(), certificate_pem: made.pem(), key_pem: key.serialize_pem() })
    }
}
