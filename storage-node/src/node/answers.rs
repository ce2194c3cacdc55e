//! Answers to possession audits: a slice of what the drive holds, read now, signed with this node's own key. A node
//! that does not have the bytes signs that, too: it is not for the node to decide what that means.

use std::sync::Arc;

use bytes::Bytes;
use stele_evidence::audit::answer::{Answer, Challenge};
use stele_evidence::audit::challenge::{AuditId, Seed};
use stele_evidence::audit::inventory::Row;
use stele_evidence::keys::Ed25519Signer;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{ShardChallenge, StorageReply};
use stele_types::seam::Clock;
use tokio::sync::Semaphore;

use super::StorageNode;
use crate::drive::Range;
use crate::exec::Executor;

/// Shards that are read for audits at once: each is in memory as a whole.
const READS_MAX: usize = 2;

/// What a node answers possession audits with.
#[derive(Debug)]
pub struct Answers {
    signer: Ed25519Signer,
    clock: Arc<dyn Clock>,
    executor: Executor,
    reads: Semaphore,
}

impl Answers {
    /// Answers signed with this key, with the times of this clock; slices are made where `executor` says.
    pub fn new(signer: Ed25519Signer, clock: Arc<dyn Clock>, executor: Executor) -> Self {
        Self { signer, clock, executor, reads: Semaphore::new(READS_MAX) }
    }

    /// Reads the shard and answers.
    pub(super) async fn answer(
        &self,
        node: &StorageNode,
        asked: ShardChallenge,
    ) -> Result<(StorageReply, Bytes), RpcError> {
        let row = Row::Shard {
            pack: asked.pack,
            generation: asked.generation,
            slot: asked.shard,
            drive: asked.drive,
            root: asked.root,
            len: asked.len,
        };
        if !row.fits() || asked.group >= row.groups() {
            return Err(RpcError::new(Code::Malformed, "no shard has such a length, slot and group"));
        }
        let (audit, seed) = (AuditId(asked.audit), Seed(asked.seed));
        let challenge = Challenge { audit, seed, node: node.config.node, row, group: asked.group };
        let Ok(_reading) = self.reads.acquire().await else {
            return Err(RpcError::new(Code::Unreachable, "this node is stopping"));
        };
        let slice = match shard(node, asked).await? {
            None => None,
            Some(bytes) => {
                let made = self.executor.run("audit-slice", async move { challenge.slice_of(&bytes).ok() }).await;
                made.map_err(|error| internal(&error))?.flatten()
            }
        };
        let time = self.clock.unix_millis();
        let answer =
            Answer::sign(&challenge, slice.as_deref(), time, &self.signer).map_err(|error| internal(&error))?;
        Ok((StorageReply::Answer(answer.encode().into()), slice.unwrap_or_default().into()))
    }
}

fn internal(error: &dyn std::fmt::Display) -> RpcError {
    RpcError::new(Code::Internal, error.to_string())
}

/// The shard's bytes; `None` if this node does not have them.
async fn shard(node: &StorageNode, asked: ShardChallenge) -> Result<Option<Bytes>, RpcError> {
    let ShardChallenge { drive, pack, generation, shard, len, .. } = asked;
    let read = async { node.find(drive)?.read(Range { pack, generation, shard, offset: 0, len }).await };
    match read.await {
        Ok(bytes) => Ok(Some(bytes)),
        // Malformed: what is there is shorter.
        Err(error) if is_loss(error.code) => {
            tracing::error!(%drive, %pack, shard, %error, "a possession audit asks for a shard that is not here");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_loss(code: Code) -> bool {
    matches!(code, Code::NoSuchPack | Code::NoSuchDrive | Code::DriveFailed | Code::ShardCorrupt | Code::Malformed)
}
