//! Receiving a snapshot: each frame is checked and written beside the rows in use; the end swaps them.
//! One transfer at a time; a new one drops what an earlier one left.

use std::sync::Arc;

use bytes::Bytes;
use openraft::Snapshot;
use stele_rpc::error::{Code, RpcError};
use tokio::sync::Mutex;

use super::group::GroupRaft;
use super::network::{decode, encode};
use super::snapshot_handle::SnapshotHandle;
use super::types::{SnapshotMeta, Vote};
use crate::executor::Executor;
use crate::kv::MetaKv;
use crate::snapshot;

/// The transfer under way.
struct Transfer {
    from: u64,
    id: u64,
    vote: Vote,
    meta: SnapshotMeta,
    next: u64,
    rows: u64,
    last_key: Vec<u8>,
}

/// Takes snapshots in.
#[derive(Clone)]
pub(crate) struct Receiver {
    kv: Arc<dyn MetaKv>,
    executor: Executor,
    transfer: Arc<Mutex<Option<Transfer>>>,
}

fn refused(why: &str) -> RpcError {
    RpcError::new(Code::Malformed, format!("snapshot: {why}; begin it anew"))
}

fn failed<E: std::fmt::Display>(error: E) -> RpcError {
    RpcError::new(Code::Internal, format!("snapshot not received: {error}"))
}

impl Receiver {
    pub(crate) fn new(kv: Arc<dyn MetaKv>, executor: Executor) -> Self {
        Self { kv, executor, transfer: Arc::default() }
    }

    /// Begins a transfer. Repeating it restarts it.
    pub(crate) async fn begin(&self, from: u64, id: u64, body: &[u8]) -> Result<Bytes, RpcError> {
        let (vote, meta): (Vote, SnapshotMeta) = decode(body)?;
        let mut transfer = self.transfer.lock().await;
        *transfer = None;
        let kv = Arc::clone(&self.kv);
        self.executor.blocking(move || kv.clear_staged()).await.map_err(failed)?.map_err(failed)?;
        *transfer = Some(Transfer { from, id, vote, meta, next: 0, rows: 0, last_key: Vec::new() });
        Ok(Bytes::new())
    }

    /// Takes one frame. The last one may come again: its answer was lost.
    pub(crate) async fn frame(
        &self,
        (from, id): (u64, u64),
        number: u64,
        hash: [u8; 32],
        body: Bytes,
    ) -> Result<Bytes, RpcError> {
        let mut guard = self.transfer.lock().await;
        let transfer = guard.as_mut().filter(|transfer| transfer.from == from && transfer.id == id);
        let transfer = transfer.ok_or_else(|| refused("this transfer is not under way"))?;
        if number.checked_add(1) == Some(transfer.next) {
            return Ok(Bytes::new());
        }
        if number != transfer.next {
            return Err(refused("a frame is missing"));
        }
        let kv = Arc::clone(&self.kv);
        let last_key = std::mem::take(&mut transfer.last_key);
        let staged = self.executor.blocking(move || stage(&*kv, &last_key, number, hash, &body));
        let staged = staged.await.map_err(failed).and_then(|staged| staged);
        match staged {
            Ok((rows, last_key)) => {
                transfer.rows += rows;
                transfer.last_key = last_key;
                transfer.next += 1;
                Ok(Bytes::new())
            }
            Err(error) => {
                *guard = None;
                Err(error)
            }
        }
    }

    /// Installs a complete snapshot; answers this node's vote. Goes on if the caller gives up.
    pub(crate) async fn end(
        &self,
        raft: GroupRaft,
        (from, id): (u64, u64),
        (frames, rows): (u64, u64),
    ) -> Result<Bytes, RpcError> {
        let mut guard = Arc::clone(&self.transfer).lock_owned().await;
        // The lock is held until the rows were swapped, so that no other transfer drops them.
        let installing = tokio::spawn(async move {
            let transfer = guard.take().filter(|transfer| transfer.from == from && transfer.id == id);
            let transfer = transfer.ok_or_else(|| refused("this transfer is not under way"))?;
            if (transfer.next, transfer.rows) != (frames, rows) {
                return Err(refused("the number of frames or rows differs"));
            }
            let snapshot = Snapshot { meta: transfer.meta, snapshot: SnapshotHandle::Staged };
            let installed = raft.install_full_snapshot(transfer.vote, snapshot).await.map_err(failed)?;
            Ok(encode(&installed.vote))
        });
        installing.await.map_err(failed)?
    }
}

fn stage(
    kv: &dyn MetaKv,
    last_key: &[u8],
    number: u64,
    hash: [u8; 32],
    body: &[u8],
) -> Result<(u64, Vec<u8>), RpcError> {
    let rows = snapshot::frame_rows(number, hash, body).map_err(|error| refused(&error.to_string()))?;
    let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
        return Err(refused("a frame is empty"));
    };
    if number > 0 && *first <= last_key {
        return Err(refused("rows are out of order"));
    }
    kv.stage(&rows).map_err(failed)?;
    Ok((rows.len() as u64, last.to_vec()))
}
