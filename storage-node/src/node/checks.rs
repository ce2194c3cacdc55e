//! What a node checks of a store before it writes anything. Pure.

use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::storage::PgRef;
use stele_types::ids::{DriveId, PackId, PgEpoch};
use stele_types::limits::PACK_BYTES_MAX;
use stele_types::map::{ClusterMap, PgRow};
use stele_types::pack::{Encoding, PackPreimage};
use stele_types::segment::ShardHeader;

fn malformed(text: impl Into<String>) -> RpcError {
    RpcError::new(Code::Malformed, text)
}

/// The caller knows the PG as it is, and the drive is the slot of that shard.
///
/// An older row than this node's is refused, with the newer one. With a *newer* row the caller is ahead of
/// this node. Then the store is taken if the row that this node knows gives the drive the same slot:
///
/// - Both rows look for the shard on this drive, so no reader misses it.
/// - A slot moves away from a drive only at an epoch that every live member has acknowledged. This
///   node has not acknowledged the one that the caller names, nor any later one, so whoever
///   takes the slot over still has to ask here for what is held, and finds this shard.
///
/// In every other case this node can't tell whether the caller is right, so it fetches its map and
/// the caller tries again: a PG that it does not know (after a restart it may have acknowledged an epoch
/// that it does not remember), or a drive that only the newer row gives the slot.
pub(super) fn placement(
    map: &ClusterMap,
    pg: PgRef,
    drive: DriveId,
    (encoding, shard): (&Encoding, u8),
    accept_stale: bool,
) -> Result<(), RpcError> {
    let row = row(map, pg)?;
    if row.epoch > pg.epoch {
        if accept_stale {
            return Ok(());
        }
        let text = format!("PG {} is at epoch {}, the request at {}; use the newer row", pg.pg, row.epoch, pg.epoch);
        return Err(RpcError { newer_pg: Some(Box::new(row.clone())), ..RpcError::new(Code::StalePg, text) });
    }
    let slot = encoding.slots.get(usize::from(shard)).and_then(|slot| row.slots.get(usize::from(*slot)));
    match slot {
        Some(slot) if slot.drive == drive && slot.incoming.is_none() => Ok(()),
        // While a slot moves, new packs go to `incoming` only: what `current` has is being copied.
        Some(slot) if slot.incoming == Some(drive) => Ok(()),
        _ if row.epoch < pg.epoch => Err(not_yet(row, pg)),
        Some(_) => Err(malformed(format!("drive {drive} does not take shard {shard} in PG {}", pg.pg))),
        None => Err(malformed(format!("PG {} has no slot for shard {shard}", pg.pg))),
    }
}

fn row(map: &ClusterMap, pg: PgRef) -> Result<&PgRow, RpcError> {
    map.pg(pg.pg).ok_or_else(|| {
        let text = format!("PG {} is not in this node's map (epoch {}); refresh the map", pg.pg, map.epoch);
        RpcError::new(Code::StalePg, text)
    })
}

fn not_yet(row: &PgRow, pg: PgRef) -> RpcError {
    let text = format!("this node knows PG {} at epoch {}, not yet {}; try again", pg.pg, row.epoch, pg.epoch);
    RpcError::new(Code::StalePg, text)
}

/// This node has that row of the PG, or a newer one, and so refuses stores that name an older.
pub(super) fn knows(map: &ClusterMap, pg: PgRef) -> Result<(), RpcError> {
    let row = row(map, pg)?;
    if row.epoch < pg.epoch { Err(not_yet(row, pg)) } else { Ok(()) }
}

/// The caller knows the PG as it is, and the drive has no part in it.
pub(super) fn stray(map: &ClusterMap, pg: PgRef, drive: DriveId) -> Result<(), RpcError> {
    let known = map.pg(pg.pg);
    let epoch = known.map_or(PgEpoch(0), |row| row.epoch);
    if epoch == pg.epoch && !known.is_some_and(|row| row.uses(drive)) {
        return Ok(());
    }
    let text =
        format!("PG {} is at epoch {epoch} here and at {} in the request, or names drive {drive}", pg.pg, pg.epoch);
    Err(RpcError { newer_pg: known.cloned().map(Box::new), ..RpcError::new(Code::StalePg, text) })
}

/// The parts of a store fit each other; its header, without CRCs.
pub(super) fn header(
    pg: PgRef,
    pack: PackId,
    (preimage, encoding): (PackPreimage, Encoding),
    (shard, body): (u8, &Bytes),
) -> Result<ShardHeader, RpcError> {
    let scheme = encoding.scheme;
    let payload = preimage.payload_len as usize;
    if payload == 0 || payload > PACK_BYTES_MAX || preimage.chunk_list_offset > preimage.payload_len {
        return Err(malformed(format!("a pack of {payload} payload bytes is out of bounds")));
    }
    if scheme.k() == 0 || encoding.slots.len() != scheme.shards() || encoding.roots.len() != scheme.shards() {
        return Err(malformed(format!("an encoding of {scheme} has {} slots and roots each", scheme.shards())));
    }
    if usize::from(shard) >= scheme.shards() {
        return Err(malformed(format!("{scheme} has no shard {shard}")));
    }
    if body.len() != scheme.shard_len(payload) {
        let text = format!("a shard of this pack has {} bytes, not {}", scheme.shard_len(payload), body.len());
        return Err(malformed(text));
    }
    if preimage.pack_id() != pack {
        return Err(malformed(format!("pack id {pack} is not the hash of its preimage")));
    }
    let payload_len = u32::try_from(body.len()).map_err(|_| malformed("the shard is too long"))?;
    let crcs = Vec::new();
    Ok(ShardHeader { pack, pg: pg.pg, pg_epoch: pg.epoch, shard, preimage, encoding, payload_len, crcs })
}

/// The body is the shard that the encoding commits to.
pub(super) fn root(header: &ShardHeader, body: &[u8]) -> Result<(), RpcError> {
    let expected = header.encoding.roots.get(usize::from(header.shard)).map(|root| *root.as_bytes());
    if expected == Some(*blake3::hash(body).as_bytes()) {
        return Ok(());
    }
    Err(malformed(format!("shard {} of pack {} is not what its root commits to", header.shard, header.pack)))
}

/// A request names at most `max` packs.
pub(super) fn few(what: &str, packs: usize, max: usize) -> Result<(), RpcError> {
    if packs <= max {
        return Ok(());
    }
    Err(malformed(format!("{what} of {packs} packs; at most {max} at once")))
}
