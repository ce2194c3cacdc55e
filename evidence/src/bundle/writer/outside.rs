//! Writing down anchors and time stamps. As with all else, what the verifier would refuse is not written.

use super::{BundleWriter, WriteError};
use crate::bundle::contents::{BundleAnchor, BundleTimestamp, ChainKind, VERSION_OUTSIDE};
use crate::bundle::files::Sink;
use crate::bundle::join::{join, print_consistency};
use crate::chain::evm::EvmProof;
use crate::chain::ledger::Block;
use crate::chain::{Anchored, evm, ledger, log_id};
use crate::checkpoint::Checkpoint;
use crate::note::Note;
use crate::proof::Head;
use crate::timestamp::response::Response;
use crate::timestamp::roots::Roots;
use crate::tree::Hash;

/// Proof of an anchor, as the anchor role kept it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnchorProof<'a> {
    /// An EVM proof.
    Evm(&'a [u8]),
    /// A block of a ledger.
    Ledger(&'a [u8]),
}

/// One anchor for a bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnchorEvidence<'a> {
    /// What the operator calls the chain.
    pub name: &'a str,
    /// Its proof.
    pub proof: AnchorProof<'a>,
    /// RFC 9162 consistency proof between the anchored size and that of the bundle's checkpoint, whichever
    /// is smaller first; empty if they are the same.
    pub consistency: &'a [Hash],
}

/// One time stamp for a bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampEvidence<'a> {
    /// The response, as the authority sent it.
    pub response: &'a [u8],
    /// The checkpoint that was stamped, signatures included.
    pub checkpoint: &'a [u8],
    /// As in [`AnchorEvidence`].
    pub consistency: &'a [Hash],
}

/// What a store keeps of evidence from outside the log, of any kind, as one piece of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outside<'a> {
    /// Proof of an anchor: its own bytes.
    Anchor(AnchorProof<'a>),
    /// A time stamp: magic, length of the checkpoint, checkpoint, response.
    Timestamp {
        /// The checkpoint that was stamped, signatures included.
        checkpoint: &'a [u8],
        /// The response, as the authority sent it.
        response: &'a [u8],
    },
}

const KEPT_STAMP: &[u8; 8] = b"STELETST";

impl<'a> Outside<'a> {
    /// Reads what was kept; `None` for any other bytes. Whether it proves anything is not looked at.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        match magic {
            evm::MAGIC => Some(Self::Anchor(AnchorProof::Evm(bytes))),
            ledger::MAGIC => Some(Self::Anchor(AnchorProof::Ledger(bytes))),
            KEPT_STAMP => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                let (checkpoint, response) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
                Some(Self::Timestamp { checkpoint, response })
            }
            _ => None,
        }
    }

    /// A time stamp as it is kept.
    pub fn keep_timestamp(checkpoint: &[u8], response: &[u8]) -> Vec<u8> {
        let len = u32::try_from(checkpoint.len()).unwrap_or(u32::MAX);
        [KEPT_STAMP.as_slice(), &len.to_le_bytes(), checkpoint, response].concat()
    }
}

impl AnchorProof<'_> {
    const fn kind(&self) -> ChainKind {
        match self {
            Self::Evm(_) => ChainKind::Evm,
            Self::Ledger(_) => ChainKind::Ledger,
        }
    }

    const fn bytes(&self) -> &[u8] {
        match self {
            Self::Evm(bytes) | Self::Ledger(bytes) => bytes,
        }
    }

    /// What it anchors, as far as the proof shows by itself.
    fn anchored(&self) -> Result<Anchored, String> {
        match self {
            Self::Evm(bytes) => {
                let proof = EvmProof::decode(bytes).map_err(|error| error.to_string())?;
                Ok(proof.verify(&proof.pin).map_err(|error| error.to_string())?.anchored)
            }
            Self::Ledger(bytes) => Ok(Block::decode(bytes).map_err(|error| error.to_string())?.anchored),
        }
    }
}

impl<S: Sink> BundleWriter<S> {
    /// Takes an anchor of the log. It may be of another size than the bundle's checkpoint, and says something
    /// only of objects whose log index is below its size. Anchors come behind the first object.
    ///
    /// # Errors
    /// The proof shows nothing of this log, it is not joined with the checkpoint, or the sink failed.
    pub fn anchor(&mut self, evidence: &AnchorEvidence<'_>) -> Result<(), WriteError> {
        let ours = self.joinable()?;
        let failed = |why| WriteError::Anchor { name: evidence.name.to_owned(), why };
        let anchored = evidence.proof.anchored().map_err(failed)?;
        if anchored.log_id != log_id(&self.contents.origin) {
            return Err(failed("it is of another log".to_owned()));
        }
        let stem = format!("data/anchors/{:04}", self.contents.anchors.len() + 1);
        let theirs = Head { size: anchored.size, root: anchored.root };
        self.failed = true;
        let consistency = self.consistency(&stem, ours, theirs, evidence.consistency)?;
        let chain = evidence.proof.kind();
        let proof = format!("{stem}.{}", chain.name());
        self.file(&proof, evidence.proof.bytes())?;
        let Anchored { size, root, .. } = anchored;
        self.contents.anchors.push(BundleAnchor {
            chain,
            name: evidence.name.to_owned(),
            proof,
            size,
            root,
            consistency,
        });
        self.contents.version = VERSION_OUTSIDE;
        self.failed = false;
        Ok(())
    }

    /// Takes a time stamp over a checkpoint of the log, byte for byte as it was stamped. Comes behind the first
    /// object.
    ///
    /// # Errors
    /// The response shows nothing of this checkpoint, it is not joined with the bundle's, or the sink failed.
    pub fn timestamp(&mut self, evidence: &TimestampEvidence<'_>) -> Result<(), WriteError> {
        let ours = self.joinable()?;
        let failed = |why: String| WriteError::Timestamp(why);
        let response = Response::parse(evidence.response).map_err(|error| failed(error.to_string()))?;
        // Whether its certificate is worth anything is for the auditor to say.
        let stamped = response.verify(evidence.checkpoint, &Roots::default(), None);
        stamped.map_err(|error| failed(error.to_string()))?;
        let note = Note::parse(evidence.checkpoint).map_err(|error| failed(error.to_string()))?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| failed(error.to_string()))?;
        if checkpoint.origin() != self.contents.origin {
            return Err(failed("it is over a checkpoint of another log".to_owned()));
        }
        let same = self.checkpoint.as_ref().is_some_and(|(first, _)| first.as_bytes() == evidence.checkpoint);
        let stem = format!("data/timestamps/{:04}", self.contents.timestamps.len() + 1);
        self.failed = true;
        let consistency = self.consistency(&stem, ours, checkpoint.head(), evidence.consistency)?;
        let file = format!("{stem}.tsr");
        self.file(&file, evidence.response)?;
        let checkpoint = (!same).then(|| format!("{stem}.checkpoint"));
        if let Some(name) = &checkpoint {
            self.file(name, evidence.checkpoint)?;
        }
        self.contents.timestamps.push(BundleTimestamp { response: file, checkpoint, consistency });
        self.contents.version = VERSION_OUTSIDE;
        self.failed = false;
        Ok(())
    }

    /// Size and root that outside evidence is joined with.
    fn joinable(&self) -> Result<Head, WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        self.checkpoint.as_ref().map(|(_, head)| *head).ok_or(WriteError::NoCheckpoint)
    }

    /// Writes the consistency proof, if there is one, once it holds.
    fn consistency(
        &mut self,
        stem: &str,
        ours: Head,
        theirs: Head,
        proof: &[Hash],
    ) -> Result<Option<String>, WriteError> {
        let file = (!proof.is_empty()).then(|| print_consistency(proof));
        join(ours, theirs, file.as_deref())?;
        let Some(file) = file else { return Ok(None) };
        let name = format!("{stem}.consistency");
        self.file(&name, &file)?;
        Ok(Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = Outside::keep_timestamp(b"checkpoint", b"response");
        assert_eq!(Outside::of(&kept), Some(Outside::Timestamp { checkpoint: b"checkpoint", response: b"response" }));
        let block = [ledger::MAGIC.as_slice(), b"..."].concat();
        assert_eq!(Outside::of(&block), Some(Outside::Anchor(AnchorProof::Ledger(&block))));
        let proof = [evm::MAGIC.as_slice(), b"..."].concat();
        assert_eq!(Outside::of(&proof), Some(Outside::Anchor(AnchorProof::Evm(&proof))));
        for bad in [&b""[..], b"STELE", b"STELEXXX", &kept[..11], &kept[..21]] {
            assert_eq!(Outside::of(bad), None, "{bad:?}");
        }
    }
}
