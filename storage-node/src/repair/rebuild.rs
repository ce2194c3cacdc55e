//! R4 and R5: one missing shard from k' others, window by window, so that no more than the shard itself and a window
//! of each source are in memory. Sources and result are checked against the roots in the pack's header.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use stele_chunker::shards::{Coder, root_of};
use stele_rpc::client::unexpected;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::{PgRef, StorageReply, StorageRequest};
use stele_rpc::transport::{Class, Request};
use stele_types::ids::{DriveId, ShardRoot};
use stele_types::map::PgRow;
use stele_types::pack::{Encoding, PackPreimage};

use super::plan::Job;
use super::{Cluster, RepairWorker};

/// Bytes that are read of each source at once.
const WINDOW: usize = 1 << 20;

/// What the header of a pack says, checked against its id and row.
struct Header {
    preimage: PackPreimage,
    encoding: Encoding,
}

/// What a rebuilt shard cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Moved {
    pub(super) read: u64,
    pub(super) written: u64,
}

/// A source whose bytes are not those of its header.
struct Rotten(DriveId);

impl RepairWorker {
    /// Makes one shard of a pack and stores it.
    ///
    /// # Errors
    /// Nothing was stored: too few sources can be read, or the drive refused.
    pub(super) async fn rebuild(
        &self,
        cluster: &Cluster,
        pg: &PgRow,
        job: &Job,
        (shard, target): (u8, DriveId),
    ) -> Result<Moved, RpcError> {
        let coder = Coder::new(job.row.scheme).map_err(|error| RpcError::new(Code::Internal, error.to_string()))?;
        let mut bad: BTreeSet<DriveId> = BTreeSet::new();
        let mut moved = Moved::default();
        for header in self.headers(cluster, job).await {
            loop {
                let sources = chosen(job, shard, &bad);
                if sources.len() < needed(job, shard, &sources) {
                    break;
                }
                let (bytes, read) = match self.combine(cluster, job, (shard, &coder, &header), &sources).await {
                    Ok(made) => made,
                    Err(Rotten(drive)) => {
                        bad.insert(drive);
                        continue;
                    }
                };
                moved.read += read;
                if Some(&root_of(&bytes)) != header.encoding.roots.get(usize::from(shard)) {
                    // All sources were what this header says, and the result is not: the header is wrong.
                    break;
                }
                moved.written = bytes.len() as u64;
                let request = StorageRequest::StoreShard {
                    drive: target,
                    pg: PgRef { pg: pg.id, epoch: pg.epoch },
                    pack: job.row.pack,
                    preimage: header.preimage.clone(),
                    encoding: header.encoding.clone(),
                    shard,
                };
                self.send(cluster, target, request, bytes).await?;
                return Ok(moved);
            }
        }
        let text =
            format!("shard {shard} of pack {}: no {} shards that fit its header", job.row.pack, job.row.scheme.k());
        Err(RpcError::new(Code::Unreachable, text))
    }

    /// The headers that sources have of the pack; that of most of them first.
    async fn headers(&self, cluster: &Cluster, job: &Job) -> Vec<Header> {
        let mut found: Vec<(usize, Header)> = Vec::new();
        for (_, drive) in &job.sources {
            let request = StorageRequest::DescribePack { drive: *drive, pack: job.row.pack };
            let Ok((StorageReply::Pack { preimage, encoding, .. }, _)) =
                self.send(cluster, *drive, request, Bytes::new()).await
            else {
                continue;
            };
            let row = &job.row;
            let fits = preimage.pack_id() == row.pack
                && (encoding.generation, encoding.scheme) == (row.generation, row.scheme)
                && encoding.slots == row.slots
                && encoding.roots.len() == row.slots.len();
            if !fits {
                continue;
            }
            match found.iter_mut().find(|(_, known)| known.encoding == encoding) {
                Some((votes, _)) => *votes += 1,
                None => found.push((1, Header { preimage, encoding })),
            }
        }
        found.sort_by_key(|(votes, _)| std::cmp::Reverse(*votes));
        found.into_iter().map(|(_, header)| header).collect()
    }

    /// The shard, and bytes read for it.
    async fn combine(
        &self,
        cluster: &Cluster,
        job: &Job,
        (wanted, coder, header): (u8, &Coder, &Header),
        sources: &[(u8, DriveId)],
    ) -> Result<(Bytes, u64), Rotten> {
        let len = job.row.scheme.shard_len(job.row.payload_len as usize);
        let mut hashers = vec![blake3::Hasher::new(); sources.len()];
        let (mut made, mut read) = (BytesMut::with_capacity(len), 0);
        for offset in (0..len).step_by(WINDOW) {
            let window = WINDOW.min(len - offset);
            let mut have = Vec::with_capacity(sources.len());
            for ((shard, drive), hasher) in sources.iter().zip(&mut hashers) {
                let request = StorageRequest::ReadShard {
                    drive: *drive,
                    pack: job.row.pack,
                    generation: job.row.generation,
                    shard: *shard,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    len: u32::try_from(window).unwrap_or(u32::MAX),
                };
                let bytes = match self.send(cluster, *drive, request, Bytes::new()).await {
                    Ok((StorageReply::Bytes, bytes)) if bytes.len() == window => bytes,
                    _ => return Err(Rotten(*drive)),
                };
                hasher.update(&bytes);
                read += window as u64;
                have.push((*shard, bytes));
            }
            match coder.reconstruct_range(wanted, &have) {
                Ok(bytes) => made.extend_from_slice(&bytes),
                // Lengths and numbers are right: no source is to blame more than another.
                Err(_) => {
                    return Err(Rotten(sources.first().map_or(DriveId::from_bytes([0; 16]), |(_, drive)| *drive)));
                }
            }
        }
        for ((shard, drive), hasher) in sources.iter().zip(hashers) {
            let root = ShardRoot::from_bytes(*hasher.finalize().as_bytes());
            if header.encoding.roots.get(usize::from(*shard)) != Some(&root) {
                return Err(Rotten(*drive));
            }
        }
        Ok((made.freeze(), read))
    }

    pub(super) async fn send(
        &self,
        cluster: &Cluster,
        drive: DriveId,
        request: StorageRequest,
        body: Bytes,
    ) -> Result<(StorageReply, Bytes), RpcError> {
        let row = cluster.map.drive(drive).ok_or_else(|| unexpected("a drive that is not in the cluster map"))?;
        let request = Request::storage(request, body, self.config.timeout);
        self.storage.call_as(Class::Repair, row.node, request).await
    }
}

/// The shard itself, if another drive has it, else any k' others.
fn chosen(job: &Job, shard: u8, bad: &BTreeSet<DriveId>) -> Vec<(u8, DriveId)> {
    let good = || job.sources.iter().filter(|(_, drive)| !bad.contains(drive));
    if let Some(same) = good().find(|(of, _)| *of == shard) {
        return vec![*same];
    }
    let mut found: Vec<(u8, DriveId)> = Vec::new();
    for (of, drive) in good() {
        if found.len() < job.row.scheme.k() && found.iter().all(|(known, _)| known != of) {
            found.push((*of, *drive));
        }
    }
    found
}

fn needed(job: &Job, shard: u8, sources: &[(u8, DriveId)]) -> usize {
    if sources.iter().any(|(of, _)| *of == shard) { 1 } else { job.row.scheme.k() }
}
