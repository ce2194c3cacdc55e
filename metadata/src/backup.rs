//! Backups of the metadata: all rows of one consistent view, sealed to a key of the operator's that the cluster does not
//! have. Format: docs/formats/backup.md; how an operator uses it: docs/backup.md.
//!
//! | module | holds |
//! |---|---|
//! | `key` | the operator's key pair, as text |
//! | `facts` | what a backup says of itself in clear |
//! | `seal` | writing one |
//! | `open` | reading one, with the key or without it |
//! | `check` | whether the rows fit each other: what a drill and a restore ask before anything else |
//! | `anew` | rows of a backup as the first rows of a new group |

mod anew;
mod check;
mod facts;
mod key;
mod open;
mod seal;
#[cfg(test)]
mod tests;

pub use anew::{EPOCH_GAP, Founder, ID_GAP, found_anew};
pub use check::{Report, check};
pub use facts::{FACTS_BYTES_MAX, Facts, SignedFacts, name};
pub use key::{Recipient, SecretKey};
pub use open::{Opened, Proven, load, open_rows, prove, read_facts};
pub(crate) use seal::hashed;
pub use seal::{Sealed, write};

use crate::kv::KvError;
use crate::snapshot::SnapshotError;

/// A backup can't be written, read or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The other end failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] KvError),
    /// It does not begin like a backup.
    #[error("it is no backup of Stele's metadata: choose another object")]
    NotABackup,
    /// It is one of a later version.
    #[error("its format is {0}, and this program reads 1: use the version of stele that made it, or a later one")]
    NewerFormat(char),
    /// It ends before its end.
    #[error("it is cut: {0} is missing; it was not written to its end, or not read to it. Use another backup")]
    Cut(&'static str),
    /// It is not what was written.
    #[error("it is damaged: {0}; use another backup")]
    Damaged(&'static str),
    /// It was sealed to somebody else.
    #[error("it is sealed to {wanted}, and this is the key of {given}: use the key file that belongs to it")]
    WrongKey {
        /// Whose key it takes.
        wanted: String,
        /// Whose key was given.
        given: String,
    },
    /// A key is none.
    #[error("{0}")]
    Key(&'static str),
    /// Key operations failed.
    #[error("encryption failed: {0}")]
    Crypto(String),
    /// The rows are not what [`crate::snapshot`] wrote.
    #[error("what is in it is damaged: {0}; use another backup")]
    Rows(SnapshotError),
    /// The rows don't say what the backup says of them in clear.
    #[error("its rows and its header differ in {0}: it was not made by Stele as it stands; use another backup")]
    Differs(&'static str),
    /// The rows can't be the beginning of a group.
    #[error("its rows can't be restored: {0}")]
    Unusable(&'static str),
}

impl From<SnapshotError> for BackupError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Store(error) => Self::Store(error),
            // What the unsealing said travels through a stream of bytes.
            SnapshotError::Io(error) => match error.downcast::<Self>() {
                Ok(inner) => inner,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::Cut("the end of the rows"),
                Err(error) => Self::Io(error),
            },
            damaged @ SnapshotError::Damaged(_) => Self::Rows(damaged),
        }
    }
}
