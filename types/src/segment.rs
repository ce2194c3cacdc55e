//! Segment records: what a drive's append-only files hold. Layout: docs/formats/segment.md.
//!
//! The storage node writes them and scans them back; nobody else reads them. Pure bytes: this
//! module never does IO, never allocates more than a record's declared and bounded size, and
//! never panics on foreign input.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, DriveId, Epoch, PackId, PgEpoch, PgId, ShardRoot, TreeHash};
use crate::limits::{PACK_BYTES_MAX, SEGMENT_ALIGN, SHARD_ALIGN, SHARD_CRC_BYTES, SHARDS_MAX};
use crate::pack::{Encoding, PackPreimage};
use crate::scheme::Scheme;

mod bytes;
#[cfg(test)]
mod tests;

use self::bytes::{Cursor, Sink};

/// First bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"STELESEG";
/// First bytes of every record.
pub const RECORD_MAGIC: [u8; 4] = *b"SREC";
/// Version of both layouts.
pub const SEGMENT_VERSION: u16 = 1;
/// Longest record header, padding included. Bounds what a scan must look ahead.
pub const RECORD_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most items of one list record.
pub const LIST_ITEMS_MAX: usize = 256;

const FIXED_LEN: usize = 56;
const CRC_AT: usize = 12;
const LIST_ITEM_LEN: usize = 48;

const _: () = assert!(FIXED_LEN + 4 + LIST_ITEMS_MAX * LIST_ITEM_LEN <= RECORD_HEADER_BYTES_MAX);
const _: () = assert!(
    FIXED_LEN + 256 + SHARDS_MAX * (ShardRoot::LEN + 1) + 4 * PACK_BYTES_MAX.div_ceil(SHARD_CRC_BYTES)
        <= RECORD_HEADER_BYTES_MAX
);

/// Number of a segment on its drive. Rises; a number is not reused while its file exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentNumber(pub u64);

impl std::fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Order of a drive's records. A record keeps its sequence when it is copied to another segment,
/// so replay in sequence order gives the same index whatever was moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordSequence(pub u64);

/// Why bytes are not a record (or segment header).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SegmentFormatError {
    /// The magic is missing: not a record boundary, or overwritten.
    #[error("no magic: not the start of a record")]
    NoMagic,
    /// Written by a newer version of Stele.
    #[error("unknown version {0}: written by a newer Stele; upgrade this node")]
    UnknownVersion(u16),
    /// A kind this version does not know.
    #[error("unknown record kind {0}")]
    UnknownKind(u16),
    /// A length is outside its bounds.
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
    /// The bytes end before the record's header does.
    #[error("the header is cut off")]
    CutOff,
    /// The CRC does not match.
    #[error("the header fails its CRC32C")]
    BadCrc,
}

/// First block of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The drive it was written on.
    pub drive: DriveId,
    /// The drive's cluster.
    pub cluster: ClusterId,
    /// Its number.
    pub number: SegmentNumber,
}

impl SegmentHeader {
    /// One block of [`SEGMENT_ALIGN`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Sink::default();
        out.bytes(&SEGMENT_MAGIC);
        out.u16(SEGMENT_VERSION);
        out.u16(0);
        out.u32(0);
        out.bytes(self.drive.as_bytes());
        out.bytes(self.cluster.as_bytes());
        out.u64(self.number.0);
        let mut block = out.finish();
        let crc = crc32c::crc32c(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        block.resize(SEGMENT_ALIGN, 0);
        block
    }

    /// Reads a segment's first block.
    ///
    /// # Errors
    /// If it is not one, in the way the error says.
    pub fn decode(block: &[u8]) -> Result<Self, SegmentFormatError> {
        const LEN: usize = 56;
        let head: &[u8; LEN] = block.first_chunk().ok_or(SegmentFormatError::CutOff)?;
        let mut at = Cursor::new(head);
        if at.array::<8>()? != SEGMENT_MAGIC {
            return Err(SegmentFormatError::NoMagic);
        }
        let version = at.u16()?;
        if version != SEGMENT_VERSION {
            return Err(SegmentFormatError::UnknownVersion(version));
        }
        at.u16()?;
        let stored = at.u32()?;
        let mut unsigned = *head;
        unsigned[12..16].fill(0);
        if crc32c::crc32c(&unsigned) != stored {
            return Err(SegmentFormatError::BadCrc);
        }
        Ok(Self {
            drive: DriveId::from_bytes(at.array()?),
            cluster: ClusterId::from_bytes(at.array()?),
            number: SegmentNumber(at.u64()?),
        })
    }
}

/// Header of one record: everything but a shard's payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Drive it was written on; a record copied in from elsewhere is not taken for one of ours.
    pub drive: DriveId,
    /// Segment it was written in.
    pub segment: SegmentNumber,
    /// Its place in the drive's order.
    pub sequence: RecordSequence,
    /// What it says.
    pub body: RecordBody,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordBody {
    /// A shard; its payload follows the header.
    Shard(Box<ShardHeader>),
    /// A change of state of several packs.
    List(ListKind, Vec<ListItem>),
}

/// A shard record without its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardHeader {
    /// The pack.
    pub pack: PackId,
    /// Its placement group.
    pub pg: PgId,
    /// Epoch of the PG row it was written under.
    pub pg_epoch: PgEpoch,
    /// Which shard of the encoding the payload is.
    pub shard: u8,
    /// What the pack id commits to.
    pub preimage: PackPreimage,
    /// How the pack is kept.
    pub encoding: Encoding,
    /// Payload bytes, a multiple of [`SHARD_ALIGN`].
    pub payload_len: u32,
    /// CRC32C of each [`SHARD_CRC_BYTES`] of payload, the last one of what remains.
    pub crcs: Vec<u32>,
}

/// What a list record does to its packs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
pub enum ListKind {
    /// A writer of this epoch uses the pack again.
    Touch = 2,
    /// A sweep of this fence found no reference.
    Condemn = 3,
    /// A reference was found after all.
    Pardon = 4,
    /// Its shard records with a lower sequence are dead.
    Delete = 5,
}

/// One pack of a list record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListItem {
    /// The pack.
    pub pack: PackId,
    /// Touch: the writer's start epoch. Condemn: the fence. Pardon, delete: 0.
    pub epoch: Epoch,
    /// Sequence at which it was first said; kept when the item is carried to another segment.
    pub at: RecordSequence,
}

const KIND_SHARD: u16 = 1;

impl ListKind {
    fn from_u16(kind: u16) -> Option<Self> {
        [Self::Touch, Self::Condemn, Self::Pardon, Self::Delete].into_iter().find(|k| *k as u16 == kind)
    }
}

/// CRC32C of each [`SHARD_CRC_BYTES`] of a payload.
pub fn payload_crcs(payload: &[u8]) -> Vec<u32> {
    payload.chunks(SHARD_CRC_BYTES).map(crc32c::crc32c).collect()
}

impl RecordHeader {
    /// Bytes of payload behind the header.
    pub fn payload_len(&self) -> u32 {
        match &self.body {
            RecordBody::Shard(shard) => shard.payload_len,
            RecordBody::List(..) => 0,
        }
    }

    /// The header, padded with zeros to a multiple of [`SEGMENT_ALIGN`].
    ///
    /// # Errors
    /// `OutOfBounds` if a part is larger than the format allows; nothing is cut off silently.
    pub fn encode(&self) -> Result<Vec<u8>, SegmentFormatError> {
        let mut out = Sink::default();
        out.bytes(&RECORD_MAGIC);
        out.u16(SEGMENT_VERSION);
        out.u16(match &self.body {
            RecordBody::Shard(_) => KIND_SHARD,
            RecordBody::List(kind, _) => *kind as u16,
        });
        out.u32(0); // header length, below
        out.u32(0); // CRC, below
        out.bytes(self.drive.as_bytes());
        out.u64(self.segment.0);
        out.u64(self.sequence.0);
        out.u32(self.payload_len());
        out.u32(0);
        match &self.body {
            RecordBody::Shard(shard) => {
                check_shard(shard)?;
                encode_shard(&mut out, shard)?;
            }
            RecordBody::List(_, items) => encode_list(&mut out, items)?,
        }
        let mut header = out.finish();
        let len = u32::try_from(header.len()).map_err(|_| SegmentFormatError::OutOfBounds("header length"))?;
        header[8..12].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&header);
        header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        header.resize(header.len().next_multiple_of(SEGMENT_ALIGN), 0);
        if header.len() > RECORD_HEADER_BYTES_MAX {
            return Err(SegmentFormatError::OutOfBounds("header length"));
        }
        Ok(header)
    }

    /// Length of the header that starts here, padding included: how many bytes
    /// [`RecordHeader::decode`] needs. Looks only at the fixed part.
    ///
    /// # Errors
    /// If no record of this version starts here.
    pub fn peek_len(bytes: &[u8]) -> Result<usize, SegmentFormatError> {
        let mut at = Cursor::new(bytes);
        if at.array::<4>()? != RECORD_MAGIC {
            return Err(SegmentFormatError::NoMagic);
        }
        let version = at.u16()?;
        if version != SEGMENT_VERSION {
            return Err(SegmentFormatError::UnknownVersion(version));
        }
        at.u16()?;
        let len = at.u32()? as usize;
        if !(FIXED_LEN..=RECORD_HEADER_BYTES_MAX).contains(&len) {
            return Err(SegmentFormatError::OutOfBounds("header length"));
        }
        Ok(len.next_multiple_of(SEGMENT_ALIGN))
    }

    /// Reads a record's header; `bytes` begins with it and may be longer.
    ///
    /// # Errors
    /// If it is not an intact header of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentFormatError> {
        Self::peek_len(bytes)?;
        let mut at = Cursor::new(bytes);
        at.skip(6)?;
        let kind = at.u16()?;
        let len = at.u32()? as usize;
        let stored = at.u32()?;
        let header = bytes.get(..len).ok_or(SegmentFormatError::CutOff)?;
        let crc = crc32c::crc32c(&header[..CRC_AT]);
        let crc = crc32c::crc32c_append(crc, &[0; 4]);
        if crc32c::crc32c_append(crc, &header[CRC_AT + 4..]) != stored {
            return Err(SegmentFormatError::BadCrc);
        }
        let mut at = Cursor::new(header);
        at.skip(CRC_AT + 4)?;
        let drive = DriveId::from_bytes(at.array()?);
        let segment = SegmentNumber(at.u64()?);
        let sequence = RecordSequence(at.u64()?);
        let payload_len = at.u32()?;
        at.u32()?;
        let body = if kind == KIND_SHARD {
            RecordBody::Shard(Box::new(decode_shard(&mut at, payload_len)?))
        } else {
            let kind = ListKind::from_u16(kind).ok_or(SegmentFormatError::UnknownKind(kind))?;
            if payload_len != 0 {
                return Err(SegmentFormatError::OutOfBounds("payload length"));
            }
            RecordBody::List(kind, decode_list(&mut at)?)
        };
        if at.remaining() != 0 {
            return Err(SegmentFormatError::OutOfBounds("header length"));
        }
        Ok(Self { drive, segment, sequence, body })
    }
}

fn encode_shard(out: &mut Sink, shard: &ShardHeader) -> Result<(), SegmentFormatError> {
    let count = |n: usize, what| u8::try_from(n).map_err(|_| SegmentFormatError::OutOfBounds(what));
    out.bytes(shard.pack.as_bytes());
    out.u32(shard.pg.0);
    out.u64(shard.pg_epoch.0);
    out.u8(shard.shard);
    out.u8(count(shard.encoding.scheme.k(), "data shards")?);
    out.u8(count(shard.encoding.scheme.m(), "parity shards")?);
    out.u8(0);
    out.u64(shard.preimage.start_epoch.0);
    out.bytes(&shard.preimage.nonce);
    out.u32(shard.preimage.payload_len);
    out.u32(shard.preimage.chunk_list_offset);
    out.bytes(shard.preimage.chunk_list_hash.as_bytes());
    out.u32(shard.encoding.generation);
    out.bytes(&shard.encoding.slots);
    for root in &shard.encoding.roots {
        out.bytes(root.as_bytes());
    }
    for crc in &shard.crcs {
        out.u32(*crc);
    }
    Ok(())
}

fn decode_shard(at: &mut Cursor<'_>, payload_len: u32) -> Result<ShardHeader, SegmentFormatError> {
    let pack = PackId::from_bytes(at.array()?);
    let pg = PgId(at.u32()?);
    let pg_epoch = PgEpoch(at.u64()?);
    let [shard, k, m, _] = at.array()?;
    let scheme = Scheme::new(k, m).ok_or(SegmentFormatError::OutOfBounds("scheme"))?;
    let preimage = PackPreimage {
        start_epoch: Epoch(at.u64()?),
        nonce: at.array()?,
        payload_len: at.u32()?,
        chunk_list_offset: at.u32()?,
        chunk_list_hash: TreeHash::from_bytes(at.array()?),
    };
    let generation = at.u32()?;
    let slots = at.take(scheme.shards())?.to_vec();
    let mut roots = Vec::with_capacity(scheme.shards());
    for _ in 0..scheme.shards() {
        roots.push(ShardRoot::from_bytes(at.array()?));
    }
    if payload_len as usize > PACK_BYTES_MAX {
        return Err(SegmentFormatError::OutOfBounds("payload length"));
    }
    let blocks = (payload_len as usize).div_ceil(SHARD_CRC_BYTES);
    let mut crcs = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        crcs.push(at.u32()?);
    }
    let encoding = Encoding { generation, scheme, slots, roots };
    let header = ShardHeader { pack, pg, pg_epoch, shard, preimage, encoding, payload_len, crcs };
    check_shard(&header)?;
    Ok(header)
}

/// The bounds both directions hold.
fn check_shard(shard: &ShardHeader) -> Result<(), SegmentFormatError> {
    let bound = |ok: bool, what| if ok { Ok(()) } else { Err(SegmentFormatError::OutOfBounds(what)) };
    let encoding = &shard.encoding;
    let shards = encoding.scheme.shards();
    let payload = shard.preimage.payload_len as usize;
    bound(encoding.slots.len() == shards, "slots")?;
    bound(encoding.roots.len() == shards, "shard roots")?;
    bound(usize::from(shard.shard) < shards, "shard index")?;
    bound((1..=PACK_BYTES_MAX).contains(&payload), "pack payload length")?;
    bound(shard.preimage.chunk_list_offset <= shard.preimage.payload_len, "chunk list offset")?;
    bound(encoding.scheme.shard_len(payload) == shard.payload_len as usize, "payload length")?;
    bound((shard.payload_len as usize).is_multiple_of(SHARD_ALIGN), "payload length")?;
    bound(shard.crcs.len() == (shard.payload_len as usize).div_ceil(SHARD_CRC_BYTES), "CRC count")
}

fn encode_list(out: &mut Sink, items: &[ListItem]) -> Result<(), SegmentFormatError> {
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    if items.is_empty() || items.len() > LIST_ITEMS_MAX {
        return Err(SegmentFormatError::OutOfBounds("list length"));
    }
    out.u32(count);
    for item in items {
        out.bytes(item.pack.as_bytes());
        out.u64(item.epoch.0);
        out.u64(item.at.0);
    }
    Ok(())
}

fn decode_list(at: &mut Cursor<'_>) -> Result<Vec<ListItem>, SegmentFormatError> {
    let count = at.u32()? as usize;
    if !(1..=LIST_ITEMS_MAX).contains(&count) {
        return Err(SegmentFormatError::OutOfBounds("list length"));
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(ListItem {
            pack: PackId::from_bytes(at.array()?),
            epoch: Epoch(at.u64()?),
            at: RecordSequence(at.u64()?),
        });
    }
    Ok(items)
}

/// Fuzz entry: any bytes decode or are refused, and what decodes encodes to the same bytes.
///
/// # Panics
/// If a decoded header does not encode again to what it was read from: a defect.
pub fn fuzz_record(bytes: &[u8]) {
    let _refused = SegmentHeader::decode(bytes);
    let Ok(header) = RecordHeader::decode(bytes) else { return };
    let again = header.encode().expect("decode checks every bound that encode checks");
    assert_eq!(RecordHeader::decode(&again), Ok(header));
}
