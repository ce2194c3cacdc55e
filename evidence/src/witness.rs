//! C2SP tlog-witness: what a log sends for a cosignature, and what a witness answers. The decision is
//! a pure function, so that a server only has to store, and a simulator can run both sides.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::{SignError, cosign};
use crate::keys::{Signer, TrustedKey};
use crate::lines::{parse_decimal, parse_hash, print_base64, split_line};
use crate::note::{NOTE_MAX, Note, NoteError, SignatureLine, VerifyError, parse_lines};
use crate::proof::{Head, ProofError, verify_consistency};
use crate::tree::{Hash, empty_root};

/// Most lines of a consistency proof.
pub const PROOF_LINES_MAX: usize = 63;
/// Largest request body in bytes: sizes, proof and note.
pub const REQUEST_MAX: usize = NOTE_MAX + 4096;
/// Content type of the answer that tells the size last cosigned.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// Why a body is not a request to cosign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// More than [`REQUEST_MAX`] bytes.
    #[error("the body is larger than {REQUEST_MAX} bytes")]
    TooLarge,
    /// The first line is not `old` and a canonical decimal number.
    #[error("the first line is not old and a canonical decimal number")]
    Old,
    /// A line of the proof is not a hash.
    #[error("line {number} of the proof is not 32 bytes in canonical base64")]
    Proof {
        /// Which one, from 1.
        number: usize,
    },
    /// More than [`PROOF_LINES_MAX`] lines.
    #[error("the proof has more than {PROOF_LINES_MAX} lines")]
    LongProof,
    /// No blank line between proof and checkpoint.
    #[error("no blank line ends the proof")]
    NoBlankLine,
    /// The checkpoint's note is malformed.
    #[error("the note: {0}")]
    Note(#[from] NoteError),
    /// The note's text is no checkpoint.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint has extension lines, which not every cosignature would cover.
    #[error("the checkpoint has extension lines")]
    Extensions,
    /// The old size is larger than the new one.
    #[error("the old size is larger than the checkpoint's")]
    Shrinks,
}

/// Body of `add-checkpoint`: a request to cosign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddCheckpoint {
    old: u64,
    proof: Vec<Hash>,
    note: Note,
    checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// A request to cosign `note`, whose tree extends the one of `old` leaves as `proof` shows.
    ///
    /// # Errors
    /// What a witness would find malformed.
    pub fn new(old: u64, proof: Vec<Hash>, note: Note) -> Result<Self, RequestError> {
        if proof.len() > PROOF_LINES_MAX {
            return Err(RequestError::LongProof);
        }
        let checkpoint = Checkpoint::parse(note.text())?;
        if !checkpoint.extensions().is_empty() {
            return Err(RequestError::Extensions);
        }
        if old > checkpoint.head().size {
            return Err(RequestError::Shrinks);
        }
        Ok(Self { old, proof, note, checkpoint })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// What is malformed: the answer is 400, [`RequestError::status`].
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_MAX {
            return Err(RequestError::TooLarge);
        }
        let (line, mut rest) = split_line(body).ok_or(RequestError::Old)?;
        let old = line.strip_prefix(b"old ").and_then(parse_decimal).ok_or(RequestError::Old)?;
        let mut proof = Vec::new();
        loop {
            let (line, behind) = split_line(rest).ok_or(RequestError::NoBlankLine)?;
            rest = behind;
            if line.is_empty() {
                break;
            }
            if proof.len() == PROOF_LINES_MAX {
                return Err(RequestError::LongProof);
            }
            proof.push(parse_hash(line).ok_or(RequestError::Proof { number: proof.len() + 1 })?);
        }
        Self::new(old, proof, Note::parse(rest)?)
    }

    /// Writes the body.
    pub fn print(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&format!("{}\n", print_base64(hash)));
        }
        text.push('\n');
        [text.as_bytes(), self.note.as_bytes()].concat()
    }

    /// The checkpoint to be cosigned. Nothing of it is verified.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint's note. Only [`decide`] says whether its log signed it.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Size from which the proof leads.
    pub fn old(&self) -> u64 {
        self.old
    }
}

impl RequestError {
    /// HTTP status of the answer.
    pub fn status(&self) -> u16 {
        400
    }
}

/// What a witness answers to a well-formed request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// 404: the witness follows no log of that origin.
    UnknownOrigin,
    /// 403: no trusted key of the log signed, or a line that bears a trusted key's name is wrong.
    Forbidden(VerifyError),
    /// 409: the witness last cosigned another size than the request starts from.
    Conflict {
        /// Size last cosigned; 0 if none.
        size: u64,
    },
    /// 422: the trees do not fit together. The log signed it, so it may be worth keeping as evidence.
    Inconsistent(ProofError),
    /// 200: store `state`, durably and only if the stored state is still the one that was decided
    /// on; then cosign.
    Accept {
        /// Size and root to store for this origin.
        state: Head,
    },
}

impl Decision {
    /// HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownOrigin => 404,
            Self::Forbidden(_) => 403,
            Self::Conflict { .. } => 409,
            Self::Inconsistent(_) => 422,
            Self::Accept { .. } => 200,
        }
    }
}

/// Decides on a request. `stored` is what the witness last cosigned for the origin of the request,
/// `None` if nothing; `logs` are all log keys it trusts, whose names are the origins.
pub fn decide(stored: Option<Head>, request: &AddCheckpoint, logs: &[TrustedKey]) -> Decision {
    let origin = request.checkpoint.origin();
    let keys: Vec<TrustedKey> = logs.iter().filter(|key| key.vkey().name().as_str() == origin).cloned().collect();
    if keys.is_empty() {
        return Decision::UnknownOrigin;
    }
    if let Err(error) = request.note.verify(&keys) {
        return Decision::Forbidden(error);
    }
    let old = stored.unwrap_or(Head { size: 0, root: empty_root() });
    let new = request.checkpoint.head();
    if request.old != old.size {
        return Decision::Conflict { size: old.size };
    }
    match verify_consistency(old, new, &request.proof) {
        Ok(()) => Decision::Accept { state: new },
        Err(error) => Decision::Inconsistent(error),
    }
}

/// Body of the answer 200: cosignatures of the witness's keys over the checkpoint. To be called only
/// once the new state is stored durably. `time` is in POSIX seconds and not 0.
///
/// # Errors
/// A key can't cosign, or the time is 0.
pub fn cosignatures(request: &AddCheckpoint, signers: &[&dyn Signer], time: u64) -> Result<String, SignError> {
    if time == 0 {
        return Err(crate::cosignature::StatementError::Time.into());
    }
    let mut body = String::new();
    // What was understood is signed, printed anew: were it ever not what was sent, the cosignature
    // would verify nowhere.
    let text = request.checkpoint.text();
    for signer in signers {
        body.push_str(&format!("{}\n", cosign(*signer, &text, time)?));
    }
    Ok(body)
}

/// Body of the answer 409.
pub fn print_size(size: u64) -> String {
    format!("{size}\n")
}

/// Reads the body of an answer 409: the size to start from next time.
pub fn parse_size(body: &[u8]) -> Option<u64> {
    parse_decimal(body.strip_suffix(b"\n")?)
}

/// Why an answer 200 is of no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResponseError {
    /// The body is not signature lines.
    #[error("the body: {0}")]
    Malformed(#[from] NoteError),
    /// A cosignature is wrong, or none is of a trusted key.
    #[error(transparent)]
    Signatures(#[from] VerifyError),
    /// A trusted key's cosignature does not say when it was made.
    #[error("a cosignature states no time")]
    NoTime,
}

/// Reads an answer 200 to a request to cosign `note`. Returns the lines that one of `witnesses` made;
/// lines of other keys are left out, so that the note collects nothing unverified.
///
/// # Errors
/// Why the answer is of no use.
pub fn parse_cosignatures(
    body: &[u8],
    note: &Note,
    witnesses: &[TrustedKey],
) -> Result<Vec<SignatureLine>, ResponseError> {
    if body.len() > NOTE_MAX {
        return Err(NoteError::TooLarge.into());
    }
    let body = std::str::from_utf8(body).map_err(|_| NoteError::Text)?;
    let mut lines = parse_lines(body.strip_suffix('\n').ok_or(NoteError::NoSignatures)?)?;
    lines.retain(|line| witnesses.iter().any(|key| key.vkey().name() == line.name() && key.vkey().id() == line.id()));
    if lines.is_empty() {
        return Err(VerifyError::NoKnownSignature.into());
    }
    let verified =
        Note::build(note.text(), &lines)?.verify(witnesses).map(|all| all.iter().all(|one| one.time.is_some()));
    if verified? { Ok(lines) } else { Err(ResponseError::NoTime) }
}

#[cfg(test)]
mod tests;
