//! The committer of a drive: the only writer. Drains its queue into one group commit after the
//! other: as few writes as possible, one sync, then the index learns and the waiters are told.
//!
//! A first write goes out at once; while its sync is in flight the next batch forms. Nothing is
//! visible or acknowledged before the sync returned. After a failed write or sync the segment is
//! never written again and the drive takes no more writes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stele_types::ids::PackId;
use stele_types::limits::SEGMENT_ALIGN;
use stele_types::segment::{SegmentHeader, SegmentNumber};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::batch::{Batch, Learned};
use super::index::SegmentAccount;
use super::op::{Op, Sequencer, Task, drive_failed, drive_full};
use super::room::{Placement, Room, Verdict, place};
use super::row::Row;
use super::shared::{Shared, segment_name, summary_name};
use super::summary::Summary;
use crate::media::{MediaError, MediaErrorKind, MediaFile};

/// Syncs faster than this are not waited for: a timer would cost more than it gathers.
const SLOW_SYNC: Duration = Duration::from_millis(2);
/// Longest wait for writers that were just answered.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// The segment being written.
#[derive(Debug)]
struct Active {
    number: SegmentNumber,
    file: Arc<dyn MediaFile>,
    position: u64,
    allocated: u64,
    rows: Vec<Row>,
}

#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    ops: mpsc::Receiver<Op>,
    waiting: VecDeque<Op>,
    active: Option<Active>,
    next_segment: SegmentNumber,
    sequence: Sequencer,
    /// How many operations the last group commit left on their way, and until when to wait for
    /// them: with slow syncs all writers then share one, instead of taking turns in two groups.
    expected: (usize, Instant),
    closed: bool,
}

/// The batch being formed.
#[derive(Default)]
struct Forming {
    batch: Option<Batch>,
    packs: BTreeSet<PackId>,
    bytes: u64,
}

impl Forming {
    /// The operation has to wait for the next batch: this one is large enough, or already changes
    /// one of its packs.
    fn excludes(&self, bytes: u64, packs: &[PackId], most: u64) -> bool {
        self.batch.is_some() && (self.bytes + bytes > most || packs.iter().any(|p| self.packs.contains(p)))
    }
}

enum Space {
    Here,
    NextSegment,
    Full,
    Failed,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        ops: mpsc::Receiver<Op>,
        next_segment: SegmentNumber,
        sequence: Sequencer,
    ) -> Self {
        let expected = (0, Instant::now());
        Self { shared, ops, waiting: VecDeque::new(), active: None, next_segment, sequence, expected, closed: false }
    }

    /// Runs until the drive is closed or dropped.
    pub(super) async fn run(mut self) {
        while !self.closed {
            if !self.wait_for_work().await {
                return;
            }
            self.gather().await;
            self.commit().await;
        }
        self.ops.close();
        self.drain();
        while !self.waiting.is_empty() {
            self.refuse_first();
        }
    }

    /// False if the drive was dropped.
    async fn wait_for_work(&mut self) -> bool {
        if self.waiting.is_empty() {
            let Some(op) = self.ops.recv().await else { return false };
            self.waiting.push_back(op);
        }
        true
    }

    fn drain(&mut self) {
        while self.waiting.len() < self.shared.config.batch_operations
            && let Ok(op) = self.ops.try_recv()
        {
            self.waiting.push_back(op);
        }
    }

    async fn gather(&mut self) {
        self.drain();
        let (expected, until) = self.expected;
        while self.waiting.len() < expected.min(self.shared.config.batch_operations) {
            match tokio::time::timeout_at(until, self.ops.recv()).await {
                Ok(Some(op)) => self.waiting.push_back(op),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn refuse_first(&mut self) {
        if let Some(op) = self.waiting.pop_front() {
            op.answer(Err(drive_failed(&self.shared.name, &self.shared.health.now().reason)));
        }
    }

    /// Forms one batch from the front of the queue and makes it durable.
    async fn commit(&mut self) {
        let mut forming = Forming::default();
        while self.take_first(&mut forming).await {}
        let Some(batch) = forming.batch.filter(|b| !b.is_empty()) else { return };
        let health = self.shared.health.now();
        if health.writable() {
            self.write(batch).await;
        } else {
            for (op, _) in batch.waiters {
                op.answer(Err(drive_failed(&self.shared.name, &health.reason)));
            }
        }
    }

    /// Takes the first operation of the queue into the batch, or answers it; false once the batch
    /// is complete.
    async fn take_first(&mut self, forming: &mut Forming) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        if matches!(first.task, Task::Seal | Task::Close) {
            if forming.batch.is_none() {
                self.end_segment().await;
            }
            return forming.batch.is_none();
        }
        if !self.shared.health.now().writable() {
            self.refuse_first();
            return true;
        }
        let (bytes, store, packs) = (first.task.bytes(), first.task.is_store(), first.task.packs());
        if forming.excludes(bytes, &packs, self.shared.config.batch_bytes) {
            return false;
        }
        let end = forming.batch.as_ref().map(|b| b.end);
        match self.make_room(bytes, store, end).await {
            Space::Here => {}
            Space::NextSegment if forming.batch.is_some() => return false,
            Space::NextSegment => {
                self.seal().await;
                return true;
            }
            Space::Full => {
                let name = &self.shared.name;
                self.waiting.pop_front().into_iter().for_each(|op| op.answer(Err(drive_full(name))));
                return true;
            }
            Space::Failed => return true,
        }
        let (Some(op), Some(active)) = (self.waiting.pop_front(), &self.active) else { return false };
        forming.packs.extend(packs);
        forming.bytes += bytes;
        let new = || Batch::new(self.shared.identity.drive, active.number, active.position);
        forming.batch.get_or_insert_with(new).add(op, &self.shared.index(), &mut self.sequence);
        true
    }

    async fn end_segment(&mut self) {
        let Some(op) = self.waiting.pop_front() else { return };
        self.seal().await;
        if matches!(op.task, Task::Close) {
            self.shared.health.fail("closed");
            self.shared.media.unlock().await;
            self.closed = true;
        }
        op.answer(Ok(Vec::new()));
    }

    /// Makes sure that there is an active segment with `bytes` allocated behind `end`.
    async fn make_room(&mut self, bytes: u64, store: bool, end: Option<u64>) -> Space {
        if self.active.is_none() {
            match self.create_segment(bytes, store).await {
                Space::Here => {}
                other => return other,
            }
        }
        let Some(active) = &mut self.active else { return Space::Failed };
        let segment_bytes = self.shared.config.segment_bytes;
        let placement =
            Placement { at: end.unwrap_or(active.position), bytes, store, allocated: active.allocated, segment_bytes };
        let (wanted, least) = match place(placement) {
            Verdict::Fits => return Space::Here,
            Verdict::NextSegment => return Space::NextSegment,
            Verdict::Grow { wanted, least } => (wanted, least),
        };
        for to in [wanted, least] {
            let more = to - active.allocated;
            if !self.shared.has_room(more, store).await {
                continue;
            }
            match active.file.allocate(active.allocated, more).await {
                Ok(()) => {
                    active.allocated = to;
                    self.shared.index_mut().segment_mut(active.number).bytes = to;
                    return Space::Here;
                }
                Err(error) if error.kind == MediaErrorKind::Full => {}
                Err(error) => {
                    self.shared.io_error(&error);
                    return Space::Failed;
                }
            }
        }
        Space::Full
    }

    async fn create_segment(&mut self, bytes: u64, store: bool) -> Space {
        let number = self.next_segment;
        let first = SEGMENT_ALIGN as u64;
        if !self.shared.has_room(first + bytes, store).await {
            return Space::Full;
        }
        match self.try_create(number).await {
            Ok(file) => {
                self.next_segment = SegmentNumber(number.0 + 1);
                self.shared.keep_open(number, &file);
                self.shared.index_mut().segment_mut(number).bytes = first;
                self.active = Some(Active { number, file, position: first, allocated: first, rows: Vec::new() });
                Space::Here
            }
            Err(error) if error.kind == MediaErrorKind::Full => {
                let _nothing_in_it = self.shared.media.remove(&segment_name(number)).await;
                self.next_segment = SegmentNumber(number.0 + 1);
                Space::Full
            }
            Err(error) => {
                self.shared.io_error(&error);
                Space::Failed
            }
        }
    }

    async fn try_create(&self, number: SegmentNumber) -> Result<Arc<dyn MediaFile>, MediaError> {
        let identity = self.shared.identity;
        let header = SegmentHeader { drive: identity.drive, cluster: identity.cluster, number };
        let file = self.shared.media.create(&segment_name(number)).await?;
        file.allocate(0, SEGMENT_ALIGN as u64).await?;
        let mut block = crate::media::aligned::AlignedBuf::zeroed(SEGMENT_ALIGN);
        block.bytes_mut().copy_from_slice(&header.encode());
        file.write_at(0, &[block.into_bytes()]).await?;
        // The header itself becomes durable with the first group commit.
        self.shared.media.sync_dir().await?;
        Ok(file)
    }

    async fn write(&mut self, mut batch: Batch) {
        let Some(active) = &mut self.active else { return };
        let metrics = &self.shared.metrics;
        let (buffers, copied) = batch.buffers(active.file.wants_alignment());
        let operations = batch.waiters.len();
        let started = Instant::now();
        metrics.copied_bytes.inc_by(copied);
        metrics.writes.inc();
        metrics.written_bytes.inc_by(batch.end - batch.start);
        let mut result = active.file.write_at(batch.start, &buffers).await;
        drop(buffers);
        if self.shared.config.sabotage.acknowledges_before_sync() && result.is_ok() {
            publish(&self.shared, active, &mut batch);
        }
        if result.is_ok() {
            metrics.fsyncs.inc();
            result = active.file.sync().await;
        }
        let took = started.elapsed();
        metrics.batch.observe(operations as f64);
        metrics.commit_seconds.observe(took.as_secs_f64());
        match result {
            Ok(()) => {
                active.position = batch.end;
                self.shared.index_mut().segment_mut(active.number).written = batch.end;
                publish(&self.shared, active, &mut batch);
                // After a fast sync the next batch is those who queued meanwhile; no timer is as short.
                let queued = self.waiting.len() + self.ops.len();
                let expected = if took < SLOW_SYNC { 0 } else { operations + queued };
                self.expected = (expected, Instant::now() + (took / 8).min(GATHER_MAX));
            }
            Err(error) => self.give_up(&error, batch),
        }
    }

    /// A write or sync failed: this segment is finished, whatever happens next.
    fn give_up(&mut self, error: &MediaError, batch: Batch) {
        let Some(active) = self.active.take() else { return };
        let full = error.kind == MediaErrorKind::Full;
        {
            let mut index = self.shared.index_mut();
            let account = index.segment_mut(active.number);
            account.sealed = true;
            // It may hold records that were never acknowledged and that the index does not know:
            // only the next open, which reads all of it, may empty it.
            account.retry_at = SegmentAccount::NEVER;
        }
        if !full {
            self.shared.metrics.poisoned.inc();
            self.shared.io_error(error);
        }
        for (op, _) in batch.waiters {
            let name = &self.shared.name;
            op.answer(Err(if full { drive_full(name) } else { drive_failed(name, &error.to_string()) }));
        }
    }

    /// Closes the active segment: gives back what was allocated in vain, writes the summary.
    async fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        let kept = self.shared.close_segment(&active.file, active.number, active.position, active.rows).await;
        let mut index = self.shared.index_mut();
        let account = index.segment_mut(active.number);
        account.sealed = true;
        account.bytes = kept.unwrap_or(active.allocated);
        account.written = active.position;
    }
}

/// The batch is durable: the index learns, then the waiters are told.
fn publish(shared: &Shared, active: &mut Active, batch: &mut Batch) {
    {
        let mut index = shared.index_mut();
        for learned in batch.learned.drain(..) {
            match &learned {
                Learned::Row(Row::Shard(event)) => index.apply_shard(event),
                Learned::Row(Row::Item(kind, item)) => index.apply_item(*kind, item),
                Learned::Copy { from, event } => index.apply_copy(from, event),
            }
            active.rows.push(learned.row());
        }
    }
    shared.metrics.stores.inc_by(std::mem::take(&mut batch.stores));
    for (op, done) in batch.waiters.drain(..) {
        op.answer(Ok(done));
    }
}

impl Shared {
    pub(super) async fn has_room(&self, more: u64, store: bool) -> bool {
        let free = match self.media.space().await {
            Ok(space) => {
                self.total_bytes.store(space.total, Ordering::Relaxed);
                space.free
            }
            // The allocation that follows will say what is wrong.
            Err(_) => u64::MAX,
        };
        let used = self.index().bytes().0;
        let capacity = self.config.capacity_bytes;
        // A small drive keeps a small reserve.
        let total = self.total_bytes.load(Ordering::Relaxed);
        let reserve = self.config.reserve_bytes.min(capacity.unwrap_or(total).min(total) / 8);
        Room { used, capacity, free, reserve }.has(more, store)
    }

    /// Cuts a closed segment to `end` and writes its summary; the length it has now, if it was cut.
    pub(super) async fn close_segment(
        &self,
        file: &Arc<dyn MediaFile>,
        segment: SegmentNumber,
        end: u64,
        rows: Vec<Row>,
    ) -> Option<u64> {
        let cut = file.truncate(end).await;
        let summary = Summary { drive: self.identity.drive, segment, end, rows };
        if cut.is_ok()
            && let Some(bytes) = summary.encode()
            && let Err(error) = self.media.replace(&summary_name(segment), bytes).await
        {
            // A cache: without it the segment is scanned at the next open.
            tracing::warn!(drive = %self.name, %error, "no summary for a closed segment");
        }
        cut.is_ok().then_some(end)
    }
}
