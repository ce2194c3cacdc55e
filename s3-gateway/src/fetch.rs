//! G5 and G6: one chunk (or manifest page) from the drives, verified.
//!
//! Asks the data shards that hold it. Where one fails, is slow or is known to be away, the same byte
//! range is read from other shards and decoded. Nothing is returned that does not hash to the
//! chunk's id; a shard that made it differ is named in a repair report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stele_chunker::shards::{ShardRange, plan_read};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::StorageRequest;
use stele_types::ids::{DriveId, PackId};
use stele_types::manifest::ChunkEntry;
use stele_types::pack::{Codec, PackRow};

use crate::cache::{Pieces, len_of};
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::{Gateway, RepairReport};
use crate::metrics::Step;
use crate::rebuild::rebuild;

/// A chunk could not be had.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// No row or no shard of this pack: the version must be resolved again.
    PackGone(PackId),
    /// Anything else.
    Failed(GatewayError),
}

impl From<GatewayError> for FetchError {
    fn from(error: GatewayError) -> Self {
        Self::Failed(error)
    }
}

/// Estimate of the 95th percentile of shard read times, for hedging.
#[derive(Debug)]
pub(crate) struct Latency {
    p95_micros: Mutex<u64>,
    floor: Duration,
}

impl Latency {
    pub(crate) fn new(floor: Duration) -> Self {
        Self { p95_micros: Mutex::new(0), floor }
    }

    /// Moves the estimate up quickly for a slower read and down slowly for a faster one, 19 to 1,
    /// so that it settles where one read in twenty is slower.
    fn observe(&self, micros: u64) {
        let mut p95 = self.p95_micros.lock().unwrap_or_else(PoisonError::into_inner);
        let step = (*p95 / 256).max(1);
        *p95 = if micros > *p95 { p95.saturating_add(19 * step) } else { p95.saturating_sub(step) };
    }

    /// After how long a read is hedged.
    pub(crate) fn hedge_after(&self) -> Duration {
        let p95 = *self.p95_micros.lock().unwrap_or_else(PoisonError::into_inner);
        self.floor.max(Duration::from_micros(p95.saturating_mul(3)))
    }
}

/// Pack rows that one GET knows.
#[derive(Debug, Default)]
pub(crate) struct RowBook {
    rows: Mutex<BTreeMap<PackId, PackRow>>,
}

impl RowBook {
    pub(crate) fn learn(&self, rows: Vec<PackRow>) {
        let mut known = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(rows.into_iter().map(|row| (row.pack, row)));
    }

    fn get(&self, pack: &PackId) -> Option<PackRow> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(pack).cloned()
    }

    pub(crate) fn lacks(&self, pack: &PackId) -> bool {
        !self.rows.lock().unwrap_or_else(PoisonError::into_inner).contains_key(pack)
    }

    /// Asks for rows and keeps them.
    pub(crate) async fn ask(&self, gw: &Gateway, packs: Vec<PackId>) -> Result<(), GatewayError> {
        let answer = gw.read(MetaRequest::Packs { packs }).await;
        match answer.map_err(|error| GatewayError::from_meta(error, ""))? {
            MetaReply::Packs(rows) => {
                self.learn(rows);
                Ok(())
            }
            _ => Err(unexpected_reply("Packs")),
        }
    }

    pub(crate) async fn row(&self, gw: &Gateway, pack: PackId) -> Result<PackRow, FetchError> {
        if let Some(row) = self.get(&pack) {
            return Ok(row);
        }
        self.ask(gw, vec![pack]).await?;
        self.get(&pack).ok_or(FetchError::PackGone(pack))
    }

    /// The row as it is now, if it differs from `old`.
    async fn newer(&self, gw: &Gateway, old: &PackRow) -> Result<Option<PackRow>, FetchError> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(&old.pack);
        let row = self.row(gw, old.pack).await?;
        Ok((row != *old).then_some(row))
    }
}

/// One chunk, from the cache or the drives.
///
/// # Errors
/// `PackGone`; `Failed` with `DrivesMissing` (too few shards can be read), `Corrupt` (they can be
/// read, and no combination verifies), `SlowDown`, `Unavailable`.
pub(crate) async fn fetch_chunk(gw: &Gateway, rows: &RowBook, entry: &ChunkEntry) -> Result<Pieces, FetchError> {
    if let Some(pieces) = gw.cache.get(&entry.id) {
        gw.metrics.cache_hits.inc();
        return Ok(pieces);
    }
    gw.metrics.cache_misses.inc();
    let _timer = gw.metrics.time(Step::G5Fetch);
    let pieces = fetch_stored(gw, rows, entry).await?;
    gw.cache.put(entry.id, &pieces);
    Ok(pieces)
}

/// One chunk from the drives, whatever the cache has.
///
/// # Errors
/// As [`fetch_chunk`].
pub(crate) async fn fetch_stored(gw: &Gateway, rows: &RowBook, entry: &ChunkEntry) -> Result<Pieces, FetchError> {
    check_entry(entry)?;
    let mut row = rows.row(gw, entry.pack).await?;
    loop {
        match fetch_by_row(gw, &row, entry).await {
            Ok(pieces) => return Ok(pieces),
            // The pack may have been encoded again, or its PG moved, since the row and the map were read.
            Err(error @ (FetchError::PackGone(_) | FetchError::Failed(GatewayError::DrivesMissing { .. }))) => {
                let known = gw.placement.epoch();
                match rows.newer(gw, &row).await? {
                    Some(newer) => row = newer,
                    None => {
                        gw.placement.refresh_or_warn(known).await;
                        if gw.placement.epoch() == known {
                            return Err(error);
                        }
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn check_entry(entry: &ChunkEntry) -> Result<(), GatewayError> {
    match entry.codec {
        Codec::Raw if entry.stored_len == entry.len && entry.key_id == 0 => Ok(()),
        Codec::Raw => Err(GatewayError::Corrupt { what: format!("chunk {} has an impossible entry", entry.id) }),
    }
}

async fn fetch_by_row(gw: &Gateway, row: &PackRow, entry: &ChunkEntry) -> Result<Pieces, FetchError> {
    let shard_len = row.scheme.shard_len(row.payload_len as usize);
    let ranges = plan_read(row.scheme, shard_len, entry.offset, entry.stored_len);
    let planned: u64 = ranges.iter().map(|r| u64::from(r.len)).sum();
    if planned != u64::from(entry.stored_len) {
        let what = format!("chunk {} lies outside of its pack {}", entry.id, row.pack);
        return Err(GatewayError::Corrupt { what }.into());
    }
    let Some(ranges) = readable(gw, row, ranges) else {
        return rebuild(gw, row, entry, &[]).await;
    };
    match read_hedged(gw, row, &ranges, entry).await? {
        Direct::Whole(pieces) => Ok(pieces),
        // One of the shards lies: to find out which, the rebuilding asks for them again.
        Direct::Wrong => rebuild(gw, row, entry, &[]).await,
        Direct::Failed => rebuild(gw, row, entry, &shards_of(&ranges)).await,
    }
}

fn shards_of(ranges: &[ShardRange]) -> Vec<u8> {
    ranges.iter().map(|range| range.shard).collect()
}

/// What became of reading the shards that hold a chunk.
enum Direct {
    Whole(Pieces),
    /// They could be read and are not the chunk.
    Wrong,
    Failed,
}

/// Reads the shards that hold a chunk; where they are slow, other shards beside them.
async fn read_hedged(
    gw: &Gateway,
    row: &PackRow,
    ranges: &[ShardRange],
    entry: &ChunkEntry,
) -> Result<Direct, FetchError> {
    let direct = read_direct(gw, row, ranges, entry);
    tokio::pin!(direct);
    let hedge = tokio::time::sleep(gw.latency.hedge_after());
    tokio::select! {
        biased;
        read = &mut direct => return Ok(read),
        () = hedge => {}
    }
    if row.scheme.shards() == ranges.len() {
        // Nothing else holds these bytes.
        return match direct.await {
            Direct::Failed => Err(unreadable(gw, row)),
            read => Ok(read),
        };
    }
    gw.metrics.hedged.inc();
    let tried = shards_of(ranges);
    let other = rebuild(gw, row, entry, &tried);
    tokio::pin!(other);
    tokio::select! {
        biased;
        read = &mut direct => match read {
            Direct::Failed => other.await.map(Direct::Whole),
            read => Ok(read),
        },
        rebuilt = &mut other => match rebuilt {
            Ok(pieces) => Ok(Direct::Whole(pieces)),
            Err(error) => match direct.await {
                Direct::Whole(pieces) => Ok(Direct::Whole(pieces)),
                Direct::Wrong | Direct::Failed => Err(error),
            },
        },
    }
}

/// The ranges to read, moved to a healthy copy where copies are all there is; `None` if a drive that
/// holds one is known to be away.
fn readable(gw: &Gateway, row: &PackRow, mut ranges: Vec<ShardRange>) -> Option<Vec<ShardRange>> {
    let view = gw.placement.view();
    let healthy = |shard: u8| {
        let holders = view.holders(row, usize::from(shard));
        holders.iter().any(|at| gw.placement.is_healthy(&view, *at))
    };
    if row.scheme.k() == 1 {
        let copies = u8::try_from(row.scheme.shards()).unwrap_or(u8::MAX);
        // Of a slot that moves, one of two drives has the copy; nobody knows which.
        let sure = |shard: u8| {
            let holders = view.holders(row, usize::from(shard));
            !holders.is_empty() && holders.iter().all(|at| gw.placement.is_healthy(&view, *at))
        };
        let copy = (0..copies).find(|shard| sure(*shard)).or_else(|| (0..copies).find(|shard| healthy(*shard)))?;
        ranges.iter_mut().for_each(|range| range.shard = copy);
        return Some(ranges);
    }
    ranges.iter().all(|range| healthy(range.shard)).then_some(ranges)
}

/// Reads the ranges side by side.
async fn read_direct(gw: &Gateway, row: &PackRow, ranges: &[ShardRange], entry: &ChunkEntry) -> Direct {
    let reads = ranges.iter().map(|range| read_shard(gw, row, *range));
    let pieces = match ranges {
        [range] => read_shard(gw, row, *range).await.map(|piece| vec![piece]),
        _ => futures::future::try_join_all(reads).await,
    };
    let Ok(pieces) = pieces else { return Direct::Failed };
    let pieces = pieces.into_iter().map(|(_, bytes)| bytes).collect();
    verify(gw, entry, pieces).await.map_or(Direct::Wrong, Direct::Whole)
}

/// G6: the pieces, if together they are the chunk.
pub(crate) async fn verify(gw: &Gateway, entry: &ChunkEntry, pieces: Vec<Bytes>) -> Option<Pieces> {
    let _timer = gw.metrics.time(Step::G6Verify);
    let len = len_of(&pieces);
    if len != entry.len as usize {
        return None;
    }
    #[cfg(feature = "sabotage")]
    if gw.config.sabotage.skip_chunk_check {
        return Some(Arc::from(pieces));
    }
    let pieces: Pieces = Arc::from(pieces);
    let hashed = Arc::clone(&pieces);
    let hash = move || match hashed.as_ref() {
        [only] => blake3::hash(only),
        several => {
            let mut hasher = blake3::Hasher::new();
            several.iter().for_each(|piece| {
                hasher.update(piece);
            });
            hasher.finalize()
        }
    };
    let found = gw.cpu.run(len, hash).await.ok()?;
    (found.as_bytes() == entry.id.as_bytes()).then_some(pieces)
}

/// Reads a range of one shard from whichever drive holds it, and says which.
///
/// # Errors
/// The last answer that says more than that a drive has no such pack. What a drive is to be blamed for was noted.
async fn read_shard(gw: &Gateway, row: &PackRow, range: ShardRange) -> Result<(DriveId, Bytes), RpcError> {
    let shard = range.shard;
    let holders = gw.placement.view().holders(row, usize::from(shard));
    let nobody = || RpcError::new(Code::NoSuchDrive, format!("no drive of the map holds shard {shard}"));
    let mut last: Option<RpcError> = None;
    let moves = holders.len() > 1;
    for at in holders {
        let request = StorageRequest::ReadShard {
            drive: at.drive,
            pack: row.pack,
            generation: row.generation,
            shard,
            offset: range.offset,
            len: range.len,
        };
        let asked_at = gw.clock.monotonic_micros();
        let error = match gw.nodes.call(at.node, request, Bytes::new(), gw.config.read_timeout).await {
            Ok((_, bytes)) if bytes.len() == range.len as usize => {
                gw.latency.observe(gw.clock.monotonic_micros().saturating_sub(asked_at));
                gw.placement.trust(at.drive, asked_at);
                return Ok((at.drive, bytes));
            }
            Ok((_, bytes)) => {
                let what = format!("{} bytes where {} were asked for", bytes.len(), range.len);
                RpcError::new(Code::ShardCorrupt, what)
            }
            Err(error) => error,
        };
        match error.code {
            // While a slot moves, either drive may lack the shard without fault.
            Code::NoSuchPack if moves => {}
            Code::NoSuchPack | Code::ShardCorrupt => {
                let reason = error.to_string();
                gw.report(RepairReport { pack: row.pack, shard, drive: at.drive, reason });
            }
            Code::Busy => {}
            // The whole node is avoided, and only until it answers.
            _ if gw.nodes.away(at.node).is_some() => {}
            _ => gw.placement.suspect(at.drive, &error.to_string()),
        }
        if error.code != Code::NoSuchPack || last.is_none() {
            last = Some(error);
        }
    }
    Err(last.unwrap_or_else(nobody))
}

/// The error for a pack of which too few shards can be read.
pub(crate) fn unreadable(gw: &Gateway, row: &PackRow) -> FetchError {
    let view = gw.placement.view();
    let drives = gw.placement.avoided();
    let names: Vec<String> = if drives.is_empty() {
        let holders = (0..row.slots.len()).flat_map(|shard| view.holders(row, shard));
        holders.map(|at| at.drive.to_string()).collect()
    } else {
        drives.into_iter().map(|(name, why)| format!("{name} ({why})")).collect()
    };
    FetchError::Failed(GatewayError::DrivesMissing { what: "a read", drives: names })
}

/// What came of asking several shards for one range.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Shards and their bytes, in the order of their arrival.
    pub(crate) have: Vec<(u8, Bytes)>,
    /// Which drive each of them came from.
    pub(crate) from: BTreeMap<u8, DriveId>,
    /// Why others did not come.
    pub(crate) failures: Vec<Code>,
}

/// Reads a range of `want` of the listed shards, the first ones first: a shard that fails is
/// replaced by the next at once, one that is slow is joined by the next.
pub(crate) async fn gather(gw: &Gateway, row: &PackRow, range: ShardRange, order: &[u8], want: usize) -> Answers {
    let read = |shard: u8| async move { (shard, read_shard(gw, row, ShardRange { shard, ..range }).await) };
    let mut next = order.iter().copied();
    let mut running: FuturesUnordered<_> = next.by_ref().take(want).map(read).collect();
    let mut answers = Answers::default();
    while answers.have.len() < want {
        let hedge = tokio::time::sleep(gw.latency.hedge_after());
        tokio::select! {
            biased;
            arrived = running.next() => match arrived {
                Some((shard, Ok((drive, bytes)))) => {
                    answers.have.push((shard, bytes));
                    answers.from.insert(shard, drive);
                }
                Some((_, Err(error))) => {
                    answers.failures.push(error.code);
                    running.extend(next.next().map(read));
                }
                None => break,
            },
            () = hedge => running.extend(next.next().map(read)),
        }
    }
    answers
}
