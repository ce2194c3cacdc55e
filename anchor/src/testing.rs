//! A log of other people, for tests: leaves, tiles, and checkpoints signed with both kinds of keys.

pub(crate) mod server;
pub(crate) mod stand;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use stele_evidence::checkpoint::Checkpoint;
use stele_evidence::cosignature::{cosign, sign_note};
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, Signer, TrustedKey};
use stele_evidence::note::Note;
use stele_evidence::proof::{Head, consistency};
use stele_evidence::tiles::{TileAppender, TileSource};
use stele_evidence::tree::{Edge, Hash, leaf_hash};
use stele_evidence::vkey::KeyName;
use stele_evidence::witness::AddCheckpoint;
use stele_types::seam::Clock;

pub(crate) const ORIGIN: &str = "log.example/1";

/// A tree of a fixed size and all before it.
#[derive(Clone)]
pub(crate) struct Tree {
    tiles: BTreeMap<(u8, u64), Vec<Hash>>,
    heads: Vec<Head>,
}

impl TileSource for Tree {
    type Error = Infallible;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Infallible> {
        Ok(self.tiles.get(&(level, index)).cloned().unwrap_or_default())
    }
}

impl Tree {
    pub(crate) fn of(size: u64) -> Self {
        let (mut edge, mut appender) = (Edge::default(), TileAppender::default());
        let mut tree = Self { tiles: BTreeMap::new(), heads: vec![Head { size: 0, root: edge.root() }] };
        for entry in 0..size {
            let leaf = leaf_hash(&entry.to_be_bytes());
            edge.push(leaf);
            appender.push(leaf, &mut |tile| drop(tree.tiles.insert((tile.level, tile.index), tile.hashes)));
            tree.heads.push(Head { size: edge.size(), root: edge.root() });
        }
        for (level, index, hashes) in appender.open_tiles() {
            tree.tiles.insert((level, index), hashes.to_vec());
        }
        tree
    }

    pub(crate) fn head(&self, size: u64) -> Head {
        self.heads[usize::try_from(size).unwrap()]
    }

    pub(crate) fn proof(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency(self, old, new).unwrap()
    }

    /// An honest request of the log.
    pub(crate) fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        AddCheckpoint::new(old, self.proof(old, new), signed(self.head(new))).unwrap()
    }
}

pub(crate) fn name(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

pub(crate) fn trusted(signer: &dyn Signer) -> TrustedKey {
    TrustedKey::new(signer.vkey().clone()).unwrap()
}

pub(crate) fn log_key() -> Ed25519Signer {
    Ed25519Signer::for_notes(name(ORIGIN), &[1; 32])
}

pub(crate) fn log_key_pq() -> MlDsa44Signer {
    MlDsa44Signer::new(name(ORIGIN), &[2; 32])
}

pub(crate) fn log_keys() -> Vec<TrustedKey> {
    vec![trusted(&log_key()), trusted(&log_key_pq())]
}

/// A checkpoint that both keys of the log signed.
pub(crate) fn signed(head: Head) -> Note {
    let text = Checkpoint::new(&name(ORIGIN), head).text();
    let lines = [sign_note(&log_key(), &text).unwrap(), cosign(&log_key_pq(), &text, 1).unwrap()];
    Note::build(&text, &lines).unwrap()
}

/// A clock that stands, until it is set.
#[derive(Debug)]
pub(crate) struct Standing(pub(crate) AtomicU64);

impl Standing {
    pub(crate) fn at(seconds: u64) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self(AtomicU64::new(seconds * 1000)))
    }
}

impl Clock for Standing {
    fn unix_millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_micros(&self) -> u64 {
        self.unix_millis() * 1000
    }
}
