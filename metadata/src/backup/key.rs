//! The operator's key pair: X25519, as HPKE uses it. The cluster knows the public half only. Both are one line of text
//! with a checksum, so that a slip of the hand is noticed before a backup is made for nobody.

use std::fmt;
use std::str::FromStr;

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{Hpke, HpkePrivateKey, HpkePublicKey};

use super::BackupError;

/// Bytes of either half.
const KEY_BYTES: usize = 32;
const SUM_BYTES: usize = 4;
const PUBLIC: &str = "stele-backup-";
const SECRET: &str = "stele-backup-secret-";

/// RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.
pub(super) fn suite() -> &'static dyn Hpke {
    SUITE
}

pub(super) fn crypto(error: &rustls::Error) -> BackupError {
    BackupError::Crypto(error.to_string())
}

/// Who backups are sealed to: the public half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recipient([u8; KEY_BYTES]);

/// Both halves.
pub struct SecretKey {
    secret: Box<[u8; KEY_BYTES]>,
    recipient: Recipient,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

fn with_sum(label: &str, bytes: &[u8]) -> String {
    let sum = blake3::Hasher::new().update(label.as_bytes()).update(bytes).finalize();
    let sum = sum.as_bytes().first_chunk::<SUM_BYTES>().copied().unwrap_or_default();
    format!("{label}{}{}", hex::encode(bytes), hex::encode(sum))
}

/// The bytes of a text that [`with_sum`] wrote.
fn parse<const N: usize>(label: &str, text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix(label)?.get(..2 * N)?;
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    (with_sum(label, &bytes) == text).then_some(bytes)
}

impl Recipient {
    pub(super) fn hpke(&self) -> HpkePublicKey {
        HpkePublicKey(self.0.to_vec())
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_sum(PUBLIC, &self.0))
    }
}

impl FromStr for Recipient {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<Self, BackupError> {
        if text.starts_with(SECRET) {
            return Err(BackupError::Key(
                "this is the secret half of a backup key, which the cluster must never see: give the public half",
            ));
        }
        parse(PUBLIC, text).map(Self).ok_or(BackupError::Key(
            "this is no public backup key: it is the line that stele backup keygen prints, stele-backup-...",
        ))
    }
}

impl SecretKey {
    /// Draws a pair.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, BackupError> {
        let (public, secret) = suite().generate_key_pair().map_err(|error| crypto(&error))?;
        let odd = BackupError::Key("a drawn key has another length than X25519 has");
        match (<[u8; KEY_BYTES]>::try_from(public.0), <[u8; KEY_BYTES]>::try_from(secret.secret_bytes())) {
            (Ok(public), Ok(secret)) => Ok(Self { secret: Box::new(secret), recipient: Recipient(public) }),
            _ => Err(odd),
        }
    }

    /// Its public half.
    pub const fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// The key file: a line that begins with `stele-backup-secret-`, and lines that begin with `#`.
    pub fn to_text(&self) -> String {
        let both = [&self.secret[..], &self.recipient.0].concat();
        format!(
            "# Stele backup key. Keep it away from the cluster.\n# public: {}\n{}\n",
            self.recipient,
            with_sum(SECRET, &both)
        )
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It is none, or its halves do not belong together.
    pub fn parse(text: &str) -> Result<Self, BackupError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let none = "this is no backup key file: it has one line that begins with stele-backup-secret-";
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(BackupError::Key(none)) };
        let Some(both) = parse::<{ 2 * KEY_BYTES }>(SECRET, line) else { return Err(BackupError::Key(none)) };
        let (Some(secret), Some(public)) = (both.first_chunk::<KEY_BYTES>(), both.last_chunk::<KEY_BYTES>()) else {
            return Err(BackupError::Key(none));
        };
        let key = Self { secret: Box::new(*secret), recipient: Recipient(*public) };
        key.check_pair()?;
        Ok(key)
    }

    pub(super) fn hpke(&self) -> HpkePrivateKey {
        HpkePrivateKey::from(self.secret.to_vec())
    }

    fn check_pair(&self) -> Result<(), BackupError> {
        let foreign = |_| BackupError::Key("the halves of this backup key do not belong together: restore the file");
        let (sent, sealed) = suite().seal(b"pair", b"", b"pair", &self.recipient.hpke()).map_err(foreign)?;
        suite().open(&sent, b"pair", b"", &sealed, &self.hpke()).map_err(foreign).map(drop)
    }
}
