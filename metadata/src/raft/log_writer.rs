//! The one writer of the raft log: takes what queued up, writes it in one transaction, and answers
//! once the transaction is on stable media. So votes, appends, truncations and purges of all groups
//! of a node are ordered, and concurrent appends share an fsync. After a failure it writes nothing
//! more: the log is finished until the process was restarted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::IOFlushed;
use redb::{Database, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot, watch};

use super::types::TypeConfig;
use crate::executor::Executor;

/// Entries: (group, index) -> CRC32C and entry.
pub(super) const ENTRIES: TableDefinition<'_, (u32, u64), &'static [u8]> = TableDefinition::new("entries");
/// Votes and pointers: (group, what) -> MessagePack.
pub(super) const META: TableDefinition<'_, (u32, u8), &'static [u8]> = TableDefinition::new("meta");

pub(super) const META_VOTE: u8 = 1;
pub(super) const META_COMMITTED: u8 = 2;
pub(super) const META_PURGED: u8 = 3;

/// Operations one transaction takes at most.
const DRAIN_MAX: usize = 1024;

/// The group can't go on: why. Empty while all is well.
pub(crate) type Fatal = Option<Arc<str>>;

/// One change of the log.
pub(super) enum WriteOp {
    Append {
        entries: Vec<(u64, Vec<u8>)>,
        flushed: IOFlushed<TypeConfig>,
    },
    /// Written by the next transaction that has another reason to be.
    Committed(Vec<u8>),
    Vote {
        vote: Vec<u8>,
        done: oneshot::Sender<io::Result<()>>,
    },
    TruncateFrom {
        index: u64,
        done: oneshot::Sender<io::Result<()>>,
    },
    PurgeTo {
        index: u64,
        log_id: Vec<u8>,
    },
}

enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Op(oneshot::Sender<io::Result<()>>),
}

/// Counts of the writer, for metrics.
#[derive(Debug, Default)]
pub(crate) struct LogCounts {
    /// Transactions, each with one fsync.
    pub(crate) commits: AtomicU64,
    /// Entries written.
    pub(crate) entries: AtomicU64,
}

pub(super) struct LogWriter {
    pub(super) group: u32,
    pub(super) db: Arc<Database>,
    pub(super) counts: Arc<LogCounts>,
    /// Index of the last entry on stable media.
    pub(super) durable: Arc<AtomicU64>,
    pub(super) fatal: watch::Sender<Fatal>,
    pub(super) committed: Option<Vec<u8>>,
}

impl LogWriter {
    /// Runs until the queue is closed.
    pub(super) fn start(self, queue: mpsc::Receiver<WriteOp>, executor: Executor) -> io::Result<oneshot::Receiver<()>> {
        let (ended, end) = oneshot::channel();
        match executor {
            Executor::Threads => {
                std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || {
                    self.run_blocking(queue);
                    ended.send(()).ok();
                })?;
            }
            Executor::Inline { sync_delay } => {
                tokio::spawn(async move {
                    self.run_async(queue, sync_delay).await;
                    ended.send(()).ok();
                });
            }
        }
        Ok(end)
    }

    fn run_blocking(mut self, mut queue: mpsc::Receiver<WriteOp>) {
        while let Some(first) = queue.blocking_recv() {
            let ops = drain(first, &mut queue);
            self.write(ops);
        }
    }

    async fn run_async(mut self, mut queue: mpsc::Receiver<WriteOp>, delay: std::time::Duration) {
        while let Some(first) = queue.recv().await {
            let ops = drain(first, &mut queue);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.write(ops);
        }
    }

    fn write(&mut self, ops: Vec<WriteOp>) {
        let (result, waiters, last) = self.write_all(ops);
        if let Err(error) = &result {
            let text: Arc<str> =
                format!("the raft log can't be written: {error}; stop the process and check the drive").into();
            self.fatal.send_if_modified(|fatal| {
                let first = fatal.is_none();
                fatal.get_or_insert(text);
                first
            });
        } else if let Some(last) = last {
            self.durable.store(last, Ordering::Release);
        }
        for waiter in waiters {
            let answer = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::other(error.to_string())),
            };
            match waiter {
                Waiter::Append(flushed) => flushed.io_completed(answer),
                Waiter::Op(done) => {
                    done.send(answer).ok();
                }
            }
        }
    }

    fn write_all(&mut self, ops: Vec<WriteOp>) -> (io::Result<()>, Vec<Waiter>, Option<u64>) {
        let mut waiters = Vec::new();
        if let Some(fatal) = self.fatal.borrow().clone() {
            waiters.extend(ops.into_iter().filter_map(waiter_of));
            return (Err(io::Error::other(fatal.to_string())), waiters, None);
        }
        let mut last = None;
        let mut staged = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                WriteOp::Committed(log_id) => self.committed = Some(log_id),
                WriteOp::Append { entries, flushed } => {
                    last = entries.last().map(|(index, _)| *index).or(last);
                    staged.push(Staged::Append(entries));
                    waiters.push(Waiter::Append(flushed));
                }
                WriteOp::Vote { vote, done } => {
                    staged.push(Staged::Vote(vote));
                    waiters.push(Waiter::Op(done));
                }
                WriteOp::TruncateFrom { index, done } => {
                    last = index.checked_sub(1);
                    staged.push(Staged::RemoveFrom(index));
                    waiters.push(Waiter::Op(done));
                }
                WriteOp::PurgeTo { index, log_id } => staged.push(Staged::Purge(index, log_id)),
            }
        }
        if staged.is_empty() {
            return (Ok(()), waiters, None);
        }
        (self.transact(staged).map_err(io::Error::other), waiters, last)
    }

    fn transact(&mut self, staged: Vec<Staged>) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        {
            let mut entries = txn.open_table(ENTRIES)?;
            let mut meta = txn.open_table(META)?;
            let group = self.group;
            for op in staged {
                op.write(group, &mut entries, &mut meta, &self.counts)?;
            }
            if let Some(committed) = self.committed.take() {
                meta.insert((group, META_COMMITTED), committed.as_slice())?;
            }
        }
        // redb's default durability: returns after fdatasync.
        txn.commit()?;
        self.counts.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

enum Staged {
    Append(Vec<(u64, Vec<u8>)>),
    Vote(Vec<u8>),
    RemoveFrom(u64),
    Purge(u64, Vec<u8>),
}

type EntryTable<'txn> = Table<'txn, (u32, u64), &'static [u8]>;
pub(super) type MetaTable<'txn> = Table<'txn, (u32, u8), &'static [u8]>;

impl Staged {
    fn write(
        self,
        group: u32,
        entries: &mut EntryTable<'_>,
        meta: &mut MetaTable<'_>,
        counts: &LogCounts,
    ) -> Result<(), redb::StorageError> {
        match self {
            Self::Append(batch) => {
                counts.entries.fetch_add(batch.len() as u64, Ordering::Relaxed);
                for (index, bytes) in batch {
                    entries.insert((group, index), bytes.as_slice())?;
                }
            }
            Self::Vote(vote) => {
                meta.insert((group, META_VOTE), vote.as_slice())?;
            }
            Self::RemoveFrom(index) => entries.retain_in((group, index)..=(group, u64::MAX), |_, _| false)?,
            Self::Purge(index, log_id) => {
                entries.retain_in((group, 0)..=(group, index), |_, _| false)?;
                meta.insert((group, META_PURGED), log_id.as_slice())?;
            }
        }
        Ok(())
    }
}

fn waiter_of(op: WriteOp) -> Option<Waiter> {
    match op {
        WriteOp::Append { flushed, .. } => Some(Waiter::Append(flushed)),
        WriteOp::Vote { done, .. } | WriteOp::TruncateFrom { done, .. } => Some(Waiter::Op(done)),
        WriteOp::Committed(_) | WriteOp::PurgeTo { .. } => None,
    }
}

fn drain(first: WriteOp, queue: &mut mpsc::Receiver<WriteOp>) -> Vec<WriteOp> {
    let mut ops = vec![first];
    while ops.len() < DRAIN_MAX {
        match queue.try_recv() {
            Ok(op) => ops.push(op),
            Err(_) => break,
        }
    }
    ops
}
