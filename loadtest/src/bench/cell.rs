//! One measurement: every worker repeats one operation until the time or the budget is over.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::latency::Latencies;
use crate::s3::payload::Payload;
use crate::s3::{Call, S3};

/// Rows of one listing.
const LIST_ROWS: u32 = 100;
/// Rows of one page of a walk.
const WALK_ROWS: u32 = 1000;
/// Keys of one multi-delete.
const DELETE_KEYS: u64 = 1000;
/// Every object begins with its own number, so that no two are alike.
const STAMP_BYTES: usize = 8;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Put,
    Get,
    Head,
    List,
    /// Pages of 1,000 keys through everything that the bench has written, from the start again at the end.
    Walk,
    /// A GET that is answered 304, as the object has not changed.
    GetUnchanged,
    /// A copy on the server, always to the same key.
    Copy,
    /// A page of versions.
    Versions,
    Delete,
    /// Up to 1,000 keys in one request.
    DeleteMany,
}

/// All with their words.
const OPERATIONS: [(Operation, &str); 10] = [
    (Operation::Put, "put"),
    (Operation::Get, "get"),
    (Operation::Head, "head"),
    (Operation::List, "list"),
    (Operation::Walk, "walk"),
    (Operation::GetUnchanged, "get-unchanged"),
    (Operation::Copy, "copy"),
    (Operation::Versions, "versions"),
    (Operation::Delete, "delete"),
    (Operation::DeleteMany, "delete-many"),
];

impl Operation {
    /// The word of the command line and of reports.
    pub(crate) fn name(self) -> &'static str {
        OPERATIONS.iter().find(|(op, _)| *op == self).map_or("", |(_, name)| name)
    }
}

impl FromStr for Operation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match OPERATIONS.iter().find(|(_, name)| *name == text) {
            Some((op, _)) => Ok(*op),
            None => {
                let known: Vec<&str> = OPERATIONS.iter().map(|(_, name)| *name).collect();
                bail!("unknown operation {text:?}; known are {}", known.join(", "))
            }
        }
    }
}

/// A measurement to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) op: Operation,
    pub(crate) seconds: Duration,
    /// PUTs of all workers together.
    pub(crate) puts_max: u64,
}

/// A measurement under way.
#[derive(Debug)]
pub(crate) struct Running {
    op: Operation,
    deadline: Instant,
    puts_left: AtomicU64,
}

impl Cell {
    pub(crate) fn begin(self, now: Instant) -> Running {
        Running { op: self.op, deadline: now + self.seconds, puts_left: AtomicU64::new(self.puts_max) }
    }
}

impl Running {
    fn next(&self) -> bool {
        let within = Instant::now() < self.deadline;
        let budget = || self.puts_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        within && (self.op != Operation::Put || budget().is_ok())
    }
}

/// What one worker did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) latencies: Latencies,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
}

/// One client and the objects it has written and not deleted: numbers `[deleted, written)`.
pub(crate) struct Worker {
    s3: S3,
    prefix: String,
    body: Bytes,
    written: u64,
    deleted: u64,
    /// There is a copy.
    copied: bool,
    cursor: u64,
    /// Prefix of all workers' keys, and where the walk through them is.
    root: String,
    walked: Option<String>,
}

impl Worker {
    pub(crate) fn new(s3: S3, root: &str, own: &str, body: Bytes) -> Self {
        let prefix = format!("{root}{own}");
        Self { s3, prefix, body, written: 0, deleted: 0, copied: false, cursor: 0, root: root.to_owned(), walked: None }
    }

    pub(crate) fn object_len(&self) -> u64 {
        self.body.len() as u64
    }

    fn key(&self, number: u64) -> String {
        format!("{}{number:08}", self.prefix)
    }

    fn stamp(&self, number: u64) -> Bytes {
        let stamp = number.to_le_bytes();
        Bytes::copy_from_slice(&stamp[..STAMP_BYTES.min(self.body.len())])
    }

    /// Repeats the operation until the measurement is over.
    ///
    /// # Errors
    /// On wrong bytes, or when nothing has been written to work on.
    pub(crate) async fn work(&mut self, running: &Running) -> anyhow::Result<Done> {
        let mut done = Done::default();
        while running.next() {
            if !matches!(running.op, Operation::Put | Operation::Walk) && self.deleted == self.written {
                break;
            }
            let started = Instant::now();
            match self.once(running.op).await? {
                Some(bytes) => {
                    done.bytes += bytes;
                    done.latencies.record(started.elapsed());
                }
                None => done.errors += 1,
            }
        }
        Ok(done)
    }

    /// One operation: body bytes moved, or `None` if it failed.
    async fn once(&mut self, op: Operation) -> anyhow::Result<Option<u64>> {
        // A stride that shares no factor with most counts visits all objects in a scattered order.
        self.cursor = self.cursor.wrapping_add(7919);
        let number = match op {
            Operation::Put => self.written,
            Operation::Delete => self.deleted,
            _ => self.deleted + self.cursor % (self.written - self.deleted).max(1),
        };
        let key = self.key(number);
        let moved = match op {
            Operation::Put => {
                let stamp = self.stamp(number);
                let rest = self.body.slice(stamp.len()..);
                let payload = Payload::new([stamp, rest]);
                let ok = self.ok(Call { method: Method::PUT, key: &key, payload, ..Call::default() }).await;
                self.written += u64::from(ok);
                ok.then_some(self.object_len())
            }
            Operation::Get => self.get(&key, number).await?,
            Operation::Head => {
                let ok = self.ok(Call { method: Method::HEAD, key: &key, ..Call::default() }).await;
                ok.then_some(0)
            }
            Operation::Walk => {
                let page = self.s3.list(&self.root, self.walked.as_deref(), WALK_ROWS).await;
                page.ok().map(|page| {
                    self.walked = page.next;
                    0
                })
            }
            Operation::List => self.s3.list(&self.prefix, None, LIST_ROWS).await.ok().map(|_| 0),
            Operation::Versions => self.s3.versions(&self.prefix, LIST_ROWS).await.ok().map(|_| 0),
            Operation::GetUnchanged => {
                let call =
                    Call { method: Method::GET, key: &key, headers: &[("if-none-match", "*")], ..Call::default() };
                let answer = self.s3.call(call).await;
                answer.is_ok_and(|answer| answer.status == StatusCode::NOT_MODIFIED).then_some(0)
            }
            Operation::Copy => self.copy(&key).await,
            Operation::DeleteMany => self.delete_many().await,
            Operation::Delete => {
                self.deleted += 1;
                let ok = self.ok(Call { method: Method::DELETE, key: &key, ..Call::default() }).await;
                ok.then_some(0)
            }
        };
        Ok(moved)
    }

    async fn copy(&mut self, from: &str) -> Option<u64> {
        let source = self.s3.copy_source(from);
        let to = format!("{}copy", self.prefix);
        let headers = [("x-amz-copy-source", source.as_str())];
        let ok = self.ok(Call { method: Method::PUT, key: &to, headers: &headers, ..Call::default() }).await;
        self.copied |= ok;
        ok.then_some(0)
    }

    async fn delete_many(&mut self) -> Option<u64> {
        let last = self.written.min(self.deleted + DELETE_KEYS);
        let keys: Vec<String> = (self.deleted..last).map(|number| self.key(number)).collect();
        self.deleted = last;
        self.s3.delete_many(&keys).await.ok().map(|()| 0)
    }

    async fn ok(&mut self, call: Call<'_>) -> bool {
        self.s3.call(call).await.is_ok_and(|answer| answer.status.is_success())
    }

    async fn get(&mut self, key: &str, number: u64) -> anyhow::Result<Option<u64>> {
        let stamp = self.stamp(number);
        let body = self.body.clone();
        let (mut at, mut same) = (0usize, true);
        let call = Call { method: Method::GET, key, ..Call::default() };
        let answer = self
            .s3
            .stream(call, &mut |_, piece| {
                let in_stamp = stamp.len().saturating_sub(at).min(piece.len());
                let (head, tail) = piece.split_at(in_stamp);
                let from = at + in_stamp;
                same &= head == &stamp[at.min(stamp.len())..at.min(stamp.len()) + in_stamp];
                same &= body.get(from..from + tail.len()) == Some(tail);
                at += piece.len();
            })
            .await;
        let ok = answer.is_ok_and(|answer| answer.status.is_success());
        ensure!(!ok || (same && at == body.len()), "{key}: {at} bytes were read and they are not what was written");
        Ok(ok.then_some(at as u64))
    }
}

/// Deletes what the measurements left.
pub(crate) async fn clean_up(workers: &mut Vec<Worker>) {
    let mut running = tokio::task::JoinSet::new();
    for mut worker in workers.drain(..) {
        running.spawn(async move {
            if worker.copied {
                let key = format!("{}copy", worker.prefix);
                worker.ok(Call { method: Method::DELETE, key: &key, ..Call::default() }).await;
            }
            while worker.deleted < worker.written {
                let key = worker.key(worker.deleted);
                worker.deleted += 1;
                // A leftover object costs space, not correctness.
                worker.ok(Call { method: Method::DELETE, key: &key, ..Call::default() }).await;
            }
        });
    }
    while running.join_next().await.is_some() {}
}
