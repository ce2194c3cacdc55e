//! One group commit as bytes: decides what each task writes, lays the records out behind one
//! another, and remembers what the index must learn once they are durable. Pure.

use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_types::ids::{DriveId, Epoch, PackId};
use stele_types::segment::{
    LIST_ITEMS_MAX, ListItem, ListKind, RecordBody, RecordHeader, SegmentFormatError, SegmentNumber, ShardHeader,
};

use super::index::{Index, ShardAt, ShardEvent};
use super::op::{CarriedShard, Op, Outcome, Sequencer, Task};
use super::row::Row;
use crate::media::aligned::{AlignedBuf, is_aligned};

/// Smaller payloads are copied behind their header, so that many small records are one buffer.
const COPY_BELOW: usize = 64 * 1024;

/// What the index learns from one record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Learned {
    Row(Row),
    Copy { from: ShardAt, event: ShardEvent },
}

impl Learned {
    pub(super) fn row(&self) -> Row {
        match self {
            Self::Row(row) => *row,
            Self::Copy { event, .. } => Row::Shard(*event),
        }
    }
}

enum Piece {
    Header(Vec<u8>),
    Payload(Bytes),
}

/// Records of one group commit, in one segment.
pub(super) struct Batch {
    drive: DriveId,
    segment: SegmentNumber,
    /// Where the first record starts.
    pub(super) start: u64,
    /// Where the next one would.
    pub(super) end: u64,
    pieces: Vec<Piece>,
    pub(super) learned: Vec<Learned>,
    /// Who is answered what once it is durable.
    pub(super) waiters: Vec<(Op, Vec<PackId>)>,
    pub(super) stores: u64,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("segment", &self.segment).field("start", &self.start).finish_non_exhaustive()
    }
}

impl Batch {
    pub(super) fn new(drive: DriveId, segment: SegmentNumber, start: u64) -> Self {
        Self {
            drive,
            segment,
            start,
            end: start,
            pieces: Vec::new(),
            learned: Vec::new(),
            waiters: Vec::new(),
            stores: 0,
        }
    }

    /// Nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Takes one operation in. Those that write nothing are answered at once: what they ask for
    /// is durable already, or refused.
    pub(super) fn add(&mut self, mut op: Op, index: &Index, sequence: &mut Sequencer) {
        let task = std::mem::replace(&mut op.task, Task::Seal);
        let before = self.pieces.len();
        match self.plan(task, index, sequence) {
            Ok(done) if self.pieces.len() > before => self.waiters.push((op, done)),
            outcome => op.answer(outcome),
        }
    }

    fn plan(&mut self, task: Task, index: &Index, sequence: &mut Sequencer) -> Outcome {
        match task {
            Task::Store { header, payload } => {
                if !index.holds_intact(header.pack, header.encoding.generation, header.shard) {
                    self.shard(*header, payload, None, sequence)?;
                    self.stores += 1;
                }
                Ok(Vec::new())
            }
            Task::CarryShards(shards) => {
                let current = shards.into_iter().filter(|s| index.is_current(s.header.pack, &s.from));
                for CarriedShard { from, header, payload } in current {
                    self.shard(header, payload, Some(from), sequence)?;
                }
                Ok(Vec::new())
            }
            Task::CarryItems(kind, items) => self.list(kind, items, sequence).map(|()| Vec::new()),
            Task::Touch { epoch, packs } => {
                let open = |p: &PackId| index.holds(*p) && index.condemned(*p).is_none();
                let done: Vec<PackId> = packs.into_iter().filter(open).collect();
                let raised = done.iter().filter(|p| index.touched(**p).is_some_and(|t| t < epoch));
                self.fresh(ListKind::Touch, epoch, raised.copied().collect(), sequence)?;
                Ok(done)
            }
            Task::Condemn { epoch, packs } => {
                let done: Vec<PackId> = packs.into_iter().filter(|p| index.may_condemn(*p, epoch)).collect();
                let new = done.iter().filter(|p| index.condemned(**p).is_none());
                self.fresh(ListKind::Condemn, epoch, new.copied().collect(), sequence)?;
                Ok(done)
            }
            Task::Pardon { packs } => {
                let done: Vec<PackId> = packs.into_iter().filter(|p| index.condemned(*p).is_some()).collect();
                self.fresh(ListKind::Pardon, Epoch(0), done.clone(), sequence)?;
                Ok(done)
            }
            Task::Delete { packs } => {
                let done: Vec<PackId> = packs.into_iter().filter(|p| index.condemned(*p).is_some()).collect();
                self.fresh(ListKind::Delete, Epoch(0), done.clone(), sequence)?;
                Ok(done)
            }
            Task::Seal | Task::Close => Ok(Vec::new()),
        }
    }

    fn shard(
        &mut self,
        header: ShardHeader,
        payload: Bytes,
        from: Option<ShardAt>,
        sequence: &mut Sequencer,
    ) -> Result<(), RpcError> {
        let sequence = from.map_or_else(|| sequence.next(), |from| from.sequence);
        let body = RecordBody::Shard(Box::new(header));
        let header = RecordHeader { drive: self.drive, segment: self.segment, sequence, body };
        let rows = self.push(&header, Some(payload))?;
        self.learned.extend(rows.into_iter().map(|row| match (from, row) {
            (Some(from), Row::Shard(event)) => Learned::Copy { from, event },
            (_, row) => Learned::Row(row),
        }));
        Ok(())
    }

    /// Items said for the first time: they get the sequence of their record.
    fn fresh(
        &mut self,
        kind: ListKind,
        epoch: Epoch,
        packs: Vec<PackId>,
        sequence: &mut Sequencer,
    ) -> Result<(), RpcError> {
        for packs in packs.chunks(LIST_ITEMS_MAX) {
            let at = sequence.next();
            let items = packs.iter().map(|pack| ListItem { pack: *pack, epoch, at }).collect();
            let body = RecordBody::List(kind, items);
            let rows =
                self.push(&RecordHeader { drive: self.drive, segment: self.segment, sequence: at, body }, None)?;
            self.learned.extend(rows.into_iter().map(Learned::Row));
        }
        Ok(())
    }

    fn list(&mut self, kind: ListKind, items: Vec<ListItem>, sequence: &mut Sequencer) -> Result<(), RpcError> {
        for items in items.chunks(LIST_ITEMS_MAX) {
            let body = RecordBody::List(kind, items.to_vec());
            let sequence = sequence.next();
            let rows = self.push(&RecordHeader { drive: self.drive, segment: self.segment, sequence, body }, None)?;
            self.learned.extend(rows.into_iter().map(Learned::Row));
        }
        Ok(())
    }

    fn push(&mut self, header: &RecordHeader, payload: Option<Bytes>) -> Result<Vec<Row>, RpcError> {
        let malformed =
            |e: SegmentFormatError| RpcError::new(Code::Malformed, format!("can't be stored as a record: {e}"));
        let bytes = header.encode().map_err(malformed)?;
        let header_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let rows = Row::of_record(header, self.segment, self.end, header_len);
        self.end += bytes.len() as u64;
        self.pieces.push(Piece::Header(bytes));
        if let Some(payload) = payload {
            self.end += payload.len() as u64;
            self.pieces.push(Piece::Payload(payload));
        }
        Ok(rows)
    }

    /// The buffers to write from `start` on, and how many bytes were copied into them. Large
    /// payloads that lie aligned in memory are not copied.
    pub(super) fn buffers(&mut self, wants_alignment: bool) -> (Vec<Bytes>, u64) {
        let as_is = |p: &Piece| match p {
            Piece::Payload(b) => b.len() >= COPY_BELOW && (!wants_alignment || is_aligned(b)),
            Piece::Header(_) => false,
        };
        let mut out = Vec::new();
        let mut copied = 0;
        let mut pieces = std::mem::take(&mut self.pieces).into_iter().peekable();
        while let Some(piece) = pieces.next() {
            if as_is(&piece)
                && let Piece::Payload(bytes) = piece
            {
                out.push(bytes);
                continue;
            }
            let mut run = vec![piece];
            while let Some(next) = pieces.next_if(|p| !as_is(p)) {
                run.push(next);
            }
            let bytes = joined(&run);
            copied += bytes.len() as u64;
            out.push(bytes);
        }
        (out, copied)
    }
}

fn joined(run: &[Piece]) -> Bytes {
    let slice = |piece: &Piece| match piece {
        Piece::Header(bytes) => bytes.len(),
        Piece::Payload(bytes) => bytes.len(),
    };
    let mut buf = AlignedBuf::zeroed(run.iter().map(slice).sum());
    let mut rest = buf.bytes_mut();
    for piece in run {
        let bytes: &[u8] = match piece {
            Piece::Header(bytes) => bytes,
            Piece::Payload(bytes) => bytes,
        };
        let (head, tail) = rest.split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        rest = tail;
    }
    buf.into_bytes()
}
