//! A witness (C2SP tlog-witness): cosigns a checkpoint of a log it follows if the tree extends the one that it
//! cosigned last. What it cosigned is on stable media before a signature leaves.
//!
//! | module | holds |
//! |---|---|
//! | [`witness`](self) | who it is, which logs it follows, the answers |
//! | `origin` | one log: what was cosigned last, one request at a time |
//! | `note_file` | the newest cosigned note, replaced as a whole |
//! | [`serve`] | the same over HTTP |

mod note_file;
mod origin;
pub mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use stele_evidence::keys::{KeyError, SignatureType, Signer, TrustedKey};
use stele_evidence::policy::Policy;
use stele_evidence::vkey::KeyName;
use stele_evidence::witness::{AddCheckpoint, SIZE_CONTENT_TYPE};
use stele_types::seam::Clock;

use crate::memory::{Memory, MemoryError};
use origin::Followed;

const TEXT: &str = "text/plain; charset=utf-8";

/// The keys of a witness.
pub type Signers = Vec<Box<dyn Signer + Send + Sync>>;

/// Who a witness is, and whom it follows.
pub struct Setup {
    /// Name of all its keys: a URL without a scheme.
    pub name: KeyName,
    /// Its keys: cosignatures of Ed25519, of ML-DSA-44, or one of each.
    pub signers: Signers,
    /// Keys of the logs. A key's name is its log's origin; a log may have several keys.
    pub logs: Vec<TrustedKey>,
}

impl Setup {
    /// Keys of the logs that a policy lists.
    ///
    /// # Errors
    /// A key can't be used.
    pub fn logs_of(policy: &Policy) -> Result<Vec<TrustedKey>, KeyError> {
        policy.logs().iter().map(|log| TrustedKey::new(log.key.clone())).collect()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("name", &self.name).field("logs", &self.logs).finish_non_exhaustive()
    }
}

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A key can't cosign, or has another name.
    #[error("key {key} can't be this witness's: a witness has keys of type 0x04 or 0x06 under its own name, {name}")]
    Key {
        /// The key, as name and identifier.
        key: String,
        /// Name of the witness.
        name: String,
    },
    /// Nothing to sign with.
    #[error("a witness needs a key")]
    NoKey,
    /// No log to follow.
    #[error("the list of logs is empty: a witness follows only logs whose keys it was given")]
    NoLogs,
    /// A file of what was cosigned can't be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The newest cosigned note can't be read.
    #[error("{path}: {source}")]
    Note {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The memory is older than the note: it was restored from a copy.
    #[error(
        "{path} holds a cosigned checkpoint of size {note}, and the memory beside it ends at {memory}: it was restored \
         from an old copy. Nothing may be cosigned for this log from here: restore the newest memory, or start a witness \
         with another name and other keys"
    )]
    Forgot {
        /// The note's file.
        path: String,
        /// Size in the note.
        note: u64,
        /// Size in the memory; 0 if it is empty.
        memory: u64,
    },
}

/// An answer, as HTTP has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: TEXT, body: body.into() }
    }

    /// An answer in words.
    fn because(status: u16, why: impl fmt::Display) -> Self {
        Self::new(status, format!("{why}\n"))
    }

    fn size(status: u16, body: String) -> Self {
        Self { status, content_type: SIZE_CONTENT_TYPE, body: body.into() }
    }
}

/// A running witness.
pub struct Witness {
    name: KeyName,
    signers: Signers,
    clock: Arc<dyn Clock>,
    /// By the origin's SHA-256 in hexadecimal.
    followed: BTreeMap<String, Followed>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("name", &self.name).field("followed", &self.followed).finish_non_exhaustive()
    }
}

impl Witness {
    /// Opens what was cosigned, in an existing directory, or begins with nothing. Holds locks on the files.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn open(dir: &Path, setup: Setup, clock: Arc<dyn Clock>) -> Result<Self, WitnessError> {
        check_keys(&setup)?;
        let mut followed = BTreeMap::new();
        for (origin, keys) in by_origin(setup.logs) {
            let hash = origin_hash(&origin);
            let memory = Memory::open(&dir.join(format!("{hash}.seen")), &origin)?;
            let log = Followed::open(dir.join(format!("{hash}.note")), keys, Box::new(memory))?;
            followed.insert(hash, log);
        }
        Ok(Self { name: setup.name, signers: setup.signers, clock, followed })
    }

    /// Answers `add-checkpoint`. Goes on to its end even if nobody waits for the answer any more.
    ///
    /// # Durability
    /// 200: what is cosigned is on stable media.
    pub async fn add_checkpoint(self: &Arc<Self>, body: Bytes) -> Answer {
        let witness = Arc::clone(self);
        // A caller that hangs up must not cut off a write.
        let answer = tokio::spawn(async move { witness.answer(&body).await }).await;
        answer.unwrap_or_else(|error| Answer::because(500, error))
    }

    async fn answer(&self, body: &[u8]) -> Answer {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Answer::because(error.status(), error),
        };
        match self.followed.get(&origin_hash(request.checkpoint().origin())) {
            Some(followed) => followed.add(&request, &self.signers, self.clock.as_ref()).await,
            None => Answer::because(404, "no log of this origin is followed here"),
        }
    }

    /// The newest cosigned checkpoint of a log, with the log's signatures and the cosignatures; `None` if none was
    /// cosigned. `origin_hash` is the origin's SHA-256 in lower-case hexadecimal.
    pub fn checkpoint(&self, origin_hash: &str) -> Option<Bytes> {
        self.followed.get(origin_hash)?.newest()
    }

    /// Its name, its keys, and the logs that it follows, for people.
    pub fn about(&self) -> String {
        let keys = self.signers.iter().map(|signer| format!("{}\n", signer.vkey()));
        let logs = self.followed.iter().map(|(hash, log)| format!("{} /{hash}/checkpoint\n", log.origin()));
        let head = format!("witness {} (C2SP tlog-witness)\n\nverifier keys:\n", self.name);
        [head].into_iter().chain(keys).chain(["\nlogs:\n".to_owned()]).chain(logs).collect()
    }
}

fn check_keys(setup: &Setup) -> Result<(), WitnessError> {
    if setup.signers.is_empty() {
        return Err(WitnessError::NoKey);
    }
    if setup.logs.is_empty() {
        return Err(WitnessError::NoLogs);
    }
    for signer in &setup.signers {
        let vkey = signer.vkey();
        let kind = SignatureType::from_byte(vkey.signature_type());
        let cosigns = matches!(kind, Some(SignatureType::TimedEd25519 | SignatureType::SubtreeMlDsa44));
        if !cosigns || vkey.name() != &setup.name {
            let key = format!("{}+{}", vkey.name(), vkey.id());
            return Err(WitnessError::Key { key, name: setup.name.to_string() });
        }
    }
    Ok(())
}

fn by_origin(keys: Vec<TrustedKey>) -> BTreeMap<String, Vec<TrustedKey>> {
    let mut origins = BTreeMap::<String, Vec<TrustedKey>>::new();
    for key in keys {
        origins.entry(key.vkey().name().to_string()).or_default().push(key);
    }
    origins
}

fn origin_hash(origin: &str) -> String {
    hex::encode(Sha256::digest(origin))
}
