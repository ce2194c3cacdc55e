//! Public keys that signatures are checked with, and signers made from seeds. Pure Rust, so that the
//! offline verifier stays one small static binary. Nothing here draws randomness: Ed25519 and the
//! deterministic form of ML-DSA need none.

use ed25519_dalek::Signer as _;
use ml_dsa::{KeyExport as _, MlDsa44, Signature as MlDsaSignature, SigningKey as MlDsaKey};

use crate::audit::answer;
use crate::chain::ledger;
use crate::cosignature;
use crate::vkey::{KeyName, VerifierKey, VkeyError};

/// Length of the seed of either kind of key in bytes.
pub const SEED_LEN: usize = 32;
/// Length of an Ed25519 signature in bytes.
pub const ED25519_SIGNATURE_LEN: usize = 64;
/// Length of an ML-DSA-44 signature in bytes.
pub const ML_DSA_44_SIGNATURE_LEN: usize = 2420;

/// The signature types this crate knows, by the bytes that signed-note assigns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum SignatureType {
    /// Ed25519 over the text of the note.
    Ed25519 = 0x01,
    /// Ed25519 over a time and the text: how witnesses cosign.
    TimedEd25519 = 0x04,
    /// ML-DSA-44 over cosigner, time, origin, range and root: how witnesses cosign and logs sign.
    SubtreeMlDsa44 = 0x06,
}

impl SignatureType {
    /// The type with this byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ed25519, Self::TimedEd25519, Self::SubtreeMlDsa44].into_iter().find(|known| *known as u8 == byte)
    }
}

/// Why a verifier key can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not a verifier key.
    #[error(transparent)]
    Vkey(#[from] VkeyError),
    /// A type that is not of [`SignatureType`].
    #[error("signature type {0:#04x} is not supported")]
    UnknownType(u8),
    /// The public key has another length than its type asks for, or is no point of the curve that
    /// may be used as a key.
    #[error("the public key is not valid for its type")]
    PublicKey,
    /// An ML-DSA cosignature can't say names of more than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    LongName,
}

/// Why a signature of a known key is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    /// The signature has another length than its type asks for.
    #[error("its length is wrong")]
    Length,
    /// The time is past 2^63 - 1.
    #[error("its time is out of range")]
    Time,
    /// The type can only sign checkpoints, and the text is none.
    #[error("the text is not a checkpoint that this type can sign")]
    NotACheckpoint,
    /// The key did not make it.
    #[error("it does not verify")]
    Mismatch,
}

/// A public key ready for use.
#[derive(Clone)]
enum PublicKey {
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    MlDsa44(Box<ml_dsa::VerifyingKey<MlDsa44>>),
}

/// A verifier key that someone decided to trust.
#[derive(Clone)]
pub struct TrustedKey {
    vkey: VerifierKey,
    signature_type: SignatureType,
    public: PublicKey,
}

impl TrustedKey {
    /// Makes a key usable.
    ///
    /// # Errors
    /// The type is unknown, or the public key is not valid for it.
    pub fn new(vkey: VerifierKey) -> Result<Self, KeyError> {
        let byte = vkey.signature_type();
        let signature_type = SignatureType::from_byte(byte).ok_or(KeyError::UnknownType(byte))?;
        let public = match signature_type {
            SignatureType::Ed25519 | SignatureType::TimedEd25519 => {
                PublicKey::Ed25519(Box::new(ed25519_key(vkey.public_key())?))
            }
            SignatureType::SubtreeMlDsa44 => {
                if vkey.name().as_str().len() > cosignature::NAME_MAX {
                    return Err(KeyError::LongName);
                }
                let bytes = vkey.public_key().try_into().map_err(|_| KeyError::PublicKey)?;
                PublicKey::MlDsa44(Box::new(ml_dsa::VerifyingKey::decode(&bytes)))
            }
        };
        Ok(Self { vkey, signature_type, public })
    }

    /// Reads `name+id+base64`.
    ///
    /// # Errors
    /// As [`VerifierKey::parse`] and [`Self::new`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::new(VerifierKey::parse(text)?)
    }

    /// Name, identifier, type and bytes.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Type of the signatures it makes.
    pub fn signature_type(&self) -> SignatureType {
        self.signature_type
    }

    /// Checks the signature of a note with this text. `signature` is what follows the identifier.
    /// Returns the time in POSIX seconds that the signature states, if it states one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, text: &str, signature: &[u8]) -> Result<Option<u64>, SignatureError> {
        match self.signature_type {
            SignatureType::Ed25519 => self.check_message(text.as_bytes(), signature).map(|()| None),
            SignatureType::TimedEd25519 => cosignature::check_timed(self, text, signature),
            SignatureType::SubtreeMlDsa44 => cosignature::check_checkpoint(self, text, signature),
        }
    }

    /// Checks a bare signature over a message.
    pub(crate) fn check_message(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match &self.public {
            PublicKey::Ed25519(key) => check_ed25519(key, message, signature),
            PublicKey::MlDsa44(key) => {
                let bytes = signature.try_into().map_err(|_| SignatureError::Length)?;
                let decoded = MlDsaSignature::decode(&bytes).ok_or(SignatureError::Mismatch)?;
                // Pure ML-DSA; the specification names no context, so it is empty.
                if key.verify_with_context(message, &[], &decoded) { Ok(()) } else { Err(SignatureError::Mismatch) }
            }
        }
    }
}

impl PartialEq for TrustedKey {
    fn eq(&self, other: &Self) -> bool {
        self.vkey == other.vkey
    }
}

impl Eq for TrustedKey {}

impl std::fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TrustedKey({}+{})", self.vkey.name(), self.vkey.id())
    }
}

/// A public key of the curve that may be used as one.
pub(crate) fn ed25519_key(bytes: &[u8]) -> Result<ed25519_dalek::VerifyingKey, KeyError> {
    let bytes = bytes.try_into().map_err(|_| KeyError::PublicKey)?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::PublicKey)?;
    // A second encoding of a point would be a second name for one key.
    if key.is_weak() || key.to_edwards().compress().as_bytes() != bytes {
        return Err(KeyError::PublicKey);
    }
    Ok(key)
}

/// Checks a bare Ed25519 signature.
pub(crate) fn check_ed25519(
    key: &ed25519_dalek::VerifyingKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let bytes: &[u8; ED25519_SIGNATURE_LEN] = signature.try_into().map_err(|_| SignatureError::Length)?;
    // The strict form refuses the malleable and small-order cases in which implementations disagree.
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(bytes)).map_err(|_| SignatureError::Mismatch)
}

/// Why a signer did not sign: a key held elsewhere may be out of reach.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SignerError(pub String);

/// Something that holds a private key: one of the signers below, or a key kept elsewhere.
pub trait Signer {
    /// Name, type and public key.
    fn vkey(&self) -> &VerifierKey;

    /// Signs a message with the bare algorithm of the type; for ML-DSA with an empty context.
    ///
    /// # Errors
    /// The key can't be used now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// An Ed25519 key in memory.
pub struct Ed25519Signer {
    vkey: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl Ed25519Signer {
    /// A key for plain note signatures, type 0x01: what a log signs with.
    pub fn for_notes(name: KeyName, seed: &[u8; SEED_LEN]) -> Self {
        Self::new(name, SignatureType::Ed25519, seed)
    }

    /// A key for timed cosignatures, type 0x04: what a witness signs with. The signed message does
    /// not name the cosigner, so a seed must never serve two of them.
    pub fn for_cosignatures(name: KeyName, seed: &[u8; SEED_LEN]) -> Self {
        Self::new(name, SignatureType::TimedEd25519, seed)
    }

    /// A key for the blocks of a ledger: see [`crate::chain::ledger::LedgerKey`].
    pub fn for_ledger(name: KeyName, seed: &[u8; SEED_LEN]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = [ledger::KEY_TYPE, key.verifying_key().as_bytes()].concat();
        Self { vkey: VerifierKey::new(name, ledger::PRIVATE_TYPE, public), key }
    }

    /// A key for a node's answers to possession audits: see [`crate::audit::answer::AnswerKey`].
    pub fn for_audit_answers(name: KeyName, seed: &[u8; SEED_LEN]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = [answer::KEY_TYPE, key.verifying_key().as_bytes()].concat();
        Self { vkey: VerifierKey::new(name, answer::PRIVATE_TYPE, public), key }
    }

    fn new(name: KeyName, signature_type: SignatureType, seed: &[u8; SEED_LEN]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = key.verifying_key().to_bytes().to_vec();
        Self { vkey: VerifierKey::new(name, signature_type as u8, public), key }
    }
}

impl Signer for Ed25519Signer {
    fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signature = self.key.try_sign(message).map_err(|e| SignerError(e.to_string()))?;
        Ok(signature.to_bytes().to_vec())
    }
}

impl std::fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ed25519Signer({}+{})", self.vkey.name(), self.vkey.id())
    }
}

/// An ML-DSA-44 key in memory, type 0x06.
pub struct MlDsa44Signer {
    vkey: VerifierKey,
    key: Box<MlDsaKey<MlDsa44>>,
}

impl MlDsa44Signer {
    /// Derives the key from its seed, as FIPS 204 says.
    pub fn new(name: KeyName, seed: &[u8; SEED_LEN]) -> Self {
        let key = Box::new(MlDsaKey::<MlDsa44>::from_seed(&(*seed).into()));
        let public = key.expanded_key().verifying_key().to_bytes().to_vec();
        Self { vkey: VerifierKey::new(name, SignatureType::SubtreeMlDsa44 as u8, public), key }
    }
}

impl Signer for MlDsa44Signer {
    fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signature = self.key.expanded_key().sign_deterministic(message, &[]);
        Ok(signature.map_err(|e| SignerError(e.to_string()))?.encode().to_vec())
    }
}

impl std::fmt::Debug for MlDsa44Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MlDsa44Signer({}+{})", self.vkey.name(), self.vkey.id())
    }
}

#[cfg(test)]
mod tests;
