//! Erasures in a bundle: events of the log that name entries whose records and salts are gone. They explain a hole in
//! the chain of a key, and never more than they name.

use std::ops::Range;

use stele_types::ids::LogIndex;

use crate::bundle::calendar::utc_millis;
use crate::record::{CLUSTER, CLUSTER_ID, Event, Record, Run};

/// One erasure, proven to be in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Erasure {
    index: u64,
    time: String,
    runs: Vec<Run>,
    /// Object of the bundle.
    number: usize,
}

impl Erasure {
    /// An erasure that names what came later, or itself, was made up.
    fn precedes_itself(&self) -> bool {
        let end = |run: &Run| run.first.0.saturating_add(run.count);
        self.runs.iter().any(|run| end(run) > self.index)
    }
}

/// All erasures of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Erasures {
    known: Vec<Erasure>,
}

impl Erasures {
    /// Takes the event if it is an erasure. Its entry was proven to stand in the log.
    pub(super) fn take(&mut self, record: &Record, index: u64, number: usize) -> bool {
        let is_one = record.event == Event::Erasure && record.bucket == CLUSTER && record.bucket_id == CLUSTER_ID;
        if is_one {
            let (time, runs) = (utc_millis(record.time), record.erased.clone());
            self.known.push(Erasure { index, time, runs, number });
        }
        is_one
    }

    /// The last one's object.
    pub(super) fn number(&self) -> Option<usize> {
        self.known.last().map(|erasure| erasure.number)
    }

    /// Log index of one that can't be true.
    pub(super) fn contradiction(&self) -> Option<u64> {
        self.known.iter().find(|erasure| erasure.precedes_itself()).map(|erasure| erasure.index)
    }

    /// Of `events` entries between these indices, the last of which is `last`: when they were erased, and which entries
    /// of the log say so. `None` unless `last` is named and enough others in between are.
    pub(super) fn explain(&self, between: Range<u64>, last: LogIndex, events: u64) -> Option<Explained> {
        if !between.contains(&last.0) {
            return None;
        }
        let mut found = Explained::default();
        let mut named: Vec<Range<u64>> = Vec::new();
        for erasure in self.known.iter().filter(|erasure| !erasure.precedes_itself()) {
            let before = named.len();
            let clipped = erasure.runs.iter().map(|run| {
                let end = run.first.0.saturating_add(run.count);
                run.first.0.max(between.start)..end.min(last.0 + 1)
            });
            named.extend(clipped.filter(|run| !run.is_empty()));
            if named.len() > before {
                found.times.push(erasure.time.clone());
                found.indices.push(erasure.index);
            }
        }
        let holds_last = named.iter().any(|run| run.contains(&last.0));
        (holds_last && distinct(named) >= events).then_some(found)
    }
}

/// Entries in any of these.
fn distinct(mut runs: Vec<Range<u64>>) -> u64 {
    runs.sort_by_key(|run| run.start);
    let (mut count, mut free) = (0u64, 0u64);
    for run in runs {
        let start = run.start.max(free);
        count += run.end.saturating_sub(start);
        free = free.max(run.end);
    }
    count
}

/// When a hole came to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Explained {
    pub(super) times: Vec<String>,
    /// Log indices of the erasures.
    pub(super) indices: Vec<u64>,
}

impl Explained {
    fn listed(&self) -> String {
        self.indices.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn en(&self) -> String {
        format!("on {} (erasures at log indices {})", self.times.join(", "), self.listed())
    }

    pub(super) fn zh(&self) -> String {
        format!("{}（销毁事件的日志序号 {}）", self.times.join("、"), self.listed())
    }
}

#[cfg(test)]
pub(super) fn erasures_of(known: &[(u64, &[(u64, u64)])]) -> Erasures {
    let run = |(first, count): &(u64, u64)| Run { first: LogIndex(*first), count: *count };
    let erasure = |(index, runs): &(u64, &[(u64, u64)])| Erasure {
        index: *index,
        time: "2026-11-22T00:00:00Z".to_owned(),
        runs: runs.iter().map(run).collect(),
        number: 1,
    };
    Erasures { known: known.iter().map(erasure).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_explained_by_as_many_entries_as_it_has_events_and_no_fewer() {
        let one = erasures_of(&[(20, &[(5, 2), (9, 1)])]);
        let explained = |between: Range<u64>, last, events| one.explain(between, LogIndex(last), events).is_some();
        assert!(explained(5..10, 9, 3) && explained(5..10, 9, 1) && explained(0..u64::MAX, 9, 3));
        assert!(!explained(5..10, 9, 4), "more events than were erased");
        assert!(!explained(6..10, 9, 3), "one of them lies before the hole");
        assert!(!explained(5..10, 8, 1), "the one that is followed was not erased");
        assert!(!explained(5..9, 9, 1), "the one that is followed lies behind the hole");
        let twice = erasures_of(&[(20, &[(5, 2), (9, 1)]), (21, &[(5, 2), (9, 1)])]);
        assert!(twice.explain(5..10, LogIndex(9), 4).is_none(), "an entry that is named twice is one entry");
        assert_eq!(twice.explain(5..10, LogIndex(9), 3).unwrap().indices, [20, 21]);
    }

    #[test]
    fn an_erasure_of_what_came_later_explains_nothing() {
        for index in [3, 9] {
            let early = erasures_of(&[(index, &[(5, 5)])]);
            assert_eq!(early.contradiction(), Some(index));
            assert!(early.explain(5..10, LogIndex(9), 1).is_none());
        }
        assert_eq!(erasures_of(&[(10, &[(5, 5)])]).contradiction(), None);
    }
}
