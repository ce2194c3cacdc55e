//! What the clients saw: operations per key with the times between which they took effect.
//!
//! An operation enters as uncertain when it is sent. Its answer makes it certain, or proves that it
//! had no effect. Without an answer it may take effect at any time until its deadline, or never.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::ValueId;

/// What one operation does to a key, or shows of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The key now has this value.
    Write(ValueId),
    /// The key now has no value.
    Delete,
    /// The key had this value, or none.
    Read(Option<ValueId>),
    /// If-None-Match: * held, and the key now has this value.
    WriteIfAbsent(ValueId),
    /// If-Match held, and the key now has the new value.
    WriteIfMatch {
        /// Value whose ETag was named.
        seen: ValueId,
        /// Value it has now.
        new: ValueId,
    },
    /// If-Match held, and the key now has no value: it was renamed.
    DeleteIfMatch(ValueId),
    /// If-None-Match: * was refused: there was a value.
    RefusedPresent,
    /// If-Match was refused: there was another value or none.
    RefusedMatch(ValueId),
}

/// One operation on one key.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Who.
    pub client: u32,
    /// Sent at, microseconds.
    pub start: u64,
    /// Answered at, or for an uncertain one the last time it may take effect; `None` is unbounded.
    pub end: Option<u64>,
    /// It took effect. Otherwise it may have.
    pub certain: bool,
    /// What it does.
    pub effect: Effect,
}

/// Names an operation that was sent.
#[derive(Clone, Debug)]
pub struct OpToken {
    key: String,
    index: usize,
}

/// History of every key.
#[derive(Debug, Default)]
pub struct History {
    keys: Mutex<BTreeMap<String, Vec<Option<Op>>>>,
}

impl History {
    /// An operation is sent.
    pub fn begin(&self, key: &str, client: u32, now: u64, effect: Effect) -> OpToken {
        let mut keys = self.locked();
        let ops = keys.entry(key.to_owned()).or_default();
        ops.push(Some(Op { client, start: now, end: None, certain: false, effect }));
        OpToken { key: key.to_owned(), index: ops.len() - 1 }
    }

    /// It took effect, as `effect` says.
    pub fn done(&self, token: &OpToken, now: u64, effect: Effect) {
        self.update(token, |op| {
            if let Some(op) = op {
                op.end = Some(now);
                op.certain = true;
                op.effect = effect;
            }
        });
    }

    /// It certainly had no effect and showed nothing.
    pub fn void(&self, token: &OpToken) {
        self.update(token, |op| *op = None);
    }

    /// Something that was seen of a key between two times.
    pub fn observe(&self, key: &str, client: u32, between: (u64, u64), effect: Effect) {
        let op = Op { client, start: between.0, end: Some(between.1), certain: true, effect };
        self.locked().entry(key.to_owned()).or_default().push(Some(op));
    }

    /// Nothing sent before can take effect after `now`: every process lost its memory, or enough time
    /// went by for every late request to arrive.
    pub fn settle(&self, now: u64) {
        for op in self.locked().values_mut().flatten().flatten() {
            if !op.certain && op.end.is_none() {
                op.end = Some(now);
            }
        }
    }

    /// Every key with its operations, in the order they were sent.
    pub fn by_key(&self) -> BTreeMap<String, Vec<Op>> {
        let keys = self.locked();
        keys.iter().map(|(key, ops)| (key.clone(), ops.iter().flatten().copied().collect())).collect()
    }

    fn update(&self, token: &OpToken, change: impl FnOnce(&mut Option<Op>)) {
        if let Some(op) = self.locked().get_mut(&token.key).and_then(|ops| ops.get_mut(token.index)) {
            change(op);
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Option<Op>>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
