//! The conversation with one witness: a checkpoint with a proof from what the witness has seen, and if it has seen
//! something else, once more from there.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use reqwest::Client;
use stele_evidence::keys::TrustedKey;
use stele_evidence::note::{NOTE_MAX, Note, SignatureLine};
use stele_evidence::tree::Hash;
use stele_evidence::witness::{AddCheckpoint, RequestError, ResponseError, parse_cosignatures, parse_size};

use crate::http::{Address, Answered, post};
use crate::prove::Unproven;

/// Whoever can prove that a log grew by appending.
#[async_trait]
pub trait Proves: Sync {
    /// A proof that the tree of `new` leaves extends that of `old` leaves.
    ///
    /// # Errors
    /// [`Unproven`].
    async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Unproven>;
}

/// Why a witness gave no cosignature.
#[derive(Debug, thiserror::Error)]
pub enum NoCosignature {
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Slow,
    /// It saw a larger tree than this one.
    #[error(
        "it says that it cosigned size {size} of this log, and this checkpoint has {ours}: the log was rolled back or \
         forked, or its name and keys are used elsewhere. Compare its checkpoint with this log before anything else"
    )]
    Ahead {
        /// Size that it cosigned.
        size: u64,
        /// Size of the checkpoint.
        ours: u64,
    },
    /// It finds that the tree does not extend what it saw.
    #[error(
        "it says that this checkpoint does not extend size {old}, which it cosigned: the log was forked, or tiles are \
         damaged. Compare its checkpoint with this log before anything else ({words:?})"
    )]
    Inconsistent {
        /// Size that the proof began with.
        old: u64,
        /// Its own words, cut.
        words: String,
    },
    /// It refused.
    #[error("it answered with HTTP status {status}: {words:?}")]
    Refused {
        /// Status.
        status: u16,
        /// Its own words, cut.
        words: String,
    },
    /// It said more than once that it stands elsewhere.
    #[error("it can't be followed: it says that it cosigned size {0} of this log, and then that it did not")]
    Unsteady(u64),
    /// It says that it stands elsewhere, and not where.
    #[error("it answered with HTTP status 409 and no size")]
    NoSize,
    /// What it sent is no cosignature of its own.
    #[error("its answer is of no use: {0}")]
    Answer(#[from] ResponseError),
    /// Only some of its keys signed.
    #[error("its key {0} did not sign")]
    Key(String),
    /// The request could not be made.
    #[error("the request could not be made: {0}")]
    Request(#[from] RequestError),
    /// The proof could not be made.
    #[error(transparent)]
    Unproven(#[from] Unproven),
}

impl NoCosignature {
    /// True if the witness says that there is another history of the log, or a longer one.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::Inconsistent { .. })
    }
}

/// One witness of a policy.
#[derive(Debug)]
pub(super) struct Site {
    /// Its names in the policy, and its host.
    pub(super) label: String,
    pub(super) address: Address,
    /// Its keys; more than one if the policy has several under one URL.
    pub(super) keys: Vec<TrustedKey>,
    /// Size that it cosigned last, as far as is known here; 0 if nothing is.
    pub(super) size: AtomicU64,
}

impl Site {
    /// Asks for cosignatures of the checkpoint of `size` leaves.
    pub(super) async fn ask(
        &self,
        http: &Client,
        (note, size): (&Note, u64),
        proofs: &dyn Proves,
    ) -> Result<Vec<SignatureLine>, NoCosignature> {
        let known = self.size.load(Ordering::Relaxed);
        let mut old = if known > size { 0 } else { known };
        let answer = self.send(http, (note, size), old, proofs).await?;
        let answer = if answer.status == 409 {
            let told = parse_size(&answer.body).ok_or(NoCosignature::NoSize)?;
            if told > size {
                return Err(NoCosignature::Ahead { size: told, ours: size });
            }
            if told < known {
                tracing::warn!(witness = self.label, told, known, "a witness forgot what it cosigned");
            }
            self.size.store(told, Ordering::Relaxed);
            old = told;
            self.send(http, (note, size), old, proofs).await?
        } else {
            answer
        };
        match answer.status {
            200 => {
                let lines = parse_cosignatures(&answer.body, note, &self.keys)?;
                self.size.store(size, Ordering::Relaxed);
                Ok(lines)
            }
            409 => Err(NoCosignature::Unsteady(old)),
            422 => Err(NoCosignature::Inconsistent { old, words: answer.words() }),
            status => Err(NoCosignature::Refused { status, words: answer.words() }),
        }
    }

    async fn send(
        &self,
        http: &Client,
        (note, size): (&Note, u64),
        old: u64,
        proofs: &dyn Proves,
    ) -> Result<Answered, NoCosignature> {
        // Nothing is to be proven to who has seen nothing, or just this.
        let proof = if old == 0 || old == size { Vec::new() } else { proofs.consistency(old, size).await? };
        let body = AddCheckpoint::new(old, proof, note.clone())?.print();
        let sent = post(http, &self.address, ("text/plain; charset=utf-8", body), NOTE_MAX).await;
        sent.map_err(NoCosignature::Unreachable)
    }

    /// A key of this witness that made none of `lines`.
    pub(super) fn silent_key(&self, lines: &[SignatureLine]) -> Option<String> {
        let mut keys = self.keys.iter().map(TrustedKey::vkey);
        let silent = keys.find(|key| !lines.iter().any(|line| line.name() == key.name() && line.id() == key.id()))?;
        Some(format!("{}+{}", silent.name(), silent.id()))
    }
}
