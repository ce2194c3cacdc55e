//! The identity file of a drive: which drive of which cluster a directory is.
//!
//! A directory without one is a missing mount until an operator formats it; a directory with
//! another one is somebody else's. Neither is ever written. Layout: docs/formats/drive-identity.md.

use bytes::Bytes;
use stele_types::ids::{ClusterId, DriveId};

use crate::media::{Media, MediaError};

/// Name of the file.
pub const IDENTITY_FILE: &str = "identity";
const MAGIC: [u8; 8] = *b"STELEDRV";
const VERSION: u16 = 1;
const LEN: usize = 48;

/// Which drive a directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriveIdentity {
    /// The drive.
    pub drive: DriveId,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// Why bytes are not an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityFormatError {
    /// Wrong length, magic or CRC.
    #[error("the identity file is damaged; restore it from a copy, or take the drive out and format it anew")]
    Damaged,
    /// Written by a newer version.
    #[error("the identity file has version {0}, this program knows version {VERSION}; upgrade this node")]
    UnknownVersion(u16),
}

impl DriveIdentity {
    /// The file's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(self.drive.as_bytes());
        out.extend_from_slice(self.cluster.as_bytes());
        let crc = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        Bytes::from(out)
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// If they are not an intact identity of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityFormatError> {
        let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| IdentityFormatError::Damaged)?;
        if bytes[..8] != MAGIC {
            return Err(IdentityFormatError::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(IdentityFormatError::UnknownVersion(version));
        }
        let mut unsigned = *bytes;
        unsigned[12..16].fill(0);
        if crc32c::crc32c(&unsigned).to_le_bytes() != bytes[12..16] {
            return Err(IdentityFormatError::Damaged);
        }
        let id = |at: usize| -> Result<[u8; 16], IdentityFormatError> {
            bytes[at..at + 16].try_into().map_err(|_| IdentityFormatError::Damaged)
        };
        Ok(Self { drive: DriveId::from_bytes(id(16)?), cluster: ClusterId::from_bytes(id(32)?) })
    }
}

/// Why a directory has no usable identity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// No identity file: most likely the mount is missing.
    #[error("{0}: no identity file; is the drive mounted? A new drive is formatted explicitly")]
    Missing(String),
    /// There is one, but it can't be read as one.
    #[error("{name}: {source}")]
    Unreadable {
        /// The directory.
        name: String,
        /// Why.
        source: IdentityFormatError,
    },
    /// It belongs to another cluster.
    #[error("{name}: belongs to cluster {found}, not to {expected}; attach the right drive")]
    ForeignCluster {
        /// The directory.
        name: String,
        /// In the file.
        found: ClusterId,
        /// Ours.
        expected: ClusterId,
    },
    /// It is another drive than expected here.
    #[error("{name}: is drive {found}, expected {expected}; attach the right drive")]
    ForeignDrive {
        /// The directory.
        name: String,
        /// In the file.
        found: DriveId,
        /// Expected.
        expected: DriveId,
    },
    /// The directory to be formatted is not empty.
    #[error("{0}: not empty; only an empty directory is formatted")]
    NotEmpty(String),
    /// The device failed.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// Reads the identity of a directory, without locking or writing it; `None` if it has none.
///
/// # Errors
/// If there is a file that is not an intact identity, or the device fails.
pub async fn read_identity(media: &dyn Media) -> Result<Option<DriveIdentity>, IdentityError> {
    let Some(bytes) = media.read_whole(IDENTITY_FILE, 4096).await? else { return Ok(None) };
    let unreadable = |source| IdentityError::Unreadable { name: media.name(), source };
    DriveIdentity::decode(&bytes).map(Some).map_err(unreadable)
}

/// Reads the identity and checks that it is the expected one.
pub(crate) async fn check_identity(
    media: &dyn Media,
    cluster: ClusterId,
    drive: Option<DriveId>,
) -> Result<DriveIdentity, IdentityError> {
    let name = media.name();
    let Some(found) = read_identity(media).await? else { return Err(IdentityError::Missing(name)) };
    if found.cluster != cluster {
        return Err(IdentityError::ForeignCluster { name, found: found.cluster, expected: cluster });
    }
    match drive {
        Some(expected) if expected != found.drive => {
            Err(IdentityError::ForeignDrive { name, found: found.drive, expected })
        }
        _ => Ok(found),
    }
}

/// Makes an empty directory a drive. Durable when it returns.
///
/// # Errors
/// `NotEmpty` if there is anything in it; nothing is written then.
pub async fn format(media: &dyn Media, identity: DriveIdentity) -> Result<(), IdentityError> {
    media.lock().await?;
    let outcome = async {
        if !media.list().await?.is_empty() {
            return Err(IdentityError::NotEmpty(media.name()));
        }
        Ok(media.replace(IDENTITY_FILE, identity.encode()).await?)
    }
    .await;
    media.unlock().await;
    outcome
}

/// Fuzz entry: any bytes decode or are refused, and what decodes encodes to the same bytes.
///
/// # Panics
/// If a decoded identity does not encode to what it was read from: a defect.
pub fn fuzz_identity(bytes: &[u8]) {
    // The checksum keeps a fuzzer out, so that it is also put right.
    let mut sealed = bytes.to_vec();
    if let Some(field) = sealed.get_mut(12..16) {
        field.fill(0);
        let crc = crc32c::crc32c(&sealed).to_le_bytes();
        sealed[12..16].copy_from_slice(&crc);
    }
    for bytes in [bytes, &sealed] {
        if let Ok(identity) = DriveIdentity::decode(bytes) {
            assert_eq!(DriveIdentity::decode(&identity.encode()), Ok(identity));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> DriveIdentity {
        DriveIdentity { drive: DriveId::from_bytes([1; 16]), cluster: ClusterId::from_bytes([2; 16]) }
    }

    #[test]
    fn golden_bytes_do_not_move() {
        let bytes = identity().encode();
        assert_eq!(&bytes[..16], b"STELEDRV\x01\0\0\0\x6d\x26\x9d\xb6");
        assert_eq!(DriveIdentity::decode(&bytes), Ok(identity()));
    }

    #[test]
    fn every_flip_and_cut_is_noticed() {
        let good = identity().encode();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 4;
            assert!(DriveIdentity::decode(&bad).is_err(), "flip at {at}");
            assert!(DriveIdentity::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
