//! Two anchors that close and sign the log beside the clients, and die in the middle of whatever they do. What they
//! sign must be the log, and one log (I-4).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use stele_anchor::anchor::{Anchor, AnchorError, Done, Seat};
use stele_anchor::memory::{MemoryError, Remembers};
use stele_evidence::checkpoint::Checkpoint;
use stele_evidence::keys::{Ed25519Signer, Signer, SignerError};
use stele_evidence::vkey::{KeyName, VerifierKey};
use stele_rpc::client::MetaClient;
use stele_rpc::meta::TreeHead;

use crate::env::Env;
use crate::seed::SimRng;
use crate::topology::anchor_node;
use crate::world::World;

/// Anchors of a run; each has a memory and keys of its own.
const ANCHORS: usize = 2;
const ORIGIN: &str = "stele.simulated/log/0";

/// What one anchor has on stable media. Outlives its process, and power losses.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnchorDisk(Arc<Mutex<Option<TreeHead>>>);

impl AnchorDisk {
    fn last(&self) -> Option<TreeHead> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Remembers for AnchorDisk {
    fn last(&self) -> Option<TreeHead> {
        Self::last(self)
    }

    async fn remember(&mut self, head: TreeHead) -> Result<(), MemoryError> {
        // It may die while it waits for the sync, before or after the bytes are there.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if let Some(last) = self.last().filter(|last| head.size <= last.size) {
            return Err(MemoryError::NotLarger { last: last.size, next: head.size });
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(())
    }
}

/// Writes down whatever is signed with it.
struct Noted {
    key: Ed25519Signer,
    env: Arc<Env>,
}

impl Signer for Noted {
    fn vkey(&self) -> &VerifierKey {
        self.key.vkey()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let text = std::str::from_utf8(message).map_err(|error| SignerError(error.to_string()))?;
        match Checkpoint::parse(text) {
            Ok(checkpoint) => {
                let head = checkpoint.head();
                self.env.note_signed(TreeHead { size: head.size, root: head.root });
            }
            Err(error) => self.env.findings.add("I-4", format_args!("no checkpoint was signed: {error}")),
        }
        self.key.sign(message)
    }
}

impl World {
    /// Starts the anchors, if this run has some.
    pub(crate) fn start_anchors(self: &Arc<Self>, phase: u32) {
        if !self.plan().anchors {
            return;
        }
        for at in 0..ANCHORS {
            let rng = self.rng().stream(&format!("anchor {at} {phase}"));
            tokio::spawn(Arc::clone(self).be_anchor(at, rng));
        }
    }

    async fn be_anchor(self: Arc<Self>, at: usize, rng: SimRng) {
        let Ok(name) = KeyName::new(ORIGIN) else { return };
        loop {
            let alive = Arc::new(AtomicBool::new(true));
            let transport = self.net().transport(anchor_node(at), Arc::clone(&alive));
            let meta = MetaClient::new(transport, self.meta_nodes());
            let key = Ed25519Signer::for_notes(name.clone(), &[u8::try_from(at).unwrap_or(u8::MAX); 32]);
            let signer = Noted { key, env: Arc::clone(self.env()) };
            let memory = Box::new(self.anchor_disk(at));
            let salts = Arc::new(rng.stream(&format!("salts {}", self.env().clock.micros())));
            let seat = Seat { meta, node: anchor_node(at), rng: salts };
            let mut anchor = Anchor::new(seat, (name.clone(), vec![Box::new(signer)]), memory, true);
            let life = Duration::from_millis(rng.between(50, 5_000));
            let living = async {
                loop {
                    let outcome = anchor.step().await;
                    self.tell_anchor(at, &outcome);
                    tokio::time::sleep(Duration::from_millis(rng.between(5, self.plan().anchor_pause))).await;
                }
            };
            drop(tokio::time::timeout(life, living).await);
            self.env().trace.line(format_args!("anchor {at} dies"));
            tokio::time::sleep(Duration::from_millis(rng.between(5, 900))).await;
        }
    }

    fn tell_anchor(&self, at: usize, outcome: &Result<Done, AnchorError>) {
        match outcome {
            Ok(Done::Nothing) => {}
            Ok(done) => self.env().trace.line(format_args!("anchor {at}: {done:?}")),
            Err(error) if error.is_final() => {
                self.env().findings.add("I-4", format_args!("anchor {at} stops: {error}"))
            }
            Err(error) => self.env().trace.line(format_args!("anchor {at}: {error}")),
        }
    }
}

/// What is wrong with what was signed, given the log's root at each size that was.
pub(crate) fn judge_signed(signed: &[TreeHead], roots: &BTreeMap<u64, [u8; 32]>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut first: BTreeMap<u64, [u8; 32]> = BTreeMap::new();
    for head in signed {
        if *first.entry(head.size).or_insert(head.root) != head.root {
            wrong.push(format!("two roots were signed for size {} of the log", head.size));
        }
        match roots.get(&head.size) {
            Some(root) if *root == head.root => {}
            Some(_) => wrong.push(format!("size {} was signed with a root that the log does not have", head.size)),
            None => wrong.push(format!("size {} was signed, and the log is shorter", head.size)),
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_root_a_second_root_and_a_lost_end_are_noticed() {
        let head = |size, root| TreeHead { size, root: [root; 32] };
        let roots = BTreeMap::from([(3, [3; 32]), (5, [5; 32])]);
        assert!(judge_signed(&[head(3, 3), head(5, 5), head(3, 3)], &roots).is_empty());
        assert_eq!(judge_signed(&[head(3, 4)], &roots).len(), 1);
        assert_eq!(judge_signed(&[head(3, 3), head(3, 4)], &roots).len(), 2);
        assert_eq!(judge_signed(&[head(6, 6)], &roots).len(), 1);
    }
}
