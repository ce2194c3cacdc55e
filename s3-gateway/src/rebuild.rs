//! Chunks back from other shards than those that should hold them.
//!
//! First from any k' shards that can be read. If the result is not the chunk, some drive returned
//! wrong bytes with a right CRC: every combination of k' shards is tried until one verifies, and the
//! shards that contradict it are reported.

use std::collections::BTreeMap;

use bytes::Bytes;
use stele_chunker::shards::{Coder, ShardRange, plan_read};
use stele_rpc::error::Code;
use stele_types::ids::{DriveId, PackId};
use stele_types::manifest::ChunkEntry;
use stele_types::pack::PackRow;

use crate::cache::Pieces;
use crate::error::GatewayError;
use crate::fetch::{Answers, FetchError, gather, unreadable, verify};
use crate::gateway::{Gateway, RepairReport};

/// Combinations of shards tried for one chunk: all of rs-8-4.
const COMBINATIONS_MAX: usize = 500;

/// Shards of one byte range.
struct Gathered {
    range: ShardRange,
    have: Vec<(u8, Bytes)>,
    from: BTreeMap<u8, DriveId>,
}

/// Rebuilds a chunk, if possible without the shards that were `tried` before.
///
/// # Errors
/// `PackGone` if every shard that was asked for is unknown to its drive; `DrivesMissing`, `Corrupt`,
/// `SlowDown`.
pub(crate) async fn rebuild(
    gw: &Gateway,
    row: &PackRow,
    entry: &ChunkEntry,
    tried: &[u8],
) -> Result<Pieces, FetchError> {
    let _turn = gw.budget.rebuild_turn().await?;
    let coder = gw.coders.get(row.scheme)?;
    let shard_len = row.scheme.shard_len(row.payload_len as usize);
    let ranges = plan_read(row.scheme, shard_len, entry.offset, entry.stored_len);
    let order = preferred(gw, row, tried);
    let k = row.scheme.k();

    let mut gathered = Vec::with_capacity(ranges.len());
    for range in ranges {
        let Answers { have, from, failures } = gather(gw, row, range, &order, k).await;
        if have.len() < k {
            let gone = !failures.is_empty() && failures.iter().all(|code| *code == Code::NoSuchPack);
            return Err(if gone { FetchError::PackGone(row.pack) } else { unreadable(gw, row) });
        }
        gathered.push(Gathered { range, have, from });
    }
    let first: Vec<u8> = gathered.first().map(|g| g.have.iter().map(|(shard, _)| *shard).collect()).unwrap_or_default();
    let decoded: Option<Vec<Bytes>> = gathered.iter().map(|g| decode(&coder, g.range, &g.have)).collect();
    if let Some(pieces) = verify(gw, entry, decoded.unwrap_or_default()).await {
        gw.metrics.rebuilt.inc();
        return Ok(pieces);
    }
    tracing::warn!(pack = %row.pack, chunk = %entry.id, shards = ?first, "shards contradict the chunk");
    try_combinations(gw, row, entry, &coder, gathered).await
}

/// Shards in the order in which they are asked: those on healthy drives first, and of these the ones that
/// were not tried yet.
fn preferred(gw: &Gateway, row: &PackRow, tried: &[u8]) -> Vec<u8> {
    let view = gw.placement.view();
    let away = |shard: &u8| {
        let holders = view.holders(row, usize::from(*shard));
        !holders.iter().any(|at| gw.placement.is_healthy(&view, *at))
    };
    let mut order: Vec<u8> = (0..u8::try_from(row.scheme.shards()).unwrap_or(u8::MAX)).collect();
    order.sort_by_key(|shard| (away(shard), tried.contains(shard)));
    order
}

fn decode(coder: &Coder, range: ShardRange, have: &[(u8, Bytes)]) -> Option<Bytes> {
    coder.reconstruct_range(range.shard, have).ok()
}

async fn try_combinations(
    gw: &Gateway,
    row: &PackRow,
    entry: &ChunkEntry,
    coder: &Coder,
    mut gathered: Vec<Gathered>,
) -> Result<Pieces, FetchError> {
    let k = row.scheme.k();
    for part in &mut gathered {
        let missing: Vec<u8> = preferred(gw, row, &[])
            .into_iter()
            .filter(|shard| part.have.iter().all(|(known, _)| known != shard))
            .collect();
        let more = gather(gw, row, part.range, &missing, missing.len()).await;
        part.have.extend(more.have);
        part.from.extend(more.from);
    }
    let available: Vec<u8> = gathered.first().map_or_else(Vec::new, |first| {
        let everywhere = |shard: &u8| gathered.iter().all(|part| part.have.iter().any(|(known, _)| known == shard));
        first.have.iter().map(|(shard, _)| *shard).filter(everywhere).collect()
    });
    for chosen in combinations(&available, k).into_iter().take(COMBINATIONS_MAX) {
        let decoded = decode_from(coder, &gathered, &chosen);
        if let Some(pieces) = verify(gw, entry, decoded.unwrap_or_default()).await {
            gw.metrics.rebuilt.inc();
            blame(gw, row.pack, coder, &gathered, &chosen);
            return Ok(pieces);
        }
    }
    let what = format!(
        "chunk {} of pack {}: no {k} of its {} readable shards give it; restore the object from another source",
        entry.id,
        row.pack,
        available.len()
    );
    Err(GatewayError::Corrupt { what }.into())
}

fn decode_from(coder: &Coder, gathered: &[Gathered], chosen: &[u8]) -> Option<Vec<Bytes>> {
    let part = |g: &Gathered| {
        let have: Vec<(u8, Bytes)> = g.have.iter().filter(|(s, _)| chosen.contains(s)).cloned().collect();
        decode(coder, g.range, &have)
    };
    gathered.iter().map(part).collect()
}

/// Reports every shard that contradicts the ones that verified.
fn blame(gw: &Gateway, pack: PackId, coder: &Coder, gathered: &[Gathered], good: &[u8]) {
    for part in gathered {
        let trusted: Vec<(u8, Bytes)> = part.have.iter().filter(|(shard, _)| good.contains(shard)).cloned().collect();
        for (shard, bytes) in part.have.iter().filter(|(shard, _)| !good.contains(shard)) {
            let differs = coder.reconstruct_range(*shard, &trusted).is_ok_and(|right| right != *bytes);
            if let (true, Some(drive)) = (differs, part.from.get(shard)) {
                let reason = "wrong bytes with a right CRC".to_owned();
                gw.report(RepairReport { pack, shard: *shard, drive: *drive, reason });
            }
        }
    }
}

/// All ways to choose `k` of `items`, in lexicographic order of positions.
fn combinations(items: &[u8], k: usize) -> Vec<Vec<u8>> {
    if k == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in items.iter().enumerate() {
        let rest = items.get(at + 1..).unwrap_or_default();
        for mut tail in combinations(rest, k - 1) {
            tail.insert(0, *first);
            all.push(tail);
            if all.len() >= COMBINATIONS_MAX {
                return all;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::combinations;

    #[test]
    fn combinations_are_complete_and_bounded() {
        assert_eq!(combinations(&[1, 2, 3], 2), [[1, 2], [1, 3], [2, 3]]);
        assert_eq!(combinations(&[1, 2], 3), Vec::<Vec<u8>>::new());
        let wide: Vec<u8> = (0..12).collect();
        assert_eq!(combinations(&wide, 8).len(), 495);
    }
}
