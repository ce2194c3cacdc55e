//! Summary of a closed segment: its records without their payloads, in a file beside it.
//!
//! A cache. It is written after the segment was synced and never holds anything the segment does
//! not; a missing, damaged or contradicting summary costs one scan of its segment, nothing else.
//! Layout: docs/formats/segment.md.

use bytes::Bytes;
use stele_types::ids::{DriveId, Epoch, PackId, PgId};
use stele_types::segment::{ListItem, ListKind, RecordSequence, SegmentNumber};

use super::index::{ShardAt, ShardEvent};
use super::row::Row;

const MAGIC: [u8; 8] = *b"STELESUM";
const VERSION: u16 = 1;
const HEAD: usize = 56;
const SHARD_KIND: u8 = 1;

/// Larger summaries are not kept; their segments are scanned.
pub(crate) const SUMMARY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a summary says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    pub(crate) drive: DriveId,
    pub(crate) segment: SegmentNumber,
    /// End of the last record.
    pub(crate) end: u64,
    pub(crate) rows: Vec<Row>,
}

impl Summary {
    /// `None` if it would be too large.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let count = u32::try_from(self.rows.len()).ok()?;
        let mut out = Vec::with_capacity(HEAD + self.rows.len() * 80);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]); // CRC in the last four, below
        out.extend_from_slice(self.drive.as_bytes());
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for row in &self.rows {
            encode_row(&mut out, row);
        }
        if out.len() > SUMMARY_BYTES_MAX {
            return None;
        }
        let crc = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        Some(Bytes::from(out))
    }

    /// `None` for anything but an intact summary of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut head: [u8; HEAD] = *bytes.first_chunk()?;
        let stored = head[12..16].to_vec();
        head[12..16].fill(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &bytes[HEAD..]);
        if head[..8] != MAGIC || head[8..10] != VERSION.to_le_bytes() || stored != crc.to_le_bytes() {
            return None;
        }
        let mut at = Fields(&head[16..]);
        let drive = DriveId::from_bytes(at.take()?);
        let segment = SegmentNumber(at.u64()?);
        let end = at.u64()?;
        let count = at.u32()?;
        let mut at = Fields(&bytes[HEAD..]);
        // The smallest row has 49 bytes, which bounds what is allocated.
        let mut rows = Vec::with_capacity((count as usize).min(bytes.len() / 49));
        for _ in 0..count {
            rows.push(decode_row(&mut at, segment)?);
        }
        at.0.is_empty().then_some(Self { drive, segment, end, rows })
    }
}

fn encode_row(out: &mut Vec<u8>, row: &Row) {
    match row {
        Row::Shard(event) => {
            out.push(SHARD_KIND);
            out.extend_from_slice(event.pack.as_bytes());
            out.extend_from_slice(&event.pg.0.to_le_bytes());
            out.extend_from_slice(&event.start_epoch.0.to_le_bytes());
            out.extend_from_slice(&event.at.generation.to_le_bytes());
            out.push(event.at.shard);
            out.extend_from_slice(&event.at.offset.to_le_bytes());
            out.extend_from_slice(&event.at.header_len.to_le_bytes());
            out.extend_from_slice(&event.at.payload_len.to_le_bytes());
            out.extend_from_slice(&event.at.sequence.0.to_le_bytes());
        }
        Row::Item(kind, item) => {
            out.push(kind_number(*kind));
            out.extend_from_slice(item.pack.as_bytes());
            out.extend_from_slice(&item.epoch.0.to_le_bytes());
            out.extend_from_slice(&item.at.0.to_le_bytes());
        }
    }
}

fn kind_number(kind: ListKind) -> u8 {
    match kind {
        ListKind::Touch => 2,
        ListKind::Condemn => 3,
        ListKind::Pardon => 4,
        ListKind::Delete => 5,
    }
}

fn decode_row(at: &mut Fields<'_>, segment: SegmentNumber) -> Option<Row> {
    let [kind] = at.take()?;
    let pack = PackId::from_bytes(at.take()?);
    if kind == SHARD_KIND {
        let (pg, start_epoch) = (PgId(at.u32()?), Epoch(at.u64()?));
        let generation = at.u32()?;
        let [shard] = at.take()?;
        let (offset, header_len, payload_len) = (at.u64()?, at.u32()?, at.u32()?);
        let sequence = RecordSequence(at.u64()?);
        let at = ShardAt { generation, shard, segment, offset, header_len, payload_len, sequence };
        return Some(Row::Shard(ShardEvent { pack, pg, start_epoch, at }));
    }
    let all = [ListKind::Touch, ListKind::Condemn, ListKind::Pardon, ListKind::Delete];
    let kind = all.into_iter().find(|k| kind_number(*k) == kind)?;
    Some(Row::Item(kind, ListItem { pack, epoch: Epoch(at.u64()?), at: RecordSequence(at.u64()?) }))
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Fuzz entry: any bytes decode or are refused, and what decodes encodes to the same bytes.
///
/// # Panics
/// If a decoded summary does not encode to what it was read from: a defect.
pub fn fuzz_summary(bytes: &[u8]) {
    // The checksum keeps a fuzzer out, so that it is also put right.
    let mut sealed = bytes.to_vec();
    if let Some(field) = sealed.get_mut(12..16) {
        field.fill(0);
        let crc = crc32c::crc32c(&sealed).to_le_bytes();
        sealed[12..16].copy_from_slice(&crc);
    }
    for bytes in [bytes, &sealed] {
        if let Some(summary) = Summary::decode(bytes) {
            let again = summary.encode().expect("it was read, so it fits");
            assert_eq!(Summary::decode(&again), Some(summary));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let segment = SegmentNumber(9);
        let at = ShardAt {
            generation: 1,
            shard: 2,
            segment,
            offset: 4096,
            header_len: 4096,
            payload_len: 16384,
            sequence: RecordSequence(77),
        };
        let pack = PackId::from_bytes([3; 32]);
        let event = ShardEvent { pack, pg: PgId(4), start_epoch: Epoch(5), at };
        let item = ListItem { pack, epoch: Epoch(6), at: RecordSequence(78) };
        let rows = vec![Row::Shard(event), Row::Item(ListKind::Delete, item)];
        Summary { drive: DriveId::from_bytes([1; 16]), segment, end: 24_576, rows }
    }

    #[test]
    fn corpora_hold() {
        crate::corpus::replay("segment_summary", fuzz_summary);
        crate::corpus::replay("drive_identity", crate::identity::fuzz_identity);
    }

    #[test]
    #[ignore = "writes fuzz/corpus"]
    fn write_seeds() {
        crate::corpus::write("segment_summary", &summary().encode().unwrap());
        let identity = crate::identity::DriveIdentity {
            drive: DriveId::from_bytes([1; 16]),
            cluster: stele_types::ids::ClusterId::from_bytes([2; 16]),
        };
        crate::corpus::write("drive_identity", &identity.encode());
    }

    #[test]
    fn round_trip_and_golden_bytes() {
        let bytes = summary().encode().unwrap();
        assert_eq!(Summary::decode(&bytes), Some(summary()));
        assert_eq!(&blake3::hash(&bytes).to_hex()[..16], "e05c11ab62666d37");
    }

    #[test]
    fn every_flip_and_cut_is_noticed() {
        let good = summary().encode().unwrap();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(Summary::decode(&bad), None, "flip at {at}");
            assert_eq!(Summary::decode(&good[..at]), None, "cut at {at}");
            fuzz_summary(&bad);
        }
    }
}
