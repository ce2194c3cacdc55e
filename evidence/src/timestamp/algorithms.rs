//! The signatures that certificates and tokens of time-stamping authorities have, checked in pure Rust.

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Shortest RSA modulus, bits.
const RSA_MIN: u32 = 2048;

/// A digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A kind of key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    Rsa,
    P256,
    P384,
}

/// A kind of key with a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Algorithm(pub(super) Key, pub(super) Hash);

/// All that are known.
pub(super) static ALL: [&dyn SignatureVerificationAlgorithm; 9] = [
    &Algorithm(Key::Rsa, Hash::Sha256),
    &Algorithm(Key::Rsa, Hash::Sha384),
    &Algorithm(Key::Rsa, Hash::Sha512),
    &Algorithm(Key::P256, Hash::Sha256),
    &Algorithm(Key::P256, Hash::Sha384),
    &Algorithm(Key::P256, Hash::Sha512),
    &Algorithm(Key::P384, Hash::Sha256),
    &Algorithm(Key::P384, Hash::Sha384),
    &Algorithm(Key::P384, Hash::Sha512),
];

impl Hash {
    pub(super) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let Self(key, hash) = *self;
        let good = match key {
            Key::Rsa => rsa(hash, public_key, message, signature),
            Key::P256 => p256(&hash.digest(message), public_key, signature),
            Key::P384 => p384(&hash.digest(message), public_key, signature),
        };
        good.ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.0 {
            Key::Rsa => alg_id::RSA_ENCRYPTION,
            Key::P256 => alg_id::ECDSA_P256,
            Key::P384 => alg_id::ECDSA_P384,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self {
            Self(Key::Rsa, Hash::Sha256) => alg_id::RSA_PKCS1_SHA256,
            Self(Key::Rsa, Hash::Sha384) => alg_id::RSA_PKCS1_SHA384,
            Self(Key::Rsa, Hash::Sha512) => alg_id::RSA_PKCS1_SHA512,
            Self(_, Hash::Sha256) => alg_id::ECDSA_SHA256,
            Self(_, Hash::Sha384) => alg_id::ECDSA_SHA384,
            Self(_, Hash::Sha512) => alg_id::ECDSA_SHA512,
        }
    }
}

fn rsa(hash: Hash, public_key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = rsa::RsaPublicKey::from_pkcs1_der(public_key).ok()?;
    if key.n().bits() < RSA_MIN {
        return None;
    }
    let signature = rsa::pkcs1v15::Signature::try_from(signature).ok()?;
    match hash {
        Hash::Sha256 => rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(message, &signature).ok(),
        Hash::Sha384 => rsa::pkcs1v15::VerifyingKey::<Sha384>::new(key).verify(message, &signature).ok(),
        Hash::Sha512 => rsa::pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(message, &signature).ok(),
    }
}

fn p256(digest: &[u8], public_key: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(public_key).ok()?;
    let signature = p256::ecdsa::DerSignature::from_bytes(signature).ok()?;
    key.verify_prehash(digest, &signature).ok()
}

fn p384(digest: &[u8], public_key: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(public_key).ok()?;
    let signature = p384::ecdsa::DerSignature::from_bytes(signature).ok()?;
    key.verify_prehash(digest, &signature).ok()
}
