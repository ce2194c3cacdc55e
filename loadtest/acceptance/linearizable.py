#!/usr/bin/env python3
"""Decides whether a recorded history of S3 operations (history.py) is linearizable, key by key. Knows nothing
of the server: a key is a register that is absent or holds a value, with conditional writes.

    linearizable.py HISTORY.jsonl         exit code 0: linearizable, 1: not, 2: could not be decided
    linearizable.py --self-test [--seed S] [--rounds N]

The search is that of Wing and Gong with Lowe's memoisation over (operations linearized, state). It goes
through a key's history by return times and keeps every configuration that the operations returned so far
allow: operations are put in order only when one of them returns. What keeps that set small:

- A read that holds in the current state is taken at once: waiting can't help it.
- Each value is written once, so a value is left only after all that saw it have been taken.
- Of operations that ask and do the same, the one that returns first goes first.
- An operation of unknown outcome may have happened at any time after its call, or never. So it is only
  taken where the next operation needs it, and a configuration that has used fewer of them stands for those
  that have used more.

For a violation it prints the shortest window of time that can't be explained whatever happened before it,
and in it the operations that are needed for the contradiction.
"""

import argparse
import json
import sys
import time

ABSENT, SOME = 0, 1  # SOME: a value that nobody ever asked for or saw.
ANY, IS, PRESENT, OTHER, NOT = range(5)  # What an operation says of the state it met.
NEVER = float("inf")
CONFIGURATIONS_MAX = 200_000


class Undecided(Exception):
    """The search would need more memory than it may use."""


class Malformed(Exception):
    """The file is no history."""


class Op:
    """What one operation says and does, and when. `effect` None: it leaves the state. Not `sure`: it may have
    taken effect at any time after its call, or never."""

    __slots__ = ("start", "end", "need", "value", "effect", "sure", "row")

    def __init__(self, start, end, need, value, effect, sure, row=None):
        self.start, self.end, self.need, self.value, self.effect = start, end, need, value, effect
        self.sure, self.row = sure, row

    def holds(self, state):
        if self.need == IS:
            return state == self.value
        if self.need == PRESENT:
            return state != ABSENT
        if self.need == OTHER:  # Another value, but one.
            return state not in (ABSENT, self.value)
        if self.need == NOT:  # Another value, or none.
            return state != self.value
        return True

    def after(self, state):
        return state if self.effect is None else self.effect

    def weakened(self):
        """The same as if its answer had been lost; None if nothing is left of it."""
        return None if self.effect is None else Op(self.start, NEVER, self.need, self.value, self.effect, False, self.row)


def numbered(ops):
    """Values that no other operation names can't be told apart: all of them become SOME."""
    named = {op.value for op in ops if op.need in (IS, OTHER, NOT)}

    def merged(op):
        effect = SOME if op.effect is not None and op.effect > SOME and op.effect not in named else op.effect
        return Op(op.start, op.end, op.need, op.value, effect, op.sure, op.row)

    return [merged(op) for op in ops]


class Search:
    """One pass over the operations of one key."""

    def __init__(self, ops, initial, limit=CONFIGURATIONS_MAX):
        ops = numbered(ops)
        self.returns = sorted((op for op in ops if op.sure), key=lambda op: op.end)
        self.calls = sorted(self.returns, key=lambda op: op.start)
        self.maybe = sorted((op for op in ops if not op.sure), key=lambda op: op.start)
        # Maybes by what they leave behind and what they ask.
        self.makers = {}
        for number, op in enumerate(self.maybe):
            self.makers.setdefault(op.effect, {}).setdefault((op.need, op.value), []).append(number)
        self.limit = limit
        # For each value the sure operations that met it and are not taken in every configuration.
        self.witnesses = {}
        for op in self.returns:
            if op.need == IS and op.value > SOME:
                self.witnesses[op.value] = self.witnesses.get(op.value, 0) + 1
        # (state, slots of pending operations that are taken) -> least sets of maybes that were used.
        self.configurations = {(state, 0): [0] for state in initial}
        self.pending, self.met, self.free, self.slots = {}, {}, [], {}

    def run(self):
        """None, or the operation at whose return no configuration was left."""
        called = known = 0
        for op in self.returns:
            while called < len(self.calls) and self.calls[called].start <= op.end:
                self.call(self.calls[called])
                called += 1
            while known < len(self.maybe) and self.maybe[known].start <= op.end:
                known += 1
            if not self.finish(op, known):
                return op
        return None

    def call(self, op):
        slot = self.free.pop() if self.free else len(self.pending)
        self.slots[op] = slot
        self.pending[slot] = op
        if op.need == IS:
            self.met[op.value] = self.met.get(op.value, 0) | 1 << slot

    def finish(self, op, known):
        slot = self.slots.pop(op)
        bit = 1 << slot
        after = {}
        for (state, taken), uses in self.configurations.items():
            for used in uses:
                if taken & bit:
                    keep_least(after, (state, taken ^ bit), used)
                else:
                    self.extend(state, taken, used, bit, known, after)
        self.configurations = after
        if sum(map(len, after.values())) > self.limit:
            raise Undecided(f"more than {self.limit} configurations")
        del self.pending[slot]
        self.free.append(slot)
        if op.need == IS:
            self.met[op.value] &= ~bit
            if op.value > SOME:
                self.witnesses[op.value] -= 1
        return bool(after)

    def may_leave(self, state, taken):
        left = self.witnesses.get(state, 0)
        return not left or left == (self.met.get(state, 0) & taken).bit_count()

    def extend(self, state, taken, used, bit, known, after):
        """Every way to go on until the operation of `bit` is taken."""
        stack, seen = [(state, taken, used, None)], set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if len(seen) > self.limit:
                raise Undecided(f"more than {self.limit} steps between two returns")
            # `before`: the last step was a maybe, taken in that state.
            state, taken, used, before = node
            open_ops = [(slot, op) for slot, op in self.pending.items() if not taken >> slot & 1]
            for slot, op in open_ops:
                if op.effect is None and op.holds(state):
                    taken |= 1 << slot
                    before = None
            if taken & bit:
                keep_least(after, (state, taken ^ bit), used)
                continue
            self.branch(stack, open_ops, (state, taken, used, before), known)

    def branch(self, stack, open_ops, node, known):
        state, taken, used, before = node

        def fits(op):
            # If it had held before the maybe, that would not have been needed.
            return op.holds(state) and (before is None or not op.holds(before))

        first = {}
        for slot, op in open_ops:
            if op.effect is None or not fits(op):
                continue
            alike = (op.need, op.value, op.effect)
            if alike not in first or op.end < first[alike][1].end:
                first[alike] = (slot, op)
        for slot, op in first.values():
            with_it = taken | 1 << slot
            if op.effect == state or self.may_leave(state, with_it):
                stack.append((op.effect, with_it, used, None))
        if known and self.may_leave(state, taken):
            self.branch_maybes(stack, open_ops, node, known)

    def branch_maybes(self, stack, open_ops, node, known):
        """A maybe must open the way for something: an operation that is under way, or another such maybe."""
        state, taken, used, before = node
        closed = [op for _, op in open_ops if not op.holds(state)]
        if all(op.need == IS for op in closed):
            wanted = list({op.value for op in closed})
        else:
            wanted = [effect for effect in self.makers if any(op.holds(effect) for op in closed)]
        reached = set(wanted)
        for effect in wanted:  # It grows while we go.
            for (need, value), numbers in self.makers.get(effect, {}).items():
                number = next((n for n in numbers if n < known and not used >> n & 1), None)
                if number is None or effect == state:
                    continue
                op = self.maybe[number]
                if not op.holds(state):
                    if value not in reached:
                        reached.add(value)
                        wanted.append(value)
                elif before is None or not op.holds(before):
                    stack.append((effect, taken, used | 1 << number, state))


def keep_least(table, key, used):
    """Adds a set of used maybes unless a smaller one is there; drops larger ones."""
    uses = table.get(key)
    if uses is None:
        table[key] = [used]
    elif not any(other & used == other for other in uses):
        uses[:] = [other for other in uses if other & used != used]
        uses.append(used)


def fails(ops, initial=(ABSENT,)):
    return Search(ops, initial).run() is not None


# From rows of a history to operations.


class Key:
    """The operations on one key. Values get numbers above SOME; ETags stand for the value they belong to."""

    def __init__(self, name, rows):
        self.name, self.numbers, self.etags = name, {}, {}
        for row in rows:
            if row["op"] == "put":
                if row["value"] in self.numbers:
                    raise Malformed(f"{name}: {row['value']} is written twice; values must be unique")
                number = self.number(row["value"])
                # Where the answer was lost, what the client expects: the MD5 of the body.
                etag = row.get("seen", {}).get("etag") if row["outcome"] == "ok" else None
                self.etags[etag or row["etag"]] = number
        self.ops = [op for op in map(self.op, rows) if op]

    def number(self, value):
        return self.numbers.setdefault(value, len(self.numbers) + SOME + 1)

    def by_etag(self, etag):
        # An ETag that no write got is a value that nobody wrote.
        return self.etags[etag] if etag in self.etags else self.number(f"etag {etag}")

    def op(self, row):
        kind, outcome, seen = row["op"], row["outcome"], row.get("seen", {})
        if outcome == "failed":
            return None
        lost = outcome == "unknown"
        start, end = row["start"], NEVER if lost else row["end"]
        if kind in ("get", "head", "list"):
            return None if lost else Op(start, end, IS, self.met(seen), None, True, row)
        condition = row.get("if")
        if outcome == "refused":
            return Op(start, end, *self.refusal(kind, condition, seen["reason"]), None, True, row)
        effect = self.numbers[row["value"]] if kind == "put" else ABSENT
        if condition is None:
            return Op(start, end, ANY, None, effect, not lost, row)
        met = ABSENT if condition == "*" else self.by_etag(condition)
        return Op(start, end, IS, met, effect, not lost, row)

    def met(self, seen):
        """The state a read saw."""
        if not seen["present"]:
            return ABSENT
        by_etag = self.by_etag(seen["etag"])
        if "value" not in seen or self.numbers.get(seen["value"]) == by_etag:
            return by_etag
        return self.number(f"{seen['value']} with etag {seen['etag']}")

    def refusal(self, kind, condition, reason):
        if reason == "absent":
            return IS, ABSENT
        if condition == "*":
            return PRESENT, None
        # A DELETE may answer the same for another value and for none.
        return OTHER if kind == "put" else NOT, self.by_etag(condition)


def load(lines):
    """Rows by key, from a file of JSON lines; the first is the header."""
    rows = [json.loads(line) for line in lines]
    if not rows or rows[0].get("history") != 1:
        raise Malformed("the first line is no header of a history")
    keys = {}
    for row in rows[1:]:
        keys.setdefault(row["key"], []).append(row)
    return keys


# Explaining a violation.


class Violation:
    """A key whose history no order explains: the window that shows it, and what is left of it (`core`) if all
    answers that the contradiction does not need are taken for lost."""

    def __init__(self, key, window, core, known_before):
        self.key, self.window, self.core, self.known_before = key, window, core, known_before
        self.needed = [op for op in core if op.sure]

    def text(self):
        origin = min(op.start for op in self.window)
        end = max(op.end for op in self.window if op.sure)
        before = "from the first operation on" if self.known_before else "whatever was there before"
        lines = [f"key {self.key.name}: no order explains these {(end - origin) / 1e6:.3f} ms, {before}; "
                 f"{len(self.window)} operations, of which {len(self.needed)} contradict each other:"]
        lines += [line(op.row, origin) for op in sorted(self.needed, key=lambda op: op.start)]
        named, shown = {op.value for op in self.needed} - {ABSENT, None}, {id(op.row) for op in self.needed}
        writers = [op for op in self.key.ops if op.effect in named and id(op.row) not in shown]
        if writers:
            lines.append("  values in it were written by:")
            lines += [line(op.row, origin) for op in writers]
        return "\n".join(lines)


def line(row, origin):
    def at(nanoseconds):
        return f"{(nanoseconds - origin) / 1e6:+.3f}"

    span = f"{at(row['start'])} .. {at(row['end']) if row.get('end') else '?'} ms"
    what = row["op"].upper() + (f" {row['value']}" if row["op"] == "put" else "")
    if row.get("if"):
        what += " if absent" if row["if"] == "*" else f" if {row['if']}"
    seen = row.get("seen", {})
    answer = row["outcome"]
    if answer == "refused":
        answer = f"refused: {seen['reason']}"
    elif answer == "ok" and "present" in seen:
        answer = seen.get("value", seen.get("etag")) if seen["present"] else "absent"
    elif answer == "ok" and "etag" in seen:
        answer = f"ok, etag {seen['etag']}"
    return f"  {span:>32}  client {row.get('client')} at {row.get('endpoint')}: {what} -> {answer}"


def until(ops, moment):
    """What was known at a moment: later answers are not, later calls were not made."""
    known = (op if op.end <= moment or not op.sure else op.weakened() for op in ops if op.start <= moment)
    return [op for op in known if op]


def since(ops, moment):
    """What is certain from a moment on, if nothing is known of what was before."""
    known = (op if op.start >= moment or not op.sure else op.weakened() for op in ops if op.end >= moment)
    return [op for op in known if op]


def anything(ops):
    """Every state that could be there before these operations."""
    states = {ABSENT, SOME} | {op.value for op in ops if op.need in (IS, OTHER, NOT)}
    return sorted(states - {op.effect for op in ops if op.effect not in (ABSENT, SOME)})


def explain(key, seconds=20):
    """The violation of a key whose history fails."""
    deadline = time.monotonic() + seconds
    ends = sorted(op.end for op in key.ops if op.sure)
    window = until(key.ops, ends[first_true(len(ends) - 1, lambda n: fails(until(key.ops, ends[n])))])
    starts = sorted({op.start for op in window})

    def holds_from(number):
        rest = since(window, starts[number])
        return not fails(rest, anything(rest))

    # The first start from which it can be explained; the one before is the last from which it can't.
    last = first_true(len(starts), holds_from) - 1
    known_before = last < 0
    if not known_before:
        window = since(window, starts[last])
    initial = (ABSENT,) if known_before else None

    def still_fails(ops):
        return fails(ops, initial or anything(ops))

    needed = list(window)
    # Reads first: what is left then are the writes that matter.
    for op in sorted(filter(lambda op: op.sure, window), key=lambda op: (op.effect is not None, op.start)):
        if time.monotonic() > deadline:
            break
        weak = op.weakened()
        rest = [other for other in needed if other is not op] + ([weak] if weak else [])
        if still_fails(rest):
            needed = rest
    return Violation(key, window, needed, known_before)


def first_true(count, condition):
    """The first number below `count` for which it holds, else `count`; once it holds, it goes on holding."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if condition(middle):
            high = middle
        else:
            low = middle + 1
    return low


class Verdict:
    """What a check found: violations, and keys that could not be decided."""

    def __init__(self):
        self.operations, self.keys, self.violations, self.undecided = 0, 0, [], []

    @property
    def code(self):
        return 1 if self.violations else 2 if self.undecided else 0

    def text(self):
        lines = [violation.text() for violation in self.violations]
        lines += [f"key {name}: not decided: {why}" for name, why in self.undecided]
        word = ("linearizable", "NOT linearizable", "not decided")[self.code]
        return "\n".join([*lines, f"{self.operations} operations on {self.keys} keys: {word}"])


def check(keys):
    """The verdict over rows by key."""
    verdict = Verdict()
    for name, rows in sorted(keys.items()):
        verdict.keys += 1
        verdict.operations += len(rows)
        key = Key(name, rows)
        try:
            if not fails(key.ops):
                continue
        except Undecided as why:
            verdict.undecided.append((name, str(why)))
            continue
        try:
            verdict.violations.append(explain(key))
        except Undecided:
            # Found, but too much to take apart: all of it is shown.
            verdict.violations.append(Violation(key, key.ops, key.ops, True))
    return verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("history", nargs="?", help="a file of history.py")
    parser.add_argument("--self-test", action="store_true", help="check the checker")
    parser.add_argument("--seed", type=int, default=1, help="of the self-test")
    parser.add_argument("--rounds", type=int, default=200, help="of the self-test")
    args = parser.parse_args()
    if args.self_test:
        import linearizable_test

        return linearizable_test.run(args.seed, args.rounds)
    if not args.history:
        parser.error("a history, or --self-test")
    with open(args.history, encoding="utf-8") as lines:
        verdict = check(load(lines))
    print(verdict.text())
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
