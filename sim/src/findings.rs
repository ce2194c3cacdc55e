//! What a run found wrong: the invariant and what was seen.

use std::sync::{Arc, Mutex, PoisonError};

use crate::trace::Trace;

/// Broken promises of one run; clones share them.
#[derive(Clone, Debug)]
pub struct Findings {
    trace: Trace,
    list: Arc<Mutex<Vec<String>>>,
}

impl Findings {
    /// None yet; each will also be a line of the trace.
    pub fn new(trace: Trace) -> Self {
        Self { trace, list: Arc::default() }
    }

    /// Adds one: the invariant's id (`I-2`) and what was seen.
    pub fn add(&self, invariant: &str, what: impl std::fmt::Display) {
        let text = format!("{invariant}: {what}");
        self.trace.line(format_args!("FOUND {text}"));
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
