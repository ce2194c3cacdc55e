//! Reader loops of a drive: ranges of shards with the CRC blocks that cover them, headers, and
//! the probe that shows whether the device still answers.

use std::sync::Arc;

use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_types::ids::PackId;
use stele_types::limits::SHARD_CRC_BYTES;
use stele_types::segment::{RecordBody, RecordHeader, ShardHeader};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::index::ShardAt;
use super::shared::Shared;
use crate::identity::check_identity;
use crate::media::{MediaError, MediaErrorKind};

/// A range of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) pack: PackId,
    pub(crate) generation: u32,
    pub(crate) shard: u8,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What a reader loop is asked.
#[derive(Debug)]
pub(crate) enum ReadJob {
    /// Bytes of a shard.
    Range(Range, oneshot::Sender<Result<Bytes, RpcError>>),
    /// The newest header of a pack.
    Header(PackId, oneshot::Sender<Result<ShardHeader, RpcError>>),
    /// Is the drive still there?
    Probe(oneshot::Sender<Result<(), String>>),
}

/// Bytes a probe reads: enough to go past the page cache.
const PROBE_BYTES: usize = 256 * 1024;
/// A record may move while it is looked up; it is looked up again this often.
const MOVES_MAX: usize = 4;

/// Serves jobs until the drive is dropped.
pub(super) async fn run(shared: Arc<Shared>, jobs: Arc<Mutex<mpsc::Receiver<ReadJob>>>) {
    loop {
        let job = jobs.lock().await.recv().await;
        match job {
            None => return,
            Some(ReadJob::Range(range, answer)) => {
                let _gone = answer.send(read_range(&shared, range).await);
            }
            Some(ReadJob::Header(pack, answer)) => {
                let _gone = answer.send(read_header(&shared, pack).await);
            }
            Some(ReadJob::Probe(answer)) => {
                let _gone = answer.send(probe(&shared).await);
            }
        }
    }
}

fn no_such(shared: &Shared, what: impl std::fmt::Display) -> RpcError {
    RpcError::new(Code::NoSuchPack, format!("drive {} does not hold {what}; look at the pack's row again", shared.name))
}

fn failed(shared: &Shared, error: &MediaError) -> RpcError {
    shared.io_error(error);
    RpcError::new(Code::DriveFailed, format!("drive {}: {error}; read other shards", shared.name))
}

fn corrupt(shared: &Shared, pack: PackId, at: &ShardAt) -> RpcError {
    shared.metrics.corrupt.inc();
    shared.index_mut().mark_corrupt(pack, at);
    let place = format!("segment {} at {}", at.segment, at.offset);
    tracing::error!(drive = %shared.name, %pack, shard = at.shard, %place, "stored bytes fail their CRC");
    RpcError::new(
        Code::ShardCorrupt,
        format!("drive {}: pack {pack} in {place} fails its CRC; read other shards", shared.name),
    )
}

/// Runs `read` on the current place of a record, again if the record moved meanwhile.
async fn at_current_place<T, F: Future<Output = Result<T, MediaError>>>(
    shared: &Shared,
    find: impl Fn() -> Option<ShardAt>,
    read: impl Fn(ShardAt) -> F,
) -> Result<Option<(ShardAt, T)>, RpcError> {
    for _ in 0..MOVES_MAX {
        let Some(at) = find() else { return Ok(None) };
        match read(at).await {
            Ok(found) => return Ok(Some((at, found))),
            Err(error) if error.kind == MediaErrorKind::NotFound && find() != Some(at) => {}
            Err(error) => return Err(failed(shared, &error)),
        }
    }
    Err(RpcError::new(Code::Busy, format!("drive {}: the record keeps moving; try again", shared.name)))
}

async fn read_range(shared: &Shared, range: Range) -> Result<Bytes, RpcError> {
    let find = || shared.index().shard(range.pack, range.generation, range.shard);
    let Some(at) = find() else {
        return Err(no_such(shared, format_args!("shard {} of pack {}", range.shard, range.pack)));
    };
    let end = u64::from(range.offset) + u64::from(range.len);
    if end > u64::from(at.payload_len) {
        let what = format!("bytes {}..{end} of a shard of {} bytes", range.offset, at.payload_len);
        return Err(RpcError::new(Code::Malformed, what));
    }
    if range.len == 0 {
        return Ok(Bytes::new());
    }
    let plan = Plan::new(range.offset as usize, range.len as usize, at.payload_len as usize);
    let found = at_current_place(shared, find, |at| fetch(shared, at, plan)).await?;
    let Some((at, (header, payload))) = found else {
        return Err(no_such(shared, format_args!("shard {} of pack {}", range.shard, range.pack)));
    };
    shared.metrics.reads.inc();
    shared.metrics.read_bytes.inc_by((header.len() + payload.len()) as u64);
    let Some(header) = shard_header(shared, &header, range.pack, &at) else {
        return Err(corrupt(shared, range.pack, &at));
    };
    let blocks = payload.chunks(SHARD_CRC_BYTES).zip(header.crcs.iter().skip(plan.first_block));
    for (block, crc) in blocks {
        if crc32c::crc32c(block) != *crc {
            return Err(corrupt(shared, range.pack, &at));
        }
    }
    Ok(payload.slice(plan.skip..plan.skip + range.len as usize))
}

/// Which CRC blocks a range needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    first_block: usize,
    /// Bytes of the payload, whole CRC blocks.
    start: usize,
    end: usize,
    /// From `start` to the first byte asked for.
    skip: usize,
}

impl Plan {
    fn new(offset: usize, len: usize, payload_len: usize) -> Self {
        let first_block = offset / SHARD_CRC_BYTES;
        let start = first_block * SHARD_CRC_BYTES;
        let end = (offset + len).next_multiple_of(SHARD_CRC_BYTES).min(payload_len);
        Self { first_block, start, end, skip: offset - start }
    }
}

/// Header and payload blocks: one read if they touch, else two.
async fn fetch(shared: &Shared, at: ShardAt, plan: Plan) -> Result<(Bytes, Bytes), MediaError> {
    let file = shared.file(at.segment).await?;
    let header_len = at.header_len as usize;
    if plan.start == 0 {
        let both = file.read_at(at.offset, header_len + plan.end).await?;
        return Ok((both.slice(..header_len), both.slice(header_len..)));
    }
    let header = file.read_at(at.offset, header_len).await?;
    let from = at.offset + header_len as u64 + plan.start as u64;
    Ok((header, file.read_at(from, plan.end - plan.start).await?))
}

/// The header, if it is the one that the index says is there.
pub(super) fn shard_header(shared: &Shared, bytes: &[u8], pack: PackId, at: &ShardAt) -> Option<ShardHeader> {
    let header = RecordHeader::decode(bytes).ok()?;
    let ours = header.drive == shared.identity.drive && header.segment == at.segment && header.sequence == at.sequence;
    match header.body {
        RecordBody::Shard(shard)
            if ours && shard.pack == pack && shard.shard == at.shard && shard.encoding.generation == at.generation =>
        {
            Some(*shard)
        }
        _ => None,
    }
}

async fn read_header(shared: &Shared, pack: PackId) -> Result<ShardHeader, RpcError> {
    let find = || shared.index().newest(pack);
    let read = |at: ShardAt| async move {
        let file = shared.file(at.segment).await?;
        file.read_at(at.offset, at.header_len as usize).await
    };
    let Some((at, bytes)) = at_current_place(shared, find, read).await? else {
        return Err(no_such(shared, format_args!("pack {pack}")));
    };
    shard_header(shared, &bytes, pack, &at).ok_or_else(|| corrupt(shared, pack, &at))
}

/// The identity is still found by path, and the device still reads.
async fn probe(shared: &Shared) -> Result<(), String> {
    let identity = shared.identity;
    check_identity(&*shared.media, identity.cluster, Some(identity.drive)).await.map_err(|e| e.to_string())?;
    let newest = shared.index().segments().last().map(|(number, _)| number);
    if let Some(number) = newest {
        let read = async { shared.file(number).await?.read_at(0, PROBE_BYTES).await };
        match read.await {
            Ok(_) => {}
            Err(error) if error.kind == MediaErrorKind::NotFound && shared.index().segment(number).is_none() => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_only_the_crc_blocks_that_cover_it() {
        let kib = 1024;
        assert_eq!(Plan::new(0, 1, 16 * kib), Plan { first_block: 0, start: 0, end: 16 * kib, skip: 0 });
        assert_eq!(
            Plan::new(70 * kib, 10, 1024 * kib),
            Plan { first_block: 1, start: 64 * kib, end: 128 * kib, skip: 6 * kib }
        );
        assert_eq!(
            Plan::new(127 * kib, 2 * kib, 144 * kib),
            Plan { first_block: 1, start: 64 * kib, end: 144 * kib, skip: 63 * kib }
        );
    }
}
