//! The row and the proofs of a chain, kept by the metadata service.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    Command, CommandEnvelope, KeptAnchor, LogCommand, LogRead, LogReply, MetaReply, MetaRequest, Origin, TreeHead,
};
use stele_types::ids::{CommandSequence, NodeId};

use super::store::{ChainStore, StoreError};

const TIMEOUT: Duration = Duration::from_secs(15);

/// One chain's row and proofs in the metadata of a cluster.
#[derive(Clone)]
pub struct MetaStore {
    meta: MetaClient,
    node: NodeId,
    chain: String,
}

impl std::fmt::Debug for MetaStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaStore").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl MetaStore {
    /// The row of the chain of this name: 1 to 32 small letters, digits and `-`.
    pub fn new(meta: MetaClient, node: NodeId, chain: String) -> Self {
        Self { meta, node, chain }
    }

    async fn send(&self, command: LogCommand) -> Result<MetaReply, StoreError> {
        let envelope = CommandEnvelope {
            lease: None,
            sequence: CommandSequence(0),
            lowest_open: CommandSequence(0),
            origin: Origin { principal: String::new(), source: String::new(), node: self.node },
            salt: None,
            command: Command::Log(command),
        };
        self.meta.command(envelope, TIMEOUT).await.map_err(failed)
    }
}

fn failed(error: RpcError) -> StoreError {
    match error.code {
        // A repeat after a lost answer is refused, too, so what is stale may be our own: the row is read again.
        Code::StaleCheckpoint => StoreError::Stale,
        _ => StoreError::Failed(error.to_string()),
    }
}

#[async_trait]
impl ChainStore for MetaStore {
    async fn load(&self) -> Result<Option<(u64, Bytes)>, StoreError> {
        let asked = MetaRequest::Log(LogRead::Chain { chain: self.chain.clone() });
        match self.meta.call(asked, TIMEOUT).await.map_err(failed)? {
            MetaReply::Log(LogReply::Chain(row)) => Ok(row.map(|row| (row.sequence, row.state))),
            _ => Err(failed(unexpected("no row of a chain"))),
        }
    }

    async fn save(&self, expected: u64, row: Bytes) -> Result<u64, StoreError> {
        let command = LogCommand::SaveChain { chain: self.chain.clone(), expected, state: row };
        match self.send(command).await? {
            MetaReply::Log(LogReply::Chain(Some(row))) => Ok(row.sequence),
            _ => Err(failed(unexpected("no sequence of a chain's row"))),
        }
    }

    async fn keep(&self, head: TreeHead, proof: Bytes) -> Result<(), StoreError> {
        let kept = KeptAnchor { chain: self.chain.clone(), head, proof };
        self.send(LogCommand::KeepAnchor(kept)).await.map(drop)
    }
}
