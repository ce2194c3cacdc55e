//! TLS whose every byte follows from a seed, for the simulator. Keys are Ed25519, because ECDSA signatures
//! are random and differ in length. The key exchange is a stand-in with the shares' lengths of X25519MLKEM768,
//! because the library draws real ones by itself. What a seed can reproduce is no secret: no process of a real
//! cluster makes any of it.

use std::cell::RefCell;
use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ED25519};
use rustls::crypto::{
    ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{Error, NamedGroup};
use sha2::{Digest, Sha256};
use stele_types::ids::ClusterId;
use stele_types::seam::{Rng, random_bytes};

use super::TlsError;
use super::authority::{ClusterCa, Validity};
use super::credentials::Credentials;
use super::identity::Identity;

/// PKCS #8 of an Ed25519 key, up to the key itself (RFC 8410, 7).
const ED25519_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Lengths of X25519MLKEM768: ML-KEM-768's encapsulation key or ciphertext, then X25519's key.
const CLIENT_SHARE: usize = 1184 + 32;
const SERVER_SHARE: usize = 1088 + 32;

thread_local! {
    static SOURCE: RefCell<Option<Arc<dyn Rng>>> = const { RefCell::new(None) };
}

/// Handshakes of seeded credentials on this thread draw from here; without it they fail.
pub fn draw_from(source: Arc<dyn Rng>) {
    SOURCE.with_borrow_mut(|now| *now = Some(source));
}

/// A CA for a simulated cluster.
///
/// # Errors
/// [`TlsError::Library`].
pub fn authority(cluster: ClusterId, validity: Validity, rng: &dyn Rng) -> Result<ClusterCa, TlsError> {
    ClusterCa::with_key(cluster, &key(rng)?, validity, rng)
}

/// Credentials of a simulated node. Both ends of a connection must have such.
///
/// # Errors
/// [`TlsError`].
pub fn credentials(
    ca: &ClusterCa,
    identity: Identity,
    validity: Validity,
    rng: &dyn Rng,
) -> Result<Credentials, TlsError> {
    let key = key(rng)?;
    let certificate = ca.certify(identity, &key, validity, rng)?;
    let credentials = Credentials::from_pem(&certificate, &key.serialize_pem(), ca.certificate_pem())?;
    let real = rustls::crypto::aws_lc_rs::default_provider();
    let provider = CryptoProvider { kx_groups: vec![&Seeded], secure_random: &Seeded, ..real };
    Ok(credentials.with_provider(provider))
}

fn key(rng: &dyn Rng) -> Result<KeyPair, TlsError> {
    let der = [&ED25519_HEAD[..], &random_bytes::<32>(rng)].concat();
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519);
    key.map_err(|e| TlsError::library("make a key from a seed", e))
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        SOURCE.with_borrow(|source| source.as_ref().map(|rng| rng.fill(out)).ok_or(GetRandomFailed))
    }
}

impl SupportedKxGroup for Seeded {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Started(share(CLIENT_SHARE)?)))
    }

    fn start_and_complete(&self, theirs: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let ours = share(SERVER_SHARE)?;
        Ok(CompletedKeyExchange { group: self.name(), secret: secret(theirs, &ours), pub_key: ours })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

struct Started(Vec<u8>);

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        Ok(secret(&self.0, theirs))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

fn share(len: usize) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; len];
    Seeded.fill(&mut out)?;
    Ok(out)
}

fn secret(client: &[u8], server: &[u8]) -> SharedSecret {
    SharedSecret::from(Sha256::new().chain_update(client).chain_update(server).finalize().as_slice())
}
