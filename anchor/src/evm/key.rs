//! The key of an account. It comes from a file, and never leaves this module but as signatures.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, Signature};
use k256::ecdsa::SigningKey;

/// Longest key file, in bytes: `0x`, 64 digits, blanks.
const FILE_BYTES_MAX: u64 = 100;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{path} can be read by others (mode {mode:o}): run chmod 600 on it", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key.
    #[error("{path} is not a secp256k1 key: it has to hold 64 hexadecimal digits and nothing else", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The key did not sign.
    #[error("the account's key did not sign")]
    Sign,
}

/// An account that signs.
pub struct AccountKey {
    key: SigningKey,
    address: Address,
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountKey").field("address", &self.address).finish_non_exhaustive()
    }
}

impl AccountKey {
    /// Reads a key: 32 bytes in hexadecimal, with or without `0x`, in a file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError`]; none of them shows what the file holds.
    #[expect(clippy::disallowed_methods, reason = "a file of the anchor's own, not of the store")]
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        let digits = text.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let bytes = hex::decode(digits).ok();
        bytes.and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| KeyError::Malformed { path: path.to_owned() })
    }

    /// `None`: not 32 bytes, or no number that a key may be.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = SigningKey::from_slice(bytes).ok()?;
        let address = Address::from_public_key(key.verifying_key());
        Some(Self { key, address })
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a hash.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub fn sign(&self, hash: B256) -> Result<Signature, KeyError> {
        Ok(self.key.sign_prehash_recoverable(hash.as_slice()).map_err(|_| KeyError::Sign)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "test files")]
    fn keys_come_from_files_that_only_the_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            AccountKey::read(&path)
        };
        // The first account of the usual test mnemonic, whose address is public knowledge.
        let digits = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        for text in [digits.to_owned(), format!("0x{digits}\n")] {
            assert_eq!(write(&text, 0o600).unwrap().address().to_string(), address);
        }
        for mode in [0o640, 0o604, 0o620, 0o660] {
            assert!(matches!(write(digits, mode), Err(KeyError::Exposed { .. })), "{mode:o}");
        }
        for text in ["", "00", &"0".repeat(64), &"f".repeat(64), &format!("{digits}00"), &format!("{digits} x")] {
            let refused = write(text, 0o600).unwrap_err();
            assert!(matches!(refused, KeyError::Malformed { .. }), "{text}");
        }
        let shown = format!("{:?}", write(digits, 0o600).unwrap());
        assert!(shown.contains("0xf39f") && !shown.contains("ac0974"), "{shown}");
    }
}
