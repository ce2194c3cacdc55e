"""The self-test of linearizable.py: histories made by hand, small random ones against a search of all orders,
large ones of a simulated register, and the same with one answer falsified, which must be found."""

import copy
import heapq
import itertools
import random
import sys
import time

import linearizable
from linearizable import ABSENT, Key

LARGE = 20_000


def require(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


# Rows, written short.


def row(start, end, kind, outcome="ok", client=0, **rest):
    return {"client": client, "endpoint": "e", "key": "k", "op": kind, "start": start, "end": end, "outcome": outcome, **rest}


def put(start, end, value, condition=None, outcome="ok", reason=None):
    found = row(start, end, "put", outcome, value=value, etag=f"#{value}")
    if condition:
        found["if"] = condition
    if reason:
        found.update(outcome="refused", seen={"reason": reason})
    elif outcome == "ok":
        found["seen"] = {"etag": f"#{value}"}
    return found


def get(start, end, value):
    seen = {"present": True, "etag": f"#{value}", "value": value} if value else {"present": False}
    return row(start, end, "get", seen=seen)


def head(start, end, value):
    return row(start, end, "head", seen={"present": True, "etag": f"#{value}"})


def delete(start, end, condition=None, outcome="ok", reason=None):
    found = row(start, end, "delete", outcome)
    if condition:
        found["if"] = condition
    if reason:
        found.update(outcome="refused", seen={"reason": reason})
    return found


LOST = "unknown"

# (name, is linearizable, rows)
BY_HAND = [
    ("nothing", True, []),
    ("a write and its read", True, [put(0, 1, "a"), get(2, 3, "a"), head(4, 5, "a")]),
    ("a read before any write", True, [get(0, 1, None), put(2, 3, "a")]),
    ("a read sees a write under way", True, [put(0, 9, "a"), get(1, 2, "a"), get(3, 4, "a")]),
    ("a read does not see a write under way", True, [put(0, 9, "a"), get(1, 2, None), get(3, 4, "a")]),
    ("a write seen, then not seen", False, [put(0, 9, "a"), get(1, 2, "a"), get(3, 4, None)]),
    ("stale read", False, [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")]),
    ("stale HEAD", False, [put(0, 1, "a"), put(2, 3, "b"), head(4, 5, "a")]),
    ("two readers disagree on the order", False,
     [put(0, 9, "a"), put(0, 9, "b"), get(10, 11, "a"), get(12, 13, "b")]),
    ("lost update", False, [put(0, 1, "a"), get(2, 3, None)]),
    ("lost update by If-Match", False,
     [put(0, 1, "a"), put(2, 5, "b", "#a"), put(3, 6, "c", "#a"), get(7, 8, "c")]),
    ("of two If-Match one is refused", True,
     [put(0, 1, "a"), put(2, 5, "b", "#a"), put(3, 6, "c", "#a", reason="differs"), get(7, 8, "b")]),
    ("two successful If-None-Match", False, [put(0, 5, "a", "*"), put(1, 6, "b", "*")]),
    ("two successful If-None-Match around a delete", True, [put(0, 5, "a", "*"), delete(2, 4), put(1, 6, "b", "*")]),
    ("If-None-Match refused by nothing", False, [put(0, 1, "a", "*", reason="exists")]),
    ("If-None-Match refused by a write under way", True, [put(0, 1, "a", "*", reason="exists"), put(0, 9, "b")]),
    ("If-None-Match refused by its own effect", False, [put(0, 1, "a", "*", reason="exists"), get(2, 3, "a")]),
    ("If-Match refused by the value it names", False, [put(0, 1, "a"), put(2, 3, "b", "#a", reason="differs")]),
    ("If-Match finds nothing", False, [put(0, 1, "a"), put(2, 3, "b", "#a", reason="absent")]),
    ("If-Match on what was deleted", False, [put(0, 1, "a"), delete(2, 3), put(4, 5, "b", "#a")]),
    ("resurrected delete", False, [put(0, 1, "a"), delete(2, 3), get(4, 5, None), get(6, 7, "a")]),
    ("a delete of another value", False, [put(0, 1, "a"), put(2, 3, "b"), delete(4, 5, "#a")]),
    ("a delete refused for another value", True, [put(0, 1, "a"), put(2, 3, "b"), delete(4, 5, "#a", reason="differs")]),
    ("a delete refused by the value it names", False, [put(0, 1, "a"), delete(4, 5, "#a", reason="differs")]),
    ("a delete refused where nothing is", True, [put(0, 1, "a"), delete(2, 3), delete(4, 5, "#a", reason="absent")]),
    ("a retry applied twice", False, [put(0, 1, "a"), get(2, 3, "a"), put(4, 5, "b"), get(6, 7, "b"), get(8, 9, "a")]),
    ("a lost answer, applied", True, [put(0, 1, "a", outcome=LOST), get(2, 3, "a")]),
    ("a lost answer, never applied", True, [put(0, 1, "a", outcome=LOST), get(2, 3, None)]),
    ("a lost answer, applied much later", True,
     [put(0, 1, "a", outcome=LOST), put(2, 3, "b"), get(4, 5, "b"), get(6, 7, "a")]),
    ("a lost answer, applied twice", False,
     [put(0, 1, "a", outcome=LOST), get(2, 3, "a"), put(4, 5, "b"), get(6, 7, "b"), get(8, 9, "a")]),
    ("a lost answer seen before the call", False, [get(0, 1, "a"), put(2, 3, "a", outcome=LOST)]),
    ("a lost delete", True, [put(0, 1, "a"), delete(2, 3, outcome=LOST), get(4, 5, "a"), get(6, 7, None)]),
    ("one lost delete for two", False,
     [put(0, 1, "a"), delete(2, 3, outcome=LOST), get(4, 5, None), put(6, 7, "b"), get(8, 9, None)]),
    ("lost writes in a chain", True,
     [put(0, 1, "a", outcome=LOST), put(0, 1, "b", "#a", outcome=LOST), put(0, 1, "c", "#b", outcome=LOST), get(8, 9, "c")]),
    ("lost writes in a chain that was cut", False,
     [put(0, 1, "a"), put(2, 3, "b", "#a", reason="differs"), get(4, 5, "b")]),
    ("a lost write explains a refusal", True,
     [put(0, 1, "x", outcome=LOST), put(2, 3, "a", "*", reason="exists"), delete(4, 5), get(6, 7, None)]),
    ("one lost write for two refusals", False,
     [put(0, 1, "x", outcome=LOST), put(2, 3, "a", "*", reason="exists"), delete(4, 5), put(6, 7, "b", "*", reason="exists")]),
    ("a value that nobody wrote", False, [put(0, 1, "a"), get(2, 3, "z")]),
    ("a value with the ETag of another", False,
     [put(0, 1, "a"), put(2, 5, "b"), row(3, 4, "get", seen={"present": True, "etag": "#a", "value": "b"})]),
    ("what failed for certain has no effect", False, [put(0, 1, "a", outcome="failed"), get(2, 3, "a")]),
]


def by_hand():
    for name, good, rows in BY_HAND:
        verdict = linearizable.check({"k": rows})
        require((verdict.code == 0) == good and verdict.code < 2, f"{name}: {verdict.text()}")
        if not good:
            needed = verdict.violations[0].needed
            require(needed, f"{name}: a violation without operations")
    stale = linearizable.check({"k": BY_HAND[6][2]}).violations[0]
    require([op.row["op"] for op in stale.needed] == ["put", "get"], f"the window of a stale read: {stale.text()}")
    return len(BY_HAND)


# All orders of few operations, without any of the search's rules.


def any_order(ops, state=ABSENT):
    """Whether some order of all sure operations and any of the others explains them."""
    sure = [op for op in ops if op.sure]
    maybes = [op for op in ops if not op.sure]
    for count in range(len(maybes) + 1):
        for used in itertools.combinations(maybes, count):
            if order_exists(sure + list(used), state):
                return True
    return False


def order_exists(left, state):
    if not left:
        return True
    first_end = min(op.end for op in left)
    for op in left:
        if op.start <= first_end and op.holds(state):
            if order_exists([other for other in left if other is not op], op.after(state)):
                return True
    return False


def small_history(rng):
    """Few operations with answers that are often wrong."""
    values = [f"v{n}" for n in range(3)]
    unwritten, rows = list(values), []
    for _ in range(rng.randint(2, 7)):
        start = rng.randint(0, 12)
        end = start + rng.randint(1, 6)
        kind = rng.choice(["put", "put", "get", "get", "delete", "head"])
        condition = rng.choice([None, None, "*", *(f"#{value}" for value in values)])
        outcome = rng.choice(["ok", "ok", "ok", LOST, "refused"])
        if kind == "put" and unwritten:
            value = unwritten.pop(0)
            reason = None
            if outcome == "refused":
                condition = condition or "*"
                reason = "exists" if condition == "*" else rng.choice(["differs", "absent"])
            rows.append(put(start, end, value, condition, LOST if outcome == LOST else "ok", reason))
        elif kind == "delete":
            condition = None if condition == "*" else condition
            refused = outcome == "refused" and condition
            rows.append(delete(start, end, condition, LOST if outcome == LOST else "ok", "differs" if refused else None))
        elif kind == "head":
            rows.append(head(start, end, rng.choice(values)))
        else:
            rows.append(get(start, end, rng.choice([None, *values])))
    return rows


def against_all_orders(rng, count):
    found = {True: 0, False: 0}
    for _ in range(count):
        rows = small_history(rng)
        expected = any_order(Key("k", rows).ops)
        found[expected] += 1
        verdict = linearizable.check({"k": rows})
        require((verdict.code == 0) == expected, f"all orders say {expected}: {rows}\n{verdict.text()}")
        for shown in verdict.violations:
            before = [ABSENT] if shown.known_before else linearizable.anything(shown.core)
            explained = any(any_order(shown.core, state) for state in before)
            require(not explained, f"what is shown is no contradiction: {rows}\n{verdict.text()}")
    require(min(found.values()) * 20 > count, f"the random histories are too much alike: {found}")
    return found


# A register that is what it claims to be, with clients and a network.


class Register:
    def __init__(self):
        self.value = None

    def apply(self, op):
        """Outcome and what was seen."""
        kind, condition = op["op"], op.get("if")
        current = self.value and f"#{self.value}"
        if kind in ("get", "head"):
            if not self.value:
                return "ok", {"present": False}
            seen = {"present": True, "etag": current}
            return "ok", dict(seen, value=self.value) if kind == "get" else seen
        if condition == "*" and current:
            return "refused", {"reason": "exists"}
        if condition not in (None, "*") and condition != current:
            return "refused", {"reason": "differs" if current else "absent"}
        self.value = op["value"] if kind == "put" else None
        return "ok", {"etag": f"#{self.value}"} if kind == "put" else {}


def simulate(rng, operations, clients, keys, lost=0.03):
    """Rows by key of a linearizable history."""
    registers, etags = [Register() for _ in range(keys)], [None] * keys
    events, rows, written, order = [], {}, itertools.count(), itertools.count()

    def schedule(at, what, *words):
        heapq.heappush(events, (at, next(order), what, words))

    def begin(now, client):
        key = rng.randrange(keys)
        kind = rng.choices(["put", "get", "head", "delete"], [40, 35, 10, 15])[0]
        op = row(now, None, kind, client=client)
        op["key"] = f"k{key}"
        if kind == "put":
            op["value"] = f"w{next(written)}"
            op["etag"] = f"#{op['value']}"
        condition = rng.choice([None, "*", "etag"])
        if kind == "put" and condition == "*":
            op["if"] = "*"
        elif kind in ("put", "delete") and condition == "etag" and etags[key]:
            op["if"] = etags[key]
        rows.setdefault(op["key"], []).append(op)
        gone = rng.random() < lost
        applied = now + rng.randint(1, 1000) * (rng.choice([1, 1, 20, 100]) if gone else 1)
        if gone:
            op.update(outcome=LOST, end=now + 2000)
        if not gone or rng.random() < 0.7:
            schedule(applied, apply, op, key, gone)
        if gone:
            schedule(op["end"], begin, client)

    def apply(now, op, key, gone):
        outcome, seen = registers[key].apply(op)
        if gone:
            return
        end = now + rng.randint(1, 1000)
        op.update(outcome=outcome, seen=seen, end=end)
        schedule(end, learn, op, key)

    def learn(now, op, key):
        etags[key] = op["seen"].get("etag", etags[key])
        schedule(now + rng.randint(1, 300), begin, op["client"])

    for client in range(clients):
        schedule(client, begin, client)
    begun = 0
    while events:
        now, _, what, words = heapq.heappop(events)
        if what is begin:
            if begun == operations:
                continue
            begun += 1
        what(now, *words)
    return rows


# Lies that no order can explain.


def sure_writes(rows):
    return [r for r in rows if r["op"] == "put" and r["outcome"] == "ok"]


def deletes(rows, start, end):
    """Deletes that may have taken effect between two moments."""
    lost = (r for r in rows if r["op"] == "delete" and r["outcome"] == LOST and r["start"] <= end)
    done = (r for r in rows if r["op"] == "delete" and r["outcome"] == "ok" and r["start"] <= end and r["end"] >= start)
    return [*lost, *done]


def stale_read(rng, rows):
    for read in shuffled(rng, [r for r in rows if r["op"] == "get"]):
        newer = [w for w in sure_writes(rows) if w["end"] < read["start"]]
        older = [w for w in newer if any(w["end"] < n["start"] for n in newer)]
        if older:
            value = rng.choice(older)["value"]
            read["seen"] = {"present": True, "etag": f"#{value}", "value": value}
            return True
    return False


def lost_update(rng, rows):
    for read in shuffled(rng, [r for r in rows if r["op"] == "get"]):
        before = [w for w in sure_writes(rows) if w["end"] < read["start"]]
        if before and not deletes(rows, max(w["start"] for w in before), read["end"]):
            read["seen"] = {"present": False}
            return True
    return False


def second_creation(rng, rows):
    for creation in shuffled(rng, [r for r in rows if r.get("if") == "*" and r["outcome"] == "refused"]):
        before = [w for w in sure_writes(rows) if w["end"] < creation["start"]]
        if before and not deletes(rows, max(w["start"] for w in before), creation["end"]):
            creation.update(outcome="ok", seen={"etag": creation["etag"]})
            return True
    return False


def outdated_match(rng, rows):
    by_etag = {w["etag"]: w for w in sure_writes(rows)}
    for write in shuffled(rng, [r for r in rows if r["op"] == "put" and r["outcome"] == "refused"]):
        met = by_etag.get(write.get("if"))
        if met and any(met["end"] < w["start"] and w["end"] < write["start"] for w in by_etag.values()):
            write.update(outcome="ok", seen={"etag": write["etag"]})
            return True
    return False


def resurrection(rng, rows):
    for read in shuffled(rng, [r for r in rows if r["op"] == "get"]):
        for gone in rows:
            if gone["op"] == "delete" and gone["outcome"] == "ok" and gone["end"] < read["start"]:
                older = [w for w in sure_writes(rows) if w["end"] < gone["start"]]
                if older:
                    value = rng.choice(older)["value"]
                    read["seen"] = {"present": True, "etag": f"#{value}", "value": value}
                    return True
    return False


def phantom(rng, rows):
    for read in shuffled(rng, [r for r in rows if r["op"] == "head" and r["outcome"] == "ok"]):
        read["seen"] = {"present": True, "etag": "#nobody"}
        return True
    return False


LIES = [stale_read, lost_update, second_creation, outdated_match, resurrection, phantom]


def shuffled(rng, rows):
    answered = [row for row in rows if row["outcome"] != LOST]
    return rng.sample(answered, len(answered))


def simulated(rng, rounds):
    told = dict.fromkeys((lie.__name__ for lie in LIES), 0)
    for number in range(rounds):
        history = simulate(rng, rng.randint(100, 400), rng.choice([2, 4, 8, 16]), rng.choice([1, 2, 5]), rng.choice([0, 0.05]))
        verdict = linearizable.check(history)
        require(verdict.code == 0, f"round {number}: a true history is refused\n{verdict.text()}")
        lie = LIES[number % len(LIES)]
        false = copy.deepcopy(history)
        if not any(lie(rng, false[key]) for key in sorted(false)):
            continue
        told[lie.__name__] += 1
        verdict = linearizable.check(false)
        require(verdict.code == 1, f"round {number}: {lie.__name__} is not found")
        require(len(verdict.violations) == 1 and "->" in verdict.violations[0].text(), verdict.text())
    require(min(told.values()) * len(LIES) * 4 > rounds, f"too few lies were told: {told}")
    return told


def large(rng):
    """One of 20,000 operations for each of the shapes a run may have."""
    took = []
    for clients, keys in ((8, 20), (16, 5), (8, 2)):
        history = simulate(rng, LARGE, clients, keys)
        began = time.monotonic()
        verdict = linearizable.check(history)
        took.append(time.monotonic() - began)
        require(verdict.code == 0 and verdict.operations == LARGE, verdict.text())
        stale_read(rng, history["k0"])
        began = time.monotonic()
        verdict = linearizable.check(history)
        took.append(time.monotonic() - began)
        require(verdict.code == 1, "a stale read among many operations is not found")
    return took


def run(seed, rounds):
    rng = random.Random(seed)
    print(f"by hand: {by_hand()} histories", flush=True)
    print(f"against all orders: {against_all_orders(rng, rounds * 20)}", flush=True)
    print(f"simulated: {rounds} true histories pass, false ones are found: {simulated(rng, rounds)}", flush=True)
    print(f"{LARGE} operations, true and with a stale read: " + ", ".join(f"{s:.1f} s" for s in large(rng)), flush=True)
    return 0
