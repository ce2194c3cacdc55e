//! What a run and a check found.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::mix::Op;
use crate::latency::{Latencies, Quantiles};
use crate::ledger::Ledger;

/// Texts kept of errors and mismatches; the rest is only counted.
const TEXTS_MAX: usize = 20;

/// Counts of one operation.
#[derive(Clone, Debug, Default)]
struct OpTally {
    errors: u64,
    bytes: u64,
    latencies: Latencies,
}

/// What one client, or all of them, did and found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    ops: BTreeMap<Op, OpTally>,
    unreachable: u64,
    unknown: u64,
    error_texts: Vec<String>,
    pub(crate) verdict: Verdict,
}

/// What verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// Reads that were compared with the ledger.
    pub(crate) verified_reads: u64,
    /// Body bytes compared.
    pub(crate) verified_bytes: u64,
    /// Reads that showed what must not be.
    pub(crate) mismatches: u64,
    /// The first of them.
    pub(crate) mismatch_texts: Vec<String>,
}

impl Verdict {
    pub(crate) fn mismatch(&mut self, text: String) {
        self.mismatches += 1;
        if self.mismatch_texts.len() < TEXTS_MAX {
            self.mismatch_texts.push(text);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.verified_reads += other.verified_reads;
        self.verified_bytes += other.verified_bytes;
        self.mismatches += other.mismatches;
        let room = TEXTS_MAX.saturating_sub(self.mismatch_texts.len());
        self.mismatch_texts.extend(other.mismatch_texts.into_iter().take(room));
    }
}

impl Tally {
    pub(crate) fn done(&mut self, op: Op, bytes: u64, took: Duration) {
        let tally = self.ops.entry(op).or_default();
        tally.bytes += bytes;
        tally.latencies.record(took);
    }

    pub(crate) fn error(&mut self, op: Op, text: String) {
        self.ops.entry(op).or_default().errors += 1;
        if self.error_texts.len() < TEXTS_MAX {
            self.error_texts.push(format!("{op:?}: {text}"));
        }
    }

    pub(crate) fn unreachable(&mut self) {
        self.unreachable += 1;
    }

    pub(crate) fn unknown(&mut self) {
        self.unknown += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (op, theirs) in other.ops {
            let mine = self.ops.entry(op).or_default();
            mine.errors += theirs.errors;
            mine.bytes += theirs.bytes;
            mine.latencies.merge(&theirs.latencies);
        }
        self.unreachable += other.unreachable;
        self.unknown += other.unknown;
        let room = TEXTS_MAX.saturating_sub(self.error_texts.len());
        self.error_texts.extend(other.error_texts.into_iter().take(room));
        self.verdict.merge(other.verdict);
    }
}

#[derive(Debug, Serialize)]
struct OpReport {
    count: u64,
    errors: u64,
    ops_per_s: f64,
    mb_per_s: f64,
    #[serde(flatten)]
    quantiles: Quantiles,
}

/// JSON of a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport {
    seed: u64,
    seconds: f64,
    operations: u64,
    errors: u64,
    /// Calls that did not reach the server.
    unreachable: u64,
    /// Writes whose outcome will never be known.
    unknown: u64,
    /// Acknowledged writes in the ledger, earlier runs included.
    acknowledged: u64,
    ops: BTreeMap<Op, OpReport>,
    error_texts: Vec<String>,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
}

impl RunReport {
    pub(crate) fn new(tally: Tally, took: Duration, ledger: &Ledger) -> Self {
        let seconds = took.as_secs_f64();
        let ops: BTreeMap<Op, OpReport> = tally
            .ops
            .into_iter()
            .map(|(op, tally)| {
                let report = OpReport {
                    count: tally.latencies.count(),
                    errors: tally.errors,
                    ops_per_s: tally.latencies.count() as f64 / seconds,
                    mb_per_s: tally.bytes as f64 / 1e6 / seconds,
                    quantiles: tally.latencies.quantiles(),
                };
                (op, report)
            })
            .collect();
        Self {
            seed: ledger.origin.seed,
            seconds,
            operations: ops.values().map(|op| op.count).sum(),
            errors: ops.values().map(|op| op.errors).sum(),
            unreachable: tally.unreachable,
            unknown: tally.unknown,
            acknowledged: ledger.acked(),
            ops,
            error_texts: tally.error_texts,
            verdict: tally.verdict,
        }
    }
}

/// JSON of a check.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CheckReport {
    /// Keys in the ledger.
    pub(crate) keys: u64,
    /// Keys that hold an object.
    pub(crate) present: u64,
    /// Keys with an operation of unknown outcome.
    pub(crate) unknown: u64,
    /// Acknowledged writes in the ledger.
    pub(crate) acknowledged: u64,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
}
