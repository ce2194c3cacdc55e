//! What happened, one line per event, with a running hash.
//!
//! Two runs of one seed must give the same lines; the first that differs is where an order or a
//! random number escaped the seed. Lines hold virtual time and values drawn from the seed, never an
//! address, a wall-clock time or anything of the machine.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::SimClock;

/// Lines kept for the report of a failed seed.
const TAIL_LINES: usize = 200;

/// The trace of one run; clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    clock: Arc<SimClock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    hasher: blake3::Hasher,
    lines: u64,
    tail: VecDeque<String>,
    keep_all: bool,
}

impl Trace {
    /// An empty trace. With `keep_all` every line stays in memory, else the last ones.
    pub fn new(clock: Arc<SimClock>, keep_all: bool) -> Self {
        let inner = Inner { hasher: blake3::Hasher::new(), lines: 0, tail: VecDeque::new(), keep_all };
        Self { clock, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Adds one line.
    pub fn line(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>12} {what}", self.clock.micros());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.hasher.update(line.as_bytes());
        inner.hasher.update(b"\n");
        inner.lines += 1;
        if !inner.keep_all && inner.tail.len() == TAIL_LINES {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    /// Number of lines and hash of them all.
    pub fn digest(&self) -> (u64, String) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = inner.hasher.finalize().to_hex();
        (inner.lines, hash[..16].to_owned())
    }

    /// The lines that were kept, oldest first.
    pub fn lines(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tail.iter().cloned().collect()
    }
}
