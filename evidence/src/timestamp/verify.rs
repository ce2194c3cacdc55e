//! From a response to the time that it shows: imprint, signed attributes, signature, certificate.

use std::time::Duration;

use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode as _, Encode as _, Tag, Tagged as _};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::Digest as _;
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectKeyIdentifier};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::algorithms::{ALL, Algorithm, Hash, Key};
use super::asn1::{
    CONTENT_TYPE, CertificateId, CertificateIdV2, IssuerAndSerial, MESSAGE_DIGEST, SHA_256, SHA_384, SHA_512,
    SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2, SignerInfo, SigningCertificate, TIME_STAMPING, TST_INFO,
};
use super::response::Response;
use super::roots::Roots;
use super::{TimestampError, time};

/// DER of [`TIME_STAMPING`] without its head, as webpki wants it.
const TIME_STAMPING_BYTES: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// What a token shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// The bytes existed at this time at the latest, by the authority's clock: genTime and its accuracy,
    /// rounded up to whole seconds since the Unix epoch.
    pub latest: u64,
    /// Policy of the authority, as numbers with dots.
    pub policy: String,
    /// Serial number of the token, hexadecimal.
    pub serial: String,
    /// Who stamped, by its certificate.
    pub authority: String,
    /// Whether the certificates lead to a root of the auditor. If not, anybody may have made them.
    pub rooted: bool,
}

impl Response {
    /// What the token shows of `content`. Without roots it is only looked at within itself. `nonce` is that of
    /// the request, for who made it.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn verify(&self, content: &[u8], roots: &Roots, nonce: Option<u64>) -> Result<Stamped, TimestampError> {
        self.check_imprint(content)?;
        if let Some(nonce) = nonce {
            let sent = nonce.to_be_bytes();
            let digits = self.info.nonce.as_ref().map_or(&[][..], |nonce| nonce.as_bytes());
            if significant(digits) != significant(&sent) || digits.is_empty() {
                return Err(TimestampError::OtherNonce);
            }
        }
        let signer = self.signer()?;
        let certificates = self.certificates()?;
        let (der, certificate) = self.check_signer(signer, &certificates)?;
        check_usage(&certificate)?;
        let gen_time = time::read(&self.info.time)?;
        if !roots.is_empty() {
            check_chain(der, &certificates, gen_time, roots)?;
        }
        let accuracy = time::accuracy(self.info.accuracy.as_ref())?;
        Ok(Stamped {
            latest: gen_time.saturating_add(accuracy).div_ceil(time::MICROS),
            policy: self.info.policy.to_string(),
            serial: hex::encode(self.info.serial.as_bytes()),
            authority: certificate.tbs_certificate().subject().to_string(),
            rooted: !roots.is_empty(),
        })
    }

    fn check_imprint(&self, content: &[u8]) -> Result<(), TimestampError> {
        let imprint = &self.info.imprint;
        if hash_of(&imprint.algorithm)? != Hash::Sha256 {
            return Err(TimestampError::Rule("the imprint is of another digest than SHA-256"));
        }
        if imprint.hash.as_bytes() == Hash::Sha256.digest(content) { Ok(()) } else { Err(TimestampError::OtherBytes) }
    }

    /// The certificates of the token, byte for byte.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TimestampError> {
        let listed = self.token.signed.certificates.iter().flat_map(SetOfVec::iter);
        // Other choices than certificates have other tags, and are nothing that is needed here.
        let listed = listed.filter(|any| any.tag() == Tag::Sequence);
        listed.map(|any| any.to_der().map(CertificateDer::from).map_err(malformed)).collect()
    }

    /// The certificate of the signer, once it is the one that was signed for and made the signature.
    fn check_signer<'c>(
        &self,
        signer: &SignerInfo,
        certificates: &'c [CertificateDer<'static>],
    ) -> Result<(&'c CertificateDer<'static>, Certificate), TimestampError> {
        let hash = hash_of(&signer.digest)?;
        let listed: Vec<_> = self.token.signed.digests.iter().collect();
        if listed != [&signer.digest] {
            return Err(TimestampError::Rule("the token lists other digests than its signature has"));
        }
        let attributes = signer.signed.as_ref().ok_or(TimestampError::Rule("the token has no signed attributes"))?;
        if only(attributes, CONTENT_TYPE)?.decode_as::<ObjectIdentifier>().ok() != Some(TST_INFO) {
            return Err(TimestampError::Rule("the signed content type is another one"));
        }
        let digest = only(attributes, MESSAGE_DIGEST)?.decode_as::<OctetString>().map_err(malformed)?;
        if digest.as_bytes() != hash.digest(&self.content) {
            return Err(TimestampError::Rule("the signed digest is not that of the token's content"));
        }
        let named = |der: &&CertificateDer<'_>| names(attributes, der).unwrap_or_default();
        let der = certificates.iter().find(named);
        let der = der.ok_or(TimestampError::Rule("the token does not hold the certificate that it was signed with"))?;
        let certificate = Certificate::from_der(der).map_err(malformed)?;
        if !is_signer(signer, &certificate)? {
            return Err(TimestampError::Rule("the token names another signer than its certificate"));
        }
        // What is signed is the DER of the attributes as a SET.
        let message = attributes.to_der().map_err(malformed)?;
        let entity = EndEntityCert::try_from(der).map_err(|error| TimestampError::Chain(error.to_string()))?;
        let signature = signer.signature.as_bytes();
        let good = candidates(&signer.algorithm, hash)?
            .iter()
            .any(|algorithm| entity.verify_signature(algorithm, &message, signature).is_ok());
        if good { Ok((der, certificate)) } else { Err(TimestampError::Signature) }
    }
}

fn malformed(error: der::Error) -> TimestampError {
    TimestampError::Malformed(error.to_string())
}

/// Digits of a number without the zeros before them.
fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|byte| **byte == 0).count();
    digits.get(zeros..).unwrap_or_default()
}

fn no_parameters(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.parameters.as_ref().is_none_or(Any::is_null)
}

fn hash_of(algorithm: &AlgorithmIdentifierOwned) -> Result<Hash, TimestampError> {
    let known = [(SHA_256, Hash::Sha256), (SHA_384, Hash::Sha384), (SHA_512, Hash::Sha512)];
    let found = known.into_iter().find(|(oid, _)| *oid == algorithm.oid).filter(|_| no_parameters(algorithm));
    found.map(|(_, hash)| hash).ok_or(TimestampError::Rule("a digest that is not SHA-256, SHA-384 or SHA-512"))
}

/// The algorithms that a signature's identifier may mean; the certificate's key says which it is.
fn candidates(algorithm: &AlgorithmIdentifierOwned, hash: Hash) -> Result<Vec<Algorithm>, TimestampError> {
    if !no_parameters(algorithm) {
        return Err(TimestampError::Signature);
    }
    let (keys, stated): (&[Key], _) = match algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" => (&[Key::Rsa], hash),
        "1.2.840.113549.1.1.11" => (&[Key::Rsa], Hash::Sha256),
        "1.2.840.113549.1.1.12" => (&[Key::Rsa], Hash::Sha384),
        "1.2.840.113549.1.1.13" => (&[Key::Rsa], Hash::Sha512),
        "1.2.840.10045.4.3.2" => (&[Key::P256, Key::P384], Hash::Sha256),
        "1.2.840.10045.4.3.3" => (&[Key::P256, Key::P384], Hash::Sha384),
        "1.2.840.10045.4.3.4" => (&[Key::P256, Key::P384], Hash::Sha512),
        _ => return Err(TimestampError::Signature),
    };
    if stated != hash {
        return Err(TimestampError::Signature);
    }
    Ok(keys.iter().map(|key| Algorithm(*key, hash)).collect())
}

/// The one value of the one attribute of this type.
fn only(attributes: &SetOfVec<Attribute>, oid: ObjectIdentifier) -> Result<&Any, TimestampError> {
    let mut values = attributes.iter().filter(|attribute| attribute.oid == oid).map(|attribute| &attribute.values);
    match (values.next(), values.next()) {
        (Some(values), None) if values.len() == 1 => values.iter().next(),
        _ => None,
    }
    .ok_or(TimestampError::Rule("a signed attribute is missing, or there twice"))
}

/// Whether the signing-certificate attribute names this certificate.
fn names(attributes: &SetOfVec<Attribute>, der: &CertificateDer<'_>) -> Result<bool, TimestampError> {
    if attributes.iter().any(|attribute| attribute.oid == SIGNING_CERTIFICATE_V2) {
        let value = only(attributes, SIGNING_CERTIFICATE_V2)?;
        let named = value.decode_as::<SigningCertificate<CertificateIdV2>>().map_err(malformed)?;
        let first = named.certificates.first().ok_or(TimestampError::Rule("no signing certificate is named"))?;
        let hash = first.algorithm.as_ref().map_or(Ok(Hash::Sha256), hash_of)?;
        return Ok(first.hash.as_bytes() == hash.digest(der));
    }
    let value = only(attributes, SIGNING_CERTIFICATE)?;
    let named = value.decode_as::<SigningCertificate<CertificateId>>().map_err(malformed)?;
    let first = named.certificates.first().ok_or(TimestampError::Rule("no signing certificate is named"))?;
    // Only picks among the token's own certificates; the signature and the chain are what counts.
    Ok(first.hash.as_bytes() == sha1::Sha1::digest(der).as_slice())
}

fn is_signer(signer: &SignerInfo, certificate: &Certificate) -> Result<bool, TimestampError> {
    let certificate = certificate.tbs_certificate();
    match signer.version {
        1 => {
            let named = signer.signer.decode_as::<IssuerAndSerial>().map_err(malformed)?;
            Ok(named.issuer == *certificate.issuer() && named.serial == *certificate.serial_number())
        }
        3 => {
            let key = certificate.get_extension::<SubjectKeyIdentifier>().map_err(malformed)?;
            Ok(key.is_some_and(|(_, key)| key.0.as_bytes() == signer.signer.value()))
        }
        _ => Err(TimestampError::Rule("a signature of another version than 1 or 3")),
    }
}

/// RFC 3161 section 2.3: critical, and for nothing else.
fn check_usage(certificate: &Certificate) -> Result<(), TimestampError> {
    let usage = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>().map_err(malformed)?;
    match usage {
        Some((true, usage)) if usage.0 == [TIME_STAMPING] => Ok(()),
        _ => Err(TimestampError::KeyUsage),
    }
}

fn check_chain(
    der: &CertificateDer<'static>,
    certificates: &[CertificateDer<'static>],
    gen_time: u64,
    roots: &Roots,
) -> Result<(), TimestampError> {
    let failed = |error: webpki::Error| TimestampError::Chain(error.to_string());
    let entity = EndEntityCert::try_from(der).map_err(failed)?;
    let at = UnixTime::since_unix_epoch(Duration::from_micros(gen_time));
    let usage = KeyUsage::required_if_present(TIME_STAMPING_BYTES);
    entity.verify_for_usage(&ALL, roots.anchors(), certificates, at, usage, None, None).map_err(failed)?;
    Ok(())
}
