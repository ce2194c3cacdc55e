//! The shapes of RFC 3161 (time stamps), RFC 5652 (CMS) and RFC 5035 (signing certificates), as far as a
//! token has them. What is not looked at stays unread.

use der::asn1::{Any, BitString, Int, ObjectIdentifier, OctetString, SetOfVec};
use der::{Sequence, ValueOrd};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extensions;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

pub(super) const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
pub(super) const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
pub(super) const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
pub(super) const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
pub(super) const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
pub(super) const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
pub(super) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
pub(super) const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
pub(super) const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
pub(super) const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");

const fn no() -> bool {
    false
}

/// MessageImprint.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct Imprint {
    pub(super) algorithm: AlgorithmIdentifierOwned,
    pub(super) hash: OctetString,
}

/// TimeStampReq.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct TimeStampReq {
    pub(super) version: u8,
    pub(super) imprint: Imprint,
    #[asn1(optional = "true")]
    pub(super) policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    pub(super) nonce: Option<u64>,
    #[asn1(default = "no")]
    pub(super) certificates: bool,
}

/// TimeStampResp.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct TimeStampResp {
    pub(super) status: StatusInfo,
    #[asn1(optional = "true")]
    pub(super) token: Option<ContentInfo>,
}

/// PKIStatusInfo.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct StatusInfo {
    pub(super) status: u8,
    #[asn1(optional = "true")]
    pub(super) text: Option<Vec<String>>,
    #[asn1(optional = "true")]
    pub(super) failure: Option<BitString>,
}

/// ContentInfo with SignedData in it.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct ContentInfo {
    pub(super) content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(super) signed: SignedData,
}

/// SignedData.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct SignedData {
    pub(super) version: u8,
    pub(super) digests: SetOfVec<AlgorithmIdentifierOwned>,
    pub(super) content: EncapsulatedContent,
    /// Not read before they are needed, so that their bytes stay as they came.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) certificates: Option<SetOfVec<Any>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) revocations: Option<SetOfVec<Any>>,
    pub(super) signers: SetOfVec<SignerInfo>,
}

/// EncapsulatedContentInfo.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct EncapsulatedContent {
    pub(super) content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) content: Option<OctetString>,
}

/// SignerInfo.
#[derive(Clone, PartialEq, Eq, Debug, Sequence, ValueOrd)]
pub(super) struct SignerInfo {
    pub(super) version: u8,
    /// IssuerAndSerialNumber in version 1, a key identifier in version 3.
    pub(super) signer: Any,
    pub(super) digest: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true", optional = "true")]
    pub(super) signed: Option<SetOfVec<Attribute>>,
    pub(super) algorithm: AlgorithmIdentifierOwned,
    pub(super) signature: OctetString,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true", optional = "true")]
    pub(super) unsigned: Option<SetOfVec<Attribute>>,
}

/// IssuerAndSerialNumber.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct IssuerAndSerial {
    pub(super) issuer: Name,
    pub(super) serial: SerialNumber,
}

/// SigningCertificate and SigningCertificateV2; what follows the certificates is not looked at.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct SigningCertificate<T: for<'a> der::Decode<'a, Error = der::Error> + der::Encode> {
    pub(super) certificates: Vec<T>,
    #[asn1(optional = "true")]
    pub(super) policies: Option<Any>,
}

/// ESSCertID: SHA-1.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct CertificateId {
    pub(super) hash: OctetString,
    #[asn1(optional = "true")]
    pub(super) issuer_serial: Option<Any>,
}

/// ESSCertIDv2; without an algorithm it is SHA-256.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct CertificateIdV2 {
    #[asn1(optional = "true")]
    pub(super) algorithm: Option<AlgorithmIdentifierOwned>,
    pub(super) hash: OctetString,
    #[asn1(optional = "true")]
    pub(super) issuer_serial: Option<Any>,
}

/// TSTInfo.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct TstInfo {
    pub(super) version: u8,
    pub(super) policy: ObjectIdentifier,
    pub(super) imprint: Imprint,
    pub(super) serial: Int,
    /// GeneralizedTime, which may have a fraction here.
    pub(super) time: Any,
    #[asn1(optional = "true")]
    pub(super) accuracy: Option<Accuracy>,
    #[asn1(default = "no")]
    pub(super) ordering: bool,
    #[asn1(optional = "true")]
    pub(super) nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) authority: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) extensions: Option<Extensions>,
}

/// Accuracy.
#[derive(Clone, PartialEq, Eq, Debug, Sequence)]
pub(super) struct Accuracy {
    #[asn1(optional = "true")]
    pub(super) seconds: Option<u32>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) millis: Option<u16>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(super) micros: Option<u16>,
}
