//! openraft's log storage over one redb database per node. Entries are readable as soon as `append`
//! returns, from a tail in memory, and reported flushed once [`super::log_writer`] committed them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{LogIdOptionExt, OptionalSend};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stele_types::ids::ClusterId;
use tokio::sync::{mpsc, oneshot, watch};

use super::log_writer::{
    ENTRIES, Fatal, LogCounts, LogWriter, META, META_COMMITTED, META_PURGED, META_VOTE, MetaTable, WriteOp,
};
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::executor::Executor;

/// What identifies the database: format version, then the node.
const META_IDENTITY: u8 = 0;
/// Drawn when the database was created.
const META_INCARNATION: u8 = 4;
/// The cluster, once the node was told.
const META_CLUSTER: u8 = 5;
const FORMAT: u32 = 1;

/// Bytes of flushed entries kept in memory, for apply and slow followers.
const CACHE_BYTES: usize = 16 << 20;
/// Writes that may queue up.
const QUEUE: usize = 4096;
/// Bytes of entries one replication read returns at most.
const READ_BYTES_MAX: usize = 4 << 20;

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTuning {
    pub(crate) node: u64,
    pub(crate) group: u32,
    /// Noted in a log that names none; a log of another one is refused.
    pub(crate) cluster: Option<ClusterId>,
    /// Noted in a log that is created now.
    pub(crate) fresh_incarnation: u64,
    pub(crate) cache_bytes: usize,
    pub(crate) executor: Executor,
}

struct Tail {
    /// The last entries with their stored size: all unflushed ones, and recent flushed ones.
    entries: BTreeMap<u64, (Entry, usize)>,
    bytes: usize,
    vote: Option<Vote>,
    last: Option<LogId>,
    purged: Option<LogId>,
}

struct Shared {
    group: u32,
    db: Mutex<Option<Arc<Database>>>,
    tail: Mutex<Tail>,
    durable: Arc<AtomicU64>,
}

/// The log of one group.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<WriteOp>,
}

/// Reads the log.
#[derive(Clone)]
pub(crate) struct LogReader(Arc<Shared>);

/// Closes the database, whoever still holds a reader.
pub(crate) struct LogCloser {
    shared: Arc<Shared>,
    writer_ended: oneshot::Receiver<()>,
}

impl LogCloser {
    /// Waits for the writer (all [`LogStore`]s must be dropped) and releases the media.
    pub(crate) async fn close(self) {
        // Should raft leak a store, the media are released all the same; its writes then fail.
        tokio::time::timeout(std::time::Duration::from_secs(5), self.writer_ended).await.ok();
        drop(self.shared.db.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// An opened log and what its owner watches.
pub(crate) struct OpenedLog {
    pub(crate) store: LogStore,
    pub(crate) closer: LogCloser,
    pub(crate) counts: Arc<LogCounts>,
    pub(crate) fatal: watch::Sender<Fatal>,
    /// Of this log; 0 for one created before there were incarnations.
    pub(crate) incarnation: u64,
}

fn other<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> io::Error {
    move |error| io::Error::other(format!("raft log: {what}: {error}"))
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("log entries and pointers are plain data")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    rmp_serde::from_slice(bytes).map_err(other("damaged value"))
}

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    rmp_serde::encode::write(&mut bytes, entry).expect("log entries are plain data");
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode_entry(index: u64, bytes: &[u8]) -> io::Result<Entry> {
    let damaged = || {
        io::Error::other(format!(
            "raft log: entry {index} is damaged; remove this voter and add it anew under a new id"
        ))
    };
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let entry: Entry = decode(body)?;
    if entry.index() == index { Ok(entry) } else { Err(damaged()) }
}

/// Fuzz entry: any bytes are refused or an entry. The checksum keeps a fuzzer out, so that it is also
/// put in front.
pub fn fuzz_entry(data: &[u8]) {
    let sealed = [&crc32c::crc32c(data).to_le_bytes()[..], data].concat();
    for bytes in [data, &sealed] {
        for index in 0..4 {
            let Ok(entry) = decode_entry(index, bytes) else { continue };
            let again = decode_entry(index, &encode_entry(&entry)).expect("what was encoded decodes");
            assert_eq!(encode_entry(&again), encode_entry(&entry));
            if let openraft::EntryPayload::Normal(proposal) = &entry.payload {
                crate::fuzzing::fuzz_command(&proposal.envelope);
            }
        }
    }
    crate::fuzzing::fuzz_command(data);
}

impl Shared {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn db(&self) -> io::Result<Arc<Database>> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        db.clone().ok_or_else(|| io::Error::other("raft log: closed"))
    }

    fn meta<T: DeserializeOwned>(&self, what: u8) -> io::Result<Option<T>> {
        let txn = self.db()?.begin_read().map_err(other("beginning a read"))?;
        let table = txn.open_table(META).map_err(other("opening a table"))?;
        let value = table.get((self.group, what)).map_err(other("reading a pointer"))?;
        value.map(|value| decode(value.value())).transpose()
    }

    /// Entries in [from, to), all of which the log holds.
    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let (mut from_tail, tail_start) = {
            let tail = self.tail();
            let to = to.min(tail.last.as_ref().next_index_or_zero());
            let from = from.max(tail.purged.as_ref().next_index_or_zero());
            if from >= to {
                return Ok(Vec::new());
            }
            let cached: Vec<Entry> = tail.entries.range(from..to).map(|(_, (entry, _))| entry.clone()).collect();
            let start = cached.first().map_or(to, RaftEntry::index);
            (cached, start)
        };
        if from >= tail_start {
            return Ok(from_tail);
        }
        let mut entries = self.read_stored(from, tail_start)?;
        entries.append(&mut from_tail);
        Ok(entries)
    }

    fn read_stored(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let txn = self.db()?.begin_read().map_err(other("beginning a read"))?;
        let table = txn.open_table(ENTRIES).map_err(other("opening a table"))?;
        let mut entries = Vec::new();
        for row in table.range((self.group, from)..(self.group, to)).map_err(other("reading entries"))? {
            let (key, value) = row.map_err(other("reading an entry"))?;
            let index = key.value().1;
            let previous = entries.last().map(RaftEntry::index);
            if previous.is_some_and(|previous: u64| previous + 1 != index) {
                return Err(io::Error::other(format!("raft log: entry {} is missing", index - 1)));
            }
            entries.push(decode_entry(index, value.value())?);
        }
        Ok(entries)
    }
}

trait NextIndex {
    fn next_index_or_zero(self) -> u64;
}

impl NextIndex for Option<&LogId> {
    fn next_index_or_zero(self) -> u64 {
        self.map_or(0, |log_id| log_id.index + 1)
    }
}

impl LogStore {
    /// Opens or creates the log on `backend`. A database of another node is refused.
    pub(crate) fn open(backend: Box<dyn StorageBackend>, tuning: LogTuning) -> io::Result<OpenedLog> {
        let db = Builder::new()
            .set_cache_size(tuning.cache_bytes)
            .create_with_backend(crate::media::Boxed(backend))
            .map_err(other("opening the database"))?;
        let incarnation = identify(&db, &tuning).map_err(io::Error::other)??;
        let db = Arc::new(db);
        let durable = Arc::new(AtomicU64::new(0));
        let empty = Tail { entries: BTreeMap::new(), bytes: 0, vote: None, last: None, purged: None };
        let shared = Arc::new(Shared {
            group: tuning.group,
            db: Mutex::new(Some(Arc::clone(&db))),
            tail: Mutex::new(empty),
            durable: Arc::clone(&durable),
        });
        shared.load_tail()?;
        let counts = Arc::new(LogCounts::default());
        let (fatal, _) = watch::channel(None);
        let (queue, ops) = mpsc::channel(QUEUE);
        let writer = LogWriter {
            group: tuning.group,
            db,
            counts: Arc::clone(&counts),
            durable,
            fatal: fatal.clone(),
            committed: None,
        };
        let writer_ended = writer.start(ops, tuning.executor)?;
        let closer = LogCloser { shared: Arc::clone(&shared), writer_ended };
        Ok(OpenedLog { store: Self { shared, queue }, closer, counts, fatal, incarnation })
    }

    async fn enqueue(&self, op: WriteOp) -> io::Result<()> {
        self.queue.send(op).await.map_err(|_| io::Error::other("raft log: the writer has stopped"))
    }

    async fn enqueue_and_wait(&self, op: impl FnOnce(oneshot::Sender<io::Result<()>>) -> WriteOp) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.enqueue(op(done)).await?;
        wait.await.map_err(|_| io::Error::other("raft log: the writer has stopped"))?
    }
}

impl Shared {
    fn load_tail(&self) -> io::Result<()> {
        let purged: Option<LogId> = self.meta(META_PURGED)?;
        let vote = self.meta(META_VOTE)?;
        let last = {
            let txn = self.db()?.begin_read().map_err(other("beginning a read"))?;
            let table = txn.open_table(ENTRIES).map_err(other("opening a table"))?;
            let mut rows = table.range((self.group, 0)..=(self.group, u64::MAX)).map_err(other("reading entries"))?;
            match rows.next_back() {
                Some(row) => {
                    let (key, value) = row.map_err(other("reading the last entry"))?;
                    Some(decode_entry(key.value().1, value.value())?.log_id())
                }
                None => None,
            }
        };
        self.durable.store(last.as_ref().map_or(0, |last| last.index), Ordering::Release);
        let mut tail = self.tail();
        tail.last = last.or(purged);
        tail.purged = purged;
        tail.vote = vote;
        Ok(())
    }
}

/// Creates the tables, and notes or checks whose log this is.
pub(super) fn identify(db: &Database, tuning: &LogTuning) -> Result<io::Result<u64>, redb::Error> {
    let node = tuning.node;
    let txn = db.begin_write()?;
    let result = {
        txn.open_table(ENTRIES)?;
        let mut meta = txn.open_table(META)?;
        let known = meta.get((0, META_IDENTITY))?.map(|value| value.value().to_vec());
        let own = encode(&(FORMAT, node));
        match known {
            None => {
                meta.insert((0, META_IDENTITY), own.as_slice())?;
                meta.insert((0, META_INCARNATION), encode(&tuning.fresh_incarnation).as_slice())?;
                note_cluster(&mut meta, tuning.cluster)?.map(|()| tuning.fresh_incarnation)
            }
            Some(known) if known == own => {
                let incarnation = meta.get((0, META_INCARNATION))?.map(|value| decode(value.value())).transpose();
                let noted = note_cluster(&mut meta, tuning.cluster)?;
                noted.and_then(|()| Ok(incarnation?.unwrap_or(0)))
            }
            Some(known) => {
                let (format, other): (u32, u64) = rmp_serde::from_slice(&known).unwrap_or_default();
                let text = format!(
                    "raft log: format {format} of node {other} found, format {FORMAT} of node {node} expected; \
                     point the process at its own directory"
                );
                Err(io::Error::other(text))
            }
        }
    };
    txn.commit()?;
    Ok(result)
}

/// Notes the cluster, or checks that the log is of that one.
fn note_cluster(meta: &mut MetaTable<'_>, cluster: Option<ClusterId>) -> Result<io::Result<()>, redb::Error> {
    let Some(cluster) = cluster else { return Ok(Ok(())) };
    let own = encode(&cluster);
    let known = meta.get((0, META_CLUSTER))?.map(|value| value.value().to_vec());
    match known {
        None => {
            meta.insert((0, META_CLUSTER), own.as_slice())?;
            Ok(Ok(()))
        }
        Some(known) if known == own => Ok(Ok(())),
        Some(known) => {
            let other = decode::<ClusterId>(&known).map_or_else(|_| "unreadable".to_owned(), |id| id.to_string());
            let text = format!(
                "raft log: it belongs to cluster {other}, not {cluster}; point the process at its own directory"
            );
            Ok(Err(io::Error::other(text)))
        }
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        self.0.read(from, to)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.tail().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut entries = self.0.read(start, end)?;
        let mut bytes = 0;
        let fits = entries.iter().take_while(|entry| {
            bytes += encoded_len(entry);
            bytes <= READ_BYTES_MAX
        });
        let fits = fits.count().max(1);
        entries.truncate(fits);
        Ok(entries)
    }
}

fn encoded_len(entry: &Entry) -> usize {
    const OVERHEAD: usize = 64;
    match &entry.payload {
        openraft::EntryPayload::Normal(proposal) => proposal.envelope.len() + OVERHEAD,
        _ => OVERHEAD,
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.shared.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(Arc::clone(&self.shared))
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = encode(vote);
        self.enqueue_and_wait(|done| WriteOp::Vote { vote: bytes, done }).await?;
        self.shared.tail().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(log_id) => self.enqueue(WriteOp::Committed(encode(&log_id))).await,
            None => Ok(()),
        }
    }

    /// Only an id whose very entry is in the durable log, or purged; never a guess.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(committed) = self.shared.meta::<LogId>(META_COMMITTED)? else { return Ok(None) };
        let purged = self.shared.tail().purged;
        if purged.as_ref().is_some_and(|purged| committed <= *purged) {
            return Ok(Some(committed));
        }
        let stored = self.shared.read_stored(committed.index, committed.index + 1)?;
        Ok(stored.first().is_some_and(|entry| entry.log_id() == committed).then_some(committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut stored = Vec::new();
        {
            let mut tail = self.shared.tail();
            for entry in entries {
                let bytes = encode_entry(&entry);
                let (index, stored_len) = (entry.index(), bytes.len());
                tail.push(entry, stored_len);
                stored.push((index, bytes));
            }
            tail.evict(self.shared.durable.load(Ordering::Acquire));
        }
        self.enqueue(WriteOp::Append { entries: stored, flushed: callback }).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.as_ref().next_index_or_zero();
        {
            let mut tail = self.shared.tail();
            for (_, (_, bytes)) in tail.entries.split_off(&index) {
                tail.bytes -= bytes;
            }
            if tail.last.as_ref().next_index_or_zero() > index {
                tail.last = last_log_id;
            }
        }
        self.enqueue_and_wait(|done| WriteOp::TruncateFrom { index, done }).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let index = log_id.index;
        {
            let mut tail = self.shared.tail();
            let kept = tail.entries.split_off(&(index + 1));
            for (_, (_, bytes)) in std::mem::replace(&mut tail.entries, kept) {
                tail.bytes -= bytes;
            }
            if tail.last.index().is_none_or(|last| last < index) {
                tail.last = Some(log_id);
            }
            tail.purged = Some(log_id);
        }
        self.enqueue(WriteOp::PurgeTo { index, log_id: encode(&log_id) }).await
    }
}

impl Tail {
    fn push(&mut self, entry: Entry, stored_len: usize) {
        self.last = Some(entry.log_id());
        self.bytes += stored_len;
        if let Some((_, old)) = self.entries.insert(entry.index(), (entry, stored_len)) {
            self.bytes -= old;
        }
    }

    /// Drops the oldest entries that are on stable media, until the cache is small enough.
    fn evict(&mut self, durable: u64) {
        while self.bytes > CACHE_BYTES {
            let Some(first) = self.entries.first_entry().filter(|first| *first.key() <= durable) else { return };
            self.bytes -= first.remove().1;
        }
    }
}
