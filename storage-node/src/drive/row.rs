//! One record as scans, summaries and the committer hand it to the index.

use stele_types::ids::PackId;
use stele_types::segment::{ListItem, ListKind, RecordBody, RecordHeader, RecordSequence, SegmentNumber};

use super::index::{Index, ShardAt, ShardEvent};

/// A shard record, or one item of a list record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Row {
    Shard(ShardEvent),
    Item(ListKind, ListItem),
}

impl Row {
    /// Its place in the drive's order.
    pub(crate) fn sequence(&self) -> RecordSequence {
        match self {
            Self::Shard(event) => event.at.sequence,
            Self::Item(_, item) => item.at,
        }
    }

    /// The pack, if it is a shard record.
    pub(crate) fn shard_pack(&self) -> Option<PackId> {
        match self {
            Self::Shard(event) => Some(event.pack),
            Self::Item(..) => None,
        }
    }

    /// Rows of one record at `offset` of `segment`.
    pub(crate) fn of_record(header: &RecordHeader, segment: SegmentNumber, offset: u64, header_len: u32) -> Vec<Self> {
        match &header.body {
            RecordBody::Shard(shard) => vec![Self::Shard(ShardEvent {
                pack: shard.pack,
                pg: shard.pg,
                start_epoch: shard.preimage.start_epoch,
                at: ShardAt {
                    generation: shard.encoding.generation,
                    shard: shard.shard,
                    segment,
                    offset,
                    header_len,
                    payload_len: shard.payload_len,
                    sequence: header.sequence,
                },
            })],
            RecordBody::List(kind, items) => items.iter().map(|item| Self::Item(*kind, *item)).collect(),
        }
    }
}

/// Applies the records of all segments in sequence order; of two copies of one record the one in
/// the later segment wins.
pub(crate) fn replay(index: &mut Index, mut rows: Vec<Row>) -> RecordSequence {
    rows.sort_by_key(|row| match row {
        Row::Shard(event) => (event.at.sequence, event.at.segment),
        Row::Item(_, item) => (item.at, SegmentNumber(0)),
    });
    let mut last = RecordSequence(0);
    for row in rows {
        last = last.max(row.sequence());
        match row {
            Row::Shard(event) => index.apply_shard(&event),
            Row::Item(kind, item) => index.apply_item(kind, &item),
        }
    }
    last
}
