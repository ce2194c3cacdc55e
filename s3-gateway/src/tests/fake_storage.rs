//! Storage nodes in memory, with drives that can be taken away, slowed down or made to lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::{DriveId, NodeId, PackId};

type ShardKey = (DriveId, PackId, u32, u8);

#[derive(Default)]
struct State {
    shards: BTreeMap<ShardKey, Bytes>,
    dead: BTreeSet<DriveId>,
    full: BTreeSet<DriveId>,
    lying: BTreeSet<DriveId>,
    slow: BTreeMap<DriveId, Duration>,
    writes: u64,
    reads: u64,
}

/// All drives of the cluster behind one service.
#[derive(Default, Clone)]
pub(super) struct FakeStorage {
    state: Arc<Mutex<State>>,
}

impl FakeStorage {
    pub(super) fn kill(&self, drive: DriveId) {
        self.state.lock().unwrap().dead.insert(drive);
    }

    pub(super) fn revive_all(&self) {
        let mut state = self.state.lock().unwrap();
        state.dead.clear();
        state.lying.clear();
        state.slow.clear();
        state.full.clear();
    }

    pub(super) fn fill(&self, drive: DriveId) {
        self.state.lock().unwrap().full.insert(drive);
    }

    /// The drive answers reads with wrong bytes and a right CRC.
    pub(super) fn make_lie(&self, drive: DriveId) {
        self.state.lock().unwrap().lying.insert(drive);
    }

    pub(super) fn slow_down(&self, drive: DriveId, by: Duration) {
        self.state.lock().unwrap().slow.insert(drive, by);
    }

    /// Shards written and ranges read so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap();
        (state.writes, state.reads)
    }

    /// Moves every shard of a pack to generation 7, as a re-encoding with a later clean-up would.
    pub(super) fn raise_generation(&self, pack: PackId) {
        let mut state = self.state.lock().unwrap();
        let keys: Vec<ShardKey> = state.shards.keys().filter(|k| k.1 == pack).copied().collect();
        for key in keys {
            let bytes = state.shards.remove(&key).unwrap();
            state.shards.insert((key.0, key.1, 7, key.3), bytes);
        }
    }

    fn answer(&self, request: StorageRequest, body: Bytes) -> Result<(StorageReply, Bytes), RpcError> {
        let mut state = self.state.lock().unwrap();
        let gone = |drive| RpcError::new(Code::DriveFailed, format!("drive {drive} is dead"));
        match request {
            StorageRequest::StoreShard { drive, pack, preimage, encoding, shard, .. } => {
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
