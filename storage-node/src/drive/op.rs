//! What the committer of a drive is asked to do, and what it answers.

use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_types::ids::{Epoch, PackId};
use stele_types::segment::{ListItem, ListKind, RecordSequence, ShardHeader};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::index::ShardAt;

/// Outcome of an operation: the packs for which it was done (empty for stores).
pub(crate) type Outcome = Result<Vec<PackId>, RpcError>;

/// A live record on its way to another segment.
#[derive(Debug)]
pub(crate) struct CarriedShard {
    pub(crate) from: ShardAt,
    pub(crate) header: ShardHeader,
    pub(crate) payload: Bytes,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Append a shard.
    Store { header: Box<ShardHeader>, payload: Bytes },
    /// A writer of this epoch uses the packs again.
    Touch { epoch: Epoch, packs: Vec<PackId> },
    /// A sweep of this fence found no references.
    Condemn { epoch: Epoch, packs: Vec<PackId> },
    /// References were found after all.
    Pardon { packs: Vec<PackId> },
    /// Delete what is condemned.
    Delete { packs: Vec<PackId> },
    /// Write live records anew, from a segment that is being emptied.
    CarryShards(Vec<CarriedShard>),
    /// The same for list items that still matter.
    CarryItems(ListKind, Vec<ListItem>),
    /// Close the current segment.
    Seal,
    /// Close the current segment and let the directory go.
    Close,
}

/// A task with whoever waits for it.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) task: Task,
    pub(crate) answer: oneshot::Sender<Outcome>,
    /// Its bytes' share of the queue.
    pub(crate) charge: Option<OwnedSemaphorePermit>,
}

impl Op {
    /// Answers; a caller that went away does not mind.
    pub(crate) fn answer(self, outcome: Outcome) {
        let Self { answer, charge, .. } = self;
        drop(charge);
        let _gone = answer.send(outcome);
    }
}

impl Task {
    /// Bytes it adds to the drive at most.
    pub(crate) fn bytes(&self) -> u64 {
        const HEADER: u64 = stele_types::segment::RECORD_HEADER_BYTES_MAX as u64;
        match self {
            Self::Store { payload, .. } => HEADER + payload.len() as u64,
            Self::CarryShards(shards) => shards.iter().map(|s| HEADER + s.payload.len() as u64).sum(),
            Self::Touch { packs, .. }
            | Self::Condemn { packs, .. }
            | Self::Pardon { packs }
            | Self::Delete { packs } => list_bytes(packs.len()),
            Self::CarryItems(_, items) => list_bytes(items.len()),
            Self::Seal | Self::Close => 0,
        }
    }

    /// New data, for which part of the drive is off limits.
    pub(crate) fn is_store(&self) -> bool {
        matches!(self, Self::Store { .. })
    }

    /// Packs whose state it reads and changes; two such tasks on one pack never share a batch.
    pub(crate) fn packs(&self) -> Vec<PackId> {
        match self {
            Self::Store { header, .. } => vec![header.pack],
            Self::Touch { packs, .. }
            | Self::Condemn { packs, .. }
            | Self::Pardon { packs }
            | Self::Delete { packs } => packs.clone(),
            Self::CarryShards(shards) => shards.iter().map(|s| s.header.pack).collect(),
            Self::CarryItems(_, items) => items.iter().map(|i| i.pack).collect(),
            Self::Seal | Self::Close => Vec::new(),
        }
    }
}

fn list_bytes(items: usize) -> u64 {
    use stele_types::segment::{LIST_ITEMS_MAX, RECORD_HEADER_BYTES_MAX};
    items.div_ceil(LIST_ITEMS_MAX) as u64 * RECORD_HEADER_BYTES_MAX as u64
}

/// Sequences are handed out here, in the order of batches.
#[derive(Debug)]
pub(crate) struct Sequencer(pub(crate) RecordSequence);

impl Sequencer {
    pub(crate) fn next(&mut self) -> RecordSequence {
        self.0 = RecordSequence(self.0.0 + 1);
        self.0
    }
}

pub(crate) fn drive_failed(name: &str, reason: &str) -> RpcError {
    RpcError::new(Code::DriveFailed, format!("drive {name} takes no writes: {reason}; use other drives"))
}

pub(crate) fn drive_full(name: &str) -> RpcError {
    RpcError::new(Code::DriveFull, format!("drive {name} is full; add drives or delete data"))
}
