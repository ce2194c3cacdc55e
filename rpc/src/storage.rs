//! Requests to a storage node. Every one names a drive; shard requests name the PG and its epoch.

use serde::{Deserialize, Serialize};
use stele_types::ids::{DriveId, Epoch, PackId, PgEpoch, PgId, ShardRoot};
use stele_types::pack::{Encoding, PackPreimage};

/// Which PG the caller believes a pack belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PgRef {
    /// The PG.
    pub pg: PgId,
    /// The row the caller knows. Older than the node's: `StalePg` with the newer row.
    pub epoch: PgEpoch,
}

/// A request to a storage node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StorageRequest {
    /// Append one shard (the request's body) and answer once it is on stable media. Repeating it
    /// with the same pack, generation and shard is harmless.
    StoreShard {
        /// Target drive.
        drive: DriveId,
        /// PG of the pack.
        pg: PgRef,
        /// The pack.
        pack: PackId,
        /// What the pack id commits to; checked against `pack`.
        preimage: PackPreimage,
        /// How the pack is kept.
        encoding: Encoding,
        /// Which shard the body is.
        shard: u8,
    },
    /// Read bytes of one shard; they come back as the response's body, CRC-checked.
    ReadShard {
        /// Drive to read from.
        drive: DriveId,
        /// The pack.
        pack: PackId,
        /// Generation of the encoding.
        generation: u32,
        /// Which shard.
        shard: u8,
        /// First byte.
        offset: u32,
        /// Bytes; `offset + len` is within the shard.
        len: u32,
    },
    /// Everything one drive holds of a pack besides its payload.
    DescribePack {
        /// Drive to ask.
        drive: DriveId,
        /// The pack.
        pack: PackId,
    },
    /// Packs on a drive in one PG, ordered by pack id.
    Inventory {
        /// Drive to ask.
        drive: DriveId,
        /// Only this PG.
        pg: PgId,
        /// Continue behind this pack.
        after: Option<PackId>,
        /// At most this many rows.
        max: u32,
    },
    /// Condemn packs at fence `epoch`; each is refused if touched above it or started above it.
    Condemn {
        /// Target drive.
        drive: DriveId,
        /// The fence.
        epoch: Epoch,
        /// Which.
        packs: Vec<PackId>,
    },
    /// Take a condemnation back (a reference was found).
    Pardon {
        /// Target drive.
        drive: DriveId,
        /// Which.
        packs: Vec<PackId>,
    },
    /// Delete packs that are still condemned; others are skipped.
    Delete {
        /// Target drive.
        drive: DriveId,
        /// Which.
        packs: Vec<PackId>,
    },
    /// State of every drive of this node.
    Drives,
    /// Done: from now on this node refuses stores that name an older row of the PG. `StalePg`: it does not know that
    /// row yet, and fetches its map.
    AcknowledgePg(PgRef),
    /// How the packs of a PG on a drive are kept, as the headers of their records say; ordered by pack id. One read of
    /// the drive for each pack.
    Encodings {
        /// Drive to ask.
        drive: DriveId,
        /// Only this PG.
        pg: PgId,
        /// Continue behind this pack.
        after: Option<PackId>,
        /// At most this many rows.
        max: u32,
    },
    /// Take a question of a possession audit. A node that answers this and then not [`StorageRequest::Challenge`] was
    /// there and kept silent.
    TakeChallenge(ShardChallenge),
    /// Answer a question of a possession audit: the reply's body is a slice of the group, or empty if this node does
    /// not have the shard. The whole shard is read.
    Challenge(ShardChallenge),
    /// Which PGs a drive holds packs of, whether its rows name the drive or not; ordered by PG.
    Groups {
        /// Drive to ask.
        drive: DriveId,
        /// Continue behind this PG.
        after: Option<PgId>,
        /// At most this many rows.
        max: u32,
    },
    /// Inventory rows of certain packs. Those that the drive does not hold are left out.
    Holds {
        /// Drive to ask.
        drive: DriveId,
        /// Which, of one PG.
        packs: Vec<PackId>,
    },
    /// As `Delete`, of packs of a PG that this drive has no slot of. Refused with `StalePg` if this node knows another
    /// row of the PG, or one that names the drive.
    DeleteStrays {
        /// Target drive.
        drive: DriveId,
        /// The PG's row as the caller knows it. Epoch 0: there is none.
        pg: PgRef,
        /// Which.
        packs: Vec<PackId>,
    },
}

/// A question of a possession audit: for one group of 16 KiB of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShardChallenge {
    /// Which audit.
    pub audit: [u8; 16],
    /// What its questions were drawn from.
    pub seed: [u8; 32],
    /// The drive that should hold the shard.
    pub drive: DriveId,
    /// The pack.
    pub pack: PackId,
    /// Generation of the encoding.
    pub generation: u32,
    /// Which shard.
    pub shard: u8,
    /// Its root.
    pub root: ShardRoot,
    /// Its bytes.
    pub len: u32,
    /// Which group.
    pub group: u32,
}

/// How a drive keeps a pack.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EncodingRow {
    /// The pack.
    pub pack: PackId,
    /// Newest encoding held.
    pub encoding: Encoding,
}

/// One pack on a drive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InventoryRow {
    /// The pack.
    pub pack: PackId,
    /// Start epoch from its preimage.
    pub start_epoch: Epoch,
    /// Highest touch; 0 if none.
    pub touched: Epoch,
    /// Fence at which it was condemned.
    pub condemned: Option<Epoch>,
    /// Generation of the newest encoding held.
    pub generation: u32,
    /// Shards held of that generation.
    pub shards: Vec<u8>,
    /// Bytes on the drive, headers included.
    pub stored_bytes: u64,
}

/// One drive as its node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DriveStatus {
    /// The drive.
    pub id: DriveId,
    /// Its directory.
    pub name: String,
    /// Serves requests.
    pub healthy: bool,
    /// Why not; empty otherwise.
    pub reason: String,
    /// Bytes it may hold.
    pub capacity_bytes: u64,
    /// Bytes in segments.
    pub used_bytes: u64,
    /// Bytes of live records in segments.
    pub live_bytes: u64,
    /// Packs it holds.
    pub packs: u64,
}

/// What a storage node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StorageReply {
    /// Done, and on stable media.
    Done,
    /// To `ReadShard`: the bytes are the response's body.
    Bytes,
    /// To `DescribePack`.
    Pack {
        /// Checked against the pack id.
        preimage: PackPreimage,
        /// Newest encoding held.
        encoding: Encoding,
        /// PG it was written for.
        pg: PgId,
        /// Shards held of it.
        shards: Vec<u8>,
    },
    /// To `Inventory`, and to `Holds` in the order asked.
    Inventory {
        /// Ordered by pack id.
        rows: Vec<InventoryRow>,
        /// More rows follow.
        more: bool,
    },
    /// To `Condemn`, `Delete` and `DeleteStrays`: the packs for which it was done, on stable media.
    Packs(Vec<PackId>),
    /// To `Drives`.
    Drives(Vec<DriveStatus>),
    /// To `Encodings`.
    Encodings {
        /// Ordered by pack id. A pack whose record can't be read is left out.
        rows: Vec<EncodingRow>,
        /// Continue behind this pack: more follow.
        next: Option<PackId>,
    },
    /// To `Challenge`: a signed answer (docs/formats/audit.md). Its slice is the reply's body.
    Answer(bytes::Bytes),
    /// To `Groups`.
    Groups {
        /// Ordered by PG.
        rows: Vec<PgId>,
        /// More rows follow.
        more: bool,
    },
}
