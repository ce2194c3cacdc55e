//! Which bytes of which shards hold a piece of a payload, and which slots a pack uses.

use stele_types::ids::PackId;
use stele_types::scheme::Scheme;

/// A byte range of one data shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardRange {
    /// The data shard. With k' = 1 every other shard holds the same bytes.
    pub shard: u8,
    /// First byte within the shard.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The data shard ranges that hold payload bytes `offset..offset + len`, in order. Empty for an
/// empty range; what lies behind the last data shard is left out, which a caller sees as fewer bytes.
pub fn plan_read(scheme: Scheme, shard_len: usize, offset: u32, len: u32) -> Vec<ShardRange> {
    let shard_len = shard_len as u64;
    let mut at = u64::from(offset);
    let end = at + u64::from(len);
    let mut out = Vec::new();
    while at < end && shard_len > 0 {
        let shard = at / shard_len;
        if shard >= scheme.k() as u64 {
            break;
        }
        let until = end.min((shard + 1) * shard_len);
        let (inside, taken) = (at % shard_len, until - at);
        out.push(ShardRange { shard: shard as u8, offset: inside as u32, len: taken as u32 });
        at = until;
    }
    out
}

/// The slots for a pack's shards: `scheme.shards()` of the healthy ones, rotated by the pack id, so
/// that parity and small packs spread over all drives. `None` if there are too few.
pub fn slots_for(pack: &PackId, scheme: Scheme, healthy: &[u8]) -> Option<Vec<u8>> {
    if healthy.len() < scheme.shards() {
        return None;
    }
    let mut number = [0u8; 8];
    number.copy_from_slice(&pack.as_bytes()[..8]);
    let first = (u64::from_le_bytes(number) % healthy.len() as u64) as usize;
    let rotated = healthy.iter().cycle().skip(first);
    Some(rotated.take(scheme.shards()).copied().collect())
}
