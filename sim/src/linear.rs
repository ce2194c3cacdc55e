//! Is there one order of a key's operations that explains what every client saw (I-3)?
//!
//! Search after Wing, Gong and Lowe: take any operation that may come first, try the rest, remember
//! the states that led nowhere. Certain operations must all be placed between their start and end;
//! uncertain ones may be placed before their deadline or left out.

use std::collections::BTreeSet;

use crate::content::ValueId;
use crate::history::{Effect, Op};

/// States visited before a key is given up as undecided.
const STATES_MAX: usize = 400_000;

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// An order exists.
    Linearizable,
    /// None exists; the operations that the longest explained prefix leaves open.
    Violated {
        /// Certain operations that no order explains, as text.
        stuck: Vec<String>,
    },
    /// Too many states.
    Undecided,
}

type State = Option<ValueId>;

/// Which operations were placed, and the value then.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    placed: Vec<u64>,
    state: State,
}

/// Checks one key's history, which begins without a value.
pub fn check(ops: &[Op]) -> Verdict {
    let ops = relevant(ops);
    let search = Search { ops: &ops };
    search.run()
}

/// Leaves out uncertain operations that can't matter: reads, and writes whose value nobody saw on
/// keys where no refusal depends on there being some value.
fn relevant(ops: &[Op]) -> Vec<Op> {
    let seen = |id: ValueId| {
        ops.iter().filter(|op| op.certain).any(|op| match op.effect {
            Effect::Read(value) => value == Some(id),
            Effect::WriteIfMatch { seen, .. } | Effect::DeleteIfMatch(seen) => seen == id,
            _ => false,
        })
    };
    let refusals = ops.iter().any(|op| matches!(op.effect, Effect::RefusedPresent | Effect::RefusedMatch(_)));
    let mut out: Vec<Op> = ops
        .iter()
        .filter(|op| {
            op.certain
                || match op.effect {
                    Effect::Write(id) | Effect::WriteIfAbsent(id) => refusals || seen(id),
                    Effect::WriteIfMatch { new, .. } => refusals || seen(new),
                    Effect::Delete | Effect::DeleteIfMatch(_) => true,
                    Effect::Read(_) | Effect::RefusedPresent | Effect::RefusedMatch(_) => false,
                }
        })
        .copied()
        .collect();
    out.sort_by_key(|op| op.start);
    out
}

struct Search<'a> {
    ops: &'a [Op],
}

impl Search<'_> {
    fn run(&self) -> Verdict {
        let words = self.ops.len().div_ceil(64);
        let mut stack = vec![Node { placed: vec![0; words], state: None }];
        let mut visited = BTreeSet::new();
        let mut best: Option<(usize, Node)> = None;
        while let Some(node) = stack.pop() {
            if self.complete(&node) {
                return Verdict::Linearizable;
            }
            if visited.len() >= STATES_MAX {
                return Verdict::Undecided;
            }
            if !visited.insert(node.clone()) {
                continue;
            }
            let placed = node.placed.iter().map(|w| w.count_ones() as usize).sum();
            if best.as_ref().is_none_or(|(most, _)| placed > *most) {
                best = Some((placed, node.clone()));
            }
            self.expand(&node, &mut stack);
        }
        Verdict::Violated { stuck: best.map(|(_, node)| self.stuck(&node)).unwrap_or_default() }
    }

    fn is_placed(node: &Node, index: usize) -> bool {
        node.placed.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn complete(&self, node: &Node) -> bool {
        self.ops.iter().enumerate().all(|(i, op)| !op.certain || Self::is_placed(node, i))
    }

    /// Pushes every state that one more operation leads to; the likeliest last, so that it is tried
    /// first.
    fn expand(&self, node: &Node, stack: &mut Vec<Node>) {
        let open = || self.ops.iter().enumerate().filter(|(i, _)| !Self::is_placed(node, *i));
        // An operation can't come before one that ended before it started.
        let horizon = open().filter(|(_, op)| op.certain).filter_map(|(_, op)| op.end).min();
        let latest_start = self.ops.iter().enumerate().filter(|(i, _)| Self::is_placed(node, *i));
        let latest_start = latest_start.map(|(_, op)| op.start).max().unwrap_or(0);
        let may_come_next = |op: &Op| {
            horizon.is_none_or(|end| op.start <= end)
                && (op.certain || op.end.is_none_or(|deadline| deadline >= latest_start))
        };
        let mut uncertain = Vec::new();
        let mut certain = Vec::new();
        for (i, op) in open().filter(|(_, op)| may_come_next(op)) {
            let Some(state) = apply(op.effect, node.state) else { continue };
            let mut next = Node { placed: node.placed.clone(), state };
            if let Some(word) = next.placed.get_mut(i / 64) {
                *word |= 1 << (i % 64);
            }
            let list = if op.certain { &mut certain } else { &mut uncertain };
            list.push((op.end, next));
        }
        certain.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
        stack.extend(uncertain.into_iter().map(|(_, next)| next));
        stack.extend(certain.into_iter().map(|(_, next)| next));
    }

    fn stuck(&self, node: &Node) -> Vec<String> {
        let open = self.ops.iter().enumerate().filter(|(i, op)| op.certain && !Self::is_placed(node, *i));
        let mut lines = vec![format!("value then: {:?}", node.state.map(|v| v.0))];
        lines.extend(open.take(6).map(|(_, op)| describe(op)));
        lines
    }
}

/// One operation as text.
pub fn describe(op: &Op) -> String {
    let end = op.end.map_or_else(|| "?".to_owned(), |end| end.to_string());
    let sure = if op.certain { "" } else { " (uncertain)" };
    format!("{}..{end} c{} {:?}{sure}", op.start, op.client, op.effect)
}

/// The value after an operation; `None` if it could not have happened at this value.
fn apply(effect: Effect, state: State) -> Option<State> {
    match effect {
        Effect::Write(id) => Some(Some(id)),
        Effect::Delete => Some(None),
        Effect::Read(value) => (value == state).then_some(state),
        Effect::WriteIfAbsent(id) => state.is_none().then_some(Some(id)),
        Effect::WriteIfMatch { seen, new } => (state == Some(seen)).then_some(Some(new)),
        Effect::DeleteIfMatch(seen) => (state == Some(seen)).then_some(None),
        Effect::RefusedPresent => state.is_some().then_some(state),
        Effect::RefusedMatch(seen) => (state != Some(seen)).then_some(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ValueId = ValueId(1);
    const B: ValueId = ValueId(2);

    fn op(start: u64, end: u64, effect: Effect) -> Op {
        Op { client: 0, start, end: Some(end), certain: true, effect }
    }

    fn maybe(start: u64, end: Option<u64>, effect: Effect) -> Op {
        Op { client: 0, start, end, certain: false, effect }
    }

    fn holds(ops: &[Op]) -> bool {
        check(ops) == Verdict::Linearizable
    }

    #[test]
    fn overlapping_writes_may_come_in_either_order() {
        for last in [A, B] {
            assert!(holds(&[
                op(0, 10, Effect::Write(A)),
                op(5, 15, Effect::Write(B)),
                op(20, 21, Effect::Read(Some(last))),
            ]));
        }
    }

    #[test]
    fn stale_reads_are_found() {
        assert!(!holds(&[op(0, 1, Effect::Write(A)), op(2, 3, Effect::Write(B)), op(4, 5, Effect::Read(Some(A))),]));
        assert!(!holds(&[op(0, 1, Effect::Write(A)), op(4, 5, Effect::Read(None))]));
        assert!(!holds(&[op(0, 9, Effect::Write(A)), op(1, 2, Effect::Read(Some(A))), op(3, 4, Effect::Read(None)),]));
    }

    #[test]
    fn uncertain_writes_may_come_late_or_never_but_only_once() {
        let lost = maybe(0, None, Effect::Write(A));
        assert!(holds(&[lost, op(50, 51, Effect::Read(None))]));
        assert!(holds(&[lost, op(50, 51, Effect::Read(None)), op(60, 61, Effect::Read(Some(A)))]));
        assert!(!holds(&[
            lost,
            op(50, 51, Effect::Read(Some(A))),
            op(52, 53, Effect::Delete),
            op(60, 61, Effect::Read(Some(A))),
        ]));
    }

    #[test]
    fn nothing_uncertain_happens_after_its_deadline() {
        let lost = maybe(0, Some(40), Effect::Write(A));
        assert!(!holds(&[lost, op(50, 51, Effect::Read(None)), op(60, 61, Effect::Read(Some(A)))]));
        assert!(holds(&[lost, op(50, 51, Effect::Read(Some(A)))]));
    }

    #[test]
    fn conditions_are_decided_at_the_same_point() {
        assert!(!holds(&[op(0, 9, Effect::WriteIfAbsent(A)), op(0, 9, Effect::WriteIfAbsent(B))]));
        assert!(holds(&[
            op(0, 1, Effect::Write(A)),
            op(2, 9, Effect::WriteIfMatch { seen: A, new: B }),
            op(3, 8, Effect::RefusedPresent),
            op(10, 11, Effect::RefusedMatch(A)),
        ]));
        assert!(!holds(&[op(0, 1, Effect::Write(A)), op(2, 3, Effect::RefusedMatch(A))]));
    }
}
