//! When the leader last heard of each node, and since when it knows drives as suspect. In memory only: a new leader
//! begins with an empty table and counts from its election on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stele_rpc::meta::Liveness;
use stele_types::ids::{DriveId, NodeId};

/// The leader looks every second. After a longer pause it was itself frozen or starved: silence says nothing then.
const LATE_LOOK_MICROS: u64 = 3_000_000;

#[derive(Debug, Default)]
struct Table {
    term: u64,
    /// When this term was first noticed here, or this node woke up, microseconds.
    since: u64,
    /// When the leader looked last.
    looked: u64,
    heard: BTreeMap<NodeId, u64>,
    /// When this leader first saw each drive that is suspect, microseconds.
    suspects: BTreeMap<DriveId, u64>,
    /// Drives that may be given slots, and since when it is these, microseconds.
    usable: (BTreeSet<DriveId>, u64),
}

/// Who was heard of, in the term of this leader.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Table>);

impl Heard {
    fn table(&self, term: u64, now: u64) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.term != term {
            *table = Table { term, since: now, looked: now, ..Table::default() };
        }
        table
    }

    /// A heartbeat came in.
    pub(crate) fn note(&self, term: u64, now: u64, node: NodeId) {
        self.table(term, now).heard.insert(node, now);
    }

    /// The leader is awake. If it was not for a while, everybody's silence is counted from now on.
    pub(crate) fn look(&self, term: u64, now: u64) {
        let mut table = self.table(term, now);
        if now.saturating_sub(table.looked) > LATE_LOOK_MICROS {
            table.since = now;
        }
        table.looked = now;
    }

    /// How long each of `nodes` has been silent.
    pub(crate) fn liveness(&self, term: u64, now: u64, nodes: impl Iterator<Item = NodeId>) -> Vec<Liveness> {
        let table = self.table(term, now);
        let ago = |at: &u64| now.saturating_sub(*at) / 1000;
        nodes.map(|node| Liveness { node, silent_ms: table.heard.get(&node).map(ago) }).collect()
    }

    /// Milliseconds without a sign of `node`, counted from the election at the earliest, or from the end of a
    /// pause of this node.
    pub(crate) fn silence(&self, term: u64, now: u64, node: NodeId) -> u64 {
        let table = self.table(term, now);
        let heard = table.heard.get(&node).copied().unwrap_or_default().max(table.since);
        now.saturating_sub(heard) / 1000
    }

    /// For how many milliseconds each of `drives`, which are suspect now, has been so without a break: since it was first
    /// named here, counted as silence is.
    pub(crate) fn suspect_for(
        &self,
        term: u64,
        now: u64,
        drives: impl Iterator<Item = DriveId>,
    ) -> BTreeMap<DriveId, u64> {
        let mut table = self.table(term, now);
        let known = |drive| (drive, table.suspects.get(&drive).copied().unwrap_or(now));
        table.suspects = drives.map(known).collect();
        let ago = |since: u64| now.saturating_sub(since.max(table.since)) / 1000;
        table.suspects.iter().map(|(drive, since)| (*drive, ago(*since))).collect()
    }

    /// For how many milliseconds `usable` have been the drives that may be given slots.
    pub(crate) fn settled_for(&self, term: u64, now: u64, usable: BTreeSet<DriveId>) -> u64 {
        let mut table = self.table(term, now);
        if table.usable.0 != usable {
            table.usable = (usable, now);
        }
        now.saturating_sub(table.usable.1.max(table.since)) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_term_forgets_and_counts_anew() {
        let heard = Heard::default();
        let nodes = || [NodeId(1), NodeId(2)].into_iter();
        heard.note(1, 1_000_000, NodeId(1));
        let silent = |node, silent_ms| Liveness { node: NodeId(node), silent_ms };
        assert_eq!(heard.liveness(1, 3_000_000, nodes()), [silent(1, Some(2000)), silent(2, None)]);
        assert_eq!((heard.silence(1, 3_000_000, NodeId(1)), heard.silence(1, 3_000_000, NodeId(2))), (2000, 2000));
        assert_eq!(heard.liveness(2, 4_000_000, nodes()), [silent(1, None), silent(2, None)]);
        assert_eq!(heard.silence(2, 5_000_000, NodeId(1)), 1000);
    }

    #[test]
    fn a_leader_that_was_frozen_calls_nobody_silent_for_that_time() {
        let heard = Heard::default();
        heard.note(1, 1_000_000, NodeId(1));
        for second in 1..=9 {
            heard.look(1, second * 1_000_000);
        }
        assert_eq!(heard.silence(1, 9_000_000, NodeId(1)), 8000, "awake, it counts");
        heard.look(1, 30_000_000);
        assert_eq!(heard.silence(1, 31_000_000, NodeId(1)), 1000);
        assert_eq!(
            heard.liveness(1, 31_000_000, [NodeId(1)].into_iter())[0].silent_ms,
            Some(30_000),
            "status says what it knows"
        );
    }

    #[test]
    fn a_drive_is_suspect_since_this_leader_saw_it_without_a_break() {
        let heard = Heard::default();
        let drive = |n| DriveId::from_bytes([n; 16]);
        let at = |term, second: u64, drives: &[u8]| -> Vec<u64> {
            let now = second * 1_000_000;
            heard.look(term, now);
            heard.suspect_for(term, now, drives.iter().map(|n| drive(*n))).into_values().collect()
        };
        assert_eq!(at(1, 1, &[1]), [0]);
        assert_eq!(at(1, 3, &[1, 2]), [2000, 0]);
        assert_eq!(at(1, 4, &[2]), [1000]);
        assert_eq!(at(1, 5, &[1, 2]), [0, 2000], "it was well in between");
        assert_eq!(at(1, 60, &[1, 2]), [0, 0], "the leader was frozen");
        assert_eq!(at(1, 61, &[1, 2]), [1000, 1000]);
        assert_eq!(at(2, 62, &[1, 2]), [0, 0], "another term");
    }
}
