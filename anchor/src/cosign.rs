//! Takes checkpoints to witnesses, and decides with the log's policy whether enough of them cosigned.
//!
//! | module | holds |
//! |---|---|
//! | `site` | the conversation with one witness |
//! | [`absence`] | who gave no cosignature, and since when; pure |
//! | [`witnesses`] | all witnesses of a policy, asked at once |
//! | [`cosign`](self) | the policy that a checkpoint has to satisfy before it is published |

pub mod absence;
mod site;
#[cfg(test)]
mod tests;
pub mod witnesses;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use stele_evidence::note::{Note, NoteError, SignatureLine};
use stele_evidence::policy::{Policy, PolicyError};
use stele_evidence::vkey::VerifierKey;
use stele_rpc::meta::POLICY_BYTES_MAX;
use tokio::time::Instant;

use absence::{Absences, Missing};
pub use site::{NoCosignature, Proves};
pub use witnesses::{Collected, Witnesses, WitnessesError};

/// Longest conversation with one witness.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a policy can't be a log's own.
#[derive(Debug, thiserror::Error)]
pub enum CosigningError {
    /// It breaks a rule of the format.
    #[error(
        "the policy of this log, with its own keys on the first {keys} lines: {source}. Write witness, group and quorum \
         lines only: the log's own keys are put in front"
    )]
    Policy {
        /// Lines in front of what the operator wrote.
        keys: usize,
        /// What is wrong, counted with those lines.
        source: PolicyError,
    },
    /// It is too long to be published.
    #[error("the policy of this log has {0} bytes with its own keys, and at most {POLICY_BYTES_MAX} are published")]
    TooLarge(usize),
    /// Its witnesses can't be asked.
    #[error(transparent)]
    Witnesses(#[from] WitnessesError),
}

/// Too few witnesses cosigned.
#[derive(Debug, thiserror::Error)]
#[error(
    "the checkpoint of size {size} waits for its witnesses, and nothing newer is committed: the policy asks for more of \
     them. Missing: {}", list(.missing)
)]
pub struct Unwitnessed {
    /// Size of the checkpoint.
    pub size: u64,
    /// Who gave no cosignature.
    pub missing: Vec<Missing>,
}

/// Why a checkpoint is not to be published.
#[derive(Debug, thiserror::Error)]
pub enum ConcludeError {
    /// Too few witnesses cosigned.
    #[error(transparent)]
    Unwitnessed(#[from] Unwitnessed),
    /// The note got too large.
    #[error("the note could not be made: {0}")]
    Note(#[from] NoteError),
}

impl Unwitnessed {
    /// True if a witness says that it saw another history, or a longer one.
    pub fn is_alarm(&self) -> bool {
        self.missing.iter().any(|missing| missing.alarm)
    }
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Who gives no cosignatures now. Copies show the same.
#[derive(Clone, Debug)]
pub struct MissingWitnesses {
    absences: Arc<Mutex<Absences>>,
    start: Instant,
}

impl Default for MissingWitnesses {
    fn default() -> Self {
        Self { absences: Arc::default(), start: Instant::now() }
    }
}

impl MissingWitnesses {
    /// Those that gave none when they were last asked, by name.
    pub fn list(&self) -> Vec<Missing> {
        self.lock().list(self.start.elapsed())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Absences> {
        self.absences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policy of a log, and the witnesses that it names.
#[derive(Debug)]
pub struct Cosigning {
    policy: Policy,
    text: Bytes,
    witnesses: Witnesses,
    missing: MissingWitnesses,
}

impl Cosigning {
    /// A policy of the log with these keys. `operator`: its `witness`, `group` and `quorum` lines (C2SP tlog-policy).
    /// `timeout`: for the conversation with one witness.
    ///
    /// # Errors
    /// [`CosigningError`].
    pub fn new<'k>(
        keys: impl Iterator<Item = &'k VerifierKey>,
        operator: &[u8],
        timeout: Duration,
    ) -> Result<Self, CosigningError> {
        let lines: Vec<String> = keys.map(|key| format!("log {key}\n")).collect();
        let text = [lines.concat().as_bytes(), operator].concat();
        if text.len() > POLICY_BYTES_MAX {
            return Err(CosigningError::TooLarge(text.len()));
        }
        let policy = Policy::parse(&text).map_err(|source| CosigningError::Policy { keys: lines.len(), source })?;
        let witnesses = Witnesses::from_policy(&policy, timeout)?;
        Ok(Self { policy, text: text.into(), witnesses, missing: MissingWitnesses::default() })
    }

    /// The whole policy, as it is published with the checkpoints that satisfy it.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Who gives no cosignatures now.
    pub fn missing(&self) -> &MissingWitnesses {
        &self.missing
    }

    /// Asks the witnesses for cosignatures of `note`, the checkpoint of `size` leaves.
    pub async fn collect(&self, note: &Note, size: u64, proofs: &dyn Proves) -> Collected {
        self.witnesses.collect((note, size), proofs, &|lines| self.is_satisfied(note, lines)).await
    }

    /// The note with what was collected, or who is missing if the policy asks for more. Tells of witnesses that went
    /// missing or came back.
    ///
    /// # Errors
    /// [`ConcludeError`].
    pub fn conclude(&self, note: &Note, size: u64, collected: Collected) -> Result<Note, ConcludeError> {
        let changes = self.missing.lock().take(self.missing.start.elapsed(), collected.absent);
        for missing in changes.new {
            if missing.alarm {
                tracing::error!(%missing, size, "a witness saw another history of this log, or a longer one");
            } else {
                tracing::warn!(%missing, size, "a witness did not cosign");
            }
        }
        for witness in changes.back {
            tracing::info!(witness, size, "a witness cosigns again");
        }
        if !self.is_satisfied(note, &collected.lines) {
            return Err(Unwitnessed { size, missing: self.missing.list() }.into());
        }
        Ok(note.with(&collected.lines)?)
    }

    /// True if these lines are enough for the policy.
    pub fn is_satisfied(&self, note: &Note, lines: &[SignatureLine]) -> bool {
        note.with(lines).is_ok_and(|note| self.policy.evaluate(&note).is_ok())
    }
}
