//! A modelled chain: blocks, a pool, a contract; blocks go away and pools forget.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::meta::TreeHead;

use super::fuse::Blow;
use super::suite::{self, World};
use crate::chain::backend::{Chain, ChainError, Terms};
use crate::chain::state::{Candidate, Fee, Growth, Hash, Intent};
use crate::chain::view::{Fate, Price, View};

#[derive(Clone, PartialEq, Eq, Debug)]
struct Transaction {
    id: Hash,
    nonce: u64,
    growth: Growth,
    max: u128,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Each block's transactions, and whether they took effect.
    blocks: Vec<Vec<(Transaction, bool)>>,
    pool: Vec<Transaction>,
    pub(crate) floor: u128,
    signed: u64,
}

impl Ledger {
    fn included(&self) -> impl DoubleEndedIterator<Item = (usize, &Transaction, bool)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.flat_map(|(height, block)| block.iter().map(move |(sent, ok)| (height, sent, *ok)))
    }

    fn nonce(&self, below: usize) -> u64 {
        self.included().filter(|(height, ..)| *height < below).count() as u64
    }

    fn anchored(&self) -> Option<TreeHead> {
        self.included().rev().find(|(.., ok)| *ok).map(|(_, sent, _)| sent.growth.head)
    }

    /// One block, with what fits.
    pub(crate) fn mine(&mut self) {
        self.blocks.push(Vec::new());
        loop {
            let next = self.nonce(usize::MAX);
            let fits = |sent: &Transaction| sent.nonce == next && sent.max >= self.floor;
            let Some(at) = self.pool.iter().position(fits) else { break };
            let sent = self.pool.remove(at);
            let ok = self.anchored().map_or(0, |head| head.size) == sent.growth.previous;
            self.blocks.last_mut().unwrap().push((sent, ok));
        }
        let next = self.nonce(usize::MAX);
        self.pool.retain(|sent| sent.nonce >= next);
    }

    /// The newest blocks go away with what they held, and as many empty ones come.
    pub(crate) fn reorganise(&mut self, depth: usize) {
        let keep = self.blocks.len() - depth.min(self.blocks.len());
        self.blocks[keep..].fill(Vec::new());
    }

    pub(crate) fn forget_pool(&mut self) {
        self.pool.clear();
    }
}

/// Blocks behind which a block stays.
pub(crate) const FINAL: usize = 3;

/// Clones are connections to one chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model(pub(crate) Arc<Mutex<Ledger>>, Arc<Mutex<Stale>>);

/// A node that stands still.
#[derive(Debug, Default)]
struct Stale {
    ledger: Ledger,
    answers: bool,
}

impl Model {
    /// From now on a node answers that stands where the chain stands now; what is sent still gets to all nodes.
    pub(crate) fn stand_still(&self) {
        *self.1.lock().unwrap() = Stale { ledger: self.0.lock().unwrap().clone(), answers: true };
    }

    pub(crate) fn catch_up(&self) {
        self.1.lock().unwrap().answers = false;
    }

    fn answering(&self) -> Ledger {
        let stale = self.1.lock().unwrap();
        if stale.answers { stale.ledger.clone() } else { self.0.lock().unwrap().clone() }
    }
}

#[async_trait]
impl Chain for Model {
    fn place(&self) -> String {
        "model".to_owned()
    }

    async fn look(&self, intent: Option<&Intent>) -> Result<View, ChainError> {
        let ledger = self.answering();
        let height = ledger.blocks.len();
        let fate = |candidate: &Candidate| {
            if let Some((at, _, ok)) = ledger.included().find(|(_, sent, _)| sent.id == candidate.id) {
                return Fate::Included { height: at as u64, took_effect: ok, is_final: at + FINAL <= height };
            }
            let waits = ledger.pool.iter().any(|sent| sent.id == candidate.id);
            if waits { Fate::Pending } else { Fate::Unknown }
        };
        Ok(View {
            height: height as u64,
            anchored: ledger.anchored(),
            nonce: ledger.nonce(usize::MAX),
            final_nonce: ledger.nonce((height + 1).saturating_sub(FINAL)),
            fates: intent.iter().flat_map(|intent| &intent.candidates).map(fate).collect(),
            price: Some(Price { floor: ledger.floor, offer: Fee { max: ledger.floor + 1, tip: None } }),
        })
    }

    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError> {
        let seen = self.answering();
        let mut ledger = self.0.lock().unwrap();
        if terms.gas.is_none() && seen.anchored().map_or(0, |head| head.size) != growth.previous {
            return Err(ChainError::Overtaken("stale".to_owned()));
        }
        ledger.signed += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&ledger.signed.to_be_bytes());
        let fields = [terms.nonce, growth.previous, growth.head.size].map(u64::to_be_bytes).concat();
        let height = seen.blocks.len() as u64;
        Ok(Candidate { id, raw: fields.into(), fee: terms.fee, gas: 1, height })
    }

    async fn send(&self, candidate: &Candidate) -> Result<(), ChainError> {
        let mut ledger = self.0.lock().unwrap();
        let fields: Vec<u64> =
            candidate.raw.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
        let (nonce, growth, max) = (fields[0], suite::growth(fields[1], fields[2]), candidate.fee.unwrap().max);
        let sent = Transaction { id: candidate.id, nonce, growth, max };
        if nonce < ledger.nonce(usize::MAX) || ledger.pool.contains(&sent) {
            return Ok(());
        }
        if ledger.pool.iter().any(|other| other.nonce == nonce && other.max >= max) {
            return Ok(());
        }
        ledger.pool.retain(|other| other.nonce != nonce);
        ledger.pool.push(sent);
        Ok(())
    }

    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError> {
        let ledger = self.answering();
        let height = ledger.blocks.len();
        let found = ledger.included().find(|(at, sent, ok)| *ok && sent.growth.head == head && at + FINAL <= height);
        Ok(found.map(|(at, sent, _)| (sent.id, at as u64)))
    }

    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        let ledger = self.answering();
        let found = ledger.included().find(|(_, sent, ok)| *ok && sent.id == id && sent.growth.head == head);
        let lying = || ChainError::Lying { endpoint: "model".to_owned(), what: "it is not there".to_owned() };
        found.map(|(_, sent, _)| Bytes::copy_from_slice(&sent.id)).ok_or_else(lying)
    }
}

#[async_trait]
impl World for Model {
    type Chain = Self;

    fn chain(&self) -> Self {
        self.clone()
    }

    async fn pass(&self) {
        self.0.lock().unwrap().mine();
    }

    async fn anchored(&self) -> Vec<Growth> {
        self.0.lock().unwrap().included().filter(|(.., ok)| *ok).map(|(_, sent, _)| sent.growth).collect()
    }

    fn check(&self, head: TreeHead, proof: &Bytes) {
        let ledger = self.0.lock().unwrap();
        let proven = ledger.included().find(|(_, sent, _)| sent.id[..] == proof[..]);
        assert_eq!(proven.map(|(_, sent, _)| sent.growth.head), Some(head));
    }
}

#[tokio::test]
async fn a_modelled_chain_grows() {
    suite::grows(&Model::default()).await;
}

#[tokio::test]
async fn a_modelled_chain_is_idempotent_and_compares() {
    suite::is_idempotent_and_compares(&Model::default()).await;
}

#[tokio::test]
async fn a_modelled_chain_survives_deaths() {
    suite::survives_every_cut(&Model::default(), Blow::Die).await;
}

#[tokio::test]
async fn a_modelled_chain_survives_failures() {
    suite::survives_every_cut(&Model::default(), Blow::Fail).await;
}

#[tokio::test]
async fn a_modelled_chain_takes_two_anchors() {
    suite::two_at_once(&Model::default()).await;
}
