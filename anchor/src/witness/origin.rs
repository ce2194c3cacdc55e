//! One log that a witness follows. Checking, remembering and signing are one step: of two requests at once, the
//! second is decided on what the first one left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use stele_evidence::checkpoint::Checkpoint;
use stele_evidence::keys::{Signer, TrustedKey};
use stele_evidence::note::{Note, SignatureLine};
use stele_evidence::proof::Head;
use stele_evidence::witness::{AddCheckpoint, Decision, cosignatures, decide, parse_cosignatures, print_size};
use stele_rpc::meta::TreeHead;
use stele_types::seam::Clock;

use super::{Answer, Signers, WitnessError, note_file};
use crate::memory::Remembers;

/// A log, and what was cosigned of it.
#[derive(Debug)]
pub(super) struct Followed {
    origin: String,
    keys: Vec<TrustedKey>,
    path: PathBuf,
    state: tokio::sync::Mutex<State>,
    /// The newest cosigned note. Apart from the state, so that readers never wait for a disk.
    newest: Mutex<Option<Bytes>>,
}

#[derive(Debug)]
struct State {
    memory: Box<dyn Remembers>,
    /// What the note on disk is of.
    kept: Option<Head>,
    /// A write failed, so nobody knows what is on the disk.
    failed: bool,
}

/// Why nothing was cosigned that should have been.
enum Failure {
    Write(String),
    Other(String),
}

impl Followed {
    /// Opens a log. `path` is that of the newest cosigned note; `keys` are all of one log.
    pub(super) fn open(path: PathBuf, keys: Vec<TrustedKey>, memory: Box<dyn Remembers>) -> Result<Self, WitnessError> {
        let origin = keys.first().map(|key| key.vkey().name().to_string()).unwrap_or_default();
        let found = read(&path, &origin)?;
        if let Some((_, head)) = &found {
            let last = memory.last();
            let remembered =
                last.is_some_and(|last| last.size > head.size || (last.size == head.size && last.root == head.root));
            if !remembered {
                let (note, memory) = (head.size, last.map_or(0, |last| last.size));
                return Err(WitnessError::Forgot { path: path.display().to_string(), note, memory });
            }
        }
        let kept = found.as_ref().map(|(_, head)| *head);
        let state = tokio::sync::Mutex::new(State { memory, kept, failed: false });
        Ok(Self { origin, keys, path, state, newest: Mutex::new(found.map(|(note, _)| note)) })
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn newest(&self) -> Option<Bytes> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a request for this log.
    pub(super) async fn add(&self, request: &AddCheckpoint, signers: &Signers, clock: &dyn Clock) -> Answer {
        let mut state = self.state.lock().await;
        if state.failed {
            return Answer::because(503, "a write failed here; this log is cosigned again after a restart");
        }
        let last = state.memory.last().map(|last| Head { size: last.size, root: last.root });
        match decide(last, request, &self.keys) {
            Decision::Accept { state: head } => match self.cosign(&mut state, request, (signers, clock), head).await {
                Ok(body) => Answer::new(200, body),
                Err(Failure::Write(error)) => {
                    state.failed = true;
                    tracing::error!(origin = self.origin, error, "witness: nothing is cosigned until a restart");
                    Answer::because(503, "what is to be cosigned could not be stored; nothing was signed")
                }
                Err(Failure::Other(error)) => {
                    tracing::error!(origin = self.origin, error, "witness: a checkpoint was not cosigned");
                    Answer::because(500, "the witness can't sign now")
                }
            },
            conflict @ Decision::Conflict { size } => Answer::size(conflict.status(), print_size(size)),
            refused @ Decision::Inconsistent(error) => {
                self.report(request, last, error).await;
                Answer::because(refused.status(), error)
            }
            Decision::Forbidden(error) => Answer::because(403, error),
            Decision::UnknownOrigin => Answer::because(404, "no log of this origin is followed here"),
        }
    }

    /// Remembers, then signs, then keeps the note.
    async fn cosign(
        &self,
        state: &mut State,
        request: &AddCheckpoint,
        (signers, clock): (&Signers, &dyn Clock),
        head: Head,
    ) -> Result<String, Failure> {
        let time = clock.unix_millis() / 1000;
        if time == 0 {
            return Err(Failure::Other("the clock is not set".to_owned()));
        }
        // The same checkpoint again: it is remembered already.
        if state.memory.last().is_none_or(|last| last.size != head.size) {
            let head = TreeHead { size: head.size, root: head.root };
            state.memory.remember(head).await.map_err(|error| Failure::Write(error.to_string()))?;
        }
        let (body, note) = self.sign(request, signers, time)?;
        // The same tree with a younger time need not be on the disk.
        if state.kept != Some(head) {
            let kept = note_file::replace(self.path.clone(), note.as_bytes().to_vec()).await;
            kept.map_err(|error| Failure::Write(format!("{}: {error}", self.path.display())))?;
            state.kept = Some(head);
            tracing::info!(origin = self.origin, size = head.size, "witness: cosigned");
        }
        let newest = Bytes::copy_from_slice(note.as_bytes());
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        Ok(body)
    }

    /// The answer, and the checkpoint with it. Of the log's lines only verified ones are in that: nobody here has
    /// checked those of others.
    fn sign(&self, request: &AddCheckpoint, signers: &Signers, time: u64) -> Result<(String, Note), Failure> {
        let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        let keys: Result<Vec<_>, _> = signers.iter().map(|signer| TrustedKey::new(signer.vkey().clone())).collect();
        let keys = keys.map_err(|error| other(&error))?;
        let signers: Vec<&dyn Signer> = signers.iter().map(|signer| signer.as_ref() as &dyn Signer).collect();
        let body = cosignatures(request, &signers, time).map_err(|error| other(&error))?;
        let cosigned = parse_cosignatures(body.as_bytes(), request.note(), &keys).map_err(|error| other(&error))?;
        let mut lines: Vec<SignatureLine> = Vec::new();
        for line in request.note().signatures().iter().filter(|line| self.signed(line)).chain(&cosigned) {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        let note = Note::build(request.note().text(), &lines).map_err(|error| other(&error))?;
        Ok((body, note))
    }

    /// True for a line of a key of the log.
    fn signed(&self, line: &SignatureLine) -> bool {
        self.keys.iter().map(TrustedKey::vkey).any(|key| key.name() == line.name() && key.id() == line.id())
    }

    /// Two roots that the log signed for one size prove that it forked, so the first such checkpoint is kept.
    async fn report(&self, request: &AddCheckpoint, last: Option<Head>, error: impl std::fmt::Display) {
        let head = request.checkpoint().head();
        let forked = last.is_some_and(|last| last.size == head.size && last.root != head.root);
        // A true checkpoint with a wrong proof may come from anybody.
        if !forked {
            tracing::warn!(origin = self.origin, size = head.size, %error, "witness: a checkpoint does not fit to the last");
            return;
        }
        tracing::error!(origin = self.origin, size = head.size, "witness: the log signed two roots for one size");
        let path = self.path.with_extension("forked");
        if matches!(note_file::read(&path), Ok(None)) {
            let kept = note_file::replace(path, request.note().as_bytes().to_vec()).await;
            if let Err(error) = kept {
                tracing::error!(origin = self.origin, %error, "witness: the evidence of a fork could not be kept");
            }
        }
    }
}

/// The note that was kept. One that can't be read as one is none: it will be replaced, and only the memory decides.
fn read(path: &Path, origin: &str) -> Result<Option<(Bytes, Head)>, WitnessError> {
    let failed = |source: io::Error| WitnessError::Note { path: path.display().to_string(), source };
    let Some(bytes) = note_file::read(path).map_err(failed)? else { return Ok(None) };
    let checkpoint = Note::parse(&bytes).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
    match checkpoint.filter(|checkpoint| checkpoint.origin() == origin) {
        Some(checkpoint) => Ok(Some((bytes.into(), checkpoint.head()))),
        None => {
            tracing::warn!(path = %path.display(), "witness: not a checkpoint of this log; it is left out");
            Ok(None)
        }
    }
}
