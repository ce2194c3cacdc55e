//! What may be read of one key, given what was sent and what was answered. Pure.
//!
//! One client at a time writes a key, and never again after an operation whose outcome is unknown.
//! So a key has one line of generations, and at most its last one is open.

/// What an operation does to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// The key holds the contents of this generation, this many bytes.
    Put(u64),
    /// The key is gone.
    Delete,
}

/// What is known of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Sent or about to be; may have taken effect or still take it.
    Open,
    /// Acknowledged.
    Acked,
    /// Answered with an error that says it had no effect, or never sent.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Operation {
    effect: Effect,
    outcome: Outcome,
}

/// Operations of one key; generation n is the n-th of them, counted from 1. Generation 0 is the
/// time before the first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct History {
    operations: Vec<Operation>,
}

/// What a read saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// An object that says it is this generation, this many bytes.
    Object {
        /// From its metadata.
        generation: u64,
        /// From its answer.
        len: u64,
    },
    /// No such key.
    Nothing,
}

impl History {
    /// Opens the next operation and returns its generation.
    pub(crate) fn begin(&mut self, effect: Effect) -> u64 {
        self.operations.push(Operation { effect, outcome: Outcome::Open });
        self.operations.len() as u64
    }

    /// Notes an outcome. `false` if there is no such open operation.
    pub(crate) fn settle(&mut self, generation: u64, outcome: Outcome) -> bool {
        let at = usize::try_from(generation).ok().and_then(|g| g.checked_sub(1));
        match at.and_then(|at| self.operations.get_mut(at)) {
            Some(operation) if operation.outcome == Outcome::Open => {
                operation.outcome = outcome;
                true
            }
            _ => false,
        }
    }

    /// Generation that a read which starts now must not be older than.
    pub(crate) fn floor(&self) -> u64 {
        let acked = self.operations.iter().rposition(|o| o.outcome == Outcome::Acked);
        acked.map_or(0, |at| at as u64 + 1)
    }

    /// What the key holds for certain: `None` if an operation is open.
    pub(crate) fn certain(&self) -> Option<Seen> {
        let settled = self.operations.iter().all(|o| o.outcome != Outcome::Open);
        settled.then(|| self.seen_at(self.floor()))
    }

    fn seen_at(&self, generation: u64) -> Seen {
        let at = usize::try_from(generation).ok().and_then(|g| g.checked_sub(1));
        match at.and_then(|at| self.operations.get(at)).map(|o| o.effect) {
            Some(Effect::Put(len)) => Seen::Object { generation, len },
            Some(Effect::Delete) | None => Seen::Nothing,
        }
    }

    /// Whether a read that began when the floor was `floor`, and has ended now, may have seen this.
    pub(crate) fn allows(&self, floor: u64, seen: Seen) -> bool {
        (floor..=self.operations.len() as u64).any(|generation| {
            let at = usize::try_from(generation).ok().and_then(|g| g.checked_sub(1));
            let failed = at.and_then(|at| self.operations.get(at)).is_some_and(|o| o.outcome == Outcome::Failed);
            !failed && self.seen_at(generation) == seen
        })
    }

    /// What would have been right, for messages.
    pub(crate) fn expected(&self, floor: u64) -> String {
        let mut allowed = Vec::new();
        for generation in floor..=self.operations.len() as u64 {
            let seen = self.seen_at(generation);
            if self.allows(floor, seen) {
                allowed.push(format!("{seen:?}"));
            }
        }
        allowed.join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(generation: u64, len: u64) -> Seen {
        Seen::Object { generation, len }
    }

    #[test]
    fn an_acknowledged_write_is_the_only_thing_a_later_read_may_see() {
        let mut history = History::default();
        assert!(history.allows(0, Seen::Nothing));
        let first = history.begin(Effect::Put(10));
        assert!(history.allows(0, Seen::Nothing) && history.allows(0, object(first, 10)));
        assert!(history.settle(first, Outcome::Acked));
        let floor = history.floor();
        assert!(!history.allows(floor, Seen::Nothing), "lost");
        assert!(!history.allows(floor, object(first, 9)), "short");
        assert!(history.allows(floor, object(first, 10)));
        assert!(!history.settle(first, Outcome::Failed), "settled twice");
    }

    #[test]
    fn a_deleted_key_must_stay_gone_and_an_open_delete_may_go_either_way() {
        let mut history = History::default();
        let put = history.begin(Effect::Put(10));
        history.settle(put, Outcome::Acked);
        let delete = history.begin(Effect::Delete);
        assert_eq!(history.certain(), None);
        let floor = history.floor();
        assert!(history.allows(floor, object(put, 10)) && history.allows(floor, Seen::Nothing));
        history.settle(delete, Outcome::Acked);
        assert!(!history.allows(history.floor(), object(put, 10)), "risen from the dead");
        assert_eq!(history.certain(), Some(Seen::Nothing));
    }

    #[test]
    fn a_failed_write_must_not_be_seen() {
        let mut history = History::default();
        let put = history.begin(Effect::Put(10));
        history.settle(put, Outcome::Acked);
        let failed = history.begin(Effect::Put(20));
        history.settle(failed, Outcome::Failed);
        assert!(!history.allows(history.floor(), object(failed, 20)));
        assert!(history.allows(history.floor(), object(put, 10)));
    }

    #[test]
    fn a_read_may_see_what_was_current_at_any_instant_of_it() {
        let mut history = History::default();
        let a = history.begin(Effect::Put(1));
        history.settle(a, Outcome::Acked);
        let floor = history.floor();
        let b = history.begin(Effect::Put(2));
        history.settle(b, Outcome::Acked);
        assert!(history.allows(floor, object(a, 1)) && history.allows(floor, object(b, 2)));
        assert!(!history.allows(history.floor(), object(a, 1)), "stale");
    }
}
