//! What the clients of a run share, and the gateways they can reach.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stele_rpc::meta::TreeHead;
use stele_s3_gateway::gateway::Gateway;
use stele_types::ids::{LogIndex, VersionId};
use tokio::sync::watch;

use crate::content::Values;
use crate::findings::Findings;
use crate::history::History;
use crate::keeper::Kept;
use crate::runtime::SimClock;
use crate::seed::SimRng;
use crate::trace::Trace;

/// The bucket that clients use.
pub const BUCKET: &str = "bucket";

/// What the clients of a run share; survives power losses.
#[derive(Debug)]
pub struct Env {
    /// Virtual time.
    pub clock: Arc<SimClock>,
    /// Events.
    pub trace: Trace,
    /// Values written.
    pub values: Values,
    /// What clients saw.
    pub history: History,
    /// What is wrong.
    pub findings: Findings,
    /// Gateways that run.
    pub gateways: GatewayPool,
    /// Values of several MiB that may still be written.
    pub large_left: AtomicU32,
    /// The network flips bits of shard ranges, so that a read may see more damage than there is.
    pub flips_bits: bool,
    /// Counts acknowledged writes.
    pub acknowledged: watch::Sender<u64>,
    /// Commits that clients were told of.
    pub committed: Mutex<Vec<Commit>>,
    /// Versions that the keeper was told of.
    pub(crate) kept: Mutex<Vec<Kept>>,
    /// What anchors signed.
    pub(crate) signed: Mutex<Vec<TreeHead>>,
    /// Slots of placement groups that were handed over to another drive.
    pub(crate) moved: AtomicU64,
}

/// A commit as its client was told of it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The key.
    pub key: String,
    /// The version.
    pub id: VersionId,
    /// Its entry in the evidence log.
    pub log_index: LogIndex,
    /// The client asked and was told, virtual microseconds.
    pub between: (u64, u64),
}

impl Env {
    /// A client was told of a commit.
    pub fn note_commit(&self, commit: Commit) {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).push(commit);
    }

    /// An anchor signs this.
    pub(crate) fn note_signed(&self, head: TreeHead) {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    }

    /// What anchors signed, in order.
    pub(crate) fn signed(&self) -> Vec<TreeHead> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commits that clients were told of.
    pub fn commits(&self) -> Vec<Commit> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes one of the few large values, if one is left.
    pub fn take_large(&self) -> bool {
        self.large_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// One running gateway.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Turns true when its process dies.
    pub killed: watch::Receiver<bool>,
}

/// Gateways by place; an empty place is one that is down.
#[derive(Debug, Default)]
pub struct GatewayPool {
    places: Mutex<Vec<Option<GatewayHandle>>>,
}

impl GatewayPool {
    /// Sets or empties a place.
    pub fn set(&self, place: usize, handle: Option<GatewayHandle>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() <= place {
            places.resize(place + 1, None);
        }
        places[place] = handle;
    }

    /// Empties every place.
    pub fn clear(&self) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// One that runs.
    pub fn pick(&self, rng: &SimRng) -> Option<GatewayHandle> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let running: Vec<&GatewayHandle> = places.iter().flatten().collect();
        if running.is_empty() { None } else { Some((*rng.pick(&running)).clone()) }
    }
}
