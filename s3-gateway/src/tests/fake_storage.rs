//! Storage nodes in memory, with drives that can be taken away, slowed down or made to lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_evidence::audit::answer::{Answer, Challenge};
use stele_evidence::audit::challenge::{AuditId, Seed};
use stele_evidence::audit::inventory::Row;
use stele_evidence::keys::Ed25519Signer;
use stele_evidence::vkey::KeyName;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{ShardChallenge, StorageReply, StorageRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::{DriveId, NodeId, PackId, PgId};
use stele_types::map::PgRow;

/// The key that a node signs answers to possession audits with.
pub(crate) fn answer_signer(node: NodeId) -> Ed25519Signer {
    let name = KeyName::new(&format!("stele/test/node/{node}")).unwrap();
    Ed25519Signer::for_audit_answers(name, &[u8::try_from(node.0).unwrap(); 32])
}

type ShardKey = (DriveId, PackId, u32, u8);

#[derive(Default)]
struct State {
    shards: BTreeMap<ShardKey, Bytes>,
    dead: BTreeSet<DriveId>,
    full: BTreeSet<DriveId>,
    lying: BTreeSet<DriveId>,
    slow: BTreeMap<DriveId, Duration>,
    hung: BTreeSet<NodeId>,
    /// Nodes that take questions of audits and don't answer them.
    silent: BTreeSet<NodeId>,
    rows: BTreeMap<PgId, PgRow>,
    /// Shard requests that each node got.
    asked: BTreeMap<NodeId, u64>,
    writes: u64,
    reads: u64,
}

/// All drives of the cluster behind one service, or one per node.
#[derive(Default, Clone)]
pub(crate) struct FakeStorage {
    state: Arc<Mutex<State>>,
}

/// One node. It does not care which drives are its own.
pub(crate) struct FakeNode {
    node: NodeId,
    storage: FakeStorage,
}

impl FakeStorage {
    pub(crate) fn node(&self, node: NodeId) -> Arc<FakeNode> {
        Arc::new(FakeNode { node, storage: self.clone() })
    }

    /// The node takes requests and answers none, as a stopped process does. Those under way end only
    /// with their callers.
    pub(crate) fn hang(&self, node: NodeId) {
        self.state.lock().unwrap().hung.insert(node);
    }

    /// The node takes questions of possession audits and answers none.
    pub(crate) fn keep_silent(&self, node: NodeId) {
        self.state.lock().unwrap().silent.insert(node);
    }

    pub(crate) fn resume(&self, node: NodeId) {
        self.state.lock().unwrap().hung.remove(&node);
    }

    /// Shard requests that a node got so far.
    pub(crate) fn asked(&self, node: NodeId) -> u64 {
        self.state.lock().unwrap().asked.get(&node).copied().unwrap_or_default()
    }

    /// The nodes learn of a newer row of a PG.
    pub(crate) fn learn(&self, row: PgRow) {
        self.state.lock().unwrap().rows.insert(row.id, row);
    }

    /// Drives that hold a shard of a pack.
    pub(crate) fn holders(&self, pack: PackId) -> BTreeSet<DriveId> {
        self.state.lock().unwrap().shards.keys().filter(|key| key.1 == pack).map(|key| key.0).collect()
    }

    pub(crate) fn kill(&self, drive: DriveId) {
        self.state.lock().unwrap().dead.insert(drive);
    }

    pub(crate) fn revive_all(&self) {
        let mut state = self.state.lock().unwrap();
        state.dead.clear();
        state.lying.clear();
        state.slow.clear();
        state.full.clear();
    }

    pub(crate) fn fill(&self, drive: DriveId) {
        self.state.lock().unwrap().full.insert(drive);
    }

    /// The drive answers reads with wrong bytes and a right CRC.
    pub(crate) fn make_lie(&self, drive: DriveId) {
        self.state.lock().unwrap().lying.insert(drive);
    }

    pub(crate) fn slow_down(&self, drive: DriveId, by: Duration) {
        self.state.lock().unwrap().slow.insert(drive, by);
    }

    /// Shards written and ranges read so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap();
        (state.writes, state.reads)
    }

    /// Moves every shard of a pack to generation 7, as a re-encoding with a later clean-up would.
    pub(crate) fn raise_generation(&self, pack: PackId) {
        let mut state = self.state.lock().unwrap();
        let keys: Vec<ShardKey> = state.shards.keys().filter(|k| k.1 == pack).copied().collect();
        for key in keys {
            let bytes = state.shards.remove(&key).unwrap();
            state.shards.insert((key.0, key.1, 7, key.3), bytes);
        }
    }

    /// Signs for what is on the drive.
    fn answer_audit(&self, node: NodeId, asked: &ShardChallenge) -> (Bytes, Bytes) {
        let state = self.state.lock().unwrap();
        let ShardChallenge { drive, pack, generation, shard, root, len, .. } = *asked;
        let row = Row::Shard { pack, generation, slot: shard, drive, root, len };
        let (audit, seed) = (AuditId(asked.audit), Seed(asked.seed));
        let challenge = Challenge { audit, seed, node, row, group: asked.group };
        let held = state.shards.get(&(drive, pack, generation, shard)).filter(|_| !state.dead.contains(&drive));
        let slice = held.map(|bytes| {
            let mut slice = challenge.slice_of(bytes).unwrap();
            let last = slice.len() - 1;
            slice[last] ^= u8::from(state.lying.contains(&drive));
            slice
        });
        let answer = Answer::sign(&challenge, slice.as_deref(), 1, &answer_signer(node)).unwrap();
        (answer.encode().into(), slice.unwrap_or_default().into())
    }

    /// Puts a shard there.
    pub(crate) fn hold(&self, asked: &ShardChallenge, bytes: Bytes) {
        let key = (asked.drive, asked.pack, asked.generation, asked.shard);
        self.state.lock().unwrap().shards.insert(key, bytes);
    }

    fn answer(&self, request: StorageRequest, body: Bytes) -> Result<(StorageReply, Bytes), RpcError> {
        let mut state = self.state.lock().unwrap();
        let gone = |drive| RpcError::new(Code::DriveFailed, format!("drive {drive} is dead"));
        match request {
            StorageRequest::StoreShard { drive, pg, pack, preimage, encoding, shard } => {
                if let Some(newer) = state.rows.get(&pg.pg).filter(|row| row.epoch > pg.epoch) {
                    let newer_pg = Some(Box::new(newer.clone()));
                    return Err(RpcError { newer_pg, ..RpcError::new(Code::StalePg, "an old row") });
                }
                if state.dead.contains(&drive) {
                    return Err(gone(drive));
                }
                if state.full.contains(&drive) {
                    return Err(RpcError::new(Code::DriveFull, "no room"));
                }
                assert_eq!(preimage.pack_id(), pack);
                let root = *blake3::hash(&body).as_bytes();
                assert_eq!(encoding.roots[usize::from(shard)].as_bytes(), &root);
                assert_eq!(body.len(), encoding.scheme.shard_len(preimage.payload_len as usize));
                state.writes += 1;
                let key = (drive, pack, encoding.generation, shard);
                let before = state.shards.insert(key, body.clone());
                assert!(before.is_none_or(|b| b == body), "one shard stored twice with different bytes");
                Ok((StorageReply::Done, Bytes::new()))
            }
            StorageRequest::ReadShard { drive, pack, generation, shard, offset, len } => {
                if state.dead.contains(&drive) {
                    return Err(gone(drive));
                }
                state.reads += 1;
                let Some(bytes) = state.shards.get(&(drive, pack, generation, shard)) else {
                    return Err(RpcError::new(Code::NoSuchPack, "no such shard"));
                };
                let range = bytes.slice(offset as usize..(offset + len) as usize);
                if state.lying.contains(&drive) {
                    let mut wrong = range.to_vec();
                    wrong[0] ^= 0x40;
                    return Ok((StorageReply::Bytes, wrong.into()));
                }
                Ok((StorageReply::Bytes, range))
            }
            StorageRequest::Drives => Ok((StorageReply::Drives(Vec::new()), Bytes::new())),
            StorageRequest::TakeChallenge(_) => Ok((StorageReply::Done, Bytes::new())),
            _ => Err(RpcError::new(Code::Malformed, "not faked")),
        }
    }
}

#[async_trait]
impl Service for FakeStorage {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Storage(message) = request.message else {
            return Err(RpcError::new(Code::Malformed, "not for storage"));
        };
        let slow = match &message {
            StorageRequest::StoreShard { drive, .. } | StorageRequest::ReadShard { drive, .. } => {
                self.state.lock().unwrap().slow.get(drive).copied()
            }
            _ => None,
        };
        if let Some(by) = slow {
            tokio::time::sleep(by).await;
        }
        let (reply, body) = self.answer(message, request.body)?;
        Ok(Response { reply: Reply::Storage(reply), body })
    }
}

#[async_trait]
impl Service for FakeNode {
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError> {
        let hung = {
            let mut state = self.storage.state.lock().unwrap();
            if !matches!(request.message, Message::Storage(StorageRequest::Drives)) {
                *state.asked.entry(self.node).or_default() += 1;
            }
            let asked = matches!(request.message, Message::Storage(StorageRequest::Challenge(_)));
            state.hung.contains(&self.node) || (asked && state.silent.contains(&self.node))
        };
        if hung {
            std::future::pending::<()>().await;
        }
        if let Message::Storage(StorageRequest::Challenge(asked)) = &request.message {
            let (answer, slice) = self.storage.answer_audit(self.node, asked);
            return Ok(Response { reply: Reply::Storage(StorageReply::Answer(answer)), body: slice });
        }
        self.storage.serve(from, request).await
    }
}
