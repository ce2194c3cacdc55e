//! Judges a run from what its clients saw.

use crate::env::Env;
use crate::linear::{Verdict, check};

/// Judges the history of every key. Returns how many were too large to decide.
pub fn judge(env: &Env) -> usize {
    let mut undecided = 0;
    for (key, ops) in env.history.by_key() {
        match check(&ops) {
            Verdict::Linearizable => {}
            Verdict::Undecided => undecided += 1,
            Verdict::Violated { stuck } => {
                env.findings.add("I-3", format_args!("{key:?}: no order explains {}", stuck.join("; ")));
            }
        }
    }
    undecided
}
