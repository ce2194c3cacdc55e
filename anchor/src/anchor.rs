//! Carries the steps out: asks where the log stands, decides, and does one step at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_evidence::checkpoint::Checkpoint;
use stele_evidence::cosignature::{SignError, cosign, sign_note};
use stele_evidence::keys::{SignatureType, Signer};
use stele_evidence::note::{Note, NoteError};
use stele_evidence::policy;
use stele_evidence::proof::Head;
use stele_evidence::tree::Hash;
use stele_evidence::vkey::KeyName;
use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    Command, CommandEnvelope, LogCommand, LogHead, LogRead, LogReply, MetaReply, MetaRequest, Origin, SignedNote,
    TreeHead,
};
use stele_types::ids::{CommandSequence, NodeId, Salt};
use stele_types::seam::{Rng, random_bytes};

use crate::cosign::{ConcludeError, Cosigning, CosigningError, MissingWitnesses, Proves, Unwitnessed};
use crate::memory::{MemoryError, Remembers};
use crate::prove::{Unproven, consistency_proof, extends};
use crate::steps::{Refusal, Step, is_overtaken, next_step};

const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The metadata service did not answer, or refused; the next try may help.
    #[error(transparent)]
    Meta(#[from] RpcError),
    /// Tiles could not be read, or the log does not extend what was signed.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The log does not go on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The memory can't be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A key could not sign.
    #[error("the checkpoint could not be signed: {0}")]
    Sign(#[from] SignError),
    /// The note can't be made.
    #[error("the note could not be made: {0}")]
    Note(#[from] NoteError),
    /// Too few witnesses cosigned. Nothing newer is committed; the next try may help.
    #[error(transparent)]
    Unwitnessed(#[from] Unwitnessed),
}

impl From<ConcludeError> for AnchorError {
    fn from(error: ConcludeError) -> Self {
        match error {
            ConcludeError::Unwitnessed(unwitnessed) => Self::Unwitnessed(unwitnessed),
            ConcludeError::Note(error) => Self::Note(error),
        }
    }
}

impl AnchorError {
    /// True if nothing may be signed until somebody has looked.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Memory(_) | Self::Sign(_) | Self::Note(_) => true,
            Self::Unproven(error) => error.is_final(),
            Self::Meta(_) | Self::Unwitnessed(_) => false,
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Nothing was to be done.
    Nothing,
    /// A size was committed.
    Committed(TreeHead),
    /// A checkpoint was signed and published.
    Published(TreeHead),
    /// Another anchor was faster; look again.
    Overtaken,
}

/// Where an anchor sits in its cluster.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The metadata service.
    pub meta: MetaClient,
    /// The anchor's node.
    pub node: NodeId,
    /// Salts of what the log says of the anchor.
    pub rng: Arc<dyn Rng>,
}

/// Closes sizes of one log and signs them.
pub struct Anchor {
    seat: Seat,
    origin: KeyName,
    signers: Vec<Box<dyn Signer + Send + Sync>>,
    memory: Box<dyn Remembers>,
    adopt: bool,
    cosigning: Option<Cosigning>,
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchor").field("origin", &self.origin).field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl Anchor {
    /// An anchor of the log `origin`, whose keys have the same name. `adopt`: see [`next_step`].
    pub fn new(
        seat: Seat,
        signers: (KeyName, Vec<Box<dyn Signer + Send + Sync>>),
        memory: Box<dyn Remembers>,
        adopt: bool,
    ) -> Self {
        let (origin, signers) = signers;
        Self { seat, origin, signers, memory, adopt, cosigning: None }
    }

    /// Publishes only what satisfies the operator's policy: `witness`, `group` and `quorum` lines (C2SP tlog-policy).
    /// The log's own keys are put in front. `timeout`: for the conversation with one witness.
    ///
    /// # Errors
    /// [`CosigningError`]: the policy, or the address of a witness, is of no use.
    pub fn with_policy(mut self, operator: &[u8], timeout: Duration) -> Result<Self, CosigningError> {
        let keys = self.signers.iter().map(|signer| signer.vkey());
        self.cosigning = Some(Cosigning::new(keys, operator, timeout)?);
        Ok(self)
    }

    /// Who gives no cosignatures; `None` without a policy of the operator.
    pub fn missing_witnesses(&self) -> Option<MissingWitnesses> {
        self.cosigning.as_ref().map(|cosigning| cosigning.missing().clone())
    }

    /// What was signed last.
    pub fn signed(&self) -> Option<TreeHead> {
        self.memory.last()
    }

    /// Does what is next.
    ///
    /// # Durability
    /// Published: the pair is in this anchor's memory, and the note is committed.
    ///
    /// # Errors
    /// [`AnchorError`]; a final one repeats until somebody has looked.
    pub async fn step(&mut self) -> Result<Done, AnchorError> {
        let log = self.log().await?;
        match next_step(&log, self.memory.last(), self.adopt)? {
            Step::Wait => Ok(Done::Nothing),
            Step::Commit { previous, next } => {
                let command = LogCommand::CommitCheckpoint { previous, next };
                Ok(if self.send(command).await? { Done::Committed(next) } else { Done::Overtaken })
            }
            Step::Sign { from, head } => {
                if let Some(from) = from {
                    extends(&self.seat, from, head, TIMEOUT).await?;
                }
                self.memory.remember(head).await?;
                self.publish(&log, head).await
            }
            Step::Publish { head } => self.publish(&log, head).await,
        }
    }

    async fn log(&self) -> Result<LogHead, RpcError> {
        match self.seat.meta.call(MetaRequest::Log(LogRead::Head), TIMEOUT).await? {
            MetaReply::Log(LogReply::Head(head)) => Ok(*head),
            _ => Err(unexpected("not where the log stands")),
        }
    }

    /// Signs what the memory holds last, and collects cosignatures.
    async fn publish(&self, log: &LogHead, head: TreeHead) -> Result<Done, AnchorError> {
        // The commit's time, so that the same checkpoint has the same signatures whenever it is signed.
        let seconds = log.checkpoint.map_or(0, |checkpoint| checkpoint.time / 1000);
        let tree = Head { size: head.size, root: head.root };
        let text = Checkpoint::new(&self.origin, tree).text();
        let mut lines = Vec::with_capacity(self.signers.len());
        for signer in &self.signers {
            let line = match SignatureType::from_byte(signer.vkey().signature_type()) {
                Some(SignatureType::Ed25519) => sign_note(signer.as_ref(), &text),
                _ => cosign(signer.as_ref(), &text, seconds),
            };
            lines.push(line?);
        }
        let note = Note::build(&text, &lines)?;
        let (note, policy) = match &self.cosigning {
            Some(cosigning) => {
                let collected = cosigning.collect(&note, head.size, &Tiles(&self.seat)).await;
                // Where another anchor went beyond this checkpoint meanwhile, witnesses rightly refuse it.
                let refused = collected.is_alarm() || !cosigning.is_satisfied(&note, &collected.lines);
                if refused && is_overtaken(&self.log().await?, head) {
                    return Ok(Done::Overtaken);
                }
                (cosigning.conclude(&note, head.size, collected)?, cosigning.text().clone())
            }
            None => (note, policy::of_log(self.signers.iter().map(|signer| signer.vkey())).into()),
        };
        let signed = SignedNote { head, note: Bytes::copy_from_slice(note.as_bytes()), policy };
        let kept = self.send(LogCommand::PublishNote(signed)).await?;
        Ok(if kept { Done::Published(head) } else { Done::Overtaken })
    }

    /// False if a newer checkpoint exists.
    async fn send(&self, command: LogCommand) -> Result<bool, RpcError> {
        let envelope = CommandEnvelope {
            lease: None,
            sequence: CommandSequence(0),
            lowest_open: CommandSequence(0),
            origin: Origin { principal: String::new(), source: String::new(), node: self.seat.node },
            salt: Some(Salt::from_bytes(random_bytes(&*self.seat.rng))),
            command: Command::Log(command),
        };
        match self.seat.meta.command(envelope, TIMEOUT).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == Code::StaleCheckpoint => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes step after step until nothing is left to do, then waits; until the task is dropped. Errors go to
    /// `tell`, which learns whether they are final.
    pub async fn run(mut self, interval: Duration, tell: impl Fn(&Result<Done, AnchorError>) + Send) {
        loop {
            let outcome = self.step().await;
            tell(&outcome);
            if !matches!(outcome, Ok(Done::Committed(_))) {
                tokio::time::sleep(interval).await;
            }
        }
    }
}

/// Proofs from the tiles that the cluster serves. Witnesses verify them.
struct Tiles<'s>(&'s Seat);

#[async_trait]
impl Proves for Tiles<'_> {
    async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Unproven> {
        consistency_proof(self.0, old, new, TIMEOUT).await
    }
}
